"""What is computed: the data of a row, its formula in every library, and what it must cost at least."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

__all__ = ["ADAM", "EXP", "EXP64", "ROTATION", "Array", "Workload", "cost_of_step", "everywhere"]

Array = np.ndarray[Any, Any]
Formula = Callable[..., Any]

ROTATION = 16
"""Batches in rotation: enough that no loop can hoist anything out, few enough that they stay in the cache."""

EXP, EXP64 = 16, 28
"""Flops of one exp, log or tanh: range reduction, scaling (3 multiply-adds) and a polynomial of degree 5, or 11."""


class Adam(NamedTuple):
    """The settings of Adam, everybody's defaults but for the learning rate, which the row says."""

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def scalars(self, learning_rate: Any, t: Any) -> tuple[Any, Any]:
        """At step t: ``p -= size * m / (sqrt(v) * scale + eps)``."""
        return learning_rate / (1 - self.betas[0] ** t), (1 - self.betas[1] ** t) ** -0.5


ADAM = Adam()


@dataclass(frozen=True, eq=False, kw_only=True)
class Workload:
    """One row. With ``parameters`` it is a gradient-descent step, without it is a value and the gradients of ``wrt``.

    A formula is called with the library's namespace (graphc, jax.numpy, torch, pytensor.tensor), then with
    inputs and parameters by name, and gives the scalar loss. The reference takes float64 arrays by name and gives
    the loss and a dict of gradients, derived by hand. ``numpy`` takes the live parameters and gives the step as a good
    NumPy programmer writes it: a function of the inputs that returns the loss (and the gradients, without parameters).
    """

    key: str
    what: str
    inputs: Mapping[str, Array]  # each with a leading axis of batches in rotation
    parameters: Mapping[str, Array]
    wrt: tuple[str, ...]
    formulas: Mapping[str, Formula]  # by library
    reference: Callable[..., tuple[float, dict[str, Array]]]
    numpy: Callable[[Workload, dict[str, Array]], Callable[..., Any]]
    flops: float  # the fewest, of one step
    bytes: float  # the fewest: each input read once, each output written once
    learning_rate: float = 0.0
    momentum: float = 0.0
    adam: bool = False  # rather than gradient descent
    loop: bool = True  # measured in a loop inside C, too

    @property
    def steps(self) -> bool:
        """Is it a parameter update, rather than a value and gradients?"""
        return bool(self.parameters)

    @property
    def dtype(self) -> np.dtype[Any]:
        return next(a.dtype for a in (*self.parameters.values(), *self.inputs.values()) if a.dtype.kind == "f")

    @property
    def rotation(self) -> int:
        return len(next(iter(self.inputs.values()))) if self.inputs else 1

    def batches(self) -> list[dict[str, Array]]:
        return [{name: array[i] for name, array in self.inputs.items()} for i in range(self.rotation)]

    def expected(self, steps: int) -> dict[str, Array]:
        """In float64: loss and parameters after ``steps`` steps, or loss and gradients of the last input."""
        values = {name: np.array(value, np.float64) for name, value in self.parameters.items()}
        slots = {name: np.zeros_like(value) for name, value in values.items()}
        squares = {name: np.zeros_like(value) for name, value in values.items()}
        batches = self.batches()
        for i in range(steps):
            batch = {
                n: a.astype(np.float64) if a.dtype.kind == "f" else a for n, a in batches[i % len(batches)].items()
            }
            loss, gradients = self.reference(**batch, **values)
            for name, value in values.items() if self.adam else ():
                slots[name] = ADAM.betas[0] * slots[name] + (1 - ADAM.betas[0]) * gradients[name]
                squares[name] = ADAM.betas[1] * squares[name] + (1 - ADAM.betas[1]) * gradients[name] ** 2
                size, scale = ADAM.scalars(self.learning_rate, i + 1)
                value -= size * slots[name] / (np.sqrt(squares[name]) * scale + ADAM.eps)
            for name, value in () if self.adam else values.items():
                slots[name] = self.momentum * slots[name] + gradients[name]
                value -= self.learning_rate * slots[name]
        return {"loss": np.float64(loss)} | (values if self.steps else gradients)


def everywhere(formula: Formula) -> dict[str, Formula]:
    """One formula that reads the same in every library."""
    return dict.fromkeys(("graphc", "jax", "torch", "pytensor"), formula)


def cost_of_step(inputs: Mapping[str, Array], parameters: Mapping[str, Array], momentum: float = 0.0) -> float:
    """Fewest bytes of a step: one batch read, the parameters (and the velocities of momentum) read and written."""
    states = 2 if momentum else 1
    return sum(a[0].nbytes for a in inputs.values()) + 2 * states * sum(a.nbytes for a in parameters.values())
