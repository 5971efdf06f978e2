"""What Python's and NumPy's own syntax means on a node: methods, operators, and what is refused by name."""

from __future__ import annotations

import copy
import math
import operator

import numpy as np
import pytest

import graphc as gx
from graphc.ir import OPERATORS
from graphc.types import GraphError, ShapeError, UnsupportedError

rng = np.random.default_rng(0)
X = gx.input("X", (3, 4), "float64")
S = gx.input("s", (), "float64")
VALUE = rng.normal(size=(3, 4))


# --- methods ----------------------------------------------------------------------------------------------
METHODS = {
    "sum": [{}, {"axis": 0}, {"axis": (0, 1), "keepdims": True}], "mean": [{"axis": -1}], "max": [{"axis": 0}], "min": [{}], "prod": [{"axis": 1}],
    "var": [{}, {"axis": 0, "ddof": 1}], "std": [{"axis": 1, "keepdims": True}], "all": [{}, {"axis": 0}], "any": [{"axis": 1}],
    "argmax": [{}, {"axis": 0, "keepdims": True}], "argmin": [{"axis": 1}], "argsort": [{"axis": 0}], "cumsum": [{}, {"axis": 1}], "cumprod": [{"axis": 0}],
    "reshape": [(4, 3), ((2, -1),)], "ravel": [{}], "flatten": [{}], "transpose": [{}, (1, 0), ((1, 0),)], "swapaxes": [(0, 1)], "squeeze": [{}],
    "diagonal": [{}, {"offset": 1}], "trace": [{}], "repeat": [(2,), (2, 0)], "take": [([0, 2],), ([1], 1)], "dot": [(np.arange(4.0),)],
    "clip": [(-0.5, 0.5), {"max": 0.0}], "round": [{}, (1,)], "astype": [("int32",), (np.float64,)], "copy": [{}],
}  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_the_functions_and_numpys_methods(name):
    for given in METHODS[name]:
        args, kwargs = ((), given) if isinstance(given, dict) else (given, {})
        node = getattr(X, name)(*args, **kwargs)
        function = getattr(gx, {"flatten": "ravel", "copy": "positive"}.get(name, name))
        assert node is function(X, *args, **kwargs)
        np.testing.assert_allclose(gx.evaluate(node, {X: VALUE}), getattr(VALUE, name)(*args, **kwargs), rtol=1e-12)


def test_attributes():
    assert (X.ndim, X.size, X.shape, X.dtype) == (2, 12, (3, 4), gx.types.FLOAT64)
    assert X.T is gx.transpose(X)
    assert gx.input("B", (2, 3, 4)).mT.shape == (2, 4, 3)
    assert copy.copy(X) is X


@pytest.mark.parametrize("name", ["float32", "float64", "int32", "int64", "bool"])
def test_dtypes_are_equal_to_numpys(name):
    dtype = gx.input("x", (2,), name).dtype
    for other in (name, np.dtype(name), np.dtype(name).type, dtype):
        assert dtype == other
        assert other == dtype
    assert dtype != "int8"
    assert dtype != 3
    assert dtype != "no dtype"
    assert np.zeros(2, dtype=dtype).dtype == np.dtype(name) == dtype
    assert np.issubdtype(dtype, np.floating) == dtype.is_float
    assert {dtype: 1}[gx.types.dtype_of(name)] == 1


# --- operators --------------------------------------------------------------------------------------------
FLOAT = "add sub mul truediv floordiv mod pow lt le gt ge matmul".split()
INT = "and_ or_ xor lshift rshift".split()


@pytest.mark.parametrize("name", FLOAT + INT)
def test_operators_from_both_sides(name):
    """With a node, a number and an array on either side; an array leaves the operation to the node."""
    op = getattr(operator, name)
    dtype, array = ("int64", np.array([1, 2, 3])) if name in INT else ("float64", np.array([0.5, 1.5, 2.0]))
    x, y = gx.input("x", (3,), dtype), gx.input("y", (3,), dtype)
    feeds = {"x": array, "y": array[::-1]}
    cases = [(op(x, y), op(array, array[::-1])), (op(x, array), op(array, array)), (op(array, x), op(array, array))]
    if name != "matmul":
        cases += [(op(x, 2), op(array, 2)), (op(2, x), op(2, array)), (op(np.float64(2) if dtype == "float64" else np.int64(2), x), op(2, array))]
    for node, want in cases:
        got = gx.evaluate(node, feeds)
        assert got.dtype.kind == np.asarray(want).dtype.kind
        np.testing.assert_allclose(got, want, rtol=1e-12)


