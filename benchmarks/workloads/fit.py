"""Curve fitting in float64: the value and gradient that an optimiser such as L-BFGS asks for, again and again."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.workload import EXP64, ROTATION, Array, Workload, everywhere

__all__ = ["fit"]


def formula(xp: Any, theta: Any, t: Any, y: Any) -> Any:
    """The squared error of ``a0 exp(-b0 t) + a1 exp(-b1 t) + a2 exp(-b2 t)``; theta holds a, then b."""
    curves = xp.exp(-theta[3:, None] * t)
    error = theta[:3] @ curves - y
    return xp.sum(error * error)


def reference(theta: Array, t: Array, y: Array) -> tuple[float, dict[str, Array]]:
    a, b = theta[:3, None], theta[3:, None]
    curves = np.exp(-b * t)
    error = np.sum(a * curves, axis=0) - y
    of_a = np.sum(2 * error * curves, axis=1)
    of_b = np.sum(2 * error * -t * a * curves, axis=1)
    return np.sum(error**2), {"theta": np.concatenate([of_a, of_b])}


def numpy(workload: Workload, parameters: dict[str, Array]) -> Any:
    points = workload.inputs["t"].shape[1]
    curves, error, weighted, gradient = np.empty((3, points)), np.empty(points), np.empty((2, points)), np.empty(6)
    halves = gradient.reshape(2, 3)

    def value_and_gradient(theta: Array, t: Array, y: Array) -> Any:
        a, b = theta[:3], theta[3:]
        np.multiply(b[:, None], t, out=curves)
        np.negative(curves, out=curves)
        np.exp(curves, out=curves)
        np.matmul(a, curves, out=error)
        np.subtract(error, y, out=error)
        np.multiply(error, 2, out=weighted[0])
        np.multiply(weighted[0], t, out=weighted[1])
        np.matmul(weighted, curves.T, out=halves)
        halves[1] *= -a
        return error @ error, (gradient,)

    return value_and_gradient


def fit(points: int) -> Workload:
    rng = np.random.default_rng(0)
    t = np.linspace(0, 5, points)
    y = 2 * np.exp(-0.3 * t) + np.exp(-1.1 * t) + 0.5 * np.exp(-4 * t) + rng.normal(0, 0.01, points)
    inputs = {
        "theta": np.array([1.5, 1.2, 0.8, 0.2, 1.0, 3.0]) * rng.uniform(0.8, 1.2, (ROTATION, 6)),
        "t": np.tile(t, (ROTATION, 1)),
        "y": np.tile(y, (ROTATION, 1)),
    }
    return Workload(
        key="fit", what=f"float64, three exponentials, {points} points: value and gradient",
        inputs=inputs, parameters={}, wrt=("theta",), formulas=everywhere(formula), reference=reference, numpy=numpy,
        # Per point: three exps of a product, their weighted sum, the error and its square, two sums per curve.
        flops=points * (3 * (EXP64 + 1) + 6 + 3 + 2 * 6 + 1), bytes=8 * (2 * points + 6 + 7), loop=False,
    )  # fmt: skip
