"""Logistic regression by full-batch gradient descent: a tall matrix that should be read once."""

# ruff: noqa: N803, N806  (W, X: the letters of the formulas)
from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.workload import EXP, Array, Workload, cost_of_step

__all__ = ["logreg"]

BLOCK = 4096  # rows whose share of X stays in the second cache, for the NumPy version


def graphc(gx: Any, X: Any, y: Any, w: Any, b: Any) -> Any:
    s = X @ w + b
    return gx.mean(gx.logaddexp(0, s) - y * s)


def jax(jnp: Any, X: Any, y: Any, w: Any, b: Any) -> Any:
    from jax.nn import softplus

    s = X @ w + b
    return jnp.mean(softplus(s) - y * s)


def torch(torch: Any, X: Any, y: Any, w: Any, b: Any) -> Any:
    return torch.nn.functional.binary_cross_entropy_with_logits(X @ w + b, y)


def pytensor(pt: Any, X: Any, y: Any, w: Any, b: Any) -> Any:
    s = X @ w + b
    return pt.mean(pt.softplus(s) - y * s)


def reference(X: Array, y: Array, w: Array, b: Array) -> tuple[float, dict[str, Array]]:
    s = X @ w + b
    delta = (1 / (1 + np.exp(-s)) - y) / len(y)
    return np.mean(np.logaddexp(0, s) - y * s), {"w": X.T @ delta, "b": delta.sum()}


def numpy(workload: Workload, parameters: dict[str, Array]) -> Any:
    """Block by block: X comes from memory once, for the scores and for the gradient."""
    w, b = parameters["w"], parameters["b"]
    size = workload.inputs["X"].shape[1]
    s, e, p = (np.empty(BLOCK, np.float32) for _ in range(3))
    rate = workload.learning_rate / size

    def step(X: Array, y: Array) -> Any:
        dw, db, total = np.zeros_like(w), 0.0, 0.0
        for start in range(0, size, BLOCK):
            Xb, yb = X[start : start + BLOCK], y[start : start + BLOCK]
            sb, eb, pb = s[: len(yb)], e[: len(yb)], p[: len(yb)]
            np.matmul(Xb, w, out=sb)
            sb += b
            total -= float(yb @ sb)
            np.abs(sb, out=pb)
            np.negative(pb, out=pb)
            np.exp(pb, out=eb)  # e = exp(-|s|): the loss is max(s, 0) + log1p(e) - y s
            np.log1p(eb, out=pb)
            total += float(pb.sum())
            np.maximum(sb, 0, out=pb)
            total += float(pb.sum())
            np.add(eb, 1, out=pb)  # the sigmoid is 1 / (1 + e) where s >= 0, e / (1 + e) elsewhere
            np.copyto(eb, 1, where=sb >= 0)
            eb /= pb
            eb -= yb
            dw += eb @ Xb
            db += float(eb.sum())
        np.subtract(w, rate * dw, out=w)
        b[...] -= rate * db
        return total / size

    return step


def logreg(rows: int, features: int) -> Workload:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1, rows, features)).astype(np.float32)
    y = (X[0] @ rng.normal(size=features) + rng.normal(size=rows) > 0).astype(np.float32)[None]
    inputs = {"X": X, "y": y}
    parameters = {"w": rng.normal(0, 0.1, features).astype(np.float32), "b": np.zeros((), np.float32)}
    return Workload(
        key="logreg", what=f"logistic regression {rows:,} x {features}, full batch, SGD",
        inputs=inputs, parameters=parameters, wrt=("w", "b"), reference=reference, numpy=numpy,
        formulas={"graphc": graphc, "jax": jax, "torch": torch, "pytensor": pytensor},
        flops=rows * (2 * 2 * features + 2 * EXP + 8), bytes=cost_of_step(inputs, parameters),
        learning_rate=0.1, loop=False,
    )  # fmt: skip
