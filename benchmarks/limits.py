"""What the machine could do at best, as graphc measures it for its profiles, and what that says about a row."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path

from benchmarks.timing import settle
from benchmarks.workload import Workload
from graphc import libraries, toolchain
from graphc.profile import Limits

__all__ = ["Machine", "cores", "measure"]

SERIAL_BELOW = 10e-6  # seconds on one core: below that, waking a second core costs more than it brings
MEMORY = 1 << 28  # bytes: far more than a cache holds


@dataclass(frozen=True)
class Machine:
    cores: int
    limits: Limits
    library: ctypes.CDLL | None  # None where there is no OpenMP

    @property
    def peak(self) -> dict[tuple[str, int], float]:
        """Flops per second by dtype and cores, multiply and add counted apart."""
        return {(dtype, n): self.limits.peak(dtype, n) for dtype in ("float32", "float64") for n in {1, self.cores}}

    @property
    def memory(self) -> dict[int, float]:
        """Bytes per second of the triad over arrays that no cache holds, by cores."""
        return {n: self.limits.bandwidth(MEMORY, n) for n in {1, self.cores}}

    def round_trip(self) -> float | None:
        """Nanoseconds for a cache line to another core and back; None where there is but one."""
        return 1e9 * self.library.round_trip() if self.library and self.cores > 1 else None

    def limit(self, workload: Workload) -> tuple[float, int, str]:
        """The least seconds of a step, on how many cores, and what bounds it."""
        settle()
        for cores in (1, self.cores):
            arithmetic = workload.flops / self.limits.peak(workload.dtype.name, cores)
            movement = workload.bytes / self.limits.bandwidth(int(workload.bytes), cores)
            if max(arithmetic, movement) < SERIAL_BELOW:
                break
        return max(arithmetic, movement), cores, "flops" if arithmetic > movement else "bytes"


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def measure() -> Machine:
    """This machine, which measures what it is asked for. Raises GraphcError where there is no compiler."""
    compiler = toolchain.find_compiler()
    if compiler.openmp is None:
        return Machine(cores(), Limits(), None)
    source = Path(__file__).with_name("round_trip.c").read_text(encoding="utf-8")
    target = toolchain.resolve_target(compiler)
    library = ctypes.CDLL(str(libraries.build(source, name="round_trip", compiler=compiler, target=target, openmp=True)))
    library.round_trip.restype = ctypes.c_double
    return Machine(cores(), Limits(), library)
