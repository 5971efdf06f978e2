"""What every optimizer shares: its settings and their checks, the slots and the counter of a step, weight decay.

Scalars that change from step to step (the learning rate, ``beta ** t``) are computed in float64, once, and rounded to the
dtype of the parameter where they meet it: ``1 - 0.999 ** t`` in float32 would keep four digits at the first step.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from graphc.frontend import parameter as new_parameter
from graphc.ir import Node, Parameter
from graphc.ops.pointwise import as_node, cast, exp, expm1, where
from graphc.types import FLOAT64, DTypeError, GraphError, ShapeError

__all__ = ["LearningRate", "Optimizer", "Scalar", "Step", "coefficient", "settled"]

Scalar = float | Node
LearningRate = float | Node | Callable[[Node], Scalar]

_UNIT = ("alpha", "rho")  # settings from 0 to 1
_FLAGS = ("nesterov", "centered", "amsgrad", "decoupled_weight_decay")


def coefficient(name: str, value: Any) -> float:
    """A finite number >= 0."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise GraphError(f"{name} must be a number, got {value!r}")
    if not (math.isfinite(value) and value >= 0):
        raise GraphError(f"{name} must be finite and not negative, got {value!r}")
    return float(value)


def settled(node: Node) -> Node:
    """``node`` with what is below the smallest normal number at zero.

    A running average without gradient decays into the denormal numbers and stays there, and arithmetic on those takes a
    CPU ten to a hundred times as long.
    """
    return where(abs(node) < float(np.finfo(node.dtype.numpy).tiny), 0, node)


class Step:
    """What the updates of one train step are made of: slots, the counter, scalars; ``updates`` collects new values."""

    def __init__(self, learning_rate: LearningRate) -> None:
        self.updates: dict[Parameter, Node] = {}
        self._learning_rate = learning_rate
        self._shared: dict[str, Parameter] = {}

    def slot(self, weights: Parameter, name: str, start: float = 0.0) -> Parameter:
        """A fresh parameter beside ``weights``, of its type; it is not trainable."""
        values = np.full(weights.shape, start)
        return new_parameter(f"{weights.name}.{name}", values, str(weights.dtype), trainable=False)

    def shared(self, name: str, start: float, dtype: str) -> Parameter:
        """The one scalar of this name that belongs to the step as a whole."""
        if name not in self._shared:
            self._shared[name] = new_parameter(name, start, dtype, trainable=False)
        return self._shared[name]

    @cached_property
    def done(self) -> Node:
        """How many steps were done before this one, in float64; from here on the state has the counter ``step``."""
        counter = self.shared("step", 0, "int64")
        self.updates[counter] = counter + 1
        return cast(counter, FLOAT64)

    @property
    def number(self) -> Node:
        """The number of this step, from 1, in float64."""
        return self.done + 1

    @cached_property
    def rate(self) -> Scalar:
        """The learning rate of this step: a number, or a float64 scalar."""
        given = self._learning_rate
        if callable(given):
            value = given(self.done)
            node = as_node(value, FLOAT64)
            if node.shape != () or not node.dtype.is_float:
                raise ShapeError(f"a schedule must give a float scalar for the scalar step, got {value!r}")
            return cast(node, FLOAT64)
        return cast(given, FLOAT64) if isinstance(given, Node) else given

    def power(self, base: float) -> Scalar:
        """``base ** t`` at step t."""
        return exp(self.number * math.log(base)) if base else 0.0

    def correction(self, beta: float) -> Scalar:
        """``1 - beta ** t``, what an average that began at zero lacks at step t; with all its digits."""
        return -expm1(self.number * math.log(beta)) if beta else 1.0

    @staticmethod
    def at(weights: Node, scalar: Scalar) -> Scalar:
        """``scalar`` as it meets ``weights``: rounded to its dtype."""
        return cast(scalar, weights.dtype) if isinstance(scalar, Node) else scalar


@dataclass(frozen=True, eq=False)
class Optimizer:
    """A recipe from ``{parameter: gradient}`` to updates; each train step makes slots and a counter of its own.

    Settings have the names and defaults of ``torch.optim``, with ``learning_rate`` for ``lr``. ``learning_rate`` is a
    number; a scalar node (an input, a parameter) that is read anew at each step; or a schedule, a function that gets the
    number of steps done before, a float64 scalar node, and gives the rate of the next.
    An unknown setting is a TypeError, a value out of range a :class:`GraphError`.

    To write another one, override :meth:`update`.
    """

    learning_rate: LearningRate = 1e-3

    def __new__(cls, *args: Any, **settings: Any) -> Optimizer:
        known = list(inspect.signature(cls).parameters)
        for name in settings:
            if name not in known:
                hint = "; lr is learning_rate here" if name == "lr" else ""
                raise TypeError(f"{cls.__name__} has no setting {name!r}{hint}; it takes {', '.join(known)}")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for field in fields(self):
            value = _checked(field.name, getattr(self, field.name))
            object.__setattr__(self, field.name, value)

    def __call__(self, gradients: Mapping[Parameter, Node]) -> dict[Parameter, Node]:
        """Updates of the parameters, of fresh slots, and of the counter where there is one."""
        step = Step(self.learning_rate)
        for weights, gradient in gradients.items():
            step.updates[weights] = self.update(step, weights, gradient)
        return step.updates

    def update(self, step: Step, weights: Parameter, gradient: Node) -> Node:
        """The new value of ``weights``; new values of slots go into ``step.updates``."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it updates")


def _checked(name: str, value: Any) -> Any:
    """The setting ``name`` in its own type."""
    if name in _FLAGS:
        return bool(value)
    if name == "learning_rate" and isinstance(value, Node):
        if value.shape != ():
            raise ShapeError(f"learning_rate must be a scalar, got {value!r}")
        if not value.dtype.is_float:
            raise DTypeError(f"learning_rate must be a float, got {value!r}")
        return value
    if name == "learning_rate" and callable(value):
        return value
    if name == "betas":
        if not isinstance(value, tuple | list) or len(value) != 2:
            raise GraphError(f"betas must be a pair of numbers, got {value!r}")
        betas = tuple(coefficient("betas", beta) for beta in value)
        if max(betas) >= 1:
            raise GraphError(f"betas must be less than 1, got {value!r}")
        return betas
    number = coefficient(name, value)
    if name in _UNIT and number > 1:
        raise GraphError(f"{name} must be from 0 to 1, got {value!r}")
    return number
