"""Memory: where each intermediate lies in the arena.

A tensor is alive from the first kernel that touches it to the last; scratch space (row buffers, packing) lives for one
kernel. Each gets the lowest offset at which it meets nothing that is alive with it, the largest first:

    kernel      0   1   2   3
    relu        #####           offset 0
    scores          #####       offset 12800
    d_relu              #####   offset 0 again
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

__all__ = ["ALIGNMENT", "Plan", "Span", "aligned", "plan"]

ALIGNMENT = 64


@dataclass(frozen=True)
class Span:
    """A piece of memory and the kernels during which it is needed, both ends included."""

    name: str
    nbytes: int
    first: int
    last: int


@dataclass(frozen=True)
class Plan:
    """Byte offset of each span in an arena of ``nbytes`` bytes that starts on a multiple of :data:`ALIGNMENT`."""

    offsets: dict[str, int]
    nbytes: int


def aligned(nbytes: int) -> int:
    """The next multiple of :data:`ALIGNMENT`."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def plan(spans: Iterable[Span]) -> Plan:
    """Place the spans; those that are needed at the same time do not overlap."""
    order = sorted(spans, key=lambda span: (-span.nbytes, span.first, span.name))
    offsets: dict[str, int] = {}
    placed = np.zeros((4, len(order)), np.int64)  # first, last, offset and end of each, by offset
    for count, span in enumerate(order):
        first, last, start, end = placed[:, :count]
        met = (first <= span.last) & (span.first <= last)
        free = np.concatenate(([0], np.maximum.accumulate(end[met])))  # the end of all before each of them, and of all
        fits = np.append(free[:-1] + span.nbytes <= start[met], True)
        at = offsets[span.name] = int(free[np.argmax(fits)])
        place = np.searchsorted(start, at, "right")
        placed[:, place + 1 : count + 1] = placed[:, place:count]
        placed[:, place] = span.first, span.last, at, aligned(at + span.nbytes)
    return Plan(offsets, int(placed[3].max(initial=0)))
