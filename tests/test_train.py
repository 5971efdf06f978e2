"""Train steps, the optimizer, fit, and saving: against formulas written out in NumPy."""

from __future__ import annotations

import itertools
import os
import re
import sys
import zipfile

import numpy as np
import pytest

import graphc as gx
from graphc.types import (
    GradientError,
    GraphError,
    IndexOutOfRangeError,
    InputTypeError,
    InputValueError,
    NameClashError,
    ShapeError,
)
from tests.interrupts import ctrl_c


@pytest.fixture(params=["numpy", "native"])
def backend(request):
    return request.param


ROWS, BATCH = 50, 8


def data():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(ROWS, 3))
    return {"X": points, "labels": (points[:, 0] > 0).astype(np.int64) + (points[:, 1] > 0)}


def net(backend, optimizer=None, outputs=False, updates=None):
    W, b = gx.parameter("W", np.random.default_rng(1).normal(size=(3, 3))), gx.parameter("b", np.zeros(3))
    X, labels = gx.input("X", (BATCH, 3)), gx.input("labels", (BATCH,), "int32")
    scores = X @ W + b
    loss = gx.mean(gx.nn.softmax_cross_entropy(scores, labels))
    metrics = {"hits": gx.sum(gx.equal(gx.argmax(scores, -1), labels))} if outputs else None
    optimizer = optimizer or gx.optim.SGD(0.1)
    return gx.train_step(loss, optimizer, outputs=metrics, updates=updates, name="net", backend=backend), W, b


def batch():
    return {name: array[:BATCH] for name, array in data().items()}


# --- SGD ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("momentum", "nesterov", "decay"),
    [(0.0, False, 0.0), (0.9, False, 0.0), (0.9, True, 0.0), (0.5, True, 0.1), (0, False, 0.2)],
)
def test_sgd_is_torchs_formula(backend, momentum, nesterov, decay):
    w = gx.parameter("w", [1.0, -2.0, 3.0], "float64")
    optimizer = gx.optim.SGD(0.1, momentum=momentum, nesterov=nesterov, weight_decay=decay)
    step = gx.train_step(gx.sum(w * w * w), optimizer, backend=backend)
    value, velocity = w.value.copy(), np.zeros(3)
    for _ in range(5):
        assert step() == pytest.approx((value**3).sum(), rel=1e-12)
        g = 3 * value**2 + decay * value
        velocity = momentum * velocity + g
        value = value - 0.1 * (g + momentum * velocity if nesterov else velocity if momentum else g)
        np.testing.assert_allclose(w.value, value, rtol=1e-12)
    assert list(step.state) == (["w.momentum"] if momentum else [])
    if momentum:
        np.testing.assert_allclose(step.state["w.momentum"].value, velocity, rtol=1e-12)
        assert not step.state["w.momentum"].trainable


@pytest.mark.parametrize(
    "arguments",
    [
        {"learning_rate": -1}, {"learning_rate": float("nan")}, {"learning_rate": "0.1"}, {"learning_rate": True},
        {"learning_rate": 0.1, "momentum": -0.5}, {"learning_rate": 0.1, "weight_decay": float("inf")},
        {"learning_rate": 0.1, "nesterov": True},
    ],
)  # fmt: skip
def test_sgd_refuses(arguments):
    with pytest.raises(GraphError):
        gx.optim.SGD(**arguments)


def test_learning_rate_as_a_node(backend):
    with pytest.raises(ShapeError, match="must be a scalar"):
        gx.optim.SGD(gx.input("rate", (2,)))
    w = gx.parameter("w", 3.0)
    step = gx.train_step(w * w, gx.optim.SGD(gx.input("rate")), backend=backend)
    assert step(rate=0.25) == 9
    assert w.value == 1.5
    step.run(2, rate=[0.5, 0.0])
    assert w.value == 0
    w.value = 1
    rate = gx.parameter("rate", 0.25, trainable=False)
    other = gx.train_step(w * w, gx.optim.SGD(rate), backend=backend)
    other()
    rate.value = 0.5
    other()
    assert w.value == 0
    assert other.state == {}
    assert set(other.parameters) == {"w", "rate"}


