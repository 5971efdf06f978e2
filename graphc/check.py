"""Is the symbolic gradient the gradient? Central differences in float64 say so, one random direction at a time.

For a parameter p and a direction u of length 1, two numbers must agree:

    symbolic    sum(gradient * u)
    numerical   (f(p + h u) - f(p - h u)) / 2h

With the h that balances rounding against curvature they share about nine digits. Not so where a relu or a maximum
changes sides between the two points: then a shorter step tells a kink nearby from a wrong gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.evaluate import evaluate_all, program
from graphc.ir import Array, Node, Parameter, inputs_of, make, parameters_of, rebuild, toposort
from graphc.ops.structural import input_
from graphc.passes.grad import grad
from graphc.passes.retype import to_float64
from graphc.types import GradientError, InputTypeError, InputValueError

__all__ = ["GradientCheck", "GradientRow", "check_grad"]

_EPSILON = float(np.finfo(np.float64).eps)
_STEP = math.cbrt(_EPSILON)  # the error of a central difference is least about here, for a function of scale 1
_SHORTER = (1.0, 1 / 32, 1 / 1024, 1 / 32768)  # steps tried in turn, in units of the first


@dataclass(frozen=True)
class GradientRow:
    """One parameter: the two directional derivatives where they differ most, and by how much."""

    name: str
    shape: tuple[int, ...]
    symbolic: float
    numerical: float
    error: float
    ok: bool
    note: str = ""


@dataclass(frozen=True)
class GradientCheck:
    """What :func:`check_grad` found; ``print`` it for the table."""

    rows: tuple[GradientRow, ...]
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether every gradient agrees."""
        return all(row.ok for row in self.rows)

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        table = [("parameter", "shape", "symbolic", "numerical", "relative error", "")]
        for row in self.rows:
            verdict = ("ok" if row.ok else "WRONG") + (f"  ({row.note})" if row.note else "")
            shape = "x".join(map(str, row.shape)) or "scalar"
            table.append((row.name, shape, f"{row.symbolic:.8e}", f"{row.numerical:.8e}", f"{row.error:.1e}", verdict))
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = []
        for row_number, cells in enumerate(table):
            left = [f"{cell:<{width}}" for cell, width in zip(cells[:2], widths, strict=False)]
            right = [f"{cell:>{width}}" for cell, width in zip(cells[2:5], widths[2:], strict=False)]
            lines.append("  ".join([*left, *right, cells[5]]).rstrip())
            if row_number == 0:
                lines.append("-" * (sum(widths[:5]) + 8))
        return "\n".join(lines)


def check_grad(
    node: Node,
    at: Mapping[Any, Any] | None = None,
    *,
    wrt: Sequence[Node] | Node | None = None,
    directions: int = 3,
    tolerance: float = 1e-6,
    seed: int = 0,
    show: bool = True,
) -> GradientCheck:
    """Compare the gradient of a scalar with central differences, in float64 whatever the graph's dtype.

    ``at`` gives the inputs, by name or node; parameters have their present values. ``wrt`` is what to differentiate by:
    all trainable parameters, or the float inputs where there are none. Each is tried in as many random ``directions``
    (length 1, from ``seed``), and its worst is kept. The error is relative to the derivative, or to the size that the
    gradient has in a typical direction if that is larger. What ``stop_gradient`` marks is held fixed. ``show`` prints.

    Raises :class:`GradientError` for a node that is not a float scalar or has nothing to differentiate by,
    :class:`InputTypeError` and :class:`InputValueError` for inputs that do not fit.

    >>> import graphc as gx
    >>> x = gx.input("x")
    >>> gx.check_grad(gx.exp(x) * x, at={"x": 0.5}, show=False).ok
    True
    """
    if isinstance(wrt, Node):
        wrt = [wrt]
    gradients = grad(node, [])  # raises for what has no gradient
    order = toposort([node])
    chosen = list(wrt) if wrt is not None else _differentiable(order)
    if not chosen:
        raise GradientError(f"check_grad: {node!r} reaches no trainable parameter and no float input")
    for target in chosen:
        if target not in order or not (isinstance(target, Parameter) or target.op.name == "input"):
            raise GradientError(f"check_grad: wrt takes parameters and inputs that the node reaches, got {target!r}")
    gradients = grad(node, chosen)
    wide, sources = to_float64([node, *gradients])
    values = _values(order, sources, at or {})
    f0, *slopes = evaluate_all(wide, values)
    function = _function(wide[0], values)

    rng = np.random.default_rng(seed)
    rows = []
    for target, slope in zip(chosen, slopes, strict=True):
        tried = [_compare(function, values, sources[target], target, slope, float(f0), rng, tolerance) for _ in range(directions)]
        rows.append(max(tried, key=lambda row: (not row.ok, row.error, bool(row.note))))
    report = GradientCheck(tuple(rows), tolerance)
    if show:
        print(report)
    return report


