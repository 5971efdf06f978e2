"""From a contraction and what follows it to a kernel: axes sorted into batch, rows, columns and depth, the rest as scalars."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from math import prod

from graphc.lower.columns import SHORT
from graphc.lower.equations import Equation, Load, Program
from graphc.lower.equations import Operand as EquationOperand
from graphc.lower.index import Index, flatten, unflatten
from graphc.schedule.fuse import ContractGroup, live, reduced, runs_along
from graphc.schedule.kernels import Axes, ContractKernel, Let, Line, Operand, Stage, Store
from graphc.schedule.scalars import Body, Namer, apply, formula, named
from graphc.schedule.tiling import UNROLLED_DEPTH

__all__ = ["build_contraction"]

# Vectors of so many columns leave room in the registers of any target for an upright tile.
FEW_COLUMNS = 8


def build_contraction(
    group: ContractGroup, program: Program, is_stored: Callable[[str], bool], wanted: set[str], volatile: set[str]
) -> ContractKernel:
    """The kernel of a contraction: axes sorted into batch, rows, columns and depth, operands and epilogue as scalars."""
    equation, done = group.equation, len(group.followers)
    operands, (batch, rows, columns), flipped = _sides(equation, program)
    extents = [equation.axes[axis] for axis in batch]
    values = [Index() for _ in equation.axes]
    for place, axis in enumerate(batch):
        values[axis] = Index.of(place, equation.axes[axis])
    for place, merged in enumerate((rows, columns, list(reduced(equation))), len(batch)):
        shape = [equation.axes[axis] for axis in merged]
        extents.append(prod(shape))
        for axis, value in zip(merged, unflatten(Index.of(place, prod(shape)), shape), strict=True):
            values[axis] = value

    body = Body(program, is_stored, frozenset())
    loops = tuple(enumerate(extents))
    left, right = (_packed(body, operand.substitute(values), loops, [program.sources, wanted]) for operand in operands)
    m, n, k = extents[len(batch) :]
    kernel = ContractKernel(
        name=(group.followers or [equation])[-1].name,
        why="matrix product" + (f", {done} equation{'s' * (done > 1)} in its store step" if done else ""),
        dtype=equation.dtype, batch=tuple(extents[: len(batch)]), m=m, n=n, k=k, left=left, right=right,
        result=equation.name, flipped=flipped,
        formulas=[formula(each, program, is_stored) for each in (equation, *group.followers)],
    )  # fmt: skip
    _finish(kernel, group, body, tuple(values[: equation.rank]), loops[:-1], wanted, volatile)
    return kernel


def _sides(equation: Equation, program: Program) -> tuple[tuple[EquationOperand, ...], tuple[list[int], ...], bool]:
    """The operands, left and right; the axes of batch, rows and columns; whether neighbours in the result lie along the rows.

    They lie along the columns, but in two cases. The columns are too few to fill vectors, and neighbours along the rows are so
    in memory. Or the rows are, and memory runs along k for each column: then a tile stands upright.
    """
    left, right = equation.operands
    axes, summed = live(equation), reduced(equation)
    batch = [axis for axis in axes if axis in left.variables and axis in right.variables]
    rows = [axis for axis in axes if axis in left.variables and axis not in batch]
    columns = [axis for axis in axes if axis in right.variables and axis not in batch]
    if rows and columns and rows[-1] > columns[-1]:
        left, right, rows, columns = right, left, columns, rows
    m, n, k = (prod(equation.axes[axis] for axis in several) for several in (rows, columns, summed))
    in_place = runs_along(right, columns[-1], program)
    pays = m >= SHORT if in_place else m > n and k > UNROLLED_DEPTH
    narrow = n < SHORT and pays and runs_along(left, rows[-1], program)
    fits = k > UNROLLED_DEPTH or m <= FEW_COLUMNS
    upright = m < SHORT < n and fits and any(runs_along(right, axis, program) for axis in summed)
    if narrow or upright:
        return (right, left), (batch, columns, rows), True
    return (left, right), (batch, rows, columns), False


def _packed(body: Body, operand: EquationOperand, loops: Axes, arrays: Sequence[Collection[str]]) -> Operand:
    """An operand of a contraction, with names for the values that it uses twice."""
    scalar = body.of(operand)
    packing = Stage(loops, body=[Store("", Index(), scalar)])
    Namer(arrays, set(), frozenset()).finish([packing])
    body.own.clear()
    body.shared.clear()
    return Operand(tuple(line for line in (*packing.before, *packing.body) if isinstance(line, Let)), scalar)


def _finish(
    kernel: ContractKernel, group: ContractGroup, body: Body, own: tuple[Index, ...], loops: Axes, wanted: set[str],
    volatile: set[str],
) -> None:  # fmt: skip
    """The store step: the sum under its name, and what follows from it element by element. ``own``: the index of an element."""
    equation, space = group.equation, frozenset(axis for axis, _ in loops)
    result = named(equation.name, equation.dtype, space)
    namer = Namer([body.program.sources, wanted, {kernel.result}], volatile, frozenset())
    if equation.name in wanted:
        result = named(namer.fresh(equation.name, space), equation.dtype, space)
    kernel.result = result.name
    body.put(Load(equation.name, own), result)
    stores: list[Line] = []
    if equation.name in wanted:
        stores.append(Store(equation.name, flatten(own, equation.shape), result))
    for follower in group.followers:
        element = apply(follower, [body.of(operand.substitute(own)) for operand in follower.operands])
        body.put(Load(follower.name, own), element)
        if follower.name in wanted:
            stores.append(Store(follower.name, flatten(own, follower.shape), element))
    finishing = Stage(loops, body=stores)
    namer.finish([finishing])
    kernel.epilogue = [*finishing.before, *finishing.body]