def test_a_recipe_makes_slots_for_each_step(backend):
    recipe = gx.optim.SGD(0.1, momentum=0.9)
    (first, *_), (second, *_) = net(backend, recipe), net(backend, recipe)
    first(**batch())
    assert list(first.state) == list(second.state) == ["W.momentum", "b.momentum"]
    assert first.state["b.momentum"].value.any()
    assert not second.state["b.momentum"].value.any()


# --- train_step -----------------------------------------------------------------------------------------
def test_step_gives_the_loss_before_the_update(backend):
    step, W, b = net(backend)
    given = batch()
    scores = given["X"] @ W.value + b.value
    picked = scores[np.arange(BATCH), given["labels"]]
    expected = (np.log(np.exp(scores).sum(-1)) - picked).mean()
    loss = step(**given)
    assert type(loss) is float
    assert loss == pytest.approx(expected, rel=1e-5)
    losses = step.run(30, **given)
    assert losses.shape == (30,)
    assert losses[-1] < losses[0] < loss
    with pytest.raises(InputTypeError, match="takes its inputs by name: X, labels"):
        step(given["X"], given["labels"])


def test_metrics_and_extra_updates(backend):
    seen = gx.parameter("seen", 0, dtype="int64", trainable=False)
    step, *_ = net(backend, outputs=True, updates={seen: seen + BATCH})
    result = step(**batch())
    assert list(result) == ["loss", "hits"]
    assert type(result["hits"]) is int
    stacked = step.run(3, **batch())
    assert stacked["hits"].shape == (3,)
    assert seen.value == 4 * BATCH
    assert "seen" not in step.state
    assert "seen" in step.parameters


def test_train_step_refuses():
    W, b, X = gx.parameter("W", np.ones(3)), gx.parameter("b", 0.0), gx.input("X", (3,))
    frozen, sgd = gx.parameter("frozen", 1.0, trainable=False), gx.optim.SGD(0.1)
    loss = gx.sum(W * X)
    cases = [
        (W * X, sgd, {}, GradientError, r"must be a float scalar.*gx|graphc\.mean"),
        (gx.argmax(X), sgd, {}, GradientError, "must be a float scalar"),
        (1.0, sgd, {}, GradientError, "must be a float scalar"),
        (gx.sum(X), sgd, {}, GradientError, "reaches no trainable parameter"),
        (loss, sgd, {"parameters": []}, GradientError, "reaches no trainable"),
        (loss, sgd, {"parameters": [b]}, GraphError, "does not reach 'b'"),
        (loss * frozen, sgd, {"parameters": [frozen]}, GraphError, "'frozen' is not trainable"),
        (loss, sgd, {"parameters": [W, W]}, GraphError, "'W' is named twice"),
        (loss, sgd, {"parameters": [X]}, GraphError, "expected parameters"),
        (loss, sgd, {"updates": {W: W * 2}}, GraphError, "already updated by the optimizer"),
        (loss, sgd, {"outputs": {"loss": loss}}, NameClashError, "'loss' is the name of the loss"),
        (loss, sgd, {"outputs": [loss]}, GraphError, "must be a dict"),
        (loss, sgd, {"outputs": {"a": 1}}, GraphError, "must map names to nodes"),
        (loss, lambda gradients: list(gradients), {}, GraphError, "an optimizer gives a dict"),
        (loss, lambda gradients: {X: X}, {}, GraphError, "only a parameter can be updated"),
    ]
    for node, optimizer, options, error, words in cases:
        with pytest.raises(error, match=words):
            gx.train_step(node, optimizer, backend="numpy", **options)


def test_only_the_chosen_parameters_move(backend):
    W, b = gx.parameter("W", 2.0), gx.parameter("b", 1.0)
    step = gx.train_step((W + b) ** 2, gx.optim.SGD(0.1), parameters=[b], backend=backend)
    step()
    assert W.value == 2
    assert b.value == pytest.approx(0.4)


# --- fit ----------------------------------------------------------------------------------------------
def orders(rows, size, epochs, seed, shuffle):
    """The batches of a fit, from its definition."""
    rng, left = np.random.default_rng(seed), np.arange(0)
    for _ in range(epochs):
        order = np.concatenate([left, rng.permutation(rows) if shuffle else np.arange(rows)])
        whole = len(order) // size * size
        yield order[:whole].reshape(-1, size)
        left = order[whole:]


