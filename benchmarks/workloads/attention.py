"""Causal attention of several heads, with the gradients of queries, keys and values."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.workload import EXP, Array, Workload

__all__ = ["attention"]


def graphc(gx: Any, q: Any, k: Any, v: Any, c: Any) -> Any:
    return gx.sum(gx.nn.scaled_dot_product_attention(q, k, v, is_causal=True) * c)


def jax(jnp: Any, q: Any, k: Any, v: Any, c: Any) -> Any:
    from jax.nn import softmax

    seen = jnp.tri(q.shape[-2], dtype=bool)
    scores = q @ jnp.swapaxes(k, -1, -2) * (1 / np.sqrt(q.shape[-1]).astype(np.float32))
    return jnp.sum(softmax(jnp.where(seen, scores, -jnp.inf)) @ v * c)


def torch(torch: Any, q: Any, k: Any, v: Any, c: Any) -> Any:
    # The fused kernel takes a batch of heads only.
    attend = torch.nn.functional.scaled_dot_product_attention
    return torch.sum(attend(q[None], k[None], v[None], is_causal=True)[0] * c)


def pytensor(pt: Any, q: Any, k: Any, v: Any, c: Any) -> Any:
    _, length, dim = c.type.shape
    seen = np.tri(length, dtype=bool)
    scores = pt.matmul(q, k.transpose(0, 2, 1)) * np.float32(dim**-0.5)
    return pt.sum(pt.matmul(pt.special.softmax(pt.where(seen, scores, np.float32(-1e30)), axis=-1), v) * c)


def reference(q: Array, k: Array, v: Array, c: Array) -> tuple[float, dict[str, Array]]:
    scale, seen = q.shape[-1] ** -0.5, np.tri(q.shape[-2], dtype=bool)
    scores = np.where(seen, q @ k.swapaxes(-1, -2) * scale, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    p = weights / weights.sum(-1, keepdims=True)
    g = c @ v.swapaxes(-1, -2)
    g = p * (g - (g * p).sum(-1, keepdims=True)) * scale
    return np.sum(p @ v * c), {"q": g @ k, "k": g.swapaxes(-1, -2) @ q, "v": p.swapaxes(-1, -2) @ c}


def numpy(workload: Workload, parameters: dict[str, Array]) -> Any:
    """Head by head, in place."""
    _, heads, length, dim = workload.inputs["q"].shape
    dq, dk, dv = (np.empty((heads, length, dim), np.float32) for _ in range(3))
    p, g, work = (np.empty((length, length), np.float32) for _ in range(3))
    hidden = ~np.tri(length, dtype=bool)
    scale = np.float32(dim**-0.5)

    def value_and_gradient(q: Array, k: Array, v: Array, c: Array) -> Any:
        total = 0.0
        for h in range(heads):
            np.matmul(q[h], k[h].T, out=p)
            np.multiply(p, scale, out=p)
            p[hidden] = -np.inf
            np.subtract(p, p.max(-1, keepdims=True), out=p)
            np.exp(p, out=p)
            np.multiply(p, 1 / p.sum(-1, keepdims=True), out=p)
            np.matmul(p.T, c[h], out=dv[h])
            total += float(np.vdot(dv[h], v[h]))  # sum((p @ v) * c)
            np.matmul(c[h], v[h].T, out=g)
            np.multiply(g, p, out=work)
            np.subtract(g, work.sum(-1, keepdims=True), out=g)
            np.multiply(g, p, out=g)
            np.multiply(g, scale, out=g)
            np.matmul(g, k[h], out=dq[h])
            np.matmul(g.T, q[h], out=dk[h])
        return total, (dq, dk, dv)

    return value_and_gradient


def attention(heads: int, length: int, dim: int) -> Workload:
    rng = np.random.default_rng(0)
    inputs = {name: rng.normal(size=(4, heads, length, dim)).astype(np.float32) for name in "qkvc"}
    pairs = heads * length * (length + 1) // 2  # of a query and a key that it sees
    return Workload(
        key="attention", what=f"causal attention, {heads} heads x {length} x {dim}: sum(attention * c) and its gradients",
        inputs=inputs, parameters={}, wrt=("q", "k", "v"), reference=reference, numpy=numpy,
        formulas={"graphc": graphc, "jax": jax, "torch": torch, "pytensor": pytensor},
        # Six products, two forward and four backward; per pair an exp and the softmax with its gradient.
        flops=pairs * (6 * 2 * dim + EXP + 8), bytes=4 * 7 * heads * length * dim, loop=False,
    )  # fmt: skip
