"""Optimizers, schedules and clipping: against plain loops in NumPy; against PyTorch on demand (-m peers).

Every optimizer runs two hundred steps in float64 on one problem with a parameter whose gradient is zero for a while, and
must stay on the trajectory of the formula to 1e-10.
"""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

import graphc as gx
from graphc import optim
from graphc.optim import clip_by_global_norm, clip_by_value
from graphc.types import DTypeError, GraphError, InputValueError, ShapeError

STEPS = 200
RNG = np.random.default_rng(0)
A, TARGET = RNG.normal(size=(6, 4)), RNG.normal(size=(6, 3))
START = {"W": RNG.normal(size=(4, 3)), "b": RNG.normal(size=3)}


def loss_of(xp, W, b, scale):
    """Not quadratic, different slopes in each direction; ``scale`` switches the bias off."""
    error = A @ W + scale * b - TARGET
    return xp.sum(xp.sqrt(error * error + 0.5)) + 0.05 * xp.sum(W * W * W * W)


def gradients_of(W, b, scale):
    error = A @ W + scale * b - TARGET
    slope = error / np.sqrt(error * error + 0.5)
    return {"W": A.T @ slope + 0.2 * W**3, "b": scale * slope.sum(0)}


def scale_at(k):
    return [1.0, 0.0, 2.0][k // 20 % 3]


SCALES = np.array([scale_at(k) for k in range(STEPS)])


def trained(optimizer, dtype="float64", backend=None, steps=STEPS):
    """The step, and the parameters after each of ``steps``."""
    parameters = {name: gx.parameter(name, value, dtype) for name, value in START.items()}
    scale = gx.input("scale", dtype=dtype)
    step = gx.train_step(loss_of(gx, **parameters, scale=scale), optimizer, backend=backend)
    path = []
    for k in range(steps):
        step(scale=SCALES[k])
        path.append({name: p.value.copy() for name, p in parameters.items()})
    return step, parameters, path


def by_hand(formula, clip=lambda g: g, rate=None, off=0.0):
    """The same path by ``formula(t, W, g, slots, lr)``, a plain loop over parameters that gives the new W."""
    values = {name: value * (1 + off) for name, value in START.items()}
    slots = {name: {} for name in START}
    path = []
    for k in range(STEPS):
        gradients = clip(gradients_of(**values, scale=SCALES[k]))
        for name, g in gradients.items():
            values[name] = formula(k + 1, values[name], g, slots[name], *([rate(k)] if rate else []))
        path.append({name: value.copy() for name, value in values.items()})
    return path


def assert_same_path(found, wanted, tolerance=1e-10):
    for k, (a, b) in enumerate(zip(found, wanted, strict=True)):
        for name in b:
            np.testing.assert_allclose(a[name], b[name], rtol=tolerance, atol=tolerance, err_msg=f"{name} after step {k + 1}")


# --- each optimizer as a plain loop -----------------------------------------------------------------------
def average(slots, name, x, beta):
    slots[name] = beta * slots.get(name, 0.0) + (1 - beta) * x
    return slots[name]


def sgd(momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, base=0.05):
    def formula(t, W, g, slots, lr=base):
        g = g + weight_decay * W
        if momentum:
            v = slots["v"] = momentum * slots["v"] + (1 - dampening) * g if t > 1 else g
            g = g + momentum * v if nesterov else v
        return W - lr * g

    return formula


def adagrad(lr=0.1, lr_decay=0.0, weight_decay=0.0, start=0.0, eps=1e-10):
    def formula(t, W, g, slots):
        g = g + weight_decay * W
        slots["s"] = slots.get("s", start) + g**2
        return W - lr / (1 + (t - 1) * lr_decay) * g / (np.sqrt(slots["s"]) + eps)

    return formula


def rmsprop(lr=0.01, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0, centered=False):
    def formula(t, W, g, slots):
        g = g + weight_decay * W
        s = average(slots, "s", g**2, alpha)
        d = g / (np.sqrt(s - average(slots, "a", g, alpha) ** 2 if centered else s) + eps)
        slots["v"] = momentum * slots.get("v", 0.0) + d
        return W - lr * slots["v"]

    return formula


def adadelta(lr=1.0, rho=0.9, eps=1e-6, weight_decay=0.0):
    def formula(t, W, g, slots):
        g = g + weight_decay * W
        s = average(slots, "s", g**2, rho)
        d = np.sqrt(slots.get("u", 0.0) + eps) / np.sqrt(s + eps) * g
        average(slots, "u", d**2, rho)
        return W - lr * d

    return formula


def adam(base=0.05, betas=(0.9, 0.999), eps=1e-8, penalty=0.0, decay=0.0, amsgrad=False):
    def formula(t, W, g, slots, lr=base):
        W, g = W * (1 - lr * decay), g + penalty * W
        m, v = average(slots, "m", g, betas[0]), average(slots, "v", g**2, betas[1])
        if amsgrad:
            v = slots["x"] = np.maximum(slots.get("x", 0.0), v)
        return W - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)

    return formula