@pytest.mark.parametrize("shuffle", [True, False])
def test_fit_is_the_steps_one_by_one(backend, shuffle):
    fitted, W, b = net(backend, gx.optim.SGD(0.1, momentum=0.9), outputs=True)
    stepped, V, c = net(backend, gx.optim.SGD(0.1, momentum=0.9), outputs=True)
    given = data()
    history = fitted.fit(given, epochs=3, shuffle=shuffle, seed=7)
    losses, means = [], []
    for epoch in orders(ROWS, BATCH, 3, 7, shuffle):
        results = [stepped(X=given["X"][rows], labels=given["labels"][rows]) for rows in epoch]
        losses += [result["loss"] for result in results]
        means.append((np.mean([r["loss"] for r in results]), np.mean([r["hits"] for r in results])))
    np.testing.assert_array_equal(history.losses, np.array(losses, np.float32))
    np.testing.assert_allclose(history.epochs, [m[0] for m in means], rtol=1e-6)
    np.testing.assert_allclose(history.epoch_metrics["hits"], [m[1] for m in means])
    assert history.metrics["hits"].shape == (3 * ROWS // BATCH,)
    np.testing.assert_array_equal(W.value, V.value)
    np.testing.assert_array_equal(b.value, c.value)
    assert fitted.history is history


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_that_stand_together(backend, size, shuffle):
    """Of few rows, a batch is often neighbours in order, which C reads in place: those that begin anywhere, wrap or not."""
    X, k, s = gx.input("X", (size, 3)), gx.input("k", (size,), "int32"), gx.parameter("s", np.zeros(3))
    outputs = {"X": X * 1, "k": k * 1}
    step = gx.train_step(gx.sum(s * X[0]), gx.optim.SGD(0.1), outputs=outputs, backend=backend)
    rows = 7
    given = {"X": np.arange(3.0 * rows).reshape(rows, 3), "k": np.arange(rows)}
    history = step.fit(given, epochs=9, shuffle=shuffle, seed=3)
    order = np.concatenate(list(orders(rows, size, 9, 3, shuffle)))
    np.testing.assert_array_equal(history.metrics["k"], order)
    np.testing.assert_array_equal(history.metrics["X"], given["X"][order])


def test_many_epochs_at_once_do_not_show(backend, monkeypatch):
    whole, W, _ = net(backend)
    together = whole.fit(data(), epochs=9)
    for rows in (1, 2 * ROWS, 4 * ROWS + 1):
        monkeypatch.setattr("graphc.train._ORDERED_ROWS", rows)
        pieces, V, _ = net(backend)
        np.testing.assert_array_equal(pieces.fit(data(), epochs=9).losses, together.losses)
        np.testing.assert_array_equal(W.value, V.value)


def test_rows_without_elements(backend):
    x, s = gx.input("x", (2, 0)), gx.parameter("s", 1.0)
    step = gx.train_step(s * s + gx.sum(x), gx.optim.SGD(0.25), backend=backend)
    assert step.fit({"x": np.zeros((5, 0))}, epochs=2).losses.tolist() == [1.0, 0.25, 0.0625, 0.015625, 0.00390625]


def test_every_row_as_often_as_every_other(backend):
    s, rows = gx.parameter("s", np.zeros(7)), gx.input("rows", (3, 7))
    step = gx.train_step(gx.sum(s * 0), gx.optim.SGD(0.0), outputs={"sum": gx.sum(rows, axis=0)}, backend=backend)
    history = step.fit({"rows": np.eye(7)}, epochs=6)
    assert history.metrics["sum"].sum(0).tolist() == [6] * 7
    assert len(history.losses) == 14


def test_fit_refuses(backend):
    step, W, _ = net(backend)
    before, good = W.value.copy(), data()
    cases = [
        ({"X": good["X"]}, InputTypeError, "missing input labels"),
        (good | {"y": 1}, InputTypeError, "no input 'y'"),
        ([1], InputTypeError, "takes a dict"),
        (good | {"labels": good["labels"][:-1]}, InputValueError, "'labels' has 49 rows, 'X' has 50"),
        (good | {"labels": good["labels"] * 1.0}, InputTypeError, "round it"),
        (good | {"X": good["X"][:, :2]}, InputValueError, r"expects float32\[50, 3\], got shape \(50, 2\)"),
        ({name: array[:7] for name, array in good.items()}, InputValueError, "7 rows are fewer than one batch of 8"),
        (good | {"X": 3}, InputValueError, "'labels' has 50 rows|got shape"),
    ]
    for given, error, words in cases:
        with pytest.raises(error, match=words):
            step.fit(given, epochs=1)
    for epochs in (-1, 1.5, True, None):
        with pytest.raises(InputTypeError, match="epochs must be a number"):
            step.fit(good, epochs)
    np.testing.assert_array_equal(W.value, before)
    assert len(step.fit(good, epochs=0).losses) == 0


def test_fit_with_a_constant(backend):
    w, x, rate = gx.parameter("w", 0.0), gx.input("x", (2,)), gx.input("rate")
    step = gx.train_step(gx.mean((x - w) ** 2), gx.optim.SGD(rate), backend=backend)
    step.fit({"x": np.full(10, 4.0), "rate": 0.25}, epochs=20)
    assert w.value == pytest.approx(4)
    weights = gx.input("weights", (5,))
    odd = gx.train_step(gx.mean((x - w) ** 2) + gx.sum(weights), gx.optim.SGD(0.1), backend=backend)
    with pytest.raises(InputValueError, match="no batch axis in common"):
        odd.fit({"x": np.zeros(10), "weights": np.zeros(5)}, epochs=1)
    alone = gx.train_step(w * w, gx.optim.SGD(0.1), backend=backend)
    with pytest.raises(InputTypeError, match="no input has a batch axis"):
        alone.fit({}, epochs=1)


def test_a_wrong_label_names_its_row(backend):
    step, W, _ = net(backend)
    other, V, _ = net(backend)
    given = data()
    given["labels"][37] = 3
    order = np.concatenate([rows.ravel() for rows in orders(ROWS, BATCH, 1, 0, True)])
    failing = int(np.flatnonzero(order == 37)[0]) // BATCH
    words = rf"labels\[37\] is 3, expected 0 <= index < 3; exactly {failing} steps"
    with pytest.raises(IndexOutOfRangeError, match=words):
        step.fit(given, epochs=2)
    assert len(step.history.losses) == failing
    for rows in itertools.islice(itertools.chain(*orders(ROWS, BATCH, 1, 0, True)), failing):
        other(X=given["X"][rows], labels=given["labels"][rows])
    np.testing.assert_array_equal(W.value, V.value)


def test_progress(backend, monkeypatch, capsys):
    step, *_ = net(backend)
    seen = []
    step.fit(data(), epochs=4, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (25, 25)
    assert seen == sorted(seen)
    pytest.importorskip("rich")
    step.fit(data(), epochs=2, progress=True)
    assert "net" in capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    with pytest.raises(ImportError, match=r"graphc\[progress\]"):
        step.fit(data(), epochs=2, progress=True)


def test_ctrl_c_in_fit(backend):
    count = gx.parameter("count", 0, dtype="int64", trainable=False)
    step, *_ = net(backend, updates={count: count + 1})
    for delay in (0.05, 0.3):
        count.value = 0
        given = data()
        with pytest.raises(KeyboardInterrupt) as raised, ctrl_c(delay):
            step.fit(given, epochs=500000)
        if count.value == 0 and not hasattr(raised.value, "__notes__"):
            continue  # a slow machine: it came before the first step
        assert raised.value.__notes__ == [f"net.fit: exactly {count.value} of 3125000 steps were applied"]
        assert len(step.history.losses) == count.value
        assert np.isfinite(step.history.losses).all()
    step(**batch())


# --- save and load --------------------------------------------------------------------------------------
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_round_trip(backend, tmp_path, suffix):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    counter = gx.parameter("count/of steps.npy", 0, dtype="int64", trainable=False)
    flag = gx.parameter("file", True, dtype="bool", trainable=False)
    recipe = gx.optim.SGD(0.1, momentum=0.9)
    step, W, _ = net(backend, recipe, updates={counter: counter + 1, flag: True})
    step.fit(data(), epochs=2)
    path = tmp_path / f"net{suffix}"
    gx.save(path, step)
    saved = {name: parameter.value.copy() for name, parameter in step.parameters.items()}
    ahead = step.run(5, **batch())
    gx.load(str(path), step)
    for name, parameter in step.parameters.items():
        np.testing.assert_array_equal(parameter.value, saved[name])
    np.testing.assert_array_equal(step.run(5, **batch()), ahead)  # the momentum came back too
    gx.save(path, {"W": W})
    gx.load(path, {"W": W})
    assert os.listdir(tmp_path) == [path.name]
    if suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            np.testing.assert_array_equal(file["W"], W.value)


def test_load_all_or_nothing(tmp_path):
    a, b = gx.parameter("a", [1.0, 2.0]), gx.parameter("b", 3.0)
    path = tmp_path / "p.npz"
    gx.save(path, {"a": a, "b": b})
    a.value, b.value = [5, 6], 7
    wrong = {"a": a, "b": gx.parameter("b", [3.0]), "c": b}
    with pytest.raises(InputValueError) as raised:
        gx.load(path, wrong)
    assert "'c' is not in the file" in str(raised.value)
    assert "'b' is float32[] in the file, float32[1] here" in str(raised.value)
    with pytest.raises(InputValueError, match="'b' is in the file only\n.*ignore_extra=True"):
        gx.load(path, {"a": a})
    with pytest.raises(InputValueError, match="'b' is float32"):
        gx.load(path, {"a": a, "b": gx.parameter("b", 3.0, "float64")})
    assert a.value.tolist() == [5, 6]
    gx.load(path, {"b": b, "a": a})
    assert (a.value.tolist(), b.value) == ([1, 2], 3)


def test_what_a_train_step_saved_goes_into_a_function_that_predicts(tmp_path):
    w, x = gx.parameter("w", [1.0, 2.0]), gx.input("x", (2,))
    step = gx.train_step(gx.sum((w * x) ** 2), gx.optim.Adam(0.1), backend="numpy")
    step(x=[1, 1])
    gx.save(tmp_path / "step.npz", step)
    v, more = gx.parameter("w", [0.0, 0.0]), gx.parameter("more", 0.0)
    predict = gx.compile([x], v * x, backend="numpy")
    gx.load(tmp_path / "step.npz", predict, ignore_extra=True)
    assert v.value.tolist() == w.value.tolist() != [1, 2]
    with pytest.raises(InputValueError, match="'more' is not in the file$"):
        gx.load(tmp_path / "step.npz", {"w": v, "more": more}, ignore_extra=True)


def test_files_that_are_none(tmp_path):
    a = {"a": gx.parameter("a", [1.0, 2.0])}
    with pytest.raises(InputValueError, match=r"must be \.npz or \.safetensors"):
        gx.save(tmp_path / "p.pkl", a)
    with pytest.raises(FileNotFoundError):
        gx.load(tmp_path / "absent.npz", a)
    path = tmp_path / "p.npz"
    for junk in (b"", b"PK\x03\x04junk", os.urandom(1000)):
        path.write_bytes(junk)
        with pytest.raises(InputValueError, match="damaged"):
            gx.load(path, a)
    with zipfile.ZipFile(path, "w") as archive, archive.open("a.npy", "w") as member:
        np.lib.format.write_array(member, np.array([{}], object), allow_pickle=True)
    with pytest.raises(InputValueError, match="damaged"):
        gx.load(path, a)
    gx.save(path, a)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputValueError, match="damaged"):
        gx.load(path, a)
    for wrong in (3, [a["a"]], {"a": np.ones(2)}, {1: a["a"]}):
        with pytest.raises(InputTypeError):
            gx.save(path, wrong)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    a = {"a": gx.parameter("a", [1.0, 2.0])}
    path = tmp_path / "p.npz"
    gx.save(path, a)
    before = path.read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    a["a"].value = [3, 4]
    with pytest.raises(OSError, match="disk full"):
        gx.save(path, a)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["p.npz"]


def test_saving_to_where_nothing_is_names_the_file(tmp_path):
    path = tmp_path / "missing" / "p.npz"
    with pytest.raises(FileNotFoundError, match=re.escape(repr(str(path)))):
        gx.save(path, {"a": gx.parameter("a", 1.0)})