def test_operators_of_one():
    for op in (operator.neg, operator.pos, abs, round, lambda a: round(a, 1)):
        want = np.round(VALUE, 1) if "lambda" in op.__name__ else np.round(VALUE) if op is round else op(VALUE)
        np.testing.assert_allclose(gx.evaluate(op(X), {X: VALUE}), want, rtol=1e-12)
    assert [node.shape for node in divmod(X, 0.3)] == [(3, 4)] * 2
    assert [node.shape for node in divmod(1, X)] == [(3, 4)] * 2
    n = gx.input("n", (2,), "int32")
    assert gx.evaluate(~n, {n: [1, 2]}).tolist() == [-2, -3]
    total = X
    total += 1  # makes a new node
    assert total is X + 1


def test_iteration_over_the_first_axis():
    assert len(X) == 3
    assert list(X) == [X[0], X[1], X[2]]
    _, _, c = X
    assert c is X[2]
    with pytest.raises(TypeError, match="no length"):
        len(S)
    with pytest.raises(TypeError, match="no length"):
        iter(S)


@pytest.mark.parametrize(
    ("use", "error", "words"),
    [
        (lambda: bool(S > 0), GraphError, "no truth value.*graphc.where"),
        (lambda: 0 < S < 1, GraphError, r"instead of `0 < x < 1`"),
        (lambda: 1 in X, GraphError, "`in` has no meaning.*graphc.any"),
        (lambda: float(S), GraphError, "has no number yet.*graphc.evaluate"),
        (lambda: int(S), GraphError, "has no number yet"),
        (lambda: complex(S), GraphError, "has no number yet"),
        (lambda: math.sin(S), GraphError, "has no number yet.*a function of graphc in place of this one"),
        (lambda: range(S), GraphError, "has no number yet"),
        (lambda: [1, 2][S], GraphError, "has no number yet"),
        (lambda: S.item(), GraphError, "has no number yet"),
        (lambda: X.tolist(), GraphError, "has no number yet"),
        (lambda: np.asarray(X), GraphError, "has no number yet.*graphc.evaluate.*graphc.compile"),
        (lambda: np.array([X, X]), GraphError, "has no number yet.*stack in place of numpy.array"),
        (lambda: operator.setitem(X, 0, 1), UnsupportedError, "cannot be assigned.*graphc.where"),
        (lambda: X.sum(dtype="float64"), TypeError, "dtype"),
        (lambda: X @ X, ShapeError, "4 columns meet 3 rows"),
    ],
)
def test_what_a_node_refuses(use, error, words):
    with pytest.raises(error, match=words):
        use()


# --- NumPy's functions ------------------------------------------------------------------------------------
def dispatched(module):
    """NumPy's functions that hand a call over to what is among their arguments, by name."""
    kind = type(np.sum)  # not public; a plain function where NumPy is older
    found = {name: getattr(module, name) for name in dir(module) if not name.startswith("_")}
    return {name: f for name, f in found.items() if isinstance(f, np.ufunc) or (isinstance(f, kind) and hasattr(f, "_implementation"))}


def test_every_function_that_numpy_has_too_is_reached_from_there():
    for space, module, ours in (("", np, gx), ("linalg.", np.linalg, gx.linalg)):
        shared = set(dispatched(module)) & set(ours.__all__) - {"save"}
        assert len(shared) > (100 if module is np else 10)
        for name in shared:
            assert space + dispatched(module)[name].__name__ in OPERATORS, name
        for name in shared:
            assert OPERATORS[space + name] is getattr(ours, name), name


def test_ufuncs():
    y = gx.input("y", (3, 4), "float64")
    count = 0
    for name, function in dispatched(np).items():
        ours = OPERATORS.get(function.__name__)
        if not isinstance(function, np.ufunc) or ours is None or name.startswith(("bitwise", "left", "right", "invert", "mat", "vec", "divmod")):
            continue
        args = [X, y][: function.nin]
        assert function(*args) is ours(*args), name
        if function.nin == 2:
            assert function(2.0, X) is ours(2.0, X)
            assert function(VALUE, X) is ours(VALUE, X)
        count += 1
    assert count > 40
    assert np.matmul(X, X.T) is gx.matmul(X, X.T)
    assert np.vecdot(X, y, axis=0) is gx.vecdot(X, y, axis=0)
    assert np.divmod(X, 2)[1] is X % 2


