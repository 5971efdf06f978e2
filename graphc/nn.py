"""Neural nets: activations and losses, composed from the operations. Losses are per example."""

from __future__ import annotations

from typing import Any

from graphc import frontend as fe
from graphc.frontend.elementwise import square
from graphc.ir import Node
from graphc.ops.pointwise import as_node, cast, equal, exp, expm1, log, relu, sigmoid, tanh, where
from graphc.ops.structural import iota, stop_gradient
from graphc.types import FLOAT32, DTypeError, ShapeError, normalize_axis

__all__ = [
    "elu",
    "leaky_relu",
    "log_softmax",
    "maxout",
    "multiclass_hinge",
    "relu",
    "sigmoid",
    "softmax",
    "softmax_cross_entropy",
    "squared_error",
    "tanh",
]


def _float(x: Any) -> Node:
    node = as_node(x)
    return node if node.dtype.is_float else cast(node, FLOAT32)


# --- activations ------------------------------------------------------------------------------------
def leaky_relu(x: Any, negative_slope: float = 0.01) -> Node:
    """``x`` where positive, else ``negative_slope * x``."""
    node = _float(x)
    return where(node <= 0, node * negative_slope, node)


def elu(x: Any, alpha: float = 1.0) -> Node:
    """``x`` where positive, else ``alpha * (exp(x) - 1)``."""
    node = _float(x)
    return where(node <= 0, expm1(where(node <= 0, node, 0)) * alpha, node)


def maxout(x: Any, pieces: int, axis: int = -1) -> Node:
    """The largest of each run of ``pieces`` neighbours along ``axis``, whose extent they divide.

    Goodfellow et al., *Maxout Networks*, 2013.
    """
    node = as_node(x)
    at = normalize_axis(axis, node.ndim)
    if pieces < 1 or node.shape[at] % pieces:
        raise ShapeError(f"maxout of {pieces} pieces does not divide axis {axis} of shape {node.shape}")
    grouped = (*node.shape[:at], node.shape[at] // pieces, pieces, *node.shape[at + 1 :])
    return fe.max(fe.reshape(node, grouped), axis=at + 1)


def _shifted(x: Any, axis: int) -> Node:
    """``x`` minus its maximum; the shift cancels in every use, so it carries no gradient."""
    node = _float(x)
    return node - stop_gradient(fe.max(node, axis, keepdims=True))


def softmax(x: Any, axis: int = -1) -> Node:
    """``exp(x) / sum(exp(x))`` along ``axis``, shifted by the maximum against overflow."""
    weights = exp(_shifted(x, axis))
    return weights / fe.sum(weights, axis, keepdims=True)


def log_softmax(x: Any, axis: int = -1) -> Node:
    """``log(softmax(x))`` without the rounding of the small probabilities."""
    shifted = _shifted(x, axis)
    return shifted - log(fe.sum(exp(shifted), axis, keepdims=True))


# --- losses, per example ------------------------------------------------------------------------------
def _labels(scores: Node, labels: Any, loss: str) -> Node:
    """Labels as a column beside the rows of ``scores``."""
    node = as_node(labels)
    if not node.dtype.is_int:
        raise DTypeError(f"{loss} takes integer labels (class numbers), got {node.dtype}")
    if scores.ndim < 1 or node.shape != scores.shape[:-1]:
        raise ShapeError(
            f"{loss}: labels of shape {node.shape} do not fit scores of shape {scores.shape}, expected {scores.shape[:-1]}"
        )
    return fe.expand_dims(node, -1)


def softmax_cross_entropy(scores: Any, labels: Any) -> Node:
    """``-log(softmax(scores))`` at each label: scores (..., classes), integer labels (...), result (...).

    A label outside of ``0 <= label < classes`` fails the call before anything is stored.
    """
    node = _float(scores)
    column = _labels(node, labels, "softmax_cross_entropy")
    shifted = _shifted(node, -1)
    picked = fe.squeeze(fe.take_along_axis(shifted, column, -1), -1)
    return log(fe.sum(exp(shifted), -1)) - picked


def multiclass_hinge(scores: Any, labels: Any, margin: float = 1.0) -> Node:
    """``sum over j != label of max(0, scores_j - scores_label + margin)``: scores (..., classes), labels (...), result (...).

    Weston and Watkins, 1999; the multiclass SVM loss of the lecture.
    """
    node = _float(scores)
    column = _labels(node, labels, "multiclass_hinge")
    margins = relu(node - fe.take_along_axis(node, column, -1) + margin)
    return fe.sum(where(equal(iota(node.shape[-1]), column), 0, margins), -1)


def squared_error(predictions: Any, targets: Any) -> Node:
    """``(predictions - targets) ** 2``, elementwise."""
    return square(_float(predictions) - targets)
