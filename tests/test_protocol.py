"""What Python's and NumPy's own syntax means on a node: methods, operators, and what is refused by name."""

from __future__ import annotations

import copy
import math
import operator

import numpy as np
import pytest

import graphc as gx
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
        (lambda: np.array([X, X]), GraphError, "has no number yet"),
        (lambda: operator.setitem(X, 0, 1), UnsupportedError, "cannot be assigned.*graphc.where"),
        (lambda: X.sum(dtype="float64"), TypeError, "dtype"),
        (lambda: X @ X, ShapeError, "4 columns meet 3 rows"),
    ],
)
def test_what_a_node_refuses(use, error, words):
    with pytest.raises(error, match=words):
        use()
