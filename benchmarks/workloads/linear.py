"""Linear classifiers of the lecture on CIFAR-10's shape (3072 pixels and a one): softmax, and the multiclass SVM."""

# ruff: noqa: N803, N806  (W, X: the letters of the formulas)
from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.workload import EXP, ROTATION, Array, Workload, cost_of_step

__all__ = ["linear"]

L2 = 1e-3


# --- softmax ------------------------------------------------------------------------------------------
def softmax_graphc(gx: Any, X: Any, labels: Any, W: Any) -> Any:
    return gx.mean(gx.nn.softmax_cross_entropy(X @ W, labels)) + L2 * gx.sum(W * W)


def softmax_jax(jnp: Any, X: Any, labels: Any, W: Any) -> Any:
    from jax.nn import log_softmax

    return L2 * jnp.sum(W * W) - jnp.mean(jnp.take_along_axis(log_softmax(X @ W), labels[:, None], axis=-1))


def softmax_torch(torch: Any, X: Any, labels: Any, W: Any) -> Any:
    return torch.nn.functional.cross_entropy(X @ W, labels) + L2 * torch.sum(W * W)


def softmax_pytensor(pt: Any, X: Any, labels: Any, W: Any) -> Any:
    logs = pt.special.log_softmax(X @ W, axis=-1)
    return L2 * pt.sum(W * W) - pt.mean(logs[pt.arange(labels.shape[0]), labels])


def softmax_scores(scores: Array, labels: Array) -> tuple[float, Array]:
    """The summed loss; ``scores`` become their cotangent."""
    rows = np.arange(len(scores))
    scores -= scores.max(axis=1, keepdims=True)
    picked = scores[rows, labels].sum()
    np.exp(scores, out=scores)
    sums = scores.sum(axis=1, keepdims=True)
    scores /= sums
    scores[rows, labels] -= 1
    return np.log(sums).sum() - picked, scores


# --- multiclass SVM -------------------------------------------------------------------------------------
def svm_graphc(gx: Any, X: Any, labels: Any, W: Any) -> Any:
    return gx.mean(gx.nn.multiclass_hinge(X @ W, labels)) + L2 * gx.sum(W * W)


def svm_jax(jnp: Any, X: Any, labels: Any, W: Any) -> Any:
    from jax.nn import relu

    scores = X @ W
    margins = relu(scores - jnp.take_along_axis(scores, labels[:, None], axis=-1) + 1)
    return (jnp.sum(margins) - len(labels)) / len(labels) + L2 * jnp.sum(W * W)  # each row's own margin is 1


def svm_torch(torch: Any, X: Any, labels: Any, W: Any) -> Any:
    scores = X @ W  # multi_margin_loss divides by the number of classes
    return scores.shape[1] * torch.nn.functional.multi_margin_loss(scores, labels) + L2 * torch.sum(W * W)


def svm_pytensor(pt: Any, X: Any, labels: Any, W: Any) -> Any:
    scores = X @ W
    picked = scores[pt.arange(labels.shape[0]), labels]
    margins = pt.maximum(scores - picked[:, None] + 1, 0)
    return pt.mean(pt.sum(margins, axis=1)) - 1 + L2 * pt.sum(W * W)


def svm_scores(scores: Array, labels: Array) -> tuple[float, Array]:
    """The summed loss; ``scores`` become their cotangent."""
    rows = np.arange(len(scores))
    scores -= scores[rows, labels][:, None] - 1
    scores[rows, labels] = 0
    np.maximum(scores, 0, out=scores)
    loss = scores.sum()
    np.greater(scores, 0, out=scores, casting="unsafe")
    scores[rows, labels] = -scores.sum(axis=1)
    return loss, scores


LOSSES: dict[str, Any] = {
    "softmax": (
        softmax_scores,
        {"graphc": softmax_graphc, "jax": softmax_jax, "torch": softmax_torch, "pytensor": softmax_pytensor},
    ),
    "svm": (svm_scores, {"graphc": svm_graphc, "jax": svm_jax, "torch": svm_torch, "pytensor": svm_pytensor}),
}  # fmt: skip


# --- the rows -------------------------------------------------------------------------------------------
def linear(kind: str, features: int, classes: int, *, batch: int) -> Workload:
    rng = np.random.default_rng(0)
    inputs = {
        "X": rng.uniform(-0.5, 0.5, (ROTATION, batch, features)).astype(np.float32),
        "labels": rng.integers(0, classes, (ROTATION, batch), dtype=np.int32),
    }
    inputs["X"][..., -1] = 1  # the bias trick
    parameters = {"W": rng.normal(0, 0.01, (features, classes)).astype(np.float32)}
    on_scores, formulas = LOSSES[kind]

    def reference(X: Array, labels: Array, W: Array) -> tuple[float, dict[str, Array]]:
        loss, cotangent = on_scores(X @ W, labels)
        return loss / len(X) + L2 * np.sum(W * W), {"W": X.T @ cotangent / len(X) + 2 * L2 * W}

    def numpy(workload: Workload, parameters: dict[str, Array]) -> Any:
        W, rate = parameters["W"], workload.learning_rate
        scores, dW = np.empty((batch, classes), np.float32), np.empty_like(W)

        def step(X: Array, labels: Array) -> Any:
            np.matmul(X, W, out=scores)
            loss, cotangent = on_scores(scores, labels)
            flat = W.reshape(-1)
            loss = loss / batch + L2 * (flat @ flat)
            cotangent *= rate / batch
            np.matmul(X.T, cotangent, out=dW)
            np.multiply(W, 1 - 2 * L2 * rate, out=W)
            np.subtract(W, dW, out=W)
            return loss

        return step

    return Workload(
        key=f"linear-{kind}", what=f"{features}x{classes} scores, {kind} loss, batch {batch}, L2, SGD",
        inputs=inputs, parameters=parameters, wrt=("W",), formulas=formulas, reference=reference, numpy=numpy,
        # Scores and the gradient of W, both from one reading of X; L2: a multiply-add for the loss, one for the update.
        flops=2 * (2 * batch + 2) * features * classes + (EXP * batch * classes if kind == "softmax" else 0),
        bytes=cost_of_step(inputs, parameters), learning_rate=0.001,
    )  # fmt: skip