def adamax(lr=0.02, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    def formula(t, W, g, slots):
        g = g + weight_decay * W
        m = average(slots, "m", g, betas[0])
        slots["u"] = np.maximum(betas[1] * slots.get("u", 0.0), np.abs(g) + eps)
        return W - lr / (1 - betas[0] ** t) * m / slots["u"]

    return formula


def nadam(lr=0.02, betas=(0.9, 0.999), eps=1e-8, penalty=0.0, decay=0.0, momentum_decay=4e-3):
    def formula(t, W, g, slots):
        W, g = W * (1 - lr * decay), g + penalty * W
        mu, mu_next = (betas[0] * (1 - 0.5 * 0.96 ** (k * momentum_decay)) for k in (t, t + 1))
        slots["p"] = slots.get("p", 1.0) * mu
        m, v = average(slots, "m", g, betas[0]), average(slots, "v", g**2, betas[1])
        ahead = g * (1 - mu) / (1 - slots["p"]) + m * mu_next / (1 - slots["p"] * mu_next)
        return W - lr * ahead / (np.sqrt(v / (1 - betas[1] ** t)) + eps)

    return formula


def radam(lr=0.02, betas=(0.9, 0.999), eps=1e-8, penalty=0.0, decay=0.0):
    def formula(t, W, g, slots):
        W, g = W * (1 - lr * decay), g + penalty * W
        m, v = average(slots, "m", g, betas[0]) / (1 - betas[0] ** t), average(slots, "v", g**2, betas[1])
        end = 2 / (1 - betas[1]) - 1
        r = end - 2 * t * betas[1] ** t / (1 - betas[1] ** t)
        if r <= 5:
            return W - lr * m
        s = math.sqrt((r - 4) * (r - 2) * end / ((end - 4) * (end - 2) * r))
        return W - lr * m * s * math.sqrt(1 - betas[1] ** t) / (np.sqrt(v) + eps)

    return formula


def lion(lr=0.003, betas=(0.9, 0.99), weight_decay=0.0):
    def formula(t, W, g, slots):
        m = slots.get("m", np.zeros_like(g))
        slots["m"] = betas[1] * m + (1 - betas[1]) * g
        return W * (1 - lr * weight_decay) - lr * np.sign(betas[0] * m + (1 - betas[0]) * g)

    return formula


CASES = {
    "SGD": (optim.SGD(0.05), sgd()),
    "SGD, momentum": (optim.SGD(0.05, momentum=0.9, weight_decay=0.1), sgd(0.9, weight_decay=0.1)),
    "SGD, nesterov": (optim.SGD(0.05, momentum=0.8, nesterov=True), sgd(0.8, nesterov=True)),
    "SGD, dampening": (optim.SGD(0.05, momentum=0.9, dampening=0.3), sgd(0.9, 0.3)),
    "Adagrad": (optim.Adagrad(0.1), adagrad()),
    "Adagrad, all": (
        optim.Adagrad(0.1, lr_decay=0.05, weight_decay=0.1, initial_accumulator_value=0.5, eps=1e-3),
        adagrad(0.1, 0.05, 0.1, 0.5, 1e-3),
    ),
    "RMSprop": (optim.RMSprop(0.01), rmsprop()),
    "RMSprop, all": (
        optim.RMSprop(0.01, alpha=0.9, eps=1e-4, weight_decay=0.1, momentum=0.5, centered=True),
        rmsprop(0.01, 0.9, 1e-4, 0.1, 0.5, True),
    ),
    "Adadelta": (optim.Adadelta(), adadelta()),
    "Adadelta, all": (optim.Adadelta(0.5, rho=0.8, eps=1e-4, weight_decay=0.1), adadelta(0.5, 0.8, 1e-4, 0.1)),
    "Adam": (optim.Adam(0.05), adam()),
    "Adam, all": (
        optim.Adam(0.05, betas=(0.8, 0.9), eps=1e-4, weight_decay=0.1, amsgrad=True),
        adam(0.05, (0.8, 0.9), 1e-4, penalty=0.1, amsgrad=True),
    ),
    "Adam, no averages": (optim.Adam(0.05, betas=(0.0, 0.0), eps=1e-2), adam(0.05, (0.0, 0.0), 1e-2)),
    "AdamW": (optim.AdamW(0.05), adam(decay=0.01)),
    "AdamW, all": (optim.AdamW(0.05, (0.8, 0.9), 1e-4, 0.3, True), adam(0.05, (0.8, 0.9), 1e-4, decay=0.3, amsgrad=True)),
    "Adamax": (optim.Adamax(0.02), adamax()),
    "Adamax, all": (optim.Adamax(0.005, (0.8, 0.9), 1e-3, 0.1), adamax(0.005, (0.8, 0.9), 1e-3, 0.1)),
    "NAdam": (optim.NAdam(0.02), nadam()),
    "NAdam, all": (
        optim.NAdam(0.02, (0.8, 0.9), 1e-4, 0.1, momentum_decay=0.1), nadam(0.02, (0.8, 0.9), 1e-4, 0.1, 0, 0.1),
    ),
    "NAdam, decoupled": (optim.NAdam(0.02, weight_decay=0.1, decoupled_weight_decay=True), nadam(decay=0.1)),
    "RAdam": (optim.RAdam(0.02), radam()),
    "RAdam, all": (optim.RAdam(0.02, (0.8, 0.9), 1e-4, 0.1), radam(0.02, (0.8, 0.9), 1e-4, 0.1)),
    "RAdam, decoupled": (optim.RAdam(0.02, weight_decay=0.1, decoupled_weight_decay=True), radam(decay=0.1)),
    "RAdam, never rectified": (optim.RAdam(0.02, (0.9, 0.5)), radam(0.02, (0.9, 0.5))),
    "Lion": (optim.Lion(0.003), lion()),
    "Lion, all": (optim.Lion(0.003, (0.8, 0.95), 0.3), lion(0.003, (0.8, 0.95), 0.3)),
}  # fmt: skip

ALGORITHMS = ["SGD", "Adagrad", "RMSprop", "Adadelta", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "Lion"]


def test_every_optimizer_has_a_case():
    assert set(ALGORITHMS) == {name.split(",")[0] for name in CASES}
    assert set(ALGORITHMS) == {name for name in optim.__all__ if isinstance(getattr(optim, name), type)} - {"Optimizer"}


@pytest.mark.parametrize("name", CASES)
def test_trajectory_in_float64(name):
    recipe, formula = CASES[name]
    wanted = by_hand(formula)
    assert np.abs(wanted[-1]["W"] - START["W"]).max() > 0.05, "the case does not move"
    assert_same_path(by_hand(formula, off=1e-15), wanted, 1e-11)  # else the case is chaotic, and rounding decides
    assert_same_path(trained(recipe, backend="numpy")[2], wanted)


@pytest.mark.parametrize("name", ["SGD, dampening", "Adagrad, all", "RMSprop, all", "Adadelta", "Adam", "AdamW, all", "Adamax", "NAdam", "RAdam", "Lion, all"])
def test_trajectory_in_c(name):
    recipe, formula = CASES[name]
    wanted = by_hand(formula)
    assert_same_path(trained(recipe)[2], wanted)


@pytest.mark.parametrize("name", ["Adam", "NAdam", "RAdam"])
def test_the_first_steps_in_float32_have_the_digits_of_float32(name):
    """``1 - 0.999 ** t`` in float32 would be off by 5e-5 at the first step."""
    recipe, formula = CASES[name]
    assert_same_path(trained(recipe, "float32", backend="numpy", steps=10)[2], by_hand(formula)[:10], 2e-6)


# --- state ------------------------------------------------------------------------------------------------
SLOTS = {
    "SGD": [], "SGD, momentum": ["momentum"], "SGD, dampening": ["momentum"], "Adagrad": ["sum"], "RMSprop": ["square_avg"],
    "RMSprop, all": ["square_avg", "grad_avg", "momentum"], "Adadelta": ["square_avg", "acc_delta"],
    "Adam": ["exp_avg", "exp_avg_sq"], "Adam, all": ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"],
    "AdamW": ["exp_avg", "exp_avg_sq"], "Adamax": ["exp_avg", "exp_inf"], "NAdam": ["exp_avg", "exp_avg_sq"],
    "RAdam": ["exp_avg", "exp_avg_sq"], "Lion": ["exp_avg"],
}  # fmt: skip
COUNTED = {"SGD, dampening", "Adam", "Adam, all", "AdamW", "Adamax", "NAdam", "RAdam"}


@pytest.mark.parametrize("name", SLOTS)
def test_slots_are_state(name):
    step, *_ = trained(CASES[name][0], backend="numpy", steps=3)
    wanted = {f"{p}.{slot}" for p in START for slot in SLOTS[name]} | ({"step"} if name in COUNTED else set())
    assert set(step.state) == wanted | ({"mu_product"} if name == "NAdam" else set())
    for key, slot in step.state.items():
        assert not slot.trainable
        assert slot.value.any(), key
        assert key in step.parameters
    if name in COUNTED:
        assert step.state["step"].value == 3
        assert step.state["step"].dtype.value == "int64"


@pytest.mark.parametrize("name", ["SGD, dampening", "Adam, all", "NAdam", "RAdam", "Lion"])
def test_loaded_state_continues_the_trajectory(name, tmp_path):
    recipe = CASES[name][0]
    _, _, whole = trained(recipe, backend="numpy", steps=30)
    step, _, _ = trained(recipe, backend="numpy", steps=12)
    gx.save(tmp_path / "state.npz", step)
    again, parameters, _ = trained(recipe, backend="numpy", steps=2)
    gx.load(tmp_path / "state.npz", again)
    again.run(18, scale=SCALES[12:30])
    for key, parameter in parameters.items():
        np.testing.assert_array_equal(parameter.value, whole[-1][key])


def test_each_train_step_counts_for_itself():
    recipe = optim.Adam(0.1)
    w = gx.parameter("w", [3.0, -1.0])
    first, second = (gx.train_step(gx.sum(w * w), recipe, backend="numpy") for _ in range(2))
    first.run(5)
    second()
    assert (first.state["step"].value, second.state["step"].value) == (5, 1)


def test_no_denormals_stay_in_the_averages():
    w = gx.parameter("w", np.ones(4))
    scale = gx.input("scale")
    for recipe in (optim.SGD(0.1, momentum=0.5), optim.Adam(0.1, (0.5, 0.999)), optim.Lion(0.1, (0.5, 0.5)), optim.RMSprop(momentum=0.5)):
        step = gx.train_step(scale * gx.sum(w * w), recipe, backend="numpy")
        step(scale=1.0)
        (name,) = (key for key in step.state if key in ("w.momentum", "w.exp_avg"))
        assert step.state[name].value.all()
        step.run(200, scale=np.zeros(200))
        np.testing.assert_array_equal(step.state[name].value, 0)


def test_parameters_of_two_dtypes():
    a, b = gx.parameter("a", [3.0, 1.0]), gx.parameter("b", [3.0, 1.0], "float64")
    step = gx.train_step(gx.sum(a * a) + gx.sum(b * b), clip_by_global_norm(optim.AdamW(optim.cosine(0.1, 50)), 1.0), backend="numpy")
    step.run(20)
    assert {str(p.dtype) for p in step.state.values()} == {"int64", "float32", "float64"}
    np.testing.assert_allclose(a.value, b.value, rtol=1e-5)


# --- the learning rate ------------------------------------------------------------------------------------
def test_a_schedule_is_a_function_of_the_steps_done():
    wanted = by_hand(sgd(), rate=lambda k: 0.05 / (1 + k))
    for backend in ("numpy", None):
        step, _, path = trained(optim.SGD(lambda done: 0.05 / (1 + done)), backend=backend)
        assert_same_path(path, wanted)
    assert list(step.state) == ["step"]
    wanted = by_hand(adam(decay=0.1), rate=lambda k: 0.05 * 0.99**k)
    assert_same_path(trained(optim.AdamW(optim.exponential(0.05, 0.99), weight_decay=0.1), backend="numpy")[2], wanted)


def test_a_learning_rate_is_an_input():
    w = gx.parameter("w", [1.0, -2.0], "float64")
    for recipe, formula in ((optim.AdamW, adam), (optim.SGD, sgd)):
        w.value = [1.0, -2.0]
        step = gx.train_step(gx.sum(w * w * w), recipe(gx.input("rate", dtype="float64"), weight_decay=0.0), backend="numpy")
        value, slots = w.value.copy(), {}
        for t in range(1, 8):
            value = formula()(t, value, 3 * value**2, slots, 0.1 / t)
            step(rate=0.1 / t)
            np.testing.assert_allclose(w.value, value, rtol=1e-12)


def test_a_wide_learning_rate_leaves_the_dtype():
    w = gx.parameter("w", 3.0)
    step = gx.train_step(w * w, optim.SGD(gx.input("rate", dtype="float64")), backend="numpy")
    step(rate=0.25)
    assert w.value == 1.5


@pytest.mark.parametrize("schedule", [lambda done: gx.constant(np.ones(2)), lambda done: done > 3, lambda done: "0.1"])
def test_a_schedule_must_give_a_rate(schedule):
    w = gx.parameter("w", 3.0)
    with pytest.raises((ShapeError, DTypeError)):
        gx.train_step(w * w, optim.Adam(schedule), backend="numpy")


T = np.arange(60.0)
RATES = {
    "constant": (optim.constant(0.3), np.full(60, 0.3)),
    "step_decay": (optim.step_decay(0.3, 7, 0.5), 0.3 * 0.5 ** (T // 7)),
    "step_decay to zero": (optim.step_decay(0.3, 7, 0), np.where(T < 7, 0.3, 0)),
    "exponential": (optim.exponential(0.3, 0.9), 0.3 * 0.9**T),
    "cosine": (optim.cosine(0.3, 40), np.where(T < 40, 0.15 * (1 + np.cos(np.pi * T / 40)), 0)),
    "cosine to 0.1": (optim.cosine(0.3, 40, 0.1), np.where(T < 40, 0.1 + 0.1 * (1 + np.cos(np.pi * T / 40)), 0.1)),
    "linear_warmup": (optim.linear_warmup(0.3, 10), np.minimum(T / 10, 1) * 0.3),
    "linear_warmup, then cosine": (
        optim.linear_warmup(optim.cosine(0.3, 40), 10, start_factor=0.2),
        np.where(T < 10, 0.3 * (0.2 + 0.08 * T), 0.15 * (1 + np.cos(np.pi * np.clip(T - 10, 0, 40) / 40))),
    ),
    "one_cycle, linear": (
        optim.one_cycle(0.3, 50, pct_start=0.2, anneal_strategy="linear", div_factor=10, final_div_factor=100),
        np.interp(T, [0, 9, 49], [0.03, 0.3, 0.0003]),
    ),
    "one_cycle, three phases": (
        optim.one_cycle(0.3, 50, pct_start=0.2, anneal_strategy="linear", div_factor=10, final_div_factor=100, three_phase=True),
        np.interp(T, [0, 9, 18, 49], [0.03, 0.3, 0.03, 0.0003]),
    ),
    "one_cycle": (
        optim.one_cycle(0.3, 50, pct_start=0.2),
        np.where(
            T < 9, 0.156 - 0.144 * np.cos(np.pi * T / 9),
            0.3 + (0.012e-4 - 0.3) * (1 - np.cos(np.pi * (np.clip(T, 9, 49) - 9) / 40)) / 2,
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RATES)
def test_schedules(name):
    schedule, wanted = RATES[name]
    np.testing.assert_allclose(gx.evaluate(schedule(T)), wanted, rtol=1e-12, atol=1e-16)
    assert gx.evaluate(schedule(3)) == pytest.approx(wanted[3], rel=1e-12)
    node = schedule(gx.input("t", dtype="float64"))
    assert (node.shape, node.dtype.value) == ((), "float64")


# --- clipping ---------------------------------------------------------------------------------------------
def norm_clipped(bound):
    def clip(gradients):
        norm = math.sqrt(sum((g**2).sum() for g in gradients.values()))
        return {name: g * min(1, bound / (norm + 1e-6)) for name, g in gradients.items()}

    return clip


@pytest.mark.parametrize("backend", ["numpy", "native"])
def test_clipping(backend):
    recipe, formula = CASES["SGD, momentum"]
    for bound in (0.5, 3.0):
        assert_same_path(trained(clip_by_global_norm(recipe, bound), backend=backend)[2], by_hand(formula, norm_clipped(bound)))
    clip = lambda gradients: {name: np.clip(g, -0.3, 0.3) for name, g in gradients.items()}  # noqa: E731
    assert_same_path(trained(clip_by_value(recipe, 0.3), backend=backend)[2], by_hand(formula, clip))


def test_a_nan_is_not_clipped():
    for clip in (clip_by_global_norm, clip_by_value):
        w = gx.parameter("w", [1.0, 2.0])
        gx.train_step(gx.sum(w * gx.constant([np.nan, 1.0])), clip(optim.SGD(0.1), 1.0), backend="numpy")()
        assert np.isnan(w.value[0])
        assert np.isnan(w.value[1]) == (clip is clip_by_global_norm)


# --- settings ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_unknown_setting_names_the_known(name):
    with pytest.raises(TypeError, match=rf"{name} has no setting 'lr'; lr is learning_rate here; it takes learning_rate, .*"):
        getattr(optim, name)(lr=0.1)
    with pytest.raises(TypeError, match=rf"{name} has no setting 'momentun'; it takes learning_rate, .*weight_decay"):
        getattr(optim, name)(momentun=0.1)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("Adam", {"betas": (0.9, 1.0)}), ("Adam", {"betas": 0.9}), ("Adam", {"betas": (0.9,)}), ("Adam", {"betas": (-0.1, 0.9)}),
        ("Adam", {"eps": -1e-8}), ("Adam", {"learning_rate": float("inf")}), ("RMSprop", {"alpha": 1.5}), ("Adadelta", {"rho": 1.1}),
        ("SGD", {"nesterov": True, "momentum": 0.9, "dampening": 0.1}), ("Adagrad", {"lr_decay": -1}), ("Lion", {"weight_decay": None}),
    ],
)  # fmt: skip
def test_settings_out_of_range(name, settings):
    with pytest.raises(GraphError, match="|".join(settings)):
        getattr(optim, name)(**settings)


def test_more_that_is_refused():
    with pytest.raises(DTypeError, match="learning_rate must be a float"):
        optim.Adam(gx.input("rate", dtype="int32"))
    for wrong in (0, 2.5, True, -3):
        with pytest.raises(GraphError, match="step_size"):
            optim.step_decay(0.1, wrong)
    with pytest.raises(GraphError, match="anneal_strategy must be 'cos' or 'linear'"):
        optim.one_cycle(0.1, 100, anneal_strategy="exp")
    with pytest.raises(GraphError, match="leaves a phase without steps"):
        optim.one_cycle(0.1, 10, pct_start=0.05)
    with pytest.raises(GraphError, match="must be positive"):
        optim.one_cycle(0.1, 10, div_factor=0)
    for clip in (clip_by_global_norm, clip_by_value):
        with pytest.raises(GraphError, match="must be positive"):
            clip(optim.SGD(0.1), 0)
    w = gx.parameter("step", 3.0)
    with pytest.raises(gx.GraphcError, match="'step' names a parameter"):
        gx.train_step(w * w, optim.Adam(), backend="numpy")


def test_recipes_are_values():
    recipe = optim.AdamW(0.1, weight_decay=0.3)
    assert repr(recipe) == "AdamW(learning_rate=0.1, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.3, amsgrad=False)"
    assert repr(pickle.loads(pickle.dumps(recipe))) == repr(recipe)
    with pytest.raises(AttributeError):
        recipe.eps = 1.0


def test_an_optimizer_of_ones_own():
    class SignSGD(optim.Optimizer):
        def update(self, step, weights, gradient):
            return weights - step.at(weights, step.rate) * gx.sign(gradient)

    w = gx.parameter("w", [3.0, -1.0])
    gx.train_step(gx.sum(w * w), SignSGD(0.5), backend="numpy").run(2)
    assert w.value.tolist() == [2, 0]
    with pytest.raises(NotImplementedError, match="does not say how it updates"):
        gx.train_step(gx.sum(w * w), optim.Optimizer(0.5))


def test_a_file_of_another_optimizer_does_not_fit(tmp_path):
    step, *_ = trained(optim.Adam(), backend="numpy", steps=1)
    other, *_ = trained(optim.Lion(), backend="numpy", steps=1)
    gx.save(tmp_path / "adam.npz", step)
    with pytest.raises(InputValueError, match="'W.exp_avg_sq' is in the file only"):
        gx.load(tmp_path / "adam.npz", other)


# --- PyTorch, on demand -------------------------------------------------------------------------------------
@pytest.fixture
def torch():
    """PyTorch with float64 as its default: NAdam keeps the product of its momenta in the default dtype."""
    module = pytest.importorskip("torch")
    module.set_default_dtype(module.float64)
    yield module
    module.set_default_dtype(module.float32)


def torch_path(torch, make, clip=None, schedule=None):
    values = {name: torch.tensor(value, requires_grad=True) for name, value in START.items()}
    optimizer = make(list(values.values()))
    scheduler = schedule(optimizer) if schedule else None
    a, target, path = torch.tensor(A), torch.tensor(TARGET), []
    for k in range(STEPS):
        optimizer.zero_grad()
        error = a @ values["W"] + SCALES[k] * values["b"] - target
        (torch.sqrt(error * error + 0.5).sum() + 0.05 * (values["W"] ** 4).sum()).backward()
        if clip:
            clip(list(values.values()))
        optimizer.step()
        if scheduler:
            scheduler.step()
        path.append({name: value.detach().numpy().copy() for name, value in values.items()})
    return path


TORCH = {name: case[0] for name, case in CASES.items() if not name.startswith("Lion") and name != "Adam, no averages"}


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TORCH)
def test_trajectory_is_pytorchs(torch, name):
    recipe = TORCH[name]
    settings = dict(vars(recipe))
    settings["lr"] = settings.pop("learning_rate")
    theirs = getattr(torch.optim, type(recipe).__name__)
    assert_same_path(trained(recipe)[2], torch_path(torch, lambda parameters: theirs(parameters, **settings)))


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != "Lion"])
def test_defaults_are_pytorchs(torch, name):
    theirs = getattr(torch.optim, name)([torch.zeros(1)]).defaults
    for setting, value in vars(getattr(optim, name)()).items():
        assert theirs["lr" if setting == "learning_rate" else setting] == value, setting


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_schedules_and_clipping_are_pytorchs(torch):
    lr = torch.optim.lr_scheduler
    schedules = {
        "step_decay": (optim.step_decay(0.05, 30, 0.5), lambda o: lr.StepLR(o, 30, 0.5)),
        "exponential": (optim.exponential(0.05, 0.97), lambda o: lr.ExponentialLR(o, 0.97)),
        "cosine": (optim.cosine(0.05, 200, 0.001), lambda o: lr.CosineAnnealingLR(o, 200, 0.001)),
        "one_cycle": (optim.one_cycle(0.05, 201), lambda o: lr.OneCycleLR(o, 0.05, 201, cycle_momentum=False)),
        "one_cycle, linear": (
            optim.one_cycle(0.05, 201, 0.2, "linear", 5.0, 10.0, True),
            lambda o: lr.OneCycleLR(o, 0.05, 201, None, None, 0.2, "linear", False, div_factor=5.0, final_div_factor=10.0, three_phase=True),
        ),
        "linear_warmup": (
            optim.linear_warmup(optim.cosine(0.05, 180), 20, start_factor=0.1),
            lambda o: lr.SequentialLR(o, [lr.LinearLR(o, 0.1, 1.0, 20), lr.CosineAnnealingLR(o, 180)], [20]),
        ),
    }
    for name, (ours, theirs) in schedules.items():
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.05)
        scheduler = theirs(optimizer)
        rates = []
        for _ in range(STEPS):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        np.testing.assert_allclose(gx.evaluate(ours(np.arange(STEPS))), rates, rtol=1e-10, err_msg=name)
    clips = torch.nn.utils
    for ours, theirs in (
        (clip_by_global_norm, lambda ps: clips.clip_grad_norm_(ps, 0.7)), (clip_by_value, lambda ps: clips.clip_grad_value_(ps, 0.7)),
    ):  # fmt: skip
        path = trained(ours(optim.Adam(optim.cosine(0.05, 200)), 0.7), backend="numpy")[2]
        wanted = torch_path(torch, lambda ps: torch.optim.Adam(ps, 0.05), theirs, lambda o: lr.CosineAnnealingLR(o, 200))
        assert_same_path(path, wanted)
