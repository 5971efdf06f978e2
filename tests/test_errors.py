"""Bad input: the error says what was wrong, what was expected and what came, and every parameter is as it was."""

from __future__ import annotations

import copy
import os
import pickle
import platform
import re
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import graphc as gx
from graphc import toolchain
from graphc.emit.spell import function_name
from graphc.toolchain import find_compiler
from graphc.types import (
    CacheError,
    CompilationError,
    CompilerNotFoundError,
    GradientError,
    GraphError,
    IndexOutOfRangeError,
    InputTypeError,
    InputValueError,
    NameClashError,
    ShapeError,
)

ROOT = Path(__file__).resolve().parent.parent
CLASSES = 4


class Net:
    """A linear classifier and what it was before."""

    def __init__(self, name="errors"):
        rng = np.random.default_rng(0)
        self.W = gx.parameter("W", rng.standard_normal((3, CLASSES)))
        X, labels = gx.input("X", (5, 3)), gx.input("labels", (5,), dtype="int32")
        loss = gx.mean(gx.nn.softmax_cross_entropy(X @ self.W, labels))
        self.step = gx.train_step(loss, gx.optim.SGD(0.1, momentum=0.9), name=name)
        self.X, self.labels = rng.standard_normal((5, 3)).astype("f"), rng.integers(0, CLASSES, 5).astype("int32")
        self.before = self.values()

    def values(self):
        return [p.value.copy() for p in self.step.parameters.values()]

    def unchanged(self):
        return all((a == b).all() for a, b in zip(self.values(), self.before, strict=True))


@pytest.fixture(scope="module")
def shared():
    return Net()


@pytest.fixture
def net(shared):
    yield shared
    for parameter, value in zip(shared.step.parameters.values(), shared.before, strict=True):
        parameter.value = value


# --- calls ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"X": np.zeros((4, 3))}, InputValueError, ["'X'", "float32[5, 3]", "(4, 3)"]),
        ({"X": np.zeros((5, 3), complex)}, InputTypeError, ["'X'", "float32", "complex128"]),
        ({"X": "abc"}, InputTypeError, ["'X'", "float32[5, 3]"]),
        ({"labels": np.zeros(5)}, InputTypeError, ["'labels'", "int32", "float64"]),
        ({"labels": np.full(5, 2**40)}, InputValueError, ["'labels'", "int32"]),
        ({"labels": np.array([0, 1, CLASSES, 1, 0])}, IndexOutOfRangeError, ["labels[2]", "4", "index < 4"]),
        ({"labels": np.array([0, 1, 1, 1, -1])}, IndexOutOfRangeError, ["labels[4]", "-1", "0 <= index"]),
        ({"labels": None}, InputTypeError, ["labels"]),
        ({"extra": 1}, InputTypeError, ["extra"]),
    ],
)
def test_call(net, change, error, words):
    feeds = {"X": net.X, "labels": net.labels, **change}
    with pytest.raises(error) as caught:
        net.step(**feeds)
    assert all(word in str(caught.value) for word in words), caught.value
    assert net.unchanged()


def test_missing_input(net):
    with pytest.raises(InputTypeError, match="missing.*labels: int32"):
        net.step(X=net.X)
    assert net.unchanged()


def test_label_in_the_middle_of_a_run(net):
    n, wrong = 9, 6
    X, labels = np.broadcast_to(net.X, (n, 5, 3)), np.array(np.broadcast_to(net.labels, (n, 5)))
    net.step.run(wrong, X=net.X, labels=net.labels)
    expected = net.values()
    for parameter, value in zip(net.step.parameters.values(), net.before, strict=True):
        parameter.value = value
    labels[wrong, 1] = 99
    with pytest.raises(IndexOutOfRangeError, match="99"):
        net.step.run(n, X=X, labels=labels)
    assert all((a == b).all() for a, b in zip(net.values(), expected, strict=True))


def test_label_in_the_middle_of_a_fit(net):
    net.step.run(3, X=net.X, labels=net.labels)
    expected = net.values()
    for parameter, value in zip(net.step.parameters.values(), net.before, strict=True):
        parameter.value = value
    X, labels = np.tile(net.X, (8, 1)), np.tile(net.labels, 8)
    labels[17] = CLASSES
    with pytest.raises(IndexOutOfRangeError, match=r"labels\[17\].*exactly 3 steps"):
        net.step.fit({"X": X, "labels": labels}, epochs=1, shuffle=False)
    assert all((a == b).all() for a, b in zip(net.values(), expected, strict=True))


