"""The machine's limits, measured at the start of a run, and what they say about a row."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.workload import Workload

__all__ = ["Machine", "cores", "measure"]

SERIAL_BELOW = 10e-6  # seconds on one core: below that, waking a second core costs more than it brings
SECONDS = 0.15  # of one measurement, of which the best of three counts


@dataclass
class Machine:
    cores: int
    peak: dict[tuple[str, int], float]  # (dtype, cores): flops per second, multiply and add counted apart
    memory: dict[int, float]  # cores: bytes per second of the triad over 1 GB
    library: ctypes.CDLL
    _triad: dict[tuple[int, int], float] = field(default_factory=dict)

    def bandwidth(self, size: float, cores: int) -> float:
        """Bytes per second of the triad over arrays of this size, rounded up to a power of two."""
        bits = max(14, int(np.ceil(np.log2(size))))
        if (bits, cores) not in self._triad:
            self._triad[bits, cores] = _best(lambda: self.library.triad(cores, 1 << bits, SECONDS / 3))
        return self._triad[bits, cores]

    def round_trip(self) -> float | None:
        """Nanoseconds for a cache line to another core and back; None where there is but one."""
        return 1e9 * self.library.round_trip() if self.cores > 1 else None

    def limit(self, workload: Workload) -> tuple[float, int, str]:
        """The least seconds of a step, on how many cores, and what bounds it."""
        for cores in (1, self.cores):
            arithmetic = workload.flops / self.peak[workload.dtype.name, cores]
            movement = workload.bytes / self.bandwidth(workload.bytes, cores)
            if max(arithmetic, movement) < SERIAL_BELOW:
                break
        return max(arithmetic, movement), cores, "flops" if arithmetic > movement else "bytes"


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def measure() -> Machine:
    """Build limits.c and run it. Raises RuntimeError where that does not work (no compiler, not x86-64, no OpenMP)."""
    compiler = os.environ.get("CC", "gcc")
    if shutil.which(compiler.split()[0]) is None:
        raise RuntimeError(f"no C compiler ({compiler})")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "limits.so"
        flags = ["-O3", "-march=native", "-ffp-contract=fast", "-fopenmp", "-shared", "-fPIC"]
        wide = ["-mprefer-vector-width=512"]  # GCC would choose narrow vectors on some CPUs
        for more in (wide, []):
            command = [*compiler.split(), *flags, *more, str(Path(__file__).with_name("limits.c")), "-o", str(path)]
            built = subprocess.run(command, capture_output=True, text=True, check=False)
            if built.returncode == 0:
                break
        else:
            raise RuntimeError(f"limits.c: {built.stderr.strip().splitlines()[0]}")
        library = ctypes.CDLL(str(path))
    for function in (library.peak_float, library.peak_double):
        function.restype, function.argtypes = ctypes.c_double, [ctypes.c_int, ctypes.c_double]
    library.round_trip.restype = ctypes.c_double
    library.triad.restype, library.triad.argtypes = ctypes.c_double, [ctypes.c_int, ctypes.c_size_t, ctypes.c_double]
    available = cores()
    peak, memory = {}, {}
    for n in {1, available}:
        peak["float32", n] = _best(lambda n=n: library.peak_float(n, SECONDS))
        peak["float64", n] = _best(lambda n=n: library.peak_double(n, SECONDS))
        memory[n] = _best(lambda n=n: library.triad(n, 1 << 30, 2 * SECONDS))
    return Machine(available, peak, memory, library)


def _best(measurement: Callable[[], float]) -> float:
    return max(measurement() for _ in range(3))
