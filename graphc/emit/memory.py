"""Which memory kernels need of the arena: for what one leaves to another, and for what it has to itself, which is called

    <buffer>           a row buffer, or an array of running results, that is too large for the stack
    <result>_blocks    the results of the blocks that threads share
    workspace          what a contraction packs, what a routine works in
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from graphc.emit.threads import Threads
from graphc.plan import Plan, Span, aligned, plan
from graphc.schedule.kernels import CallKernel, ContractKernel, Kernel, LoopKernel, reads_of
from graphc.schedule.schedule import stores_of
from graphc.schedule.tiling import Tiling
from graphc.types import TensorType

__all__ = ["arena", "on_stack", "own", "part_of_workspace", "rounds_kept"]

# A row buffer up to this size lies on the stack, a larger one in the arena.
STACK_BYTES = 2048


def arena(
    kernels: Sequence[Kernel],
    types: Mapping[str, TensorType],
    outside: Collection[str],
    threads: Threads,
    tilings: Mapping[int, Tiling],
) -> Plan:
    """Where everything lies: intermediates (tensors not ``outside``) by name, what kernel ``number`` has by :func:`own`.
    ``tilings`` are those of the contractions, by number."""
    life: dict[str, list[int]] = {}
    spans: list[Span] = []
    for number, kernel in enumerate(kernels):
        for name in (*reads_of(kernel), *stores_of(kernel)):
            if name in types and name not in outside:
                life.setdefault(name, []).append(number)
        spans += [Span(own(number, name), nbytes, number, number) for name, nbytes in _needs(number, kernel, threads, tilings)]
    # An empty tensor has a place too.
    spans += [Span(name, max(types[name].nbytes, 1), min(at), max(at)) for name, at in life.items()]
    return plan(spans)


def own(number: int, name: str) -> str:
    """What the plan calls something that kernel ``number`` has to itself."""
    return f"{number}:{name}"


def _needs(number: int, kernel: Kernel, threads: Threads, tilings: Mapping[int, Tiling]) -> Iterator[tuple[str, int]]:
    """What a kernel has to itself: names and bytes."""
    if isinstance(kernel, LoopKernel):
        shared = threads.share_rounds(kernel)
        for name, type in (*kernel.buffers.items(), *kernel.results.items()):
            if not on_stack(type):
                copies = threads.model.cores if name in kernel.buffers and shared else 1
                yield name, aligned(type.nbytes * rounds_kept(kernel, name)) * copies
        for a in kernel.accumulators if shared else ():
            blocks = -(-kernel.outer[0][1] // a.block)
            yield f"{a.name}_blocks", blocks * max(a.size, 1) * a.dtype.itemsize
    elif isinstance(kernel, ContractKernel):
        yield "workspace", tilings[number].workspace_bytes
    elif isinstance(kernel, CallKernel):
        yield "workspace", part_of_workspace(kernel) * threads.parts(kernel)


def on_stack(type: TensorType) -> bool:
    """Whether a row buffer or an array of running results lies on the stack."""
    return type.nbytes <= STACK_BYTES


def rounds_kept(kernel: LoopKernel, name: str) -> int:
    """For how many rounds an array of a kernel has a row: for all of a strip, if it is a row buffer."""
    return (kernel.strip or 1) if name in kernel.buffers else 1


def part_of_workspace(kernel: CallKernel) -> int:
    """The bytes that each part of the items of a routine works in."""
    return aligned(kernel.workspace)
