"""Activations: elementwise, or along one axis. Values, gradients and kinks are PyTorch's.

At a kink that has two slopes, the gradient is the slope of the side that the formula names with "else" or "below". Where
two formulas are chosen from, the one that is not taken is kept finite, so that no ``0 * inf`` comes into a gradient.
"""

from __future__ import annotations

import math
from typing import Any

from graphc import frontend as fe
from graphc.ir import Node
from graphc.ops.pointwise import as_float, as_node, erf, exp, expm1, log, logaddexp, relu, sigmoid, tanh, where
from graphc.ops.structural import stop_gradient
from graphc.types import GraphError, ShapeError, normalize_axis

__all__ = [
    "celu",
    "elu",
    "gelu",
    "glu",
    "hard_sigmoid",
    "hard_swish",
    "hard_tanh",
    "leaky_relu",
    "log_sigmoid",
    "log_softmax",
    "maxout",
    "mish",
    "prelu",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "softsign",
    "tanh",
]


# --- for this package ---------------------------------------------------------------------------------
def clamp(x: Node, low: float, high: float) -> Node:
    """``x`` within its bounds; the gradient is zero at a bound and beyond it."""
    return where(x <= low, low, where(x >= high, high, x))


def shifted(x: Any, axis: int) -> Node:
    """``x`` minus its maximum along ``axis``; the shift cancels in every use, so it carries no gradient."""
    node = as_float(x)
    return node - stop_gradient(fe.max(node, axis, keepdims=True))


# --- piecewise linear -----------------------------------------------------------------------------------
def relu6(x: Any) -> Node:
    """``min(max(0, x), 6)``; the gradient is 0 at both kinks."""
    return clamp(as_float(x), 0, 6)


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Node:
    """``x`` where positive, else ``negative_slope * x``."""
    node = as_float(x)
    return node * where(node > 0, 1, as_node(negative_slope, node.dtype))


def prelu(x: Any, weight: Any) -> Node:
    """``x`` where positive, else ``weight * x``: one learned slope (one element), or one for each channel (axis 1)."""
    node, slope = as_float(x), as_float(weight)
    if slope.size == 1:
        slope = fe.reshape(slope, ())
    elif node.ndim >= 2 and slope.shape == node.shape[1:2]:
        slope = fe.reshape(slope, (slope.size, *(1,) * (node.ndim - 2)))
    else:
        raise ShapeError(
            f"prelu: weight of shape {slope.shape} does not fit x of shape {node.shape}; "
            "expected one element, or one for each channel (axis 1)"
        )
    return node * where(node > 0, 1, slope)


def hard_tanh(x: Any, min_val: float = -1.0, max_val: float = 1.0) -> Node:
    """``x`` between its bounds; the gradient is 0 at both."""
    if not min_val < max_val:
        raise GraphError(f"hard_tanh needs min_val < max_val, got {min_val} and {max_val}")
    return clamp(as_float(x), min_val, max_val)


def hard_sigmoid(x: Any) -> Node:
    """``x / 6 + 1/2`` between -3 and 3, 0 below and 1 above; the gradient is 0 at both kinks."""
    node = as_float(x)
    return where(node <= -3, 0, where(node >= 3, 1, (node + 3) / 6))


def hard_swish(x: Any) -> Node:
    """``x * hard_sigmoid(x)``; Howard et al., *Searching for MobileNetV3*, 2019."""
    node = as_float(x)
    return node * hard_sigmoid(node)


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


# --- exponential below zero -------------------------------------------------------------------------------
def elu(x: Any, alpha: float = 1.0) -> Node:
    """``x`` where positive, else ``alpha * (exp(x) - 1)``; Clevert et al., 2016."""
    node = as_float(x)
    return where(node > 0, node, expm1(where(node > 0, 0, node)) * alpha)


def celu(x: Any, alpha: float = 1.0) -> Node:
    """``x`` where positive, else ``alpha * (exp(x / alpha) - 1)``, so that the slope at 0 is 1; Barron, 2017."""
    node = as_float(x)
    return where(node > 0, node, expm1(where(node > 0, 0, node) / alpha) * alpha)


def selu(x: Any) -> Node:
    """``scale * elu(x, alpha)`` with the constants of Klambauer et al., *Self-Normalizing Neural Networks*, 2017."""
    return elu(x, alpha=1.6732632423543772848170429916717) * 1.0507009873554804934193349852946


# --- smooth -------------------------------------------------------------------------------------------
def softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Node:
    """``log(1 + exp(beta * x)) / beta``, and ``x`` itself where ``beta * x > threshold``."""
    node = as_float(x)
    scaled = node * beta
    return where(scaled > threshold, node, logaddexp(scaled, 0) / beta)


def log_sigmoid(x: Any) -> Node:
    """``log(1 / (1 + exp(-x)))``, without underflow."""
    return -logaddexp(-as_float(x), 0)


def softsign(x: Any) -> Node:
    """``x / (1 + |x|)``."""
    node = as_float(x)
    return node / (1 + abs(node))


def gelu(x: Any, approximate: str = "none") -> Node:
    """``x`` times the normal distribution function of ``x``; approximate="tanh": its approximation by a tanh.

    Hendrycks and Gimpel, *Gaussian Error Linear Units*, 2016.
    """
    node = as_float(x)
    if approximate == "none":
        return node * 0.5 * (1 + erf(node * math.sqrt(0.5)))
    if approximate == "tanh":
        inner = (node + 0.044715 * node * node * node) * math.sqrt(2 / math.pi)
        return node * 0.5 * (1 + tanh(inner))
    raise GraphError(f'gelu: approximate must be "none" or "tanh", got {approximate!r}')


def silu(x: Any) -> Node:
    """``x * sigmoid(x)``, also called swish."""
    node = as_float(x)
    return node * sigmoid(node)


def mish(x: Any) -> Node:
    """``x * tanh(log(1 + exp(x)))``; Misra, 2019."""
    node = as_float(x)
    return node * tanh(logaddexp(node, 0))


# --- along an axis --------------------------------------------------------------------------------------
def glu(x: Any, axis: int = -1) -> Node:
    """``a * sigmoid(b)``, where ``a`` and ``b`` are the halves of ``x`` along ``axis``; Dauphin et al., 2017."""
    node = as_float(x)
    at = normalize_axis(axis, node.ndim)
    if node.shape[at] % 2:
        raise ShapeError(f"glu halves axis {axis}, whose extent must be even; got shape {node.shape}")
    half, before = node.shape[at] // 2, (slice(None),) * at
    return node[(*before, slice(None, half))] * sigmoid(node[(*before, slice(half, None))])


def softmax(x: Any, axis: int = -1) -> Node:
    """``exp(x) / sum(exp(x))`` along ``axis``, shifted by the maximum against overflow."""
    weights = exp(shifted(x, axis))
    return weights / fe.sum(weights, axis, keepdims=True)


def log_softmax(x: Any, axis: int = -1) -> Node:
    """``log(softmax(x))`` without the rounding of the small probabilities."""
    moved = shifted(x, axis)
    return moved - log(fe.sum(exp(moved), axis, keepdims=True))
