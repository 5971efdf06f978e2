"""Which kernels threads share: those that do enough for it, in rounds or items enough. How they share a contraction, its
tiling says. Threads that a long kernel has woken are there for shorter ones of the same step, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from graphc.schedule import tiling
from graphc.schedule.kernels import CallKernel, ContractKernel, Kernel, LoopKernel, reads_of
from graphc.schedule.schedule import stores_of
from graphc.schedule.work import flops
from graphc.types import TensorType

__all__ = ["Threads"]

# Loops shorter than this many elementary operations are never shared among threads.
OPERATIONS_PER_THREAD = 400_000
# The same where another kernel of the step has threads anyway, so that they are awake.
OPERATIONS_PER_AWAKE_THREAD = 40_000
# How many operations it takes a routine, at least, to bring an element from an operand to the result.
MOVES_OF_A_ROUTINE = 16


class Threads:
    """Which of the ``kernels`` of a step threads share; ``types`` are those of tensors in memory."""

    def __init__(self, kernels: Sequence[Kernel], types: Mapping[str, TensorType], model: tiling.TargetModel) -> None:
        self.types, self.model = types, model
        self.awake = any(self.wakes(kernel) for kernel in kernels)
        # Of which matrices threads each have some columns in a contraction.
        self.by_columns = {k.right.scalar.tensor for k in kernels if isinstance(k, ContractKernel) and _shares_columns(k)}

    def share_rounds(self, kernel: LoopKernel) -> bool:
        """Whether threads share the rounds: there are many, they do enough, and what they leave can be kept apart."""
        if self.model.cores < 2 or not kernel.outer:
            return False
        extent = kernel.outer[0][1]
        if kernel.accumulators and (
            not all(a.block for a in kernel.accumulators) or extent < 4 * kernel.accumulators[0].block
        ):
            return False
        return self.enough(kernel) and extent >= 2 * self.model.cores

    def parts(self, kernel: CallKernel) -> int:
        """Into how many parts the items of a routine may be shared among threads."""
        return self.model.cores if kernel.items >= 2 * self.model.cores and self.enough(kernel) else 1

    def enough(self, kernel: LoopKernel | CallKernel) -> bool:
        """Whether there is work for two threads."""
        least = OPERATIONS_PER_AWAKE_THREAD if self.awake else OPERATIONS_PER_THREAD
        return self.operations(kernel) > 2 * least

    def wakes(self, kernel: Kernel) -> bool:
        """Whether a kernel alone is worth waking threads for."""
        if isinstance(kernel, ContractKernel):
            return tiling.wakes_threads(kernel.m, kernel.n, kernel.k, prod(kernel.batch), self.model)
        return isinstance(kernel, LoopKernel | CallKernel) and self.operations(kernel) > 2 * OPERATIONS_PER_THREAD

    def operations(self, kernel: LoopKernel | CallKernel) -> int:
        """What a kernel takes, in elementary operations or elements moved; a routine moves an element time and again."""
        elements = sum(self.types[name].size for name in (*reads_of(kernel), *stores_of(kernel)) if name in self.types)
        return max(flops(kernel), elements * (MOVES_OF_A_ROUTINE if isinstance(kernel, CallKernel) else 1))


def _shares_columns(kernel: ContractKernel) -> bool:
    """Whether threads each have some columns of a matrix that is the right operand."""
    scalar = kernel.right.scalar
    return kernel.n > kernel.m and scalar.op == "load" and scalar.index.factor(len(kernel.batch) + 1) == 1
