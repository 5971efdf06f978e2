"""A step of Adam over many parameters whose gradient is given: what an optimizer's passes over memory cost."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.workload import ADAM, Array, Workload, everywhere

__all__ = ["adam"]

BLOCK = 8192  # elements that stay in the first cache, for the NumPy version


def formula(xp: Any, g: Any, p: Any) -> Any:
    """The loss whose gradient is ``g``."""
    return xp.dot(g, p)


def graphc(gx: Any, g: Any, p: Any) -> Any:
    return g @ p


def reference(g: Array, p: Array) -> tuple[float, dict[str, Array]]:
    return g @ p, {"p": g}


def numpy(workload: Workload, parameters: dict[str, Array]) -> Any:
    """Block by block: each array comes from memory once."""
    p = parameters["p"]
    m, v = np.zeros_like(p), np.zeros_like(p)
    work, beta1, beta2, eps = np.empty(BLOCK, np.float32), *(np.float32(x) for x in (*ADAM.betas, ADAM.eps))
    rest1, rest2 = (np.float32(1 - beta) for beta in ADAM.betas)
    done = [0]

    def step(g: Array) -> Any:
        done[0] += 1
        size, scale = (np.float32(x) for x in ADAM.scalars(workload.learning_rate, done[0]))
        total = 0.0
        for start in range(0, len(p), BLOCK):
            end = start + BLOCK
            pb, mb, vb, gb = p[start:end], m[start:end], v[start:end], g[start:end]
            t = work[: len(pb)]
            total += float(gb @ pb)
            mb *= beta1
            np.multiply(gb, rest1, out=t)
            mb += t
            vb *= beta2
            np.multiply(gb, gb, out=t)
            t *= rest2
            vb += t
            np.sqrt(vb, out=t)
            t *= scale
            t += eps
            np.divide(mb, t, out=t)
            t *= size
            pb -= t
        return total

    return step


def adam(size: int) -> Workload:
    rng = np.random.default_rng(0)
    # Two in rotation, larger than the caches.
    g, p = rng.normal(size=(2, size)).astype(np.float32), rng.normal(size=size).astype(np.float32)
    return Workload(
        key="adam", what=f"{size:,} parameters with a given gradient, Adam",
        inputs={"g": g}, parameters={"p": p}, wrt=("p",), formulas=everywhere(formula) | {"graphc": graphc},
        # The loss 2, the averages 7, root, quotient and the rest 6; the gradient read, parameters and averages read and written.
        reference=reference, numpy=numpy, flops=15 * size, bytes=7 * 4 * size, learning_rate=1e-3, adam=True, loop=False,
    )  # fmt: skip
