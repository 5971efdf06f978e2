"""Graph to graph: the same values with less work. One driver, one table of small rules.

*Exact* rules keep every bit of the result, NaN, infinities and the sign of zero included; there is no reassociation.
*Stable* rules replace an expression by one that rounds better: a logarithm of a softmax, of a sigmoid, of
``1 + exp(x)``. Each rule gets a node whose operands are already simplified and returns its replacement, or None.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from graphc.ir import Array, Node, Parameter, make, rebuild, rounded
from graphc.ops import pointwise as pw
from graphc.ops.structural import broadcast_to, constant, permute, unspread

__all__ = ["RULES", "simplify"]

Rule = Callable[[Node], Node | None]
RULES: dict[str, list[Rule]] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Enter a rule for the operations of these names ("*": every pointwise operation)."""

    def enter(function: Rule) -> Rule:
        for name in names:
            RULES.setdefault(name, []).append(function)
        return function

    return enter


def simplify(outputs: Sequence[Node]) -> list[Node]:
    """The same outputs after applying the rules bottom-up until none fits."""

    def improve(node: Node, operands: tuple[Node, ...]) -> Node:
        if isinstance(node, Parameter) or not operands:
            return node
        new = node if operands == node.operands else make(node.op, *operands, **node.attrs)
        again = True
        while again:
            again = False
            pointwise = RULES["*"] if isinstance(new.op, pw.Pointwise) else []
            for candidate in (*pointwise, *RULES.get(new.op.name, [])):
                better = candidate(new)
                if better is not None:
                    assert better.type == new.type, f"{candidate.__name__} changes {new.type} to {better.type}"
                    new, again = better, True
                    break
        return new

    return rebuild(outputs, improve)


# --- reading nodes ------------------------------------------------------------------------------------
def uniform(node: Node) -> Array | None:
    """The one value of a constant node, or of one that is spread; None for anything else."""
    node = unspread(node)
    return rounded(node).reshape(()) if node.op.name == "constant" and node.size == 1 else None


def is_number(node: Node, value: float) -> bool:
    """Whether a node is the constant ``value`` everywhere, with that sign of zero."""
    found = uniform(node)
    return found is not None and float(found) == value and math.copysign(1, float(found)) == math.copysign(1, value)


def is_op(node: Node, name: str) -> bool:
    return node.op.name == name


# --- exact rules ----------------------------------------------------------------------------------------
@rule("*")
def fold_constants(node: Node) -> Node | None:
    """Arithmetic on constants is done now; transcendental functions are left to the compiled ones."""
    if not isinstance(node.op, pw.Pointwise) or node.op.cost >= pw.COSTLY:
        return None
    values = [uniform(operand) for operand in node.operands]
    if any(value is None for value in values):
        return None
    with np.errstate(all="ignore"):
        result = node.op.reference(*values, type=type(node.type)((), node.dtype))
    return broadcast_to(constant(result, node.dtype), node.shape)


@rule("*")
def spread_last(node: Node) -> Node | None:
    """f(broadcast(x)) is broadcast(f(x)): fewer elements to compute."""
    if len(node.operands) == 1 and is_op(node.operands[0], "broadcast_to"):
        (inner,) = node.operands[0].operands
        return broadcast_to(make(node.op, inner), node.shape)
    return None


@rule("multiply")
def multiply_by_one(node: Node) -> Node | None:
    a, b = node.operands
    return b if is_number(a, 1) else a if is_number(b, 1) else None


@rule("divide")
def divide_by_power_of_two(node: Node) -> Node | None:
    """x / 2**n is x * 2**-n to the last bit, as long as 2**-n is a normal number."""
    a, b = node.operands
    divisor = uniform(b)
    if divisor is None or not np.isfinite(divisor) or divisor == 0:
        return None
    mantissa, exponent = math.frexp(float(divisor))
    if abs(mantissa) != 0.5 or abs(exponent) > 100:
        return None
    return a if float(divisor) == 1 else pw.multiply(a, broadcast_to(constant(1 / float(divisor), a.dtype), a.shape))


