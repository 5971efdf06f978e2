"""Where the time of a call goes (:meth:`graphc.runtime.Function.profile`): per kernel the time, the work, and how near the limit.

    seconds of a kernel   clock after - clock before, less what reading a clock takes: the mean of the middle half of the
                          steps, which no outlier moves and which is finer than the clock
    limit of a kernel     the larger of flops / peak and bytes / bandwidth: this machine at its best

Peak and bandwidth are measured in this process when they are first needed, by a small C of fused multiply-adds in registers
and of the triad a = b + s c (templates/limits.c.j2), on as many cores as the kernel has threads. The bandwidth is that of
arrays that take as many bytes as the kernel touches, so what fits a cache is held against the speed of that cache.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from math import ceil, log2
from pathlib import Path
from typing import Any

import _cffi_backend  # type: ignore[import-untyped]
import numpy as np

from graphc import libraries, toolchain
from graphc.arguments import allocate, convert
from graphc.call import Caller
from graphc.concurrency import guarded_call, thread_count
from graphc.emit.render import environment
from graphc.enter import loaded
from graphc.frontend.sources import aligned_empty
from graphc.ir import Array
from graphc.program import KernelReport
from graphc.types import BOOL, IndexOutOfRangeError

__all__ = ["KernelProfile", "Limits", "Profile", "limits", "profile", "report"]

_SAMPLE_SECONDS = 0.01  # of one measurement
_LIMIT_SECONDS = 0.1  # of those of a limit, at least
_PROFILE_SECONDS, _PROFILED_STEPS = 0.3, 2000  # steps with a clock, at most: the mean of their middle needs no more
_SIZES = range(14, 29)  # arrays from 2^14 to 2^28 bytes: from the first cache to beyond the last
_TRACED = 20_000  # kernels in a trace: what a viewer takes with ease


@dataclass(frozen=True)
class KernelProfile:
    """One kernel: ``kernel`` says what it does, ``seconds`` it took, ``limit`` are the seconds of a perfect one.

    ``bound`` is what the limit comes from, "flops" or "bytes"; flops count a function such as exp as one.
    """

    kernel: KernelReport
    seconds: float
    limit: float
    bound: str

    @property
    def name(self) -> str:
        return self.kernel.name

    @property
    def flops(self) -> int:
        return self.kernel.flops

    @property
    def bytes(self) -> int:
        """What is read and written, each tensor once."""
        return self.kernel.bytes

    @property
    def gflops(self) -> float:
        """GFLOP/s."""
        return self.flops / self.seconds / 1e9 if self.seconds else 0.0

    @property
    def gbytes(self) -> float:
        """GB/s."""
        return self.bytes / self.seconds / 1e9 if self.seconds else 0.0

    @property
    def of_limit(self) -> float:
        """How much of what the machine could do, from 0 to 1; a little above where the estimate of the limit is low."""
        return self.limit / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, eq=False)
class Profile:
    """What was measured; ``print`` it for the table.

    ``rows`` has the kernels in the order of the step; ``step_seconds`` is a step without any clock, ``clock_seconds`` what
    reading one takes; ``times`` (steps, kernels + 2) are all readings in nanoseconds.
    """

    name: str
    rows: tuple[KernelProfile, ...]
    step_seconds: float
    clock_seconds: float
    threads: int
    times: Array = field(repr=False)

    @property
    def seconds(self) -> float:
        """The kernels of a step together."""
        return sum(row.seconds for row in self.rows)

    @property
    def of_limit(self) -> float:
        """How much of what the machine could do, were every kernel perfect and alone."""
        return sum(row.limit for row in self.rows) / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        head = ("kernel", "kind", "time", "share", "flops", "bytes", "GFLOP/s", "GB/s", "of limit", "bound")
        table = [head]
        for row in self.rows:
            kind = row.kernel.kind + (f", {self.threads} threads" if row.kernel.threaded and self.threads > 1 else "")
            work = (_count(row.flops), _count(row.bytes), f"{row.gflops:.1f}", f"{row.gbytes:.1f}")
            share = row.seconds / self.seconds if self.seconds else 0.0
            limit = (f"{row.of_limit:.0%}", row.bound) if row.bound and row.seconds else ("", row.bound)
            table.append((row.name, kind, _duration(row.seconds), f"{share:.0%}", *work, *limit))
        flops, moved = sum(row.flops for row in self.rows), sum(row.bytes for row in self.rows)
        whole = max(self.seconds, 1e-12)
        work = (_count(flops), _count(moved), f"{flops / whole / 1e9:.1f}", f"{moved / whole / 1e9:.1f}")
        table.append(("all", "", _duration(self.seconds), "100%", *work, f"{self.of_limit:.0%}", ""))
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = []
        for cells in table:
            left = [f"{cell:<{width}}" for cell, width in zip(cells[:2], widths, strict=False)]
            right = [f"{cell:>{width}}" for cell, width in zip(cells[2:9], widths[2:], strict=False)]
            lines.append("  ".join([*left, *right, cells[9]]).rstrip())
        rule = "-" * (sum(widths) + 2 * len(widths) - 2)
        steps = f"{self.name}: {_duration(self.step_seconds)} a step; the kernels alone, over {len(self.times):,} steps:"
        return "\n".join([steps, lines[0], rule, *lines[1:-1], rule, lines[-1]])

    def write_trace(self, path: str | os.PathLike[str]) -> None:
        """A file of trace events (Chrome's JSON format) with the steps one after another, for chrome://tracing."""
        steps = self.times[: max(1, _TRACED // max(len(self.rows), 1))]
        events: list[dict[str, object]] = [
            {"ph": "M", "name": "process_name", "pid": 1, "args": {"name": f"graphc {self.name}"}},
            {"ph": "M", "name": "thread_name", "pid": 1, "tid": 1, "args": {"name": self.name}},
        ]
        about = [
            {"formulas": row.kernel.formulas, "why": row.kernel.why, "flops": row.flops, "bytes": row.bytes}
            for row in self.rows
        ]
        start = int(steps[0, 1])

        def event(name: str, category: str, begin: int, end: int, args: dict[str, object]) -> None:
            event = {"ph": "X", "name": name, "cat": category, "pid": 1, "tid": 1}
            events.append(event | {"ts": (begin - start) / 1e3, "dur": (end - begin) / 1e3, "args": args})

        for number, readings in enumerate(steps.tolist()):
            event(self.name, "step", readings[1], readings[-1], {"step": number})
            for k, row in enumerate(self.rows):
                event(row.name, row.kernel.kind, readings[k + 1], readings[k + 2], about[k])
        Path(path).write_text(json.dumps({"traceEvents": events, "displayTimeUnit": "ns"}), encoding="utf-8")


def _duration(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.4g} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def _count(number: int) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)


# --- steps with a clock -----------------------------------------------------------------------------------
def profile(caller: Caller, given: Sequence[Any]) -> Profile:
    """The profile of a function on the values ``given`` for its inputs, in order; all parameters keep their values.

    Raises what a call does, and :class:`GraphcError` where there are no kernels.
    """
    name, signature, program = caller.name, caller.signature, caller.program
    timed = program.timed()
    values = [
        caller.apart(convert(f"{name}.profile", slot, value), ()) for slot, value in zip(signature.inputs, given, strict=True)
    ]
    lane = caller.take()
    try:
        for word, value in enumerate(values):
            lane.slots[word] = program.place(value)
        results = [allocate(f"{name}: output {slot.name!r}", slot.type.shape, slot.type.dtype) for slot in signature.outputs]
        for (word, _, _), result in zip(caller.outputs, results, strict=True):
            lane.slots[word] = program.place(result)
        readings: list[Array] = []
        plain: list[float] = []
        measure = partial(_measure, caller, timed, readings, plain)
        status = guarded_call(caller.guards, lane, measure, lane.argument)
        if status:
            raise IndexOutOfRangeError(f"{name}: {caller.culprit(status, values).message()}")
    finally:
        caller.give_back(lane)
    return report(name, program.kernels, np.concatenate(readings), float(np.median(plain)), caller.threads)


def _measure(
    caller: Caller, timed: Callable[[Any, int, Array], int], readings: list[Array], plain: list[float], argument: Any
) -> int:
    """Fills ``readings`` of the clock (steps, kernels + 2) and ``plain``, the seconds of a step without one; the status."""
    program, old = caller.program, [array.copy() for array in caller.written]
    still = np.zeros(len(caller.signature.inputs) + len(caller.outputs), np.int64)  # every step reads and writes the same

    def steps(n: int, times: Array | None = None) -> tuple[int, float]:
        """Status and seconds of ``n`` steps from the old parameters, with a clock where ``times`` are given."""
        deque(map(np.copyto, caller.written, old), maxlen=0)
        done, began = np.zeros(1, np.int64), time.perf_counter()
        status = program.run(argument, still, n, done) if times is None else timed(argument, n, times)
        return status, time.perf_counter() - began

    try:
        status, _ = steps(1)
        if status:
            return status
        n, (_, took) = 1, steps(1)
        while took < _SAMPLE_SECONDS:
            n *= 4
            _, took = steps(n)
        at_once = min(n, _PROFILED_STEPS // 4)
        times = np.empty((at_once, len(program.kernels) + 2), np.int64)
        steps(at_once, times)  # the first ones are cold
        began = time.perf_counter()
        while len(readings) < 3 or (
            len(readings) * at_once < _PROFILED_STEPS and time.perf_counter() - began < _PROFILE_SECONDS
        ):
            plain.append(steps(n)[1] / n)
            times = np.empty_like(times)
            steps(at_once, times)
            readings.append(times)
        return 0
    finally:
        deque(map(np.copyto, caller.written, old), maxlen=0)


def report(name: str, kernels: Sequence[KernelReport], times: Array, plain: float, threads: int) -> Profile:
    """The profile of a function with ``kernels`` from readings of the clock (steps, kernels + 2), in nanoseconds.

    ``plain`` are the seconds of a step without a clock, ``threads`` what a kernel may use that has threads.
    """
    middle = np.sort(np.diff(times, axis=1), axis=0)[len(times) // 4 : len(times) - len(times) // 4]
    took = middle.mean(0) / 1e9
    clock = float(took[0])
    rows = []
    for kernel, seconds in zip(kernels, took[1:], strict=True):
        used = threads if kernel.threaded else 1
        arithmetic = kernel.flops / limits().peak(kernel.dtype, used) if kernel.flops else 0.0
        movement = kernel.bytes / limits().bandwidth(kernel.bytes, used) if kernel.bytes else 0.0
        bound = "" if not (kernel.flops or kernel.bytes) else "flops" if arithmetic > movement else "bytes"
        rows.append(KernelProfile(kernel, max(float(seconds) - clock, 0.0), max(arithmetic, movement), bound))
    return Profile(name, tuple(rows), plain, clock, threads, times)


# --- the limits of the machine ------------------------------------------------------------------------------
@cache
def limits() -> Limits:
    """Those of this machine: one object, which measures what it is asked for and keeps it."""
    return Limits()


class Limits:
    """What this machine can do at best, by the best instructions that its compiler has for it.

    Raises what :mod:`graphc.toolchain` does where there is no compiler.
    """

    def __init__(self) -> None:
        compiler = toolchain.find_compiler()
        target = toolchain.resolve_target(compiler)
        width = target.vector_bytes or 16
        source = environment().get_template("limits.c.j2").render(vector_bytes=width, chains=24 if width == 64 else 12)
        library = libraries.build(
            source, name="limits", compiler=compiler, target=target, openmp=compiler.openmp is not None
        )
        ffi = _cffi_backend.FFI()
        code = loaded(library)
        self._buffer = ffi.from_buffer
        self._fma = {
            dtype: code.load_function(
                ffi.typeof(f"int(*)(int, int64_t, {ctype}, {ctype}, double *)"), f"limits_peak_{dtype}"
            )
            for dtype, ctype in (("float32", "float"), ("float64", "double"))
        }
        triad = ffi.typeof("void(*)(int, int64_t, int64_t, float, float *, const float *, const float *)")
        self._triad = code.load_function(triad, "limits_triad")
        self._known: dict[tuple[str, int, int], float] = {}

    def peak(self, dtype: str, threads: int = 1) -> float:
        """Flops a second of ``dtype`` ("float32" or "float64"), multiply and add counted apart."""
        threads = min(threads, thread_count())
        key = (dtype, 0, threads)
        if key not in self._known:
            sums = np.zeros(8 * threads)
            rate = _best(lambda n: self._fma[dtype](threads, n, 0.999, 0.001, self._buffer("double[]", sums)))
            per_round = self._fma[dtype](1, 0, 0.999, 0.001, self._buffer("double[]", sums))
            self._known[key] = 2 * per_round * threads * rate
        return self._known[key]

    def bandwidth(self, nbytes: int, threads: int = 1) -> float:
        """Bytes a second of the triad over arrays of about ``nbytes`` in all."""
        threads = min(threads, thread_count())
        bits = min(max(ceil(log2(max(nbytes, 1))), _SIZES[0]), _SIZES[-1])
        key = ("triad", bits, threads)
        if key not in self._known:
            n = 2**bits // 12 // threads // 16 * 16
            arrays = [aligned_empty((4 * n * threads,), BOOL).view(np.float32) for _ in range(3)]
            for array in arrays:
                array[...] = 0
            a, b, c = (self._buffer("float[]", array) for array in arrays)
            self._known[key] = 12 * n * threads * _best(lambda rounds: self._triad(threads, rounds, n, 0.5, a, b, c))
        return self._known[key]


def _best(work: Callable[[int], object]) -> float:
    """Rounds a second of ``work(rounds)``, at best: of ever more rounds, until that no longer helps.

    A thread that has to be waken, or waits for a core that somebody else has, makes a few rounds take as long as many. So a long
    sample, too, is followed by one of more rounds, as long as that is faster; and one that took half a second is long enough.
    """
    rounds, best, stays, end = 1, 0.0, 0, time.perf_counter() + _LIMIT_SECONDS
    while stays < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        work(rounds)
        took = time.perf_counter() - start
        better = rounds / took > 1.05 * best
        best = max(best, rounds / took)
        stays = 0 if better else stays + 1
        rounds *= 4 if took < _SAMPLE_SECONDS / 2 or (better and took < 50 * _SAMPLE_SECONDS) else 1
    return best
