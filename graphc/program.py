"""What computes: a program, which is a loaded C library or the reference evaluator, and how it is called.

:class:`NativeProgram` and :class:`NumpyProgram` take their arguments in a *frame*, in C an array of 8-byte words:

    inputs ... | parameters ... | outputs ... | arena | threads          (struct <name>_args, in this order)

Why ``_cffi_backend`` and not ``cffi``: the package parses declarations with pycparser, whose import and first
``cdef`` cost 20 ms and more; the backend's own type parser knows ``int(*)(void *)``, and one such pointer is all
that a frame needs. Loading a library so takes 0.6 ms and a call 0.16 us with the GIL released.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import repeat
from pathlib import Path
from typing import Any, Literal, Protocol

import _cffi_backend  # type: ignore[import-untyped]
import numpy as np

from graphc.arguments import Check, Slot, allocate, outside
from graphc.enter import Ways, loaded
from graphc.evaluate import program as reference_program
from graphc.feed import Feed
from graphc.ir import Array, Node, Parameter
from graphc.types import BOOL, GraphcError, IndexOutOfRangeError

__all__ = ["Form", "Frame", "KernelReport", "NativeProgram", "NumpyProgram", "Program", "Signature"]

Form = Literal["single", "list", "tuple", "dict"]

_ffi = _cffi_backend.FFI()


@dataclass(frozen=True)
class KernelReport:
    """One row of ``Function.kernels``: what was fused and why, the work, and the memory that is touched once.

    ``dtype`` is "float64" where doubles are among what it touches, ``threaded`` whether threads share its loops.
    """

    name: str
    kind: str
    why: str
    formulas: tuple[str, ...]
    flops: int
    bytes: int
    dtype: str = "float32"
    threaded: bool = False


@dataclass(frozen=True)
class Signature:
    """What is passed, in the order of the frame, and what :class:`Function` must know about the program.

    ``parameters`` pairs each with whether it is written; ``form`` is the structure in which outputs are given back;
    a failed call's status counts ``checks`` from 1; ``threaded`` says whether the program has threads at all;
    the last ``tables`` of the parameters are large constants.
    """

    name: str
    inputs: tuple[Slot, ...]
    parameters: tuple[tuple[Parameter, bool], ...]
    outputs: tuple[Slot, ...]
    form: Form = "single"
    arena_bytes: int = 0
    checks: tuple[Check, ...] = ()
    threaded: bool = False
    tables: int = 0

    def restore(self, values: Sequence[Any]) -> Any:
        """One value per output, in the structure that was compiled."""
        match self.form:
            case "single":
                return values[0]
            case "list":
                return list(values)
            case "tuple":
                return tuple(values)
            case "dict":
                return {slot.name: value for slot, value in zip(self.outputs, values, strict=True)}

    def flatten(self, given: Any) -> list[Any] | None:
        """The inverse of :meth:`restore`; None where the structure is another."""
        if self.form == "single":
            return [given]
        if self.form == "dict":
            names = [slot.name for slot in self.outputs]
            return [given[name] for name in names] if isinstance(given, Mapping) and set(given) == set(names) else None
        fits = isinstance(given, list | tuple) and len(given) == len(self.outputs)
        return list(given) if fits else None


class Frame:
    """The arguments of one call: ``slots[k] = place(array)`` sets word k, ``argument`` is what the program takes."""

    __slots__ = ("__weakref__", "argument", "keep", "slots", "words")

    def __init__(self, slots: Any, argument: Any, words: Array | None = None, keep: Any = None) -> None:
        self.slots, self.argument, self.words, self.keep = slots, argument, words, keep


class Program(Protocol):
    """What computes. ``status`` is 0, or the number of the check that failed before anything was stored."""

    @property
    def signature(self) -> Signature: ...
    @property
    def c_source(self) -> str: ...
    @property
    def c_header(self) -> str: ...
    @property
    def library(self) -> Path: ...
    @property
    def kernels(self) -> Sequence[Any]: ...
    @property
    def place(self) -> Callable[[Array], Any]:
        """An array as what goes into a slot. The caller keeps the array alive."""

    @property
    def call(self) -> Callable[[Any], int]:
        """Runs a frame's ``argument`` once: status."""

    @property
    def ways(self) -> Ways | None:
        """The ways of :mod:`graphc.enter` into the program; None where only :attr:`call` and :meth:`run` lead there."""

    def frame(self, threads: int) -> Frame:
        """A frame with parameters, arena and threads set; inputs and outputs are the caller's."""

    def run(self, argument: Any, strides: Array, steps: int, done: Array) -> int:
        """Runs up to ``steps`` steps and counts whole ones in ``done[0]``.

        ``strides`` (int64, inputs then outputs) are elements from one step to the next, 0 for the same buffer again.
        """

    def feed(self, argument: Any, rows: Sequence[tuple[Array, int]], batch: int) -> Callable[[Array, int, Array], int]:
        """What runs steps on ``batch`` rows each of the data sets that ``rows`` pairs with words of a frame.

        Takes the numbers of the rows (int64, steps by batch), how many steps, and ``done`` as :meth:`run` does; step k
        writes the k-th part of each output.
        """

    def timed(self) -> Callable[[Any, int, Array], int]:
        """What runs a frame's ``argument`` so many times and reads the clock into an int64 array (steps, kernels + 2).

        In nanoseconds: twice before the first kernel, then after each. Raises :class:`GraphcError` where there are none.
        """