@rule("subtract")
def subtract_zero(node: Node) -> Node | None:
    a, b = node.operands
    return a if is_number(b, 0.0) else None


@rule("add")
def add_negative(node: Node) -> Node | None:
    """a + (-b) is a - b."""
    a, b = node.operands
    if is_op(b, "negative"):
        return pw.subtract(a, b.operands[0])
    return pw.subtract(b, a.operands[0]) if is_op(a, "negative") else None


@rule("subtract")
def subtract_negative(node: Node) -> Node | None:
    """a - (-b) is a + b."""
    a, b = node.operands
    return pw.add(a, b.operands[0]) if is_op(b, "negative") else None


@rule("negative")
def negative_twice(node: Node) -> Node | None:
    (a,) = node.operands
    return a.operands[0] if is_op(a, "negative") else None


@rule("logaddexp")
def logaddexp_of_zero(node: Node) -> Node | None:
    """logaddexp(x, 0) is softplus(x), which shares an exponential with the sigmoid of its gradient."""
    a, b = node.operands
    return pw.softplus_(a) if is_number(b, 0.0) else pw.softplus_(b) if is_number(a, 0.0) else None


@rule("where")
def same_choice(node: Node) -> Node | None:
    _, a, b = node.operands
    return a if a is b else None


@rule("permute")
def permute_twice(node: Node) -> Node | None:
    """One order of axes after another is one order."""
    (a,) = node.operands
    if not is_op(a, "permute"):
        return None
    return permute(a.operands[0], [a.attrs["axes"][axis] for axis in node.attrs["axes"]])


@rule("stop_gradient", "solution", "determinant", "log_determinant")
def differentiated(node: Node) -> Node | None:
    """The gradient has been taken when this runs; the mark has done its work."""
    return node.operands[0]


@rule("cast")
def cast_there_and_back(node: Node) -> Node | None:
    """A float widened and narrowed again is itself."""
    (a,) = node.operands
    if is_op(a, "cast") and a.operands[0].type == node.type and a.dtype.itemsize > node.dtype.itemsize:
        return a.operands[0] if a.dtype.is_float == node.dtype.is_float else None
    return None


# --- stable rules -----------------------------------------------------------------------------------------
@rule("log")
def log_of_softmax(node: Node) -> Node | None:
    """log(exp(a) / b) is a - log(b): no underflow of small probabilities."""
    (a,) = node.operands
    if is_op(a, "divide") and is_op(a.operands[0], "exp"):
        return pw.subtract(a.operands[0].operands[0], _log(a.operands[1]))
    return None


def _log(node: Node) -> Node:
    """log(node), computed before it is spread."""
    spread = spread_last(pw.log(node))
    return pw.log(node) if spread is None else spread


@rule("log")
def log_of_sigmoid(node: Node) -> Node | None:
    """log(sigmoid(x)) is -log(1 + exp(-x)): finite where the sigmoid underflows."""
    (a,) = node.operands
    return pw.negative(pw.softplus_(pw.negative(a.operands[0]))) if is_op(a, "sigmoid") else None


@rule("log")
def log_of_one_plus_exp(node: Node) -> Node | None:
    """log(1 + exp(x)) is softplus(x): no overflow, and right for very negative x."""
    (a,) = node.operands
    if is_op(a, "add"):
        for one, other in (a.operands, a.operands[::-1]):
            if is_number(one, 1) and is_op(other, "exp"):
                return pw.softplus_(other.operands[0])
    return None


@rule("log1p")
def log1p_of_exp(node: Node) -> Node | None:
    """log1p(exp(x)) is softplus(x)."""
    (a,) = node.operands
    return pw.softplus_(a.operands[0]) if is_op(a, "exp") else None
