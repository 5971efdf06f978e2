"""Initial values of parameters: plain NumPy arrays, drawn from a seeded generator."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.ir import Array
from graphc.types import ShapeError, shape_of

__all__ = ["glorot_uniform", "he_normal"]


def _fans(shape: Any) -> tuple[tuple[int, ...], int, int]:
    """The shape with fan-in and fan-out: the last two axes, times the extents of any before them."""
    checked = shape_of(shape)
    if len(checked) < 2:
        raise ShapeError(f"an initializer needs a shape of at least two axes (inputs, outputs), got {checked}")
    receptive = math.prod(checked[:-2])
    return checked, checked[-2] * receptive, checked[-1] * receptive


def he_normal(shape: Any, *, seed: int) -> Array:
    """Normal with variance ``2 / fan_in``, for relu nets; float64 of the given (inputs, outputs) shape.

    He et al., *Delving Deep into Rectifiers*, 2015.
    """
    checked, fan_in, _ = _fans(shape)
    return np.random.default_rng(seed).normal(0.0, math.sqrt(2.0 / max(fan_in, 1)), checked)


def glorot_uniform(shape: Any, *, seed: int) -> Array:
    """Uniform with variance ``2 / (fan_in + fan_out)``, for tanh and sigmoid nets; float64.

    Glorot and Bengio, *Understanding the difficulty of training deep feedforward neural networks*, 2010.
    """
    checked, fan_in, fan_out = _fans(shape)
    limit = math.sqrt(6.0 / max(fan_in + fan_out, 1))
    return np.random.default_rng(seed).uniform(-limit, limit, checked)
