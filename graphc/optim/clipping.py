"""Clipping: wrappers of an optimizer that hand it smaller gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from graphc import frontend as fe
from graphc.ir import Node, Parameter
from graphc.ops.pointwise import cast, minimum, sqrt
from graphc.optim.optimizer import coefficient
from graphc.types import GraphError, promote

__all__ = ["clip_by_global_norm", "clip_by_value"]

Recipe = Callable[[dict[Parameter, Node]], Mapping[Parameter, Node]]


def clip_by_value(optimizer: Recipe, clip_value: float) -> Recipe:
    """``optimizer`` with every element of every gradient within ``-clip_value`` and ``clip_value``.

    As ``torch.nn.utils.clip_grad_value_``; NaN stays NaN.
    """
    bound = _positive("clip_value", clip_value)

    def clipped(gradients: dict[Parameter, Node]) -> Mapping[Parameter, Node]:
        return optimizer({parameter: fe.clip(g, -bound, bound) for parameter, g in gradients.items()})

    return clipped


def clip_by_global_norm(optimizer: Recipe, max_norm: float) -> Recipe:
    """``optimizer`` with gradients scaled by one factor, so that the Euclidean norm of all of them is at most ``max_norm``.

    The factor is ``min(1, max_norm / (norm + 1e-6))``, as in ``torch.nn.utils.clip_grad_norm_``; a NaN anywhere makes all NaN.

    Pascanu, Mikolov and Bengio, *On the difficulty of training recurrent neural networks*, 2013.
    """
    bound = _positive("max_norm", max_norm)

    def clipped(gradients: dict[Parameter, Node]) -> Mapping[Parameter, Node]:
        squares = [fe.sum(g * g) for g in gradients.values()]
        dtype, total = squares[0].dtype, squares[0]
        for square in squares[1:]:
            dtype = promote(dtype, square.dtype)
            total = cast(total, dtype) + cast(square, dtype)
        factor = minimum(bound / (sqrt(total) + 1e-6), 1)
        return optimizer({parameter: g * cast(factor, g.dtype) for parameter, g in gradients.items()})

    return clipped


def _positive(name: str, value: float) -> float:
    if not coefficient(name, value):
        raise GraphError(f"{name} must be positive, got {value!r}")
    return float(value)
