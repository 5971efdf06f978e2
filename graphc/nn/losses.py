"""Losses: elementwise, or per example (over the last axis). None is averaged: that is said with :func:`graphc.mean`."""

from __future__ import annotations

import math
from typing import Any

from graphc import frontend as fe
from graphc.frontend.indexing import as_index, within
from graphc.ir import Node
from graphc.nn.activations import clamp, log_softmax, shifted
from graphc.ops.gather import gather
from graphc.ops.pointwise import (
    as_float,
    as_node,
    equal,
    exp,
    log,
    logaddexp,
    maximum,
    multiply,
    relu,
    sqrt,
    subtract,
    where,
)
from graphc.ops.structural import iota, stop_gradient
from graphc.types import GraphError, ShapeError

__all__ = [
    "absolute_error",
    "cosine_similarity",
    "gaussian_nll",
    "hinge",
    "huber",
    "kl_divergence",
    "multiclass_hinge",
    "nll",
    "poisson_nll",
    "sigmoid_binary_cross_entropy",
    "smooth_l1",
    "softmax_cross_entropy",
    "squared_error",
]


# --- regression, elementwise ------------------------------------------------------------------------------
def squared_error(predictions: Any, targets: Any) -> Node:
    """``(predictions - targets) ** 2``, elementwise."""
    return fe.square(subtract(as_float(predictions), targets))


def absolute_error(predictions: Any, targets: Any) -> Node:
    """``|predictions - targets|``, elementwise; the gradient is 0 where they are equal."""
    return abs(subtract(as_float(predictions), targets))


def huber(predictions: Any, targets: Any, delta: float = 1.0) -> Node:
    """``d * d / 2`` for a difference ``d`` of at most ``delta``, else ``delta * (|d| - delta / 2)``; elementwise.

    Huber, *Robust Estimation of a Location Parameter*, 1964.
    """
    _positive("huber", "delta", delta)
    difference = subtract(as_float(predictions), targets)
    slope = clamp(difference, -delta, delta)
    return slope * (difference - 0.5 * slope)


def smooth_l1(predictions: Any, targets: Any, beta: float = 1.0) -> Node:
    """``d * d / (2 * beta)`` for a difference ``d`` of less than ``beta``, else ``|d| - beta / 2``; elementwise.

    It is ``huber(delta=beta) / beta``, and the absolute error for ``beta=0``. Girshick, *Fast R-CNN*, 2015.
    """
    if beta == 0:
        return absolute_error(predictions, targets)
    _positive("smooth_l1", "beta", beta)
    difference = subtract(as_float(predictions), targets)
    slope = clamp(difference / beta, -1, 1)
    return slope * (difference - 0.5 * beta * slope)


def poisson_nll(
    predictions: Any, targets: Any, log_input: bool = True, full: bool = False, eps: float = 1e-8
) -> Node:
    """``exp(x) - t * x`` with the logarithm ``x`` of the rate as prediction, elementwise.

    log_input=False: the prediction is the rate itself, ``x - t * log(x + eps)``. full: adds Stirling's approximation of
    ``log(t!)`` where ``t > 1``.
    """
    node, target = as_float(predictions), as_float(targets)
    loss = exp(node) - target * node if log_input else node - target * log(node + eps)
    if full:
        count = where(target > 1, target, 1)
        stirling = count * log(count) - count + 0.5 * log(2 * math.pi * count)
        loss = loss + where(target > 1, stirling, 0)
    return loss


def gaussian_nll(x: Any, target: Any, var: Any, full: bool = False, eps: float = 1e-6) -> Node:
    """``(log(var) + (x - target) ** 2 / var) / 2``, elementwise, with a variance of at least ``eps``.

    The bound is not seen by the gradient. full: adds ``log(2 * pi) / 2``. ``var`` broadcasts. Nix and Weigend, 1994.
    """
    _positive("gaussian_nll", "eps", eps)
    given = as_float(var)
    variance = given + stop_gradient(maximum(given, eps) - given)
    loss = 0.5 * (log(variance) + fe.square(as_float(x) - target) / variance)
    return loss + 0.5 * math.log(2 * math.pi) if full else loss


# --- two classes, elementwise -----------------------------------------------------------------------------
def sigmoid_binary_cross_entropy(logits: Any, labels: Any) -> Node:
    """``-y * log(p) - (1 - y) * log(1 - p)`` with ``p = sigmoid(logits)`` and labels 0, 1 or between; elementwise.

    Loss and gradient keep their relative accuracy however sure and right a logit is.
    """
    node = as_float(logits)
    # x * ([x > 0] - y) + log(1 + exp(-|x|)), with a slope of |x| at 0 that fits that of the other summand
    sure = multiply(node, where(node > 0, as_node(1, node.dtype), 0) - labels)
    return sure + logaddexp(where(node > 0, -node, node), 0)


