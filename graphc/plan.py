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
    first, last, nbytes = (np.array([getattr(s, field) for s in order], np.int64) for field in ("first", "last", "nbytes"))
    offsets = np.zeros(len(order), np.int64)
    for k, span in enumerate(order):
        met = np.flatnonzero((first[:k] <= span.last) & (span.first <= last[:k]) & (nbytes[:k] > 0))
        at = 0
        for start, end in sorted(zip(offsets[met].tolist(), (offsets[met] + nbytes[met]).tolist(), strict=True)):
            if start >= at + span.nbytes:
                break
            at = max(at, aligned(end))
        offsets[k] = at
    placed = list(zip(order, offsets.tolist(), strict=True))
    top = max((offset + span.nbytes for span, offset in placed), default=0)
    return Plan({span.name: offset for span, offset in placed}, aligned(top))
