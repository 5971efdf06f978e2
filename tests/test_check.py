"""check_grad finds wrong gradients and forgives kinks."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gx
from graphc.ir import REGISTRY, make, register
from graphc.ops.pointwise import Pointwise
from graphc.types import GradientError, InputTypeError, InputValueError


def net():
    W, b = gx.parameter("W", gx.init.glorot_uniform((6, 4), seed=0)), gx.parameter("b", np.zeros(4))
    X, labels = gx.input("X", (5, 6)), gx.input("labels", (5,), dtype="int32")
    at = {"X": np.random.default_rng(0).standard_normal((5, 6)), "labels": np.arange(5) % 4}
    return gx.mean(gx.nn.softmax_cross_entropy(gx.nn.relu(X @ W + b), labels)) + 0.1 * gx.sum(W * W), at


def test_right_gradient(capsys):
    loss, at = net()
    report = gx.check_grad(loss, at)
    assert report.ok
    assert [row.name for row in report.rows] == ["W", "b"]
    assert all(row.error < 1e-7 for row in report.rows)
    assert "relative error" in capsys.readouterr().out


def test_wrong_gradient():
    """An operation whose derivative is off by a thousandth is found."""
    good = REGISTRY["tanh"]
    assert isinstance(good, Pointwise)
    if "wrong_tanh" not in REGISTRY:
        fields = {name: getattr(good, name) for name in ("infer", "reference", "arity", "takes", "c", "c_int", "cost", "domain")}
        register(Pointwise(name="wrong_tanh", gradient=lambda g, y, x: [g * (1 - y * y) * 1.001], **fields))
    try:
        w = gx.parameter("w", np.linspace(-1, 1, 7))
        report = gx.check_grad(gx.sum(make(REGISTRY["wrong_tanh"], w)), show=False)
        assert not report.ok
        assert "WRONG" in str(report)
    finally:
        del REGISTRY["wrong_tanh"]


def test_constants_keep_their_digits():
    """0.1 is 0.1 in the float64 graph, not the float32 next to it."""
    x = gx.input("x")
    (row,) = gx.check_grad(x * 0.1, {"x": 1.0}, show=False).rows
    assert abs(abs(row.symbolic) - 0.1) < 1e-15


def test_kinks():
    """A kink nearby is passed over, one at the point itself is named; neither is taken for a wrong gradient in silence."""
    x = gx.input("x", (3,))
    f = gx.sum(gx.nn.relu(x))
    (near,) = gx.check_grad(f, {"x": [1e-7, 1, 2]}, show=False).rows
    assert near.ok
    assert "that near" in near.note
    (on,) = gx.check_grad(f, {"x": [0, 1, 2]}, show=False).rows
    assert not on.ok
    assert "on a kink" in on.note


def test_a_stopped_gradient_is_meant():
    x = gx.input("x", (3,))
    assert gx.check_grad(gx.sum(x * gx.stop_gradient(x * x)), {"x": [0.1, 1, 2]}, show=False)


def test_parameters_of_one_name_and_a_choice():
    a, b = gx.parameter("w", 2.0), gx.parameter("w", 3.0)
    x = gx.input("w")
    f = a * a * b * x
    assert [row.name for row in gx.check_grad(f, {"w": 0.5}, show=False).rows] == ["w", "w"]
    (row,) = gx.check_grad(f, {x: 0.5}, wrt=x, show=False).rows
    assert abs(row.symbolic) == 12.0


def test_where_rounding_is_all_there_is():
    """No derivative, or one that drowns in a large function, is no error; and no excuse for a wrong one."""
    x = gx.input("x", (3,))
    for f in (gx.sum(x - x), 1e6 + 1e-3 * gx.sum(x)):
        assert gx.check_grad(f, {"x": [0.1, 1, 2]}, show=False).ok
    assert not gx.check_grad(gx.sum(gx.log(x)), {"x": [-0.1, 1, 2]}, show=False).ok


def test_what_cannot_be_checked():
    loss, at = net()
    with pytest.raises(GradientError, match="scalar"):
        gx.check_grad(gx.input("v", (3,)))
    with pytest.raises(InputTypeError, match="'y'"):
        gx.check_grad(loss, {**at, "y": 1})
    with pytest.raises(GradientError, match="reaches no"):
        gx.check_grad(gx.constant(1.0))
    with pytest.raises(GradientError, match="wrt"):
        gx.check_grad(loss, at, wrt=gx.input("elsewhere"))
    with pytest.raises(InputTypeError, match="labels"):
        gx.check_grad(loss, {"X": at["X"]})
    with pytest.raises(InputValueError, match="'X'"):
        gx.check_grad(loss, {**at, "X": np.zeros(3)})
