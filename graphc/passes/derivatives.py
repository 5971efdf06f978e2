"""Derivatives beyond the gradient, all made of it: Jacobian-vector products, Jacobians, Hessians.

``vjp(y, x, u)`` is linear in ``u``. Its own gradient by ``u`` is the product with the transpose of the transpose, which is
the forward derivative (:func:`jvp`); its value at all unit vectors is the Jacobian (:mod:`graphc.passes.units`). So each
operation states its derivative once, and all results are nodes that differentiate again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

from graphc.ir import Node, make, rebuild, toposort
from graphc.ops.pointwise import as_node
from graphc.ops.structural import input_, permute, zeros_like
from graphc.passes.grad import grad, vjp
from graphc.passes.units import at_units
from graphc.types import GradientError, TensorType

__all__ = ["hessian", "hvp", "jacobian", "jvp"]


@overload
def jvp(output: Node, wrt: Node | Sequence[Node], tangent: Any) -> Node: ...
@overload
def jvp(output: Sequence[Node], wrt: Node | Sequence[Node], tangent: Any) -> list[Node]: ...
def jvp(output: Node | Sequence[Node], wrt: Node | Sequence[Node], tangent: Any) -> Node | list[Node]:
    """The derivative of ``output`` along ``tangent``: its Jacobian by ``wrt``, times ``tangent``.

    ``tangent`` has the shape of ``wrt``; for a list of nodes it is a list. The result has the shape of ``output`` (for a
    list of outputs, a list) and is zero where ``wrt`` is not reached. Raises :class:`GradientError` as :func:`graphc.grad`.

    >>> import graphc as gx
    >>> x = gx.input("x", (2,))
    >>> gx.evaluate(gx.jvp(x * x, x, [1.0, 10.0]), {"x": [3.0, 4.0]}).tolist()
    [6.0, 80.0]
    """
    outputs, targets = _listed(output), _listed(wrt)
    tangents = _vectors(wrt, tangent, "tangent")
    dummies = [_placeholder(f"cotangent {number}", node) for number, node in enumerate(outputs)]
    pushed = _without(vjp(vjp(outputs, targets, dummies), dummies, tangents), dummies)
    return pushed[0] if isinstance(output, Node) else pushed


@overload
def hvp(output: Node, wrt: Node, vector: Any) -> Node: ...
@overload
def hvp(output: Node, wrt: Sequence[Node], vector: Any) -> list[Node]: ...
def hvp(output: Node, wrt: Node | Sequence[Node], vector: Any) -> Node | list[Node]:
    """The Hessian of a scalar by ``wrt``, times ``vector``, which has the shape of ``wrt`` (or is a list).

    It costs a few times the gradient; the Hessian itself is never formed.
    """
    # The Hessian is symmetric: its transpose from the left is itself from the right.
    products = vjp(grad(output, _listed(wrt)), _listed(wrt), _vectors(wrt, vector, "vector"))
    return products[0] if isinstance(wrt, Node) else products


@overload
def jacobian(output: Node, wrt: Node) -> Node: ...
@overload
def jacobian(output: Node, wrt: Sequence[Node]) -> list[Node]: ...
def jacobian(output: Node, wrt: Node | Sequence[Node]) -> Node | list[Node]:
    """All derivatives of ``output`` by ``wrt``, of shape ``output.shape + wrt.shape`` (a list for a list of nodes).

    The graph is as large for any shape: it computes all rows at once or, where ``wrt`` has fewer elements, all columns. What is
    zero by the structure of the graph (an element that depends on no other) is not computed. Zero where ``wrt`` is not reached;
    raises :class:`GradientError` as :func:`graphc.grad`, and where an operation would have to be repeated for too many rows.

    >>> import graphc as gx
    >>> x = gx.input("x", (2,))
    >>> gx.evaluate(gx.jacobian(x[0] * x, x), {"x": [3.0, 4.0]}).tolist()
    [[6.0, 0.0], [4.0, 3.0]]
    """
    targets = _listed(wrt)
    if not isinstance(output, Node):
        raise GradientError(f"jacobian takes a node, got {output!r}; call it once for each of several outputs")
    vjp(output, [], zeros_like(output))  # says what is wrong with the output
    if sum(target.size for target in targets) < output.size:
        result = [_columns(output, target) for target in targets]
    else:
        dummy = _placeholder("cotangent", output)
        result = at_units(vjp(output, targets, dummy), dummy)
    return result[0] if isinstance(wrt, Node) else result


def _columns(output: Node, target: Node) -> Node:
    """The Jacobian by forward derivatives along the unit vectors of ``target``."""
    dummy = _placeholder("tangent", target)
    (columns,) = at_units([jvp(output, target, dummy)], dummy)
    return permute(columns, (*range(target.ndim, columns.ndim), *range(target.ndim)))


@overload
def hessian(output: Node, wrt: Node) -> Node: ...
@overload
def hessian(output: Node, wrt: Sequence[Node]) -> list[list[Node]]: ...
def hessian(output: Node, wrt: Node | Sequence[Node]) -> Node | list[list[Node]]:
    """All second derivatives of a float scalar by ``wrt``, of shape ``wrt.shape + wrt.shape``.

    For a list of nodes a list of lists: the one at [i][j] is by ``wrt[i]`` and then ``wrt[j]``, of shape
    ``wrt[i].shape + wrt[j].shape``. Raises :class:`GradientError` as :func:`jacobian`.
    """
    if isinstance(wrt, Node):
        return jacobian(grad(output, wrt), wrt)
    return [jacobian(slope, list(wrt)) for slope in grad(output, wrt)]


# --- what the above share -----------------------------------------------------------------------------------
def _listed(nodes: Node | Sequence[Node]) -> list[Node]:
    listed = list(nodes) if isinstance(nodes, Sequence) else [nodes]
    for node in listed:
        if not isinstance(node, Node):
            raise GradientError(f"cannot differentiate {node!r}: not a float node")
    return listed


def _vectors(wrt: Node | Sequence[Node], given: Any, what: str) -> list[Node]:
    """One for each of the nodes, of its shape and dtype."""
    targets, values = _listed(wrt), [given] if isinstance(wrt, Node) else list(given)
    if len(targets) != len(values):
        raise GradientError(f"{len(targets)} nodes need as many {what}s, got {len(values)}")
    nodes = [as_node(value, target.dtype) for target, value in zip(targets, values, strict=True)]
    for target, node in zip(targets, nodes, strict=True):
        if node.shape != target.shape:
            raise GradientError(f"the {what} for {target!r} has shape {node.shape}, expected {target.shape}")
    return nodes


def _placeholder(name: str, node: Node) -> Node:
    """An input of the type of ``node`` that no graph of a user's has; it never remains in a result."""
    return input_(f"\0{name}", TensorType(node.shape, node.dtype))


def _without(nodes: list[Node], dummies: Sequence[Node]) -> list[Node]:
    """Nodes that are the same whatever the dummies are, at zero."""
    if not set(dummies) & set(toposort(nodes)):
        return nodes
    zero = {dummy: zeros_like(dummy) for dummy in dummies}

    def rule(node: Node, operands: tuple[Node, ...]) -> Node:
        if node in zero:
            return zero[node]
        return make(node.op, *operands, **node.attrs) if operands else node

    return rebuild(nodes, rule)