# --- the native program ---------------------------------------------------------------------------------
_CALL = _ffi.typeof("int(*)(void *)")
_RUN = _ffi.typeof("int(*)(void *, void *, int64_t, int64_t *)")
_PROFILE = _ffi.typeof("int(*)(void *, int64_t, int64_t *)")


class NativeProgram:
    """The functions ``<entry>`` and ``<entry>_run`` of a shared library (``entry``: the name in C, if it is another).

    ``c_source`` and ``c_header`` are text, or files that are read when somebody looks; ``timed`` builds the library of
    ``<entry>_profile``.
    """

    def __init__(
        self,
        library: Path,
        signature: Signature,
        *,
        entry: str = "",
        c_source: str | Path = "",
        c_header: str | Path = "",
        kernels: Sequence[Any] = (),
        timed: Callable[[], Path] | None = None,
        ways: Ways | None = None,
    ) -> None:
        self.library, self.signature, self.kernels, self.ways = library, signature, kernels, ways
        self._source, self._header, self._entry, self._timed = c_source, c_header, entry or signature.name, timed
        self._loaded = loaded(library)
        self.call: Callable[[Any], int] = self._loaded.load_function(_CALL, self._entry)
        self._run = self._loaded.load_function(_RUN, f"{self._entry}_run")
        self.place: Callable[[Array], Any] = _ffi.from_buffer

    @cached_property
    def c_source(self) -> str:
        return self._source if isinstance(self._source, str) else self._source.read_text()

    @cached_property
    def c_header(self) -> str:
        return self._header if isinstance(self._header, str) else self._header.read_text()

    def frame(self, threads: int) -> Frame:
        signature = self.signature
        first = len(signature.inputs)
        words = np.zeros(first + len(signature.parameters) + len(signature.outputs) + 2, np.int64)
        slots = _ffi.cast("void **", _ffi.from_buffer(words))
        for k, (parameter, _) in enumerate(signature.parameters):
            slots[first + k] = _ffi.from_buffer(parameter.value)
        arena = None
        if signature.arena_bytes:
            arena = allocate(f"{signature.name}: its arena", (signature.arena_bytes,), BOOL)
            slots[len(words) - 2] = _ffi.from_buffer(arena)
        words[-1] = threads
        return Frame(slots, _ffi.cast("void *", slots), words, arena)

    def run(self, argument: Any, strides: Array, steps: int, done: Array) -> int:
        buffer = _ffi.from_buffer
        return int(self._run(argument, buffer(strides), steps, buffer("int64_t[]", done)))

    def feed(self, argument: Any, rows: Sequence[tuple[Array, int]], batch: int) -> Callable[[Array, int, Array], int]:
        assert self.ways is not None  # only a library that was made elsewhere has none, and no train step is made of that
        first = len(self.signature.inputs) + len(self.signature.parameters)
        outputs = [(slot.type.nbytes, word) for word, slot in enumerate(self.signature.outputs, first)]
        return Feed(self.ways, self.call, argument, rows, outputs, batch).run

    @cache  # noqa: B019 (a library is never unloaded either)
    def timed(self) -> Callable[[Any, int, Array], int]:
        if self._timed is None:
            raise GraphcError(f"{self.signature.name} cannot be profiled: its library was not made from a graph here")
        function = loaded(self._timed()).load_function(_PROFILE, f"{self._entry}_profile")
        return lambda argument, steps, times: int(function(argument, steps, _ffi.from_buffer("int64_t[]", times)))


