"""How much a kernel does: elementary operations and bytes. Reports say it, and the choice of threads goes by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from graphc.lower.index import Index, Var
from graphc.schedule.kernels import (
    Accumulate,
    CallKernel,
    ContractKernel,
    Kernel,
    Line,
    LoopKernel,
    Store,
    lines_of,
    reads_of,
    scalars_of,
)
from graphc.schedule.schedule import stores_of
from graphc.types import TensorType

__all__ = ["flops", "moved"]


def flops(kernel: Kernel) -> int:
    """Elementary operations, each scalar operation counted as one and a multiply-add as two."""

    def of(lines: Sequence[Line], rounds: int) -> int:
        count, seen = 0, set()
        for line in lines:
            count += 2 * isinstance(line, Accumulate)
            stack = [*(line.values if isinstance(line, Accumulate) else (line.scalar,))]
            while stack:
                scalar = stack.pop()
                if scalar in seen or scalar.op in ("load", "literal", "local", "index"):
                    continue
                seen.add(scalar)
                count += 1
                stack.extend(arg for arg in scalar.args if not arg.name)
        return count * rounds

    if isinstance(kernel, CallKernel):
        return kernel.flops
    if isinstance(kernel, ContractKernel):
        size = kernel.m * kernel.n * prod(kernel.batch)
        return 2 * size * kernel.k + of(kernel.epilogue, size)
    if isinstance(kernel, LoopKernel):
        outer = prod(extent for _, extent in kernel.outer)
        total = 0
        for stages, rounds in ((kernel.stages, outer), (kernel.final, 1)):
            for stage in stages:
                total += of(stage.before, rounds) + of(stage.body, rounds * prod(extent for _, extent in stage.loops))
        return total
    return 0


def moved(kernel: Kernel, types: Mapping[str, TensorType], aliases: Mapping[str, str]) -> int:
    """Bytes of what is read and of what is written, each tensor once; of one that is only picked from, what is picked.

    ``types`` are those of tensors in memory, ``aliases`` the parameters in which new values are stored.
    """
    loads: dict[str, list[Index]] = {}
    stores: dict[str, list[Index]] = {}
    for scalar in scalars_of(kernel):
        if scalar.op == "load":
            loads.setdefault(scalar.tensor, []).append(scalar.index)
    for line in lines_of(kernel):
        if isinstance(line, Store):
            stores.setdefault(line.tensor, []).append(line.index)
    total = 0
    for names, places in ((reads_of(kernel), loads), (stores_of(kernel), stores)):
        touched: dict[str, int] = {}
        for name in names:
            if name in types:
                type, found = types[name], places.get(name, [])
                picked = bool(found) and all(any(index.picks) for index in found)
                most = max(places_of(index) for index in found) * type.dtype.itemsize if picked else type.nbytes
                parameter = aliases.get(name, name)
                touched[parameter] = max(touched.get(parameter, 0), min(most, type.nbytes))
        total += sum(touched.values())
    return total


def places_of(index: Index) -> int:
    """In how many rounds of the loops that it depends on an index may differ."""
    return prod({atom.axis: atom.extent for atom in index.atoms() if isinstance(atom, Var)}.values())
