"""Schedules: learning rates as functions of the number of steps done before, elementwise in float64.

A schedule takes a node (an optimizer hands it a float64 scalar), a number or an array: ``gx.evaluate(schedule(np.arange(1000)))``
are the rates of the first thousand steps. Any function of that kind will do; these have the values of
``torch.optim.lr_scheduler``, stepped once per train step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from graphc.ir import Node
from graphc.ops.pointwise import as_node, cast, cos, exp, floor, less, less_equal, maximum, minimum, where
from graphc.optim.optimizer import coefficient
from graphc.types import FLOAT64, GraphError

__all__ = ["constant", "cosine", "exponential", "linear_warmup", "one_cycle", "step_decay"]

Schedule = Callable[[Any], Node]


def _float64(step: Any) -> Node:
    return cast(as_node(step, FLOAT64), FLOAT64)


def _steps(name: str, value: Any) -> int:
    """A number of steps, 1 or more."""
    if isinstance(value, bool) or coefficient(name, value) < 1 or value != int(value):
        raise GraphError(f"{name} must be a whole number of at least 1, got {value!r}")
    return int(value)


def _power(base: float, exponent: Node) -> Node:
    return exp(exponent * math.log(base)) if base else where(exponent > 0, 0.0, as_node(1.0, FLOAT64))


def constant(learning_rate: float) -> Schedule:
    """Always the same, for :func:`linear_warmup` to lead to."""
    rate = coefficient("learning_rate", learning_rate)
    return lambda step: 0 * _float64(step) + rate


def step_decay(learning_rate: float, step_size: int, gamma: float = 0.1) -> Schedule:
    """``learning_rate * gamma ** (step // step_size)``, as ``StepLR``."""
    rate, size, factor = coefficient("learning_rate", learning_rate), _steps("step_size", step_size), coefficient("gamma", gamma)
    return lambda step: rate * _power(factor, floor(_float64(step) / size))


def exponential(learning_rate: float, gamma: float) -> Schedule:
    """``learning_rate * gamma ** step``, as ``ExponentialLR``."""
    rate, factor = coefficient("learning_rate", learning_rate), coefficient("gamma", gamma)
    return lambda step: rate * _power(factor, _float64(step))


def cosine(learning_rate: float, steps: int, minimum: float = 0.0) -> Schedule:
    """Down to ``minimum`` along half a cosine in so many steps, as ``CosineAnnealingLR``; there it stays.

    Loshchilov and Hutter, *SGDR: Stochastic Gradient Descent with Warm Restarts*, 2017.
    """
    rate, end, low = coefficient("learning_rate", learning_rate), _steps("steps", steps), coefficient("minimum", minimum)
    return lambda step: _by_cosine(rate, low, _part(_float64(step), 0, end))


def linear_warmup(schedule: float | Schedule, steps: int, start_factor: float = 0.0) -> Schedule:
    """From ``start_factor`` times its first rate up to it in so many steps, then ``schedule`` from its beginning.

    As ``LinearLR`` followed by another one in ``SequentialLR``. A number stands for :func:`constant`.
    """
    then = schedule if callable(schedule) else constant(schedule)
    end, factor = _steps("steps", steps), coefficient("start_factor", start_factor)

    def rate(step: Any) -> Node:
        now = _float64(step)
        rising = factor + (1 - factor) * minimum(now / end, 1)
        return where(less(now, end), rising, 1) * then(maximum(now - end, 0))

    return rate


def one_cycle(
    max_learning_rate: float,
    total_steps: int,
    pct_start: float = 0.3,
    anneal_strategy: str = "cos",
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    three_phase: bool = False,
) -> Schedule:
    """Up from ``max_learning_rate / div_factor``, and down to that divided by ``final_div_factor``, as ``OneCycleLR``.

    pct_start: the share of the way up. anneal_strategy: "cos" or "linear". three_phase: down to where it began in as many steps,
    then on to the end. The momentum is not cycled. After ``total_steps`` the last rate stays.

    Smith and Topin, *Super-Convergence*, 2018.
    """
    top, total = coefficient("max_learning_rate", max_learning_rate), _steps("total_steps", total_steps)
    if anneal_strategy not in ("cos", "linear"):
        raise GraphError(f"anneal_strategy must be 'cos' or 'linear', got {anneal_strategy!r}")
    if not (coefficient("div_factor", div_factor) and coefficient("final_div_factor", final_div_factor)):
        raise GraphError(f"div_factor and final_div_factor must be positive, got {div_factor!r} and {final_div_factor!r}")
    first = top / div_factor
    last, peak = first / final_div_factor, coefficient("pct_start", pct_start) * total - 1
    turns = [(peak, top), (2 * peak, first), (total - 1, last)] if three_phase else [(peak, top), (total - 1, last)]
    if not all(a < b for (a, _), (b, _) in zip([(0.0, first), *turns], turns, strict=False)):
        raise GraphError(f"pct_start={pct_start!r} of {total} steps leaves a phase without steps")
    anneal = _by_cosine if anneal_strategy == "cos" else _by_line

    def rate(step: Any) -> Node:
        now, start, value = _float64(step), (0.0, first), None
        for end in turns:
            phase = anneal(start[1], end[1], _part(now, start[0], end[0]))
            value = phase if value is None else where(less_equal(now, start[0]), value, phase)
            start = end
        assert value is not None
        return value

    return rate


def _part(now: Node, start: float, end: float) -> Node:
    """How much of the way from step ``start`` to step ``end`` is done; from 0 to 1."""
    return maximum(minimum((now - start) / (end - start), 1), 0)


def _by_cosine(start: float, end: float, part: Node) -> Node:
    return end + (start - end) / 2 * (1 + cos(math.pi * part))


def _by_line(start: float, end: float, part: Node) -> Node:
    return start + (end - start) * part