def hinge(scores: Any, labels: Any) -> Node:
    """``max(0, 1 - y * score)`` for labels of -1 and 1, elementwise; the gradient at the kink is 0."""
    return relu(1 - as_float(scores) * labels)


# --- several classes, over the last axis --------------------------------------------------------------------
def softmax_cross_entropy(scores: Any, labels: Any, label_smoothing: float = 0.0) -> Node:
    """``-sum(p * log(softmax(scores)))`` over the last axis: scores (..., classes), result (...).

    labels: class numbers, integers of shape (...), or the distributions ``p`` themselves, floats of shape (..., classes).
    label_smoothing: the share of ``p`` that is spread evenly over the classes.
    A class number outside of ``0 <= label < classes`` fails the call before anything is stored.
    """
    if not 0 <= label_smoothing <= 1:
        raise GraphError(f"softmax_cross_entropy: label_smoothing must be from 0 to 1, got {label_smoothing!r}")
    node, given = as_float(scores), as_node(labels)
    if given.dtype.is_float:
        if node.ndim < 1 or given.shape != node.shape:
            raise ShapeError(
                f"softmax_cross_entropy: distributions of shape {given.shape} do not fit scores of shape {node.shape}; "
                "they need the same shape (class numbers are integers)"
            )
        if label_smoothing:
            given = given * (1 - label_smoothing) + label_smoothing / node.shape[-1]
        return -fe.sum(given * log_softmax(node), -1)
    column = _labels(node, given, "softmax_cross_entropy")
    moved = shifted(node, -1)
    picked = _picked(moved, column)
    if label_smoothing:
        picked = picked * (1 - label_smoothing) + fe.mean(moved, -1) * label_smoothing
    return log(fe.sum(exp(moved), -1)) - picked


def nll(log_probs: Any, labels: Any) -> Node:
    """``-log_probs`` at each label: log_probs (..., classes), integer labels (...), result (...).

    A label outside of ``0 <= label < classes`` fails the call before anything is stored.
    """
    node = as_float(log_probs)
    return -_picked(node, _labels(node, labels, "nll"))


def multiclass_hinge(scores: Any, labels: Any, margin: float = 1.0) -> Node:
    """``sum over j != label of max(0, scores_j - scores_label + margin)``: scores (..., classes), labels (...), result (...).

    Weston and Watkins, 1999; the multiclass SVM loss of the lecture.
    """
    node = as_float(scores)
    column = _labels(node, labels, "multiclass_hinge")
    margins = relu(node - gather(node, [column], node.ndim - 1) + margin)
    return fe.sum(where(equal(iota(node.shape[-1]), column), 0, margins), -1)


def kl_divergence(log_pred: Any, target: Any) -> Node:
    """``sum(target * (log(target) - log_pred))`` over the last axis, where a target of 0 adds nothing.

    ``log_pred`` are logarithms of probabilities, ``target`` probabilities, both (..., classes); the result is (...).
    """
    node, goal = as_float(log_pred), as_float(target)
    entropy = goal * log(where(equal(goal, 0), 1, goal))
    return fe.sum(entropy - goal * node, -1)


def cosine_similarity(a: Any, b: Any, axis: int = -1, eps: float = 1e-8) -> Node:
    """``sum(a * b) / (max(norm(a), eps) * max(norm(b), eps))`` along ``axis``; it is no loss, but 1 minus it is."""
    _positive("cosine_similarity", "eps", eps)
    x, y = as_float(a), as_float(b)

    def norm(node: Node) -> Node:
        square = fe.sum(node * node, axis)
        return sqrt(where(square > eps * eps, square, eps * eps))

    return fe.sum(x * y, axis) / norm(x) / norm(y)


# --- checks -------------------------------------------------------------------------------------------
def _labels(scores: Node, labels: Any, loss: str) -> Node:
    """Labels as a column beside the rows of ``scores``; those that are known are checked now."""
    if scores.ndim < 1:
        raise ShapeError(f"{loss} needs scores with an axis of classes, got a scalar")
    what = f"{loss}: labels"
    index = within(as_index(labels, what), scores.shape[-1], what, wrap=False)
    node = index if isinstance(index, Node) else as_node(index)
    if node.shape != scores.shape[:-1]:
        raise ShapeError(
            f"{loss}: labels of shape {node.shape} do not fit scores of shape {scores.shape}, expected {scores.shape[:-1]}"
        )
    return fe.expand_dims(node, -1)


def _picked(scores: Node, column: Node) -> Node:
    """The score of each label."""
    return fe.squeeze(gather(scores, [column], scores.ndim - 1), -1)


def _positive(loss: str, name: str, value: float) -> None:
    if not value > 0:
        raise GraphError(f"{loss}: {name} must be positive, got {value!r}")
