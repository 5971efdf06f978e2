"""Reverse-mode differentiation: nodes in, nodes out.

One walk from the output to the sources. Each node pops its cotangent, the sum of what its readers sent,
and its operation's rule says what goes to each operand. The result is more graph, so it differentiates again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, overload

from graphc.ir import NO_GRADIENT, Node, toposort
from graphc.ops.pointwise import as_node, cast
from graphc.ops.structural import zeros_like
from graphc.types import GradientError

__all__ = ["grad", "grad_with_trail", "vjp"]


@overload
def grad(output: Node, wrt: Node) -> Node: ...
@overload
def grad(output: Node, wrt: Sequence[Node]) -> list[Node]: ...
def grad(output: Node, wrt: Node | Sequence[Node]) -> Node | list[Node]:
    """The gradient of a scalar with respect to one node (a node) or several (a list); zero where not reached.

    Raises :class:`GradientError` for an output that is not a float scalar, for a ``wrt`` that is not float, and on a path
    through an operation that has no gradient.

    >>> import graphc as gx
    >>> x = gx.input("x")
    >>> gx.evaluate(gx.grad(x * x, x), {"x": 3.0}).item()
    6.0
    """
    if not isinstance(output, Node):
        raise GradientError(f"grad takes a node, got {output!r}")
    if output.shape != () or not output.dtype.is_float:
        raise GradientError(
            f"grad needs a float scalar, got {output!r}; reduce it with graphc.sum or graphc.mean, "
            "or pass a cotangent to graphc.vjp"
        )
    return vjp(output, wrt, 1)


@overload
def vjp(output: Node | Sequence[Node], wrt: Node, cotangent: Any) -> Node: ...
@overload
def vjp(output: Node | Sequence[Node], wrt: Sequence[Node], cotangent: Any) -> list[Node]: ...
def vjp(output: Node | Sequence[Node], wrt: Node | Sequence[Node], cotangent: Any) -> Node | list[Node]:
    """``cotangent`` (of the shape of ``output``) times the Jacobian of ``output`` by ``wrt``.

    For a list of outputs and a list of as many cotangents, the sum of these products, by one walk. Raises
    :class:`GradientError` as :func:`grad`, and for a cotangent of another shape.
    """
    if not isinstance(wrt, Node | Sequence):
        raise GradientError(f"cannot differentiate with respect to {wrt!r}: not a float node")
    result, _ = _vjp(output, [wrt] if isinstance(wrt, Node) else list(wrt), cotangent)
    return result[0] if isinstance(wrt, Node) else result


def grad_with_trail(output: Node, wrt: Sequence[Node]) -> tuple[list[Node], dict[Node, Node]]:
    """The gradients, and for each cotangent met on the way the node that it belongs to (for names)."""
    grad(output, [])  # says what is wrong with the output
    return _vjp(output, list(wrt), 1)


def _vjp(
    output: Node | Sequence[Node], targets: list[Node], cotangent: Any
) -> tuple[list[Node], dict[Node, Node]]:
    outputs, given = ([output], [cotangent]) if isinstance(output, Node) else (list(output), list(cotangent))
    if len(outputs) != len(given):
        raise GradientError(f"{len(outputs)} outputs need as many cotangents, got {len(given)}")
    for target in targets:
        if not isinstance(target, Node) or not target.dtype.is_float:
            raise GradientError(f"cannot differentiate with respect to {target!r}: not a float node")
    seeds: dict[Node, Node] = {}
    for node, value in zip(outputs, given, strict=True):
        if not isinstance(node, Node) or not node.dtype.is_float:
            raise GradientError(f"cannot differentiate {node!r}: not a float node")
        seed = cast(as_node(value, node.dtype), node.dtype)
        if seed.shape != node.shape:
            raise GradientError(f"the cotangent has shape {seed.shape}, the output {node.shape}")
        seeds[node] = seeds[node] + seed if node in seeds else seed
    cotangents, trail = _sweep(seeds, dict.fromkeys(targets))
    found = [cotangents.get(target) for target in targets]
    return [zeros_like(target) if g is None else g for target, g in zip(targets, found, strict=True)], trail


def _sweep(seeds: Mapping[Node, Node], targets: Collection[Node]) -> tuple[dict[Node, Node], dict[Node, Node]]:
    """Cotangents of ``targets``, by one walk over the nodes that lie between them and the outputs; and whose each is."""
    trail: dict[Node, Node] = {}
    order = toposort(seeds)
    between: set[Node] = set()
    for node in order:
        if node in targets or any(operand in between for operand in node.operands):
            between.add(node)
    cotangents: dict[Node, Node] = dict(seeds)
    for node in reversed(order):
        if node not in between or not node.operands:
            continue
        g = cotangents.get(node) if node in targets else cotangents.pop(node, None)
        if g is None:
            continue
        trail.setdefault(g, node)
        if node.op.gradient is NO_GRADIENT:
            if any(operand in between and operand.dtype.is_float for operand in node.operands) and node.dtype.is_float:
                raise GradientError(f"{node.op.name} has no gradient; graphc.stop_gradient says that none is meant")
            continue
        for operand, contribution in zip(
            node.operands, node.op.gradient(g, node, *node.operands, **node.attrs), strict=True
        ):
            if contribution is None or operand not in between:
                continue
            so_far = cotangents.get(operand)
            cotangents[operand] = contribution if so_far is None else so_far + contribution
    trail.update((cotangents[target], target) for target in targets if target in cotangents)
    return cotangents, trail
