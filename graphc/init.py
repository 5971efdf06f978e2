"""Initial values of parameters: plain NumPy arrays in float64, drawn from a seeded generator.

A weight has the shape (inputs, outputs), since a layer is ``X @ W``: fan-in is the second last axis and fan-out the last
one, each times the extents of any axes before them (the window of a convolution).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.ir import Array
from graphc.types import GraphError, ShapeError, shape_of

__all__ = [
    "constant",
    "gain",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "kaiming_normal",
    "kaiming_uniform",
    "normal",
    "ones",
    "orthogonal",
    "uniform",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]


# --- the same everywhere, or independent of the fans --------------------------------------------------------
def zeros(shape: Any) -> Array:
    """All zero: the usual bias."""
    return np.zeros(shape_of(shape))


def ones(shape: Any) -> Array:
    """All one: the usual scale of a normalisation."""
    return np.ones(shape_of(shape))


def constant(shape: Any, value: float) -> Array:
    """``value`` everywhere."""
    return np.full(shape_of(shape), float(value))


def normal(shape: Any, mean: float = 0.0, std: float = 1.0, *, seed: int) -> Array:
    """Normal with this mean and standard deviation."""
    return np.random.default_rng(seed).normal(mean, _not_negative("std", std), shape_of(shape))


def uniform(shape: Any, low: float = 0.0, high: float = 1.0, *, seed: int) -> Array:
    """Uniform in ``low <= value < high``."""
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise GraphError(f"uniform needs finite bounds with low <= high, got {low!r} and {high!r}")
    return np.random.default_rng(seed).uniform(low, high, shape_of(shape))


# --- by the fans ------------------------------------------------------------------------------------------
def gain(activation: str, negative_slope: float = 0.01) -> float:
    """By how much the weights before an activation are enlarged so that the variance passes through it.

    The values of ``torch.nn.init.calculate_gain``: "linear" and "sigmoid" 1, "tanh" 5/3, "relu" sqrt(2), "leaky_relu"
    sqrt(2 / (1 + negative_slope^2)), "selu" 3/4.
    """
    gains = {
        "linear": 1.0,
        "sigmoid": 1.0,
        "tanh": 5 / 3,
        "relu": math.sqrt(2),
        "leaky_relu": math.sqrt(2 / (1 + negative_slope**2)),
        "selu": 0.75,
    }
    if activation not in gains:
        raise GraphError(f"no gain is known for {activation!r}; expected one of {', '.join(gains)}, or give a number")
    return gains[activation]


def xavier_normal(shape: Any, gain: float = 1.0, *, seed: int) -> Array:
    """Normal with variance ``gain^2 * 2 / (fan_in + fan_out)``, for tanh and sigmoid nets.

    Glorot and Bengio, *Understanding the difficulty of training deep feedforward neural networks*, 2010.
    """
    checked, fan_in, fan_out = _fans(shape)
    std = _not_negative("gain", gain) * math.sqrt(2.0 / max(fan_in + fan_out, 1))
    return np.random.default_rng(seed).normal(0.0, std, checked)


def xavier_uniform(shape: Any, gain: float = 1.0, *, seed: int) -> Array:
    """Uniform with variance ``gain^2 * 2 / (fan_in + fan_out)``, for tanh and sigmoid nets.

    Glorot and Bengio, *Understanding the difficulty of training deep feedforward neural networks*, 2010.
    """
    checked, fan_in, fan_out = _fans(shape)
    limit = _not_negative("gain", gain) * math.sqrt(6.0 / max(fan_in + fan_out, 1))
    return np.random.default_rng(seed).uniform(-limit, limit, checked)


def he_normal(shape: Any, *, negative_slope: float = 0.0, mode: str = "fan_in", seed: int) -> Array:
    """Normal with variance ``2 / ((1 + negative_slope^2) * fan)``, for relu and leaky relu nets.

    The fan is that of ``mode``: "fan_in" keeps the variance forward, "fan_out" backward. He et al., *Delving Deep into
    Rectifiers*, 2015.
    """
    checked, fan = _fan(shape, mode)
    return np.random.default_rng(seed).normal(0.0, math.sqrt(2.0 / (1 + negative_slope**2) / fan), checked)


def he_uniform(shape: Any, *, negative_slope: float = 0.0, mode: str = "fan_in", seed: int) -> Array:
    """Uniform with the variance of :func:`he_normal`."""
    checked, fan = _fan(shape, mode)
    limit = math.sqrt(6.0 / (1 + negative_slope**2) / fan)
    return np.random.default_rng(seed).uniform(-limit, limit, checked)


def orthogonal(shape: Any, gain: float = 1.0, *, seed: int) -> Array:
    """``gain`` times a matrix with orthonormal columns, or rows where these are fewer; uniform among such matrices.

    Axes before the last are taken together as the rows. Saxe et al., *Exact solutions to the nonlinear dynamics of learning
    in deep linear neural networks*, 2013; Mezzadri, *How to generate random matrices from the classical compact groups*, 2007.
    """
    checked, _, _ = _fans(shape)
    rows, columns = math.prod(checked[:-1]), checked[-1]
    tall = np.random.default_rng(seed).normal(size=(max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(tall)
    q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)  # LAPACK's choice of signs would favour some matrices
    return _not_negative("gain", gain) * (q if rows >= columns else q.T).reshape(checked)


glorot_normal, glorot_uniform = xavier_normal, xavier_uniform
kaiming_normal, kaiming_uniform = he_normal, he_uniform


def _fans(shape: Any) -> tuple[tuple[int, ...], int, int]:
    """The shape with fan-in and fan-out."""
    checked = shape_of(shape)
    if len(checked) < 2:
        raise ShapeError(f"an initializer needs a shape of at least two axes (inputs, outputs), got {checked}")
    receptive = math.prod(checked[:-2])
    return checked, checked[-2] * receptive, checked[-1] * receptive


def _fan(shape: Any, mode: str) -> tuple[tuple[int, ...], int]:
    """The shape with the fan of ``mode``, at least 1."""
    checked, fan_in, fan_out = _fans(shape)
    if mode not in ("fan_in", "fan_out"):
        raise GraphError(f"mode must be 'fan_in' or 'fan_out', got {mode!r}")
    return checked, max(fan_in if mode == "fan_in" else fan_out, 1)


def _not_negative(name: str, value: float) -> float:
    if not (math.isfinite(value) and value >= 0):
        raise GraphError(f"{name} must be finite and not negative, got {value!r}")
    return value
