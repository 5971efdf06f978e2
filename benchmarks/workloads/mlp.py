"""Fully connected nets with relu, softmax cross entropy and SGD: the rows tiny, digits, mnist, wide and deep."""

# ruff: noqa: N803, N806  (W, X: the letters of the formulas)
from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.workload import EXP, ROTATION, Array, Workload, cost_of_step

__all__ = ["mlp"]


# --- the formula in each library: layers are W1, b1, W2, b2, ... ----------------------------------------
def graphc(gx: Any, X: Any, labels: Any, **layers: Any) -> Any:
    return gx.mean(gx.nn.softmax_cross_entropy(_scores(X, layers, gx.nn.relu), labels))


def jax(jnp: Any, X: Any, labels: Any, **layers: Any) -> Any:
    from jax.nn import log_softmax, relu

    logs = log_softmax(_scores(X, layers, relu))
    return -jnp.mean(jnp.take_along_axis(logs, labels[:, None], axis=-1))


def torch(torch: Any, X: Any, labels: Any, **layers: Any) -> Any:
    h, depth = X, len(layers) // 2
    for i in range(1, depth):
        h = torch.relu(torch.addmm(layers[f"b{i}"], h, layers[f"W{i}"]))
    return torch.nn.functional.cross_entropy(torch.addmm(layers[f"b{depth}"], h, layers[f"W{depth}"]), labels)


def pytensor(pt: Any, X: Any, labels: Any, **layers: Any) -> Any:
    logs = pt.special.log_softmax(_scores(X, layers, lambda h: pt.maximum(h, 0)), axis=-1)
    return -pt.mean(logs[pt.arange(labels.shape[0]), labels])


def _scores(X: Any, layers: dict[str, Any], relu: Callable[[Any], Any]) -> Any:
    h, depth = X, len(layers) // 2
    for i in range(1, depth):
        h = relu(h @ layers[f"W{i}"] + layers[f"b{i}"])
    return h @ layers[f"W{depth}"] + layers[f"b{depth}"]


# --- NumPy ----------------------------------------------------------------------------------------------
def reference(X: Array, labels: Array, **layers: Array) -> tuple[float, dict[str, Array]]:
    """Plain backpropagation, to be compared by eye with the lecture."""
    depth, rows = len(layers) // 2, np.arange(len(X))
    h = [X]
    for i in range(1, depth + 1):
        scores = h[-1] @ layers[f"W{i}"] + layers[f"b{i}"]
        h.append(np.maximum(scores, 0))
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities = weights / weights.sum(axis=1, keepdims=True)
    loss = -np.mean(np.log(probabilities[rows, labels]))
    delta = probabilities.copy()
    delta[rows, labels] -= 1
    delta /= len(X)
    gradients = {}
    for i in range(depth, 0, -1):
        gradients[f"W{i}"] = h[i - 1].T @ delta
        gradients[f"b{i}"] = delta.sum(axis=0)
        delta = (delta @ layers[f"W{i}"].T) * (h[i - 1] > 0)
    return loss, gradients


def numpy(workload: Workload, parameters: dict[str, Array]) -> Any:
    """The same in place: every array is allocated here, the learning rate is folded into the first cotangent."""
    depth, batch = len(parameters) // 2, len(workload.inputs["labels"][0])
    W = [parameters[f"W{i}"] for i in range(1, depth + 1)]
    b = [parameters[f"b{i}"] for i in range(1, depth + 1)]
    f32 = np.float32
    h = [np.empty((batch, w.shape[1]), f32) for w in W]  # h[-1]: scores, then their cotangent
    dh = [np.empty_like(a) for a in h[:-1]]
    mask = [np.empty(a.shape, bool) for a in h[:-1]]
    dW, db = [np.empty_like(w) for w in W], [np.empty_like(v) for v in b]
    speed = [np.zeros_like(p) for p in (*W, *b)]  # velocities, in units of the learning rate
    column, rows = np.empty((batch, 1), f32), np.arange(batch)
    rate, mu = f32(workload.learning_rate / batch), f32(workload.momentum)

    def step(X: Array, labels: Array) -> Any:
        a = X
        for i in range(depth):
            np.matmul(a, W[i], out=h[i])
            h[i] += b[i]
            if i < depth - 1:
                np.greater(h[i], 0, out=mask[i])
                a = np.maximum(h[i], 0, out=h[i])
        scores = h[-1]
        np.maximum.reduce(scores, axis=1, keepdims=True, out=column)
        scores -= column
        picked = scores[rows, labels]
        np.exp(scores, out=scores)
        np.add.reduce(scores, axis=1, keepdims=True, out=column)
        loss = (np.log(column).sum() - picked.sum()) / batch
        scores /= column
        scores[rows, labels] -= 1
        scores *= rate
        delta = scores
        for i in range(depth - 1, -1, -1):
            np.matmul((h[i - 1] if i else X).T, delta, out=dW[i])
            np.add.reduce(delta, axis=0, out=db[i])
            if i:
                np.matmul(delta, W[i].T, out=dh[i - 1])
                dh[i - 1] *= mask[i - 1]
                delta = dh[i - 1]
        if mu:
            for p, v, g in zip((*W, *b), speed, (*dW, *db), strict=True):
                v *= mu
                v += g
                p -= v
        else:
            for p, g in zip((*W, *b), (*dW, *db), strict=True):
                p -= g
        return loss

    return step


def _off_the_kinks(X: Array, parameters: dict[str, Array]) -> None:
    """Choose small biases that keep each relu of the first batch away from zero.

    Among a quarter of a million of them some lie within rounding of it, and then float32 versions may rightly disagree.
    """
    candidates = np.linspace(-0.05, 0.05, 51, dtype=np.float32)
    h = X.astype(np.float64)
    for i in range(1, len(parameters) // 2):
        h = h @ parameters[f"W{i}"]
        distance = [np.min(np.abs(h + bias), axis=0) for bias in candidates]
        parameters[f"b{i}"][...] = candidates[np.argmax(distance, axis=0)]
        h = np.maximum(h + parameters[f"b{i}"], 0)


# --- the row ----------------------------------------------------------------------------------------------
def mlp(key: str, widths: Sequence[int], *, batch: int, momentum: float = 0.0) -> Workload:
    rng = np.random.default_rng(0)
    layers = list(pairwise(widths))
    parameters = {}
    for i, (rows, columns) in enumerate(layers, start=1):
        parameters[f"W{i}"] = rng.normal(0, np.sqrt(2 / rows), (rows, columns)).astype(np.float32)
        parameters[f"b{i}"] = np.zeros(columns, np.float32)
    inputs = {
        "X": rng.normal(size=(ROTATION, batch, widths[0])).astype(np.float32),
        "labels": rng.integers(0, widths[-1], (ROTATION, batch), dtype=np.int32),
    }
    _off_the_kinks(inputs["X"][0], parameters)
    products = [2 * batch * rows * columns for rows, columns in layers]
    return Workload(
        key=key,
        what=f"{'-'.join(map(str, widths))} net, batch {batch}, SGD{f' with momentum {momentum}' if momentum else ''}",
        inputs=inputs,
        parameters=parameters,
        wrt=tuple(parameters),
        formulas={"graphc": graphc, "jax": jax, "torch": torch, "pytensor": pytensor},
        reference=reference,
        numpy=numpy,
        # Forward, gradient of the weights, gradient of the layer below (which the data do not need).
        flops=2 * sum(products) + sum(products[1:]) + EXP * batch * widths[-1],
        bytes=cost_of_step(inputs, parameters, momentum),
        learning_rate=0.01,
        momentum=momentum,
    )