def _differentiable(order: Sequence[Node]) -> list[Node]:
    trainable: list[Node] = [parameter for parameter in parameters_of(order) if parameter.trainable]
    return trainable or [node for node in inputs_of(order) if node.dtype.is_float]


def _values(order: Sequence[Node], sources: Mapping[Node, Node], at: Mapping[Any, Any]) -> dict[Node, Array]:
    """The value of each source of the float64 graph."""
    given = {key.name if isinstance(key, Node) else key: value for key, value in at.items()}
    values: dict[Node, Array] = {}
    for node in inputs_of(order):
        if node.name not in given:
            raise InputTypeError(f"check_grad: input {node.name!r} is missing; give it as at={{{node.name!r}: ...}}")
        value, wanted = np.asarray(given.pop(node.name)), sources[node].type
        if value.shape != wanted.shape:
            raise InputValueError(f"check_grad: input {node.name!r} has shape {value.shape}, expected {node.type}")
        if not np.can_cast(value.dtype, wanted.dtype.numpy, "same_kind"):
            raise InputTypeError(f"check_grad: input {node.name!r} has dtype {value.dtype}, expected {node.type}")
        values[sources[node]] = value.astype(wanted.dtype.numpy)
    for parameter in parameters_of(order):
        values[sources[parameter]] = parameter.value.astype(sources[parameter].dtype.numpy)
    if given:
        known = ", ".join(repr(node.name) for node in inputs_of(order)) or "none"
        raise InputTypeError(f"check_grad: no input is named {next(iter(given))!r}; the inputs are: {known}")
    return values


def _function(node: Node, values: Mapping[Node, Array]) -> Callable[[Mapping[Node, Array]], float]:
    """``node`` as a function of its sources; what a stop_gradient marks keeps the value that it has at ``values``."""
    stops = [each for each in toposort([node]) if each.op.name == "stop_gradient"]
    held = {stop: input_(f"held {number}\0", stop.type) for number, stop in enumerate(stops)}
    fixed = dict(zip(held.values(), evaluate_all(stops, values), strict=True))

    def rule(each: Node, operands: tuple[Node, ...]) -> Node:
        if each in held:
            return held[each]
        return make(each.op, *operands, **each.attrs) if operands else each

    run = program(rebuild([node], rule))
    return lambda given: float(run({**given, **fixed})[0])


def _compare(
    function: Callable[[Mapping[Node, Array]], float],
    values: Mapping[Node, Array],
    source: Node,
    target: Node,
    slope: Array,
    f0: float,
    rng: np.random.Generator,
    tolerance: float,
) -> GradientRow:
    """One random direction."""
    here = values[source]
    direction = rng.normal(size=here.shape)
    direction /= max(float(np.linalg.norm(direction)), 1e-300)
    symbolic = float(np.sum(slope * direction))
    typical = float(np.linalg.norm(slope)) / math.sqrt(max(here.size, 1))
    first = _STEP * max(1.0, float(np.sqrt(np.mean(here * here))) if here.size else 0.0)
    # Rounding alone makes this much of a difference; it counts only where the gradient is next to nothing.
    noise = 8 * _EPSILON * abs(f0) / first

    def at(offset: float) -> float:
        return function({**values, source: here + offset * direction})

    best: tuple[float, float, float] | None = None
    for shorter in _SHORTER:
        h = first * shorter
        numerical = (at(h) - at(-h)) / (2 * h)
        scale = max(abs(symbolic), abs(numerical), typical, noise / tolerance)
        error = abs(symbolic - numerical) / scale if scale > 0 else 0.0
        if not math.isfinite(error):
            error = math.inf
        if best is None or error < best[0]:
            best = (error, numerical, h)
        if error <= tolerance:
            break
    assert best is not None
    error, numerical, h = best
    note = ""
    if not math.isfinite(error):
        note = "the function or its gradient is not finite here"
    elif error <= tolerance and h < first:
        note = f"agrees at a step of {h:.0e}, not of {first:.0e}: a kink or a sharp bend is that near"
    elif error > tolerance:
        (left, right), (nearer_left, nearer_right) = (((f0 - at(-s)) / s, (at(s) - f0) / s) for s in (h, h / 4))
        jump, nearer = abs(right - left), abs(nearer_right - nearer_left)
        if jump > 1e-3 * max(abs(left), abs(right)) and nearer > 0.7 * jump:  # a bend would shrink with the step
            note = f"on a kink: the slope is {left:.3e} on one side and {right:.3e} on the other; move the point"
    return GradientRow(str(target.name), target.shape, symbolic, numerical, error, error <= tolerance, note)
