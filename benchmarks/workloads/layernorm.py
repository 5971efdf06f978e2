"""Layer norm with the gradients of its input, weight and bias: rows that should be read once."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.workload import Array, Workload

__all__ = ["layernorm"]

EPS = 1e-5
BLOCK = 64  # rows that stay in the second cache, for the NumPy version


def graphc(gx: Any, x: Any, weight: Any, bias: Any, c: Any) -> Any:
    return gx.sum(gx.nn.layer_norm(x, x.shape[-1], weight, bias, eps=EPS) * c)


def jax(jnp: Any, x: Any, weight: Any, bias: Any, c: Any) -> Any:
    from jax.lax import rsqrt

    mean = jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(x - mean), axis=-1, keepdims=True)
    return jnp.sum(((x - mean) * rsqrt(variance + EPS) * weight + bias) * c)


def torch(torch: Any, x: Any, weight: Any, bias: Any, c: Any) -> Any:
    return torch.sum(torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias, EPS) * c)


def pytensor(pt: Any, x: Any, weight: Any, bias: Any, c: Any) -> Any:
    centered = x - pt.mean(x, axis=-1, keepdims=True)
    variance = pt.mean(centered**2, axis=-1, keepdims=True)
    return pt.sum((centered / pt.sqrt(variance + np.float32(EPS)) * weight + bias) * c)


def reference(x: Array, weight: Array, bias: Array, c: Array) -> tuple[float, dict[str, Array]]:
    centered = x - x.mean(-1, keepdims=True)
    scale = 1 / np.sqrt((centered**2).mean(-1, keepdims=True) + EPS)
    normal = centered * scale
    g = c * weight
    of_x = scale * (g - g.mean(-1, keepdims=True) - normal * (g * normal).mean(-1, keepdims=True))
    return np.sum((normal * weight + bias) * c), {"x": of_x, "weight": (c * normal).sum(0), "bias": c.sum(0)}


def numpy(workload: Workload, parameters: dict[str, Array]) -> Any:
    """Block by block, so that the intermediates stay in the cache."""
    _, rows, width = workload.inputs["x"].shape
    dx, dweight, dbias = (np.empty(shape, np.float32) for shape in ((rows, width), width, width))
    normal, work = (np.empty((BLOCK, width), np.float32) for _ in range(2))
    share = np.float32(1 / width)

    def value_and_gradient(x: Array, weight: Array, bias: Array, c: Array) -> Any:
        dweight[...] = 0
        dbias[...] = 0
        for start in range(0, rows, BLOCK):
            g, cb = dx[start : start + BLOCK], c[start : start + BLOCK]
            n, t = normal[: len(g)], work[: len(g)]
            np.subtract(x[start : start + BLOCK], x[start : start + BLOCK].mean(-1, keepdims=True), out=n)
            scale = 1 / np.sqrt(np.einsum("ij,ij->i", n, n) * share + np.float32(EPS))[:, None]
            n *= scale
            np.multiply(cb, n, out=t)
            dweight.__iadd__(t.sum(0))
            dbias.__iadd__(cb.sum(0))
            np.multiply(cb, weight, out=g)
            slope = np.einsum("ij,ij->i", g, n)[:, None] * share
            g -= g.mean(-1, keepdims=True)
            np.multiply(n, slope, out=t)
            g -= t
            g *= scale
        return float(dweight @ weight + dbias @ bias), (dx, dweight, dbias)

    return value_and_gradient


def layernorm(rows: int, width: int) -> Workload:
    rng = np.random.default_rng(0)
    # Two in rotation, each larger than the caches.
    inputs = {
        "x": rng.normal(1, 2, (2, rows, width)), "weight": rng.normal(1, 0.1, (2, width)),
        "bias": rng.normal(0, 0.1, (2, width)), "c": rng.normal(size=(2, rows, width)),
    }  # fmt: skip
    return Workload(
        key="layer-norm", what=f"layer norm {rows:,} x {width}: sum(layer_norm(x) * c) and the gradients of x, weight and bias",
        inputs={name: array.astype(np.float32) for name, array in inputs.items()},
        parameters={}, wrt=("x", "weight", "bias"), reference=reference, numpy=numpy,
        formulas={"graphc": graphc, "jax": jax, "torch": torch, "pytensor": pytensor},
        # Per element: mean 1, variance 3, normal 1, output and loss 4, of weight 2, of bias 1, g and its sums 4, of x 4.
        flops=20 * rows * width, bytes=4 * (3 * rows * width + 4 * width), loop=False,
    )  # fmt: skip
