"""Nodes to equations. A view says which element of which tensor a node's element is; movement only changes views.

    X                       X[i, j]
    transpose(X)            X[j, i]
    transpose(X)[2:]        X[j, i + 2]
    gather(S, labels, 1)    S[i, labels[i]]

An equation is made only where a new number is: a pointwise operation, a reduction, a contraction, a routine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite, prod
from typing import Any

from graphc.ir import Array, Implicit, Node, Parameter, Routine, rounded, toposort
from graphc.lower.columns import by_columns
from graphc.lower.equations import Call, Check, Equation, Guard, IndexValue, Literal, Load, Operand, Program, Reduction
from graphc.lower.index import Index, Pick, flatten, unflatten
from graphc.ops.pointwise import Pointwise
from graphc.types import IndexOutOfRangeError, TensorType

__all__ = ["lower"]

# Partial results of a reduction, by its length: enough to fill the vectors of any target and to hide the
# latency of an addition on long ones, few where the tree at the end would cost more than the sum.
_LANES = ((512, 64), (16, 16), (0, 1))

# A sum of more than two blocks is added up block by block; one over rows that each take some work, from four short blocks
# on, so that threads can share the blocks.
BLOCK, SHORT_BLOCK = 4096, 512
# A row of so many elements takes some work.
WIDE = 64


def lanes_for(extent: int) -> int:
    """How many lanes a reduction over ``extent`` neighbouring elements uses."""
    return next(lanes for least, lanes in _LANES if extent >= least)


def lower(
    name: str,
    outputs: Sequence[tuple[str, Node]],
    updates: Sequence[tuple[Parameter, Node]] = (),
    cotangents: Mapping[Node, Node] | None = None,
    tables: Sequence[Parameter] = (),
) -> Program:
    """The equations of a graph: ``outputs`` by name, and the new value of each updated parameter.

    cotangents: from a gradient to the node that it belongs to; it is named ``d_`` and the name of that.
    tables: parameters that are large constants.
    """
    return _Lowering(cotangents or {}, {str(table.name): table.value for table in tables}).run(name, outputs, updates)


@dataclass
class _Lowering:
    cotangents: Mapping[Node, Node]
    tables: Mapping[str, Array]
    updated: set[str] = field(default_factory=set)
    labels: dict[Node, str] = field(default_factory=dict)
    views: dict[Node, Operand] = field(default_factory=dict)
    types: dict[str, TensorType] = field(default_factory=dict)
    sources: dict[str, TensorType] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    defined: dict[str, Equation] = field(default_factory=dict)
    checks: dict[Check, None] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    of_rows: set[str] = field(default_factory=set)  # tensors of which an element takes a reduction
    given: set[str] = field(default_factory=set)  # equations of outputs and new values
    turned: frozenset[Node] = frozenset()  # stored by columns

    def run(self, name: str, outputs: Sequence[tuple[str, Node]], updates: Sequence[tuple[Parameter, Node]]) -> Program:
        wanted = [node for _, node in outputs] + [node for _, node in updates]
        order = toposort(wanted)
        self.turned = by_columns(order, wanted)
        for node in order:
            if node.name is not None:
                self.sources[self.unique(node.name)] = node.type
                self.views[node] = self.load(node.name, node.type)
        self.types.update(self.sources)
        self.updated = {str(parameter.name) for parameter, _ in updates}
        for label, node in outputs:
            self.labels.setdefault(node, label)
        for parameter, node in updates:
            self.labels.setdefault(node, f"new_{parameter.name}")
        for node in order:
            if node not in self.views:
                self.views[node] = self.view(node)
        results = tuple(self.result(label, node) for label, node in outputs)
        new = {str(parameter.name): self.result(f"new_{parameter.name}", node) for parameter, node in updates}
        return Program(name, self.sources, tuple(self.defined.values()), results, new, tuple(self.checks), self.constants)

    # --- names and results -----------------------------------------------------------------------------
    def unique(self, stem: str) -> str:
        """``stem``, or ``stem_2``, ``stem_3`` where it is taken."""
        count = self.counts[stem] = self.counts.get(stem, 0) + 1
        return stem if count == 1 else self.unique(f"{stem}_{count}")

    def stem(self, node: Node) -> str:
        """What a tensor is named after: what the user calls it, what it is the gradient of, or the operation."""
        if node in self.labels:
            return self.labels[node]
        primal = self.views.get(self.cotangents.get(node, node))
        if isinstance(primal, Load):
            return f"d_{primal.tensor}"
        return _STEMS.get(node.op.name, node.op.name)

    @staticmethod
    def load(tensor: str, type: TensorType) -> Load:
        return Load(tensor, tuple(Index.of(axis, extent) for axis, extent in enumerate(type.shape)))

    def whole(self, node: Node, view: Operand) -> str | None:
        """The tensor that a view shows as it is; None where it shows a part (if only the first), or another order."""
        if not isinstance(view, Load) or self.types[view.tensor].shape != node.shape:
            return None
        return view.tensor if view == self.load(view.tensor, node.type) else None

    def result(self, label: str, node: Node) -> str:
        """The equation that defines ``node`` alone: its own, or a copy where it is a view or has been given out."""
        view = self.views[node]
        tensor = self.whole(node, view)
        if not tensor or tensor in self.given or tensor in self.sources or tensor in self.constants:
            tensor = self.define(label, node, node.shape, len(node.shape), "copy", (view,)).tensor
        self.given.add(tensor)
        return tensor

    def define(
        self, stem: str, node: Node, axes: Sequence[int], rank: int, op: str, operands: Sequence[Operand],
        reduction: Reduction | None = None, call: Call | None = None,
    ) -> Load:  # fmt: skip
        """Enter an equation; the load of its own element."""
        name = self.unique(stem)
        type = TensorType(tuple(axes[:rank]), node.dtype)
        self.defined[name] = Equation(name, node.dtype, tuple(axes), rank, op, tuple(operands), reduction, call)
        self.types[name] = type
        if reduction or any(isinstance(operand, Load) and operand.tensor in self.of_rows for operand in operands):
            self.of_rows.add(name)
        return self.load(name, type)

    # --- one node --------------------------------------------------------------------------------------
    def view(self, node: Node) -> Operand:
        kind, attrs = node.op.name, node.attrs
        if kind == "constant":
            return self.constant(node)
        if kind == "iota":
            return IndexValue(Index.of(0, node.size))
        if kind == "stop_gradient" or isinstance(node.op, Implicit):
            return self.views[node.operands[0]]
        if node.size == 0 or (kind in ("sum", "contract", "pad") and any(o.size == 0 for o in node.operands)):
            return Literal(0, node.dtype)  # no elements, or a sum over none
        if kind == "prod" and node.operands[0].size == 0:
            return Literal(1, node.dtype)
        if kind == "gather":
            return self.gather(node, **attrs)
        if kind.startswith("scatter_"):
            return self.scatter(node, **attrs)
        if kind in _MOVEMENT:
            values, guards = _MOVEMENT[kind](node, **attrs)
            return _moved(self.views[node.operands[0]], values, guards)
        stem = self.stem(node)
        operands = [self.views[operand] for operand in node.operands]
        if kind == "contract":
            return self.contract(node, stem, operands, **attrs)
        if isinstance(node.op, Routine):
            return self.routine(node, stem, node.op.whole, operands)
        if isinstance(node.op, Pointwise) or kind == "cast":
            return self.elementwise(node, stem, operands)
        return self.reduce(node, stem, operands[0], attrs["axes"])

    def elementwise(self, node: Node, stem: str, operands: Sequence[Operand]) -> Operand:
        """The equation of a pointwise operation, with its axes the other way round where it is stored by columns."""
        if node not in self.turned:
            return self.define(stem, node, node.shape, node.ndim, node.op.name, operands)
        (rows, columns), kind = node.shape, node.op.name
        turned = [view.substitute([Index.of(1, rows), Index.of(0, columns)]) for view in operands]
        result = self.define(stem, node, (columns, rows), 2, kind, turned)
        return result.substitute([Index.of(1, columns), Index.of(0, rows)])

    def constant(self, node: Node) -> Operand:
        value = rounded(node)
        if value.size == 1:  # as it was written, which reads better, unless it is too large for its dtype
            written = node.attrs["value"].array if isfinite(value.item()) else value
            return Literal(written.reshape(()).item(), node.dtype)
        name = self.unique("table")
        self.constants[name] = value
        self.types[name] = node.type
        return self.load(name, node.type)

    def gather(self, node: Node, axis: int, wrap: bool = False) -> Operand:
        table, *indices = node.operands
        picked = [self.position(index, table.shape[axis + place], wrap) for place, index in enumerate(indices)]
        own = [Index.of(a, e) for a, e in enumerate(node.shape)]
        return _moved(self.views[table], [*own[:axis], *picked, *own[axis + 1 :]], ())

    def scatter(self, node: Node, axis: int, wrap: bool = False) -> Operand:
        """A routine, whose indices are given as values: where each element goes along the axes from ``axis`` on."""
        x, updates, *indices = node.operands
        if not updates.size:
            return self.views[x]
        places = [IndexValue(self.position(index, x.shape[axis + k], wrap)) for k, index in enumerate(indices)]
        new = self.views[updates]
        if isinstance(new, Load) and new.tensor in self.updated:  # read before anything is stored over it
            new = self.define("updates", updates, updates.shape, updates.ndim, "copy", (new,))
        return self.routine(node, self.stem(node), False, [self.views[x], new, *places])

    def position(self, index: Node, extent: int, wrap: bool) -> Index:
        """Where a tensor of indices points to along an axis of ``extent``, over the axes of that tensor; checked."""
        view = self.views[index]
        if isinstance(view, IndexValue) and not view.guards:
            low, high = view.index.bounds
            position = view.index
        elif isinstance(view, Literal):
            low = high = int(view.value) + (extent if wrap and int(view.value) < 0 else 0)
            position = Index((), low)
        else:
            if not isinstance(view, Load) or view.guards:
                view = self.define("indices", index, index.shape, index.ndim, "copy", (view,))
            low, high = self.known_bounds(view.tensor)
            wrap = wrap and low < 0
            position = Index(((Pick(view.tensor, view.index, extent, wrap), 1),))
            least = -extent if wrap else 0
            if not (least <= low and high < extent):
                self.check(view, index.shape, extent, least)
            low, high = 0, extent - 1
        if not (0 <= low and high < extent):
            raise IndexOutOfRangeError(f"constant indices reach from {low} to {high}, expected 0 <= index < {extent}")
        return position

    def known_bounds(self, tensor: str) -> tuple[int, int]:
        """What the values of an integer tensor are known to lie between."""
        known = self.constants.get(tensor, self.tables.get(tensor))
        if known is not None and known.size:
            return int(known.min()), int(known.max())
        equation = self.defined.get(tensor)
        if equation and equation.op in ("argmax", "argmin", "argsort"):
            return 0, equation.axes[-1] - 1
        return -(2**63), 2**63 - 1

    def check(self, load: Load, axes: Sequence[int], extent: int, low: int) -> None:
        """A range check over the axes that the picks depend on."""
        used = sorted(load.variables)
        values = {axis: Index.of(place, axes[axis]) for place, axis in enumerate(used)}
        check = Check(load.substitute(values), tuple(axes[axis] for axis in used), extent, low)
        self.checks[check] = None

    def reduce(self, node: Node, stem: str, operand: Operand, reduced: Sequence[int]) -> Operand:
        """One equation for each reduced axis, neighbours in memory first; the rows over columns count as one axis."""
        kind, shape = node.op.name, node.operands[0].shape
        kept = [axis for axis in range(len(shape)) if axis not in reduced]
        gone = sorted((a for a in reduced if shape[a] != 1), key=lambda axis: abs(self.stride(operand, axis)))
        if not gone and kind.startswith("arg"):
            return Literal(0, node.dtype)
        steps = [[axis] for axis in gone]
        if gone and self.has_columns((operand,), kept) and max(gone) - min(gone) == len(gone) - 1:
            steps = [sorted(gone)]
        view, axes = operand, list(range(len(shape)))  # `view` is over these axes of the operand
        for number, step in enumerate(steps, 1):
            rest = [axis for axis in axes if axis not in step]
            extents = [shape[axis] for axis in step]
            values = {axes.index(axis): Index.of(place, shape[axis]) for place, axis in enumerate(rest)}
            merged = unflatten(Index.of(len(rest), prod(extents)), extents)
            values.update((axes.index(axis), position) for axis, position in zip(step, merged, strict=True))
            space = [*(shape[axis] for axis in rest), prod(extents)]
            moved = (view.substitute(values),)
            name = stem if number == len(steps) else f"{stem}_part"
            view = self.define(name, node, space, len(rest), kind, moved, self.order(kind, moved, space, len(rest)))
            axes = rest
        return view.substitute([Index.of(kept.index(axis), shape[axis]) if axis in kept else Index() for axis in axes])

    def stride(self, operand: Operand, axis: int) -> int:
        """The distance in memory of neighbours along ``axis`` (0 where it repeats or is not constant)."""
        if not isinstance(operand, Load):
            return 0
        return flatten(operand.index, self.types[operand.tensor].shape).factor(axis) or 0

    def has_columns(self, operands: Sequence[Operand], kept: Iterable[int]) -> bool:
        """Whether neighbours in memory lie along an axis that is kept."""
        return any(abs(self.stride(operand, axis)) == 1 for axis in kept for operand in operands)

    def order(self, kind: str, operands: Sequence[Operand], axes: Sequence[int], rank: int) -> Reduction:
        """In lanes where neighbours in memory are reduced; a sum whose neighbours belong to different results (the
        columns of a matrix) goes in plain order, with the results side by side. Long sums go by blocks, which keeps
        their rounding errors small."""
        columns, extent = self.has_columns(operands, range(rank)), axes[-1]
        lanes = 1 if columns or kind.startswith("arg") else lanes_for(extent)
        if kind not in ("sum", "dot"):
            return Reduction(kind, lanes)
        of_rows = any(isinstance(operand, Load) and operand.tensor in self.of_rows for operand in operands)
        wide = prod(axes[:rank]) >= WIDE if columns else rank == 0 and of_rows
        short = SHORT_BLOCK if wide and extent >= 4 * SHORT_BLOCK else 0
        return Reduction(kind, lanes, BLOCK if extent > 2 * BLOCK else short)

    def routine(self, node: Node, stem: str, whole: bool, operands: Sequence[Operand]) -> Load:
        """A routine that needs arrays gets a copy of what is not one in memory."""
        if whole:
            operands = [self.array(operand, view) for operand, view in zip(node.operands, operands, strict=True)]
        call = Call(tuple(operand.shape for operand in node.operands), tuple(node.attrs.items()), whole)
        return self.define(stem, node, node.shape, node.ndim, node.op.name, operands, call=call)

    def array(self, node: Node, view: Operand) -> Load:
        """The view of a node if it is a whole array in memory, else that of a copy."""
        if isinstance(view, Load) and self.whole(node, view):
            return view
        return self.define(self.stem(node), node, node.shape, node.ndim, "copy", (view,))

    def contract(
        self, node: Node, stem: str, operands: Sequence[Operand], a_axes: Sequence[int], b_axes: Sequence[int],
        out_axes: Sequence[int],
    ) -> Load:  # fmt: skip
        extents = dict(zip((*a_axes, *b_axes), (*node.operands[0].shape, *node.operands[1].shape), strict=True))
        pairs = list(zip(operands, (a_axes, b_axes), strict=True))

        def placed(labels: Sequence[int]) -> list[Operand]:
            """The operands over axes of these labels."""
            at = {label: Index.of(place, extents[label]) for place, label in enumerate(labels)}
            return [view.substitute([at.get(label, Index()) for label in own]) for view, own in pairs]

        everywhere = list(extents)
        used = {everywhere[axis] for view in placed(everywhere) for axis in view.variables}
        ordered = out_axes[::-1] if node in self.turned else out_axes
        kept = [label for label in ordered if label in used]  # along all others the result repeats
        summed = [label for label in a_axes if label not in out_axes]
        axes = [extents[label] for label in (*kept, *summed)]
        moved = placed((*kept, *summed))
        if all(extents[label] == 1 for label in summed):
            result = self.define(stem, node, axes[: len(kept)], len(kept), "multiply", moved)
        else:
            rows, columns = (set(a_axes) - set(b_axes)) & used, (set(b_axes) - set(a_axes)) & used
            plain = (rows and columns) or len(summed) > 1
            order = Reduction("dot") if plain else self.order("dot", moved, axes, len(kept))
            result = self.define(stem, node, axes, len(kept), "dot", moved, order)
        return result.substitute([Index.of(out_axes.index(label), extents[label]) for label in kept])


# Names of tensors that the user has not named, where the operation's own reads badly.
_STEMS = {
    "contract": "matmul", "subtract": "difference", "multiply": "product", "add": "total",
    "divide": "quotient", "negative": "minus", "power_": "power", "philox": "bits", "int32_": "whole", "int64_": "whole",
}  # fmt: skip

Values = list[Index]


# --- how each movement maps the axes of its operand -------------------------------------------------------
def _broadcast(node: Node, shape: Sequence[int]) -> tuple[Values, tuple[Guard, ...]]:
    (x,) = node.operands
    offset = len(shape) - x.ndim
    return [Index.of(a + offset, shape[a + offset]) if e != 1 else Index() for a, e in enumerate(x.shape)], ()


def _reshape(node: Node, shape: Sequence[int]) -> tuple[Values, tuple[Guard, ...]]:
    flat = flatten([Index.of(a, e) for a, e in enumerate(shape)], shape)
    return list(unflatten(flat, node.operands[0].shape)), ()


def _permute(node: Node, axes: Sequence[int]) -> tuple[Values, tuple[Guard, ...]]:
    return [Index.of(axes.index(a), e) for a, e in enumerate(node.operands[0].shape)], ()


def _slice(
    node: Node, start: Sequence[int], step: Sequence[int], shape: Sequence[int]
) -> tuple[Values, tuple[Guard, ...]]:
    return [Index.of(a, e) * d + s for a, (s, d, e) in enumerate(zip(start, step, shape, strict=True))], ()


def _pad(
    node: Node, start: Sequence[int], step: Sequence[int], shape: Sequence[int]
) -> tuple[Values, tuple[Guard, ...]]:
    values, guards = [], []
    for a, (s, d, n) in enumerate(zip(start, step, node.operands[0].shape, strict=True)):
        distance = Index.of(a, shape[a]) + -s if d > 0 else Index.of(a, shape[a]) * -1 + s
        guard = Guard(distance, 0, max((n - 1) * abs(d) + 1, 0) if n else 0, abs(d))
        low, high = distance.bounds
        if not (guard.low <= low and high < guard.high and guard.step == 1):
            guards.append(guard)
        values.append(distance.divide(abs(d)))
    return values, tuple(guards)


_MOVEMENT: dict[str, Any] = {
    "broadcast_to": _broadcast, "reshape": _reshape, "permute": _permute, "slice": _slice, "pad": _pad
}  # fmt: skip


def _moved(view: Operand, values: Mapping[int, Index] | Sequence[Index], guards: tuple[Guard, ...]) -> Operand:
    """A view read through a movement: its index substituted, the guards of a pad added."""
    moved = view.substitute(values)
    return replace(moved, guards=(*moved.guards, *guards)) if guards else moved
