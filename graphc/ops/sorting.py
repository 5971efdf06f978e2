"""Sorting along the last axis: values, and the permutation that sorts them."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.ir import NO_GRADIENT, Array, Node, Routine, make, register
from graphc.ops.gather import gather
from graphc.types import BOOL, INT32, DTypeError, ShapeError, TensorType

__all__ = ["argsort", "sort"]


def _infer(x: TensorType) -> TensorType:
    if x.dtype is BOOL:
        raise DTypeError("a bool tensor has no order; use astype('int32') first")
    if not x.rank:
        raise ShapeError("a scalar has no axis to sort along")
    return x


def _sorting(name: str, item: int, **meaning: Any) -> Routine:
    """item: bytes of an element while it is sorted, beyond those of the key; the workspace holds two rows and the counts."""

    def c(x: TensorType) -> str:
        return f"gx_{name}_{x.dtype}({{0}}, {{y}}, {{n}}, {x.shape[-1]}, {{w}})"

    def workspace(x: TensorType) -> int:
        width = x.dtype.itemsize
        return width * 256 * 4 + 2 * x.shape[-1] * (width + -(-item // width) * width)

    return Routine(name, whole=True, axes=1, c=c, workspace=workspace, **meaning)


def _gradient_sort(g: Node, y: Node, x: Node) -> list[Node]:
    """What came to place i goes back to where it was: to the inverse of the permutation, which is its argsort."""
    return [gather(g, [argsort(argsort(x))], g.ndim - 1)]


def _reference_sort(x: Array, *, type: TensorType) -> Array:
    return np.sort(x, axis=-1, kind="stable")


def _infer_argsort(x: TensorType) -> TensorType:
    return TensorType(_infer(x).shape, INT32)


def _reference_argsort(x: Array, *, type: TensorType) -> Array:
    return np.argsort(x, axis=-1, kind="stable").astype(np.int32)


SORT = register(_sorting("sort", 0, infer=_infer, reference=_reference_sort, gradient=_gradient_sort))
ARGSORT = register(_sorting("argsort", 4, infer=_infer_argsort, reference=_reference_argsort, gradient=NO_GRADIENT))


def sort(x: Node) -> Node:
    """The rows in order: equal elements (both zeros are equal) stay in theirs, NaN comes last."""
    return make(SORT, x) if x.shape[-1] > 1 else x


def argsort(x: Node) -> Node:
    """The int32 places in each row of what comes first, second, ... in order."""
    return make(ARGSORT, x)
