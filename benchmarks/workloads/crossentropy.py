"""Softmax cross entropy over many classes, with its gradient: scores that should be read once."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.workload import EXP, Array, Workload

__all__ = ["crossentropy"]

BLOCK = 32  # rows that stay in the second cache, for the NumPy version


def graphc(gx: Any, scores: Any, labels: Any) -> Any:
    return gx.mean(gx.nn.softmax_cross_entropy(scores, labels))


def jax(jnp: Any, scores: Any, labels: Any) -> Any:
    from jax.nn import log_softmax

    return -jnp.mean(jnp.take_along_axis(log_softmax(scores), labels[:, None], axis=-1))


def torch(torch: Any, scores: Any, labels: Any) -> Any:
    return torch.nn.functional.cross_entropy(scores, labels)


def pytensor(pt: Any, scores: Any, labels: Any) -> Any:
    logs = pt.special.log_softmax(scores, axis=-1)
    return -pt.mean(logs[pt.arange(labels.shape[0]), labels])


def reference(scores: Array, labels: Array) -> tuple[float, dict[str, Array]]:
    rows = np.arange(len(scores))
    weights = np.exp(scores - scores.max(1, keepdims=True))
    probabilities = weights / weights.sum(1, keepdims=True)
    gradient = probabilities.copy()
    gradient[rows, labels] -= 1
    return -np.mean(np.log(probabilities[rows, labels])), {"scores": gradient / len(scores)}


def numpy(workload: Workload, parameters: dict[str, Array]) -> Any:
    """Block by block, so that the intermediates stay in the cache."""
    _, rows, classes = workload.inputs["scores"].shape
    gradient, counted = np.empty((rows, classes), np.float32), np.arange(BLOCK)

    def value_and_gradient(scores: Array, labels: Array) -> Any:
        total = 0.0
        for start in range(0, rows, BLOCK):
            g, wanted = gradient[start : start + BLOCK], labels[start : start + BLOCK]
            places = counted[: len(g)]
            np.subtract(scores[start : start + BLOCK], scores[start : start + BLOCK].max(1, keepdims=True), out=g)
            picked = g[places, wanted]
            np.exp(g, out=g)
            sums = g.sum(1, keepdims=True)
            total += float(np.log(sums).sum() - picked.sum())
            g *= 1 / (sums * rows)
            g[places, wanted] -= np.float32(1 / rows)
        return total / rows, (gradient,)

    return value_and_gradient


def crossentropy(rows: int, classes: int) -> Workload:
    rng = np.random.default_rng(0)
    inputs = {
        "scores": rng.normal(0, 3, (2, rows, classes)).astype(np.float32),
        "labels": rng.integers(0, classes, (2, rows), dtype=np.int32),
    }
    return Workload(
        key="cross-entropy", what=f"mean softmax cross entropy {rows:,} x {classes}: value and gradient",
        inputs=inputs, parameters={}, wrt=("scores",), reference=reference, numpy=numpy,
        formulas={"graphc": graphc, "jax": jax, "torch": torch, "pytensor": pytensor},
        # Per element: the maximum, the difference, an exp, its sum, the scaling; scores read, their gradient written.
        flops=(EXP + 4) * rows * classes, bytes=4 * (2 * rows * classes + rows), loop=False,
    )  # fmt: skip