# --- the NumPy program ----------------------------------------------------------------------------------
class NumpyProgram:
    """The reference evaluator in the place of a library: all is computed, then all is stored.

    ``inputs`` are the input nodes, ``outputs`` nodes, ``updates`` pairs of a parameter and its new value.
    """

    def __init__(
        self,
        signature: Signature,
        inputs: Sequence[Node],
        outputs: Sequence[Node],
        updates: Sequence[tuple[Parameter, Node]],
    ) -> None:
        self.signature = signature
        self.kernels: Sequence[Any] = ()
        self.ways = None
        self._inputs = inputs
        self._first_output = len(inputs) + len(signature.parameters)
        self._written = [parameter.value for parameter, _ in updates]
        self._evaluate = reference_program([*outputs, *(value for _, value in updates)])

    @property
    def c_source(self) -> str:
        raise self._no("C source")

    @property
    def c_header(self) -> str:
        raise self._no("C header")

    @property
    def library(self) -> Path:
        raise self._no("library")

    def timed(self) -> Callable[[Any, int, Array], int]:
        raise self._no("kernels to profile")

    def _no(self, what: str) -> GraphcError:
        return GraphcError(f'{self.signature.name} has no {what}: it was compiled with backend="numpy"')

    @staticmethod
    def place(array: Array) -> Array:
        return array

    def frame(self, threads: int) -> Frame:
        slots: list[Any] = [None] * (self._first_output + len(self.signature.outputs))
        return Frame(slots, slots)

    def call(self, argument: list[Array]) -> int:
        return self._step(argument, [], [])

    def run(self, argument: list[Array], strides: Array, steps: int, done: Array) -> int:
        inputs = len(self._inputs)
        moving = strides != 0
        for step in range(steps):
            now = list(argument)
            for k, moves in enumerate(moving):
                place = k if k < inputs else k - inputs + self._first_output
                if moves:
                    now[place] = argument[place][step, ...]
            status = self._step(now, [done], [step + 1])
            if status:
                return status
        return 0

    def feed(
        self, argument: list[Array], rows: Sequence[tuple[Array, int]], batch: int
    ) -> Callable[[Array, int, Array], int]:
        def run(order: Array, steps: int, done: Array) -> int:
            for step in range(steps):
                now = [*argument[: self._first_output], *(array[step, ...] for array in argument[self._first_output :])]
                for array, word in rows:
                    now[word] = array[order[step]]
                status = self._step(now, [done], [step + 1])
                if status:
                    return status
            return 0

        return run

    def _step(self, slots: list[Array], targets: list[Array], values: list[Any]) -> int:
        """Compute; then copy everything to its place, and ``values`` to ``targets``, as one indivisible action.

        Python looks for Ctrl-C between bytecodes, so the copying is one call that executes none. Values are copied
        first: they may be views of what is written.
        """
        try:
            computed = self._evaluate(dict(zip(self._inputs, slots, strict=False)))
        except IndexOutOfRangeError:
            return self._failed_check(slots)
        to = [*slots[self._first_output :], *self._written, *targets]
        new = [*(np.array(value) for value in computed), *values]
        deque(map(np.ndarray.__setitem__, to, repeat(...), new), maxlen=0)
        return 0

    def _failed_check(self, slots: list[Array]) -> int:
        names = [slot.name for slot in self.signature.inputs]
        inside = 1
        for number, check in enumerate(self.signature.checks, 1):
            if check.input is None:
                inside = number
            elif outside(slots[names.index(check.input)], check).size:
                return number
        return inside
