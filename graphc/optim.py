"""Optimizers: recipes from ``{parameter: gradient}`` to updates. Each train step makes slots of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from graphc.frontend import parameter as new_parameter
from graphc.ir import Node, Parameter
from graphc.ops.pointwise import where
from graphc.types import GraphError, ShapeError

__all__ = ["SGD"]


def _coefficient(name: str, value: Any) -> float:
    """A finite number >= 0."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise GraphError(f"{name} must be a number, got {value!r}")
    if not (math.isfinite(value) and value >= 0):
        raise GraphError(f"{name} must be finite and not negative, got {value!r}")
    return float(value)


def _settled(node: Node) -> Node:
    """``node`` with what is below the smallest normal number at zero.

    A velocity without gradient decays into the denormal numbers and stays there, and arithmetic on those takes a CPU
    ten to a hundred times as long.
    """
    return where(abs(node) < float(np.finfo(node.dtype.numpy).tiny), 0, node)


class SGD:
    """Stochastic gradient descent, with momentum, Nesterov's momentum and weight decay.

    Per parameter ``W`` with gradient ``g``, as ``torch.optim.SGD`` has it (its documentation; Sutskever et al.,
    *On the importance of initialization and momentum in deep learning*, 2013)::

        g = g + weight_decay * W
        v = momentum * v + g                    # starts at zero, kept in the slot `W.momentum`; denormal numbers are zero
        W = W - learning_rate * (g + momentum * v  if nesterov else  v)

    ``learning_rate`` is a number, or a scalar node (an input, a parameter) that is read anew at each step.
    """

    def __init__(
        self, learning_rate: Any, momentum: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0
    ) -> None:
        if isinstance(learning_rate, Node):
            if learning_rate.shape != ():
                raise ShapeError(f"learning_rate must be a scalar, got {learning_rate!r}")
            self.learning_rate: Any = learning_rate
        else:
            self.learning_rate = _coefficient("learning_rate", learning_rate)
        self.momentum = _coefficient("momentum", momentum)
        self.weight_decay = _coefficient("weight_decay", weight_decay)
        self.nesterov = bool(nesterov)
        if nesterov and not self.momentum:
            raise GraphError("nesterov=True needs a momentum > 0")

    def __call__(self, gradients: Mapping[Parameter, Node]) -> dict[Parameter, Node]:
        """Updates of the parameters, and of fresh slots."""
        updates: dict[Parameter, Node] = {}
        for weights, gradient in gradients.items():
            g = gradient + self.weight_decay * weights if self.weight_decay else gradient
            if self.momentum:
                zeros = np.zeros(weights.shape)
                slot = new_parameter(f"{weights.name}.momentum", zeros, str(weights.dtype), trainable=False)
                updates[slot] = velocity = _settled(self.momentum * slot + g)
                g = g + self.momentum * velocity if self.nesterov else velocity
            updates[weights] = weights - self.learning_rate * g
        return updates

    def __repr__(self) -> str:
        settings = f"momentum={self.momentum}, nesterov={self.nesterov}, weight_decay={self.weight_decay}"
        return f"SGD(learning_rate={self.learning_rate}, {settings})"
