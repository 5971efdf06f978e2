"""Layers as functions of their weights, in PyTorch's layouts: linear, embedding, normalisation, attention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc import frontend as fe
from graphc.frontend.indexing import as_index, one_hot, spread_over, within
from graphc.ir import Node, Parameter
from graphc.nn.activations import softmax
from graphc.nn.regularization import dropout
from graphc.ops.gather import gather
from graphc.ops.pointwise import as_float, as_node, cast, divide, equal, exp, less_equal, sqrt, where
from graphc.ops.structural import iota, stop_gradient
from graphc.types import BOOL, DTypeError, GraphError, ShapeError, shape_of

__all__ = ["batch_norm", "embedding", "layer_norm", "linear", "one_hot", "rms_norm", "scaled_dot_product_attention"]


# --- linear, embedding ------------------------------------------------------------------------------------
def linear(x: Any, weight: Any, bias: Any = None) -> Node:
    """``x @ weight.T + bias``: x (..., inputs), weight (outputs, inputs), bias (outputs,), result (..., outputs)."""
    node, matrix = as_float(x), as_float(weight)
    if node.ndim < 1 or matrix.ndim not in (1, 2) or node.shape[-1] != matrix.shape[-1]:
        raise ShapeError(
            f"linear: weight of shape {matrix.shape} does not fit x of shape {node.shape}, "
            "expected (outputs, inputs) and (..., inputs)"
        )
    product = fe.matmul(node, fe.transpose(matrix))
    if bias is None:
        return product
    shift = as_node(bias, product.dtype)
    if shift.shape not in ((), matrix.shape[:-1]):
        raise ShapeError(f"linear: bias has shape {shift.shape}, expected {matrix.shape[:-1]}")
    return product + shift


def embedding(indices: Any, table: Any) -> Node:
    """Rows of ``table`` (rows, ...) at integer ``indices`` of any shape; result ``indices.shape + table.shape[1:]``.

    An index outside of ``0 <= index < rows`` fails the call before anything is stored.
    """
    rows = as_node(table)
    if rows.ndim < 1:
        raise ShapeError("embedding needs a table of at least one axis, got a scalar")
    what = "embedding: indices"
    index = within(as_index(indices, what), rows.shape[0], what, wrap=False)
    picks = [index] if isinstance(index, Node) else [as_node(index)]
    width = rows.shape[1:]
    return fe.reshape(gather(rows, spread_over(picks, (), width), 0), (*index.shape, *width))


# --- normalisation ------------------------------------------------------------------------------------
def layer_norm(x: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Node:
    """``(x - mean) / sqrt(variance + eps) * weight + bias`` over the last axes, whose shape is ``normalized_shape``.

    weight and bias have that shape. Ba et al., *Layer Normalization*, 2016.
    """
    node = as_float(x)
    rows = _rows("layer_norm", node, normalized_shape)
    centered = rows - fe.mean(rows, -1, keepdims=True)
    normal = centered * (1 / sqrt(fe.var(rows, -1, keepdims=True) + eps))
    return _scaled("layer_norm", fe.reshape(normal, node.shape), shape_of(normalized_shape), weight, bias)


def rms_norm(x: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> Node:
    """``x / sqrt(mean(x * x) + eps) * weight`` over the last axes, whose shape is ``normalized_shape``.

    ``eps`` is the machine epsilon of the dtype unless given. Zhang and Sennrich, 2019.
    """
    node = as_float(x)
    rows = _rows("rms_norm", node, normalized_shape)
    small = float(np.finfo(node.dtype.numpy).eps) if eps is None else eps
    normal = rows * (1 / sqrt(fe.mean(rows * rows, -1, keepdims=True) + small))
    return _scaled("rms_norm", fe.reshape(normal, node.shape), shape_of(normalized_shape), weight, None)


def _rows(layer: str, x: Node, normalized_shape: Any) -> Node:
    """``x`` with its last axes, which must have ``normalized_shape``, as one."""
    shape = shape_of(normalized_shape)
    if not shape or x.shape[-len(shape) :] != shape or 0 in shape:
        raise ShapeError(f"{layer}: x of shape {x.shape} does not end with normalized_shape {shape}, or is empty there")
    return fe.reshape(x, (*x.shape[: -len(shape)], math.prod(shape)))


def _scaled(layer: str, x: Node, shape: tuple[int, ...], weight: Any, bias: Any) -> Node:
    """``x * weight + bias``, as far as they are given; both have ``shape``."""
    for name, value in (("weight", weight), ("bias", bias)):
        if value is not None and as_node(value).shape != shape:
            raise ShapeError(f"{layer}: {name} has shape {as_node(value).shape}, expected {shape}")
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def batch_norm(
    x: Any,
    running_mean: Node | None,
    running_var: Node | None,
    weight: Any = None,
    bias: Any = None,
    *,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Node, dict[Parameter, Node]]:
    """``(x - mean) / sqrt(variance + eps) * weight + bias`` for each channel: x (batch, channels, ...), all else (channels,).

    Gives the result and updates for ``train_step(updates=...)``. With ``training`` the statistics are those of the batch,
    and the updates move ``running_mean`` and ``running_var`` (parameters that are not trainable) by the share ``momentum``
    towards them, the variance as an unbiased one. Otherwise they are the running ones, and there are no updates.

    Ioffe and Szegedy, *Batch Normalization*, 2015.
    """
    node = as_float(x)
    if node.ndim < 2:
        raise ShapeError(f"batch_norm: x needs the axes (batch, channels, ...), got shape {node.shape}")
    channels = node.shape[1:2]
    for name, value in (
        ("running_mean", running_mean), ("running_var", running_var), ("weight", weight), ("bias", bias)
    ):  # fmt: skip
        if value is not None and as_node(value).shape != channels:
            raise ShapeError(f"batch_norm: {name} has shape {as_node(value).shape}, expected {channels}")

    def spread(value: Any) -> Node:
        return fe.reshape(as_node(value, node.dtype), (*channels, *(1,) * (node.ndim - 2)))

    updates: dict[Parameter, Node] = {}
    if training:
        axes = (0, *range(2, node.ndim))
        count = node.size // max(channels[0], 1)
        if count < 2:
            raise ShapeError(f"batch_norm: training needs more than one value for each channel, got shape {node.shape}")
        mean = fe.mean(node, axes)
        centered = node - spread(mean)
        variance = fe.mean(centered * centered, axes)
        statistics = (("running_mean", running_mean, mean), ("running_var", running_var, variance * (count / (count - 1))))
        for name, running, seen in statistics:
            if running is None:
                continue
            if not isinstance(running, Parameter) or running.trainable:
                raise GraphError(f"batch_norm: {name} must be a parameter with trainable=False, got {running!r}")
            updates[running] = running + momentum * (seen - running)
    else:
        if running_mean is None or running_var is None:
            raise GraphError("batch_norm: without training=True running_mean and running_var are needed")
        centered = node - spread(running_mean)
        variance = as_node(running_var)
    normal = centered * spread(1 / sqrt(variance + eps))
    normal = normal if weight is None else normal * spread(weight)
    return normal if bias is None else normal + spread(bias), updates


# --- attention ----------------------------------------------------------------------------------------
def scaled_dot_product_attention(
    q: Any, k: Any, v: Any, attn_mask: Any = None, *,
    dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None, seed: int | None = None,
) -> Node:  # fmt: skip
    """``softmax(q @ k.T * scale + mask) @ v``: q (..., length, dim), k (..., keys, dim), v (..., keys, values).

    The leading axes (batch, heads) broadcast; the result is (..., length, values). attn_mask broadcasts to (..., length,
    keys): bool, True where a key takes part, or floats that are added. A query without any key gives zeros.
    is_causal: query i sees the keys 0 to i. scale: ``1 / sqrt(dim)`` unless given. dropout_p: with this probability a weight
    is left out (:func:`dropout`, with ``seed``); there is no ``training=``, so give 0 where nothing is trained.

    Vaswani et al., *Attention Is All You Need*, 2017.
    """
    queries, keys, values = as_float(q), as_float(k), as_float(v)
    if min(queries.ndim, keys.ndim, values.ndim) < 2 or queries.shape[-1] != keys.shape[-1] or keys.shape[-2] != values.shape[-2]:
        raise ShapeError(
            f"scaled_dot_product_attention: shapes {queries.shape}, {keys.shape} and {values.shape} do not fit, "
            "expected (..., length, dim), (..., keys, dim) and (..., keys, values)"
        )
    if is_causal and attn_mask is not None:
        raise GraphError("scaled_dot_product_attention takes attn_mask or is_causal, not both")
    factor = 1 / math.sqrt(queries.shape[-1]) if scale is None else scale
    scores = fe.matmul(queries, keys.mT) * factor
    if is_causal:
        seen = less_equal(iota(keys.shape[-2]), fe.expand_dims(iota(queries.shape[-2]), -1))
        weights = softmax(where(seen, scores, -math.inf))
    elif attn_mask is None:
        weights = softmax(scores)
    else:
        weights = _softmax_or_zeros(_masked(scores, as_node(attn_mask)))
    return fe.matmul(dropout(weights, dropout_p, seed=seed), values)


def _masked(scores: Node, mask: Node) -> Node:
    if mask.dtype is BOOL:
        return where(mask, scores, -math.inf)
    if mask.dtype.is_float:
        return scores + cast(mask, scores.dtype)
    raise DTypeError(f"scaled_dot_product_attention: attn_mask must be bool or float, got {mask.dtype}")


def _softmax_or_zeros(scores: Node) -> Node:
    """The softmax over the last axis; zeros where all scores are minus infinity."""
    top = stop_gradient(fe.max(scores, -1, keepdims=True))
    weights = exp(scores - where(equal(top, -math.inf), 0, top))
    total = fe.sum(weights, -1, keepdims=True)
    return divide(weights, where(equal(total, 0), 1, total))