def test_indices_computed_inside():
    """They are checked before anything is stored, too; a check after other kernels has the number of its own."""
    table, count = gx.parameter("table", np.arange(5)), gx.parameter("count", 0.0)
    k, plain = gx.input("k", (3,), "int64"), gx.input("plain", (3,), "int32")
    outputs = [gx.take_along_axis(table, 2 * k, 0), gx.take_along_axis(table, plain, 0)]
    f = gx.compile([k, plain], outputs, {count: count + 1, table: table + 1}, name="computed")
    for indices, given, words in [
        ([0, 1, 3], [0, 1, 2], "out of range.*-5 <= index < 5"),
        ([2**32, 0, 0], [0, 1, 2], "out of range"),
        ([0, 1, 2], [0, 7, 2], r"plain\[1\] is 7"),
    ]:
        with pytest.raises(IndexOutOfRangeError, match=words):
            f(indices, given)
        assert (table.value == np.arange(5)).all()
        assert count.value == 0
    assert [part.tolist() for part in f([0, 1, 2], [4, 3, 0])] == [[0, 2, 4], [4, 3, 0]]
    assert count.value == 1


def test_fewer_rows_than_a_batch(net):
    with pytest.raises(InputValueError, match="3 rows.*5|5.*3"):
        net.step.fit({"X": net.X[:3], "labels": net.labels[:3]}, epochs=1)
    assert net.unchanged()


# --- graphs -------------------------------------------------------------------------------------------
def test_graphs_that_cannot_be():
    x, y = gx.input("x", (3, 4)), gx.input("y", (5,))
    with pytest.raises(ShapeError, match=r"\(3, 4\).*\(5,\)"):
        x + y
    with pytest.raises(ShapeError, match=r"\(3, 4\).*\(5,\).*4 columns meet 5 rows"):
        x @ y
    with pytest.raises(GraphError, match="no truth value.*where"):
        bool(x > 0)
    with pytest.raises(GraphError, match="no truth value"):
        0 < gx.input("s") < 1  # noqa: B015
    with pytest.raises(ShapeError, match="too large"):
        gx.input("x", (2**31, 2**31))
    with pytest.raises(ShapeError, match="too large"):
        gx.compile([gx.input("x", (2**33,))], gx.input("x", (2**33,)) * 2)
    with pytest.raises(ShapeError, match="loop over 2,147,483,653 elements is too large"):
        gx.compile([gx.input("s")], gx.sum(gx.broadcast_to(gx.input("s"), (2**31 + 5,))))


def test_evaluations_that_cannot_be():
    i = gx.input("i", (2,), "int32")
    with pytest.raises(InputValueError, match="'i' has an integer that does not fit in int32"):
        gx.evaluate(i, {"i": [0, 2**40]})
    for nodes in ({"twice": i * 2}, [i, 2.0]):
        with pytest.raises(GraphError, match="a node or a sequence of nodes, got"):
            gx.evaluate(nodes, {"i": [0, 1]})


def test_functions_and_nodes_are_not_pickled():
    x = gx.input("x")
    double = gx.compile([x], x * 2, name="double", backend="numpy")
    with pytest.raises(TypeError, match="function 'double' can be neither pickled nor copied"):
        pickle.dumps(double)
    with pytest.raises(TypeError, match="function 'double' can be neither pickled nor copied"):
        copy.deepcopy(double)
    with pytest.raises(TypeError, match="node cannot be pickled"):
        pickle.dumps(x)


def test_training_that_cannot_be():
    W, V = gx.parameter("W", np.ones(3)), gx.parameter("V", np.ones(3))
    with pytest.raises(GradientError, match="scalar"):
        gx.train_step(W * 2, gx.optim.SGD(0.1))
    with pytest.raises(GraphError, match="'V'"):
        gx.train_step(gx.sum(W), gx.optim.SGD(0.1), parameters=[W, V])
    with pytest.raises(GraphError, match="sequence of parameters, got <W: .* alone"):
        gx.train_step(gx.sum(W), gx.optim.SGD(0.1), parameters=W)
    for no_optimizer in (gx.optim.SGD, "sgd", None):
        with pytest.raises(GraphError, match="optimizer: expected one such as"):
            gx.train_step(gx.sum(W), no_optimizer)


def test_names_that_clash():
    a, b = gx.parameter("W", np.ones(3)), gx.parameter("W", np.ones(3))
    with pytest.raises(NameClashError, match="'W'"):
        gx.compile([], a + b)
    with pytest.raises(NameClashError, match="'x'"):
        gx.compile([gx.input("x"), gx.input("x", (2,))], gx.input("x") * gx.input("x", (2,)))


NAMES = [
    "int", "restrict", "my input", "1st", "NAN", "INFINITY", "main", "gx_expf", "args", "arena", "i", "j", "exp", "expf", "log",
    "STEP_H", "double_args", "double_run", "DOUBLE__H", "now", "*/", "/*", "int32_t", "size_t", "class", "linux", "x y", "x_y",
    "\n", "\u202e", "tile", "k0", "float", "void", "größe", "a.b", "a-b", "__x", "M_PI", "errno", "status", "threads", "b1", "x_2", "first",
]  # fmt: skip