C = gx.input("c", (3, 4), "bool")
M = gx.input("M", (4, 4), "float64")
CALLS = {
    "sum": (lambda: np.sum(X, axis=0), lambda: gx.sum(X, 0)),
    "sum by place": (lambda: np.sum(X, 0, None, None, True), lambda: gx.sum(X, 0, True)),
    "max": (lambda: np.max(X, 1), lambda: gx.max(X, 1)),
    "amax": (lambda: np.amax(a=X, axis=1), lambda: gx.max(X, 1)),
    "var": (lambda: np.var(X, ddof=1, axis=0), lambda: gx.var(X, 0, 1)),
    "std": (lambda: np.std(X, 0, correction=1), lambda: gx.std(X, 0, 1)),
    "argmax": (lambda: np.argmax(X, axis=1, keepdims=True), lambda: gx.argmax(X, 1, True)),
    "cumsum": (lambda: np.cumsum(X, 1), lambda: gx.cumsum(X, 1)),
    "prod": (lambda: np.prod(X), lambda: gx.prod(X)),
    "where": (lambda: np.where(C, X, 0), lambda: gx.where(C, X, 0)),
    "where of an array": (lambda: np.where(VALUE > 0, X, 0), lambda: gx.where(VALUE > 0, X, 0)),
    "concatenate": (lambda: np.concatenate([X, X], axis=1), lambda: gx.concatenate([X, X], 1)),
    "concatenate with an array": (lambda: np.concatenate((VALUE, X)), lambda: gx.concatenate([VALUE, X])),
    "stack": (lambda: np.stack([X, X], -1), lambda: gx.stack([X, X], -1)),
    "vstack": (lambda: np.vstack([X, VALUE]), lambda: gx.vstack([X, VALUE])),
    "einsum": (lambda: np.einsum("ij,kj->ik", X, X, optimize=True), lambda: gx.einsum("ij,kj->ik", X, X)),
    "tensordot": (lambda: np.tensordot(X, VALUE, axes=2), lambda: gx.tensordot(X, VALUE, 2)),
    "dot": (lambda: np.dot(X, M), lambda: gx.dot(X, M)),
    "norm": (lambda: np.linalg.norm(X, axis=1), lambda: gx.linalg.norm(X, axis=1)),
    "matrix_power": (lambda: np.linalg.matrix_power(M, 3), lambda: M @ (M @ M)),
    "trace": (lambda: np.linalg.trace(M, offset=1), lambda: gx.trace(M, 1)),
    "clip": (lambda: np.clip(X, -1, 1), lambda: gx.clip(X, -1, 1)),
    "clip by name": (lambda: np.clip(X, a_min=None, a_max=1), lambda: gx.clip(X, max=1)),
    "reshape": (lambda: np.reshape(X, (2, 6)), lambda: gx.reshape(X, (2, 6))),
    "reshape in the order that there is": (lambda: np.reshape(X, (2, -1), order="C"), lambda: gx.reshape(X, (2, -1))),
    "transpose": (lambda: np.transpose(X, (1, 0)), lambda: X.T),
    "swapaxes": (lambda: np.swapaxes(X, 0, 1), lambda: X.T),
    "expand_dims": (lambda: np.expand_dims(X, 0), lambda: X[None]),
    "broadcast_to": (lambda: np.broadcast_to(X, (2, 3, 4)), lambda: gx.broadcast_to(X, (2, 3, 4))),
    "pad": (lambda: np.pad(X, 1, constant_values=2), lambda: gx.pad(X, 1, constant_values=2)),
    "roll": (lambda: np.roll(X, 1, axis=0), lambda: gx.roll(X, 1, 0)),
    "take": (lambda: np.take(X, [0, 2], axis=1), lambda: gx.take(X, [0, 2], 1)),
    "take_along_axis": (lambda: np.take_along_axis(X, np.array([[0], [1], [2]]), axis=1), lambda: gx.take_along_axis(X, np.array([[0], [1], [2]]), 1)),
    "sort": (lambda: np.sort(X, axis=0), lambda: gx.sort(X, 0)),
    "zeros_like": (lambda: np.zeros_like(X), lambda: gx.zeros_like(X)),
    "empty_like": (lambda: np.empty_like(X), lambda: gx.zeros_like(X)),
    "full_like": (lambda: np.full_like(X, 7, dtype=int, shape=(2,)), lambda: gx.full_like(X, 7, int, (2,))),
    "round": (lambda: np.round(X, 1), lambda: gx.round(X, 1)),
    "nan_to_num": (lambda: np.nan_to_num(X, nan=1.0), lambda: gx.nan_to_num(X, nan=1.0)),
    "trapezoid": (lambda: np.trapezoid(X, dx=0.5), lambda: gx.trapezoid(X, dx=0.5)),
    "average": (lambda: np.average(X, weights=VALUE), lambda: gx.average(X, weights=VALUE)),
    "copy": (lambda: np.copy(X), lambda: X),
    "outer": (lambda: np.linalg.outer(S[None], S[None]), lambda: gx.outer(S, S)),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_numpys_functions_build_nodes(name):
    theirs, ours = CALLS[name]
    assert theirs() is ours()


def test_several_results_and_what_is_known_without_a_number():
    assert [node.shape for node in np.split(X, 2, axis=1)] == [(3, 2)] * 2
    assert [node.shape for node in np.meshgrid(X[0], X[:, 0], indexing="ij")] == [(4, 3)] * 2
    assert [node.shape for node in np.gradient(X, 0.5)] == [(3, 4)] * 2
    assert [node.shape for node in np.atleast_2d(S, X)] == [(1, 1), (3, 4)]
    assert (np.shape(X), np.ndim(X), np.size(X), np.size(X, 1), np.iscomplexobj(X)) == ((3, 4), 2, 12, 4, False)


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda: np.fft.fft(X), "numpy.fft.fft has no counterpart in graphc"),
        (lambda: np.unique(X), "numpy.unique has no counterpart in graphc"),
        (lambda: np.linalg.matrix_rank(X), "numpy.linalg.matrix_rank has no counterpart"),
        (lambda: np.gcd(X, 2), "numpy.gcd has no counterpart"),
        (lambda: np.add.reduce(X), "numpy.add.reduce is not supported on a node"),
        (lambda: np.multiply.outer(X, X), "numpy.multiply.outer is not supported"),
        (lambda: np.add.at(VALUE.copy(), [0], X), "numpy.add.at is not supported"),
        (lambda: np.sum(X, dtype="float32"), r"numpy.sum\(dtype=...\) is not supported on a node: graphc.sum takes x, axis, keepdims"),
        (lambda: np.sum(X, 0, "float32"), r"numpy.sum\(dtype=...\)"),
        (lambda: np.sum(X, where=VALUE > 0), r"numpy.sum\(where=...\)"),
        (lambda: np.sum(X, out=np.zeros(())), r"numpy.sum\(out=...\)"),
        (lambda: np.add(X, 1, out=np.zeros((3, 4))), r"numpy.add\(out=...\) is not supported on a node: graphc.add takes no keywords"),
        (lambda: np.add(X, 1, np.zeros((3, 4))), r"numpy.add\(out=...\)"),
        (lambda: np.exp(X, where=VALUE > 0), r"numpy.exp\(where=...\)"),
        (lambda: np.multiply(X, 2, dtype="float32"), r"numpy.multiply\(dtype=...\)"),
        (lambda: np.reshape(X, (4, 3), order="F"), r"numpy.reshape\(order=...\)"),
        (lambda: np.average(X, returned=True), r"numpy.average\(returned=...\)"),
        (lambda: np.pad(X, 1, "constant", end_values=3), r"numpy.pad\(end_values=...\)"),
        (lambda: np.where(C), "takes 3 arguments, got 1"),
    ],
)  # fmt: skip
def test_what_graphc_has_not_is_said_by_name(use, words):
    with pytest.raises(TypeError, match=words):
        use()


def test_an_array_as_out_is_not_written_to():
    target = np.zeros((3, 4))
    with pytest.raises(UnsupportedError):
        target += X
    assert not target.any()
