"""A chain of elementwise functions and one sum over many elements: what fusion is about."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.workload import EXP, Array, Workload, everywhere

__all__ = ["chain"]

BLOCK = 8192  # elements that stay in the first cache, for the NumPy version


def formula(xp: Any, v: Any) -> Any:
    return xp.sum(xp.tanh(v) * xp.sigmoid(2 * v) + xp.exp(-v * v))


def jax(jnp: Any, v: Any) -> Any:
    from jax.nn import sigmoid

    return jnp.sum(jnp.tanh(v) * sigmoid(2 * v) + jnp.exp(-v * v))


def reference(v: Array) -> tuple[float, dict[str, Array]]:
    t, s, e = np.tanh(v), 1 / (1 + np.exp(-2 * v)), np.exp(-v * v)
    return np.sum(t * s + e), {"v": (1 - t * t) * s + 2 * t * s * (1 - s) - 2 * v * e}


def numpy(workload: Workload, parameters: dict[str, Array]) -> Any:
    """Block by block, so that the intermediates stay in the cache; tanh from the sigmoid: ``t = 2 s - 1``."""
    size = workload.inputs["v"].shape[1]
    gradient, e, s = np.empty(size, np.float32), np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)

    def value_and_gradient(v: Array) -> Any:
        total = 0.0
        for start in range(0, size, BLOCK):
            x, g = v[start : start + BLOCK], gradient[start : start + BLOCK]
            eb, sb = e[: len(x)], s[: len(x)]
            np.multiply(x, -2, out=sb)
            np.exp(sb, out=sb)
            sb += 1
            np.reciprocal(sb, out=sb)  # s
            np.multiply(x, x, out=eb)
            np.negative(eb, out=eb)
            np.exp(eb, out=eb)  # e
            total += float(eb.sum()) + 2 * float(sb @ sb) - float(sb.sum())  # t s + e = 2 s s - s + e
            eb *= x
            np.multiply(sb, 4, out=g)  # the derivative of 2 s s - s is (4 s - 1) 2 s (1 - s)
            g -= 1
            g *= sb
            np.subtract(1, sb, out=sb)
            g *= sb
            g -= eb
            g *= 2
        return total, (gradient,)

    return value_and_gradient


def chain(size: int) -> Workload:
    # Two in rotation: sixteen, and the copies of every peer, would need gigabytes.
    v = np.random.default_rng(0).normal(size=(2, size)).astype(np.float32)
    return Workload(
        key="chain", what=f"sum(tanh(v) * sigmoid(2v) + exp(-v*v)), {size:,} elements: value and gradient",
        inputs={"v": v}, parameters={}, wrt=("v",), formulas=everywhere(formula) | {"jax": jax},
        reference=reference, numpy=numpy,
        # Two exps (tanh(v) = 2 sigmoid(2v) - 1), a reciprocal, a dozen of the rest; v read, its gradient written.
        flops=size * (2 * EXP + 14), bytes=2 * 4 * size, loop=False,
    )  # fmt: skip