def test_names_that_are_no_identifiers_simply_work():
    inputs = [gx.input(name, (3, 3)) for name in NAMES]
    total = sum(inputs[1:], start=inputs[0] * 2)
    outputs = {name: gx.exp(total * 0.01) @ node for name, node in zip(NAMES, inputs, strict=True)}
    values = [np.full((3, 3), k, "f") for k in range(len(NAMES))]
    native = gx.compile(inputs, outputs, name="double")(*values)
    numpy = gx.compile(inputs, outputs, name="double", backend="numpy")(*values)
    for name in NAMES:
        np.testing.assert_allclose(native[name], numpy[name], rtol=1e-5)


@pytest.mark.parametrize("name", ["step", "main", "exp", "printf", "int", "my step!", "double", "time", "index", "2nd",
    "now", "output", "int32_t", "float_t", "expf", "isnan", "new", "x"])
def test_function_names_simply_work(name):
    x = gx.input("x")
    f = gx.compile([x], gx.exp(x), name=name)
    assert f(0.0) == 1.0
    assert f.run(2, x=np.zeros(2, "f")).tolist() == [1.0, 1.0]


HEADERS = "".join(f"#include <{name}.h>\n" for name in ("math", "string", "stdint", "stdlib", "stdio", "time", "unistd"))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library declares other names")
def test_no_function_is_named_like_what_headers_declare():
    """Of all names in the headers, and the macros, each is declared as a function of ours would be."""

    def ran(text, *flags):
        command = [*find_compiler().argv, *flags, "-x", "c", "-"]
        return subprocess.run(command, input=text, capture_output=True, text=True, check=False)

    names = set(re.findall(r"\b[A-Za-z_]\w*", ran(HEADERS, "-E", "-P").stdout))
    names |= set(re.findall(r"#define (\w+)", ran(HEADERS, "-E", "-dM").stdout))
    assert {"printf", "y0", "random", "EOF"} <= names
    free = sorted({function_name(name) for name in names})
    said = ran(f"{HEADERS}struct args;\n" + "".join(f"int {name}(const struct args *);\n" for name in free), "-fsyntax-only")
    assert said.returncode == 0, said.stderr


# --- compilers and caches -------------------------------------------------------------------------------
def fresh(name="fresh"):
    x = gx.input("x")
    return gx.compile([x], x * 3 + 1, name=name)


def test_no_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setitem(sys.modules, "ziglang", None)
    with pytest.raises(CompilerNotFoundError, match="(?s)ziglang.*numpy|numpy.*ziglang"):
        fresh()
    x = gx.input("x")
    assert gx.compile([x], x * 3 + 1, backend="numpy")(2) == 7


def test_compiler_that_fails(monkeypatch, tmp_path):
    script = tmp_path / "cc"
    real = toolchain.find_compiler().argv[0]
    script.write_text(f'#!/bin/sh\ncase "$*" in *unlucky.c*) echo "no luck today" >&2; exit 1;; esac\nexec {real} "$@"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("CC", str(script))
    monkeypatch.setenv("GRAPHC_BUILD_DIR", str(tmp_path / "cache"))
    with pytest.raises(CompilationError, match="no luck today"):
        fresh("unlucky")


def test_cache_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GRAPHC_BUILD_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(CacheError, match="GRAPHC_BUILD_DIR"):
        fresh()


def test_damaged_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("GRAPHC_BUILD_DIR", str(tmp_path))
    program = "import graphc as gx; x = gx.input('x'); print(gx.compile([x], x * 3 + 1, name='damaged')(2))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def run():
        return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)

    assert run().stdout == "7.0\n"
    for library in tmp_path.rglob("damaged.*"):
        if library.suffix != ".c":
            library.write_bytes(library.read_bytes()[:100])
    assert run().stdout == "7.0\n"


# --- processes and threads ------------------------------------------------------------------------------
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_after_threads():
    X = gx.input("X", (512, 512))
    f = gx.compile([X], X @ X, name="forked", threads=2)
    x = np.eye(512, dtype="f")
    assert (f(x) == x).all()
    child = os.fork()
    if child == 0:
        os._exit(0 if (f(x) == x).all() else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_python_threads(net):
    X = gx.input("X", (64, 64))
    pure = gx.compile([X], X @ X, name="pure")
    wrong = []

    def work(seed):
        x = np.random.default_rng(seed).standard_normal((64, 64)).astype("f")
        expected = pure(x).copy()
        for _ in range(200):
            if not (pure(x) == expected).all():
                wrong.append(seed)
            net.step(X=net.X, labels=net.labels)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    after = net.values()
    for parameter, value in zip(net.step.parameters.values(), net.before, strict=True):
        parameter.value = value
    net.step.run(800, X=net.X, labels=net.labels)
    assert all((a == b).all() for a, b in zip(net.values(), after, strict=True))
