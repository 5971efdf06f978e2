"""From a compiled program to a Python function: arguments, buffers, results, and the call itself.

Everything a caller sees (checks, conversions, results, ``bind``, ``run``, errors) is :class:`Function`, which does
not know whether its program is C or NumPy. A *lane* is a frame with what one call in flight needs besides: an arena
and a block for the scalars. A call takes a lane from a free list and puts it back, so calls may overlap (threads,
signal handlers) and none allocates twice.

    y = f(x)     x --check, convert--> slots[k] = place(x) --> C --> fresh arrays, or numbers from the scalar block

``run`` and ``fit`` let go of the guards between chunks of about 50 ms.
"""

from __future__ import annotations

import difflib
import os
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _cffi_backend  # type: ignore[import-untyped]
import numpy as np

from graphc.arguments import EXACT, FORMATS, Culprit, Slot, allocate, convert, given_shape, numbers_of, outside
from graphc.concurrency import frame_of, guarded_call, guards_of, thread_count
from graphc.frontend.sources import aligned_empty
from graphc.ir import Array, Parameter
from graphc.program import Program, Signature
from graphc.types import BOOL, DType, IndexOutOfRangeError, InputTypeError, InputValueError, TensorType

if TYPE_CHECKING:
    from graphc.profile import Profile

__all__ = ["Bound", "Function", "IndexFailureError", "Loop", "Progress"]

Progress = Callable[[int, int], object]

_ffi = _cffi_backend.FFI()
_ndarray = np.ndarray
_PROFILED_STEPS = 2000  # at most so many are read with a clock: a median needs no more
_CHUNK_SECONDS = 0.05  # how long C runs before Python looks up for Ctrl-C, progress and other threads


# --- the function -----------------------------------------------------------------------------------------
class _Lane:
    """What one call in flight needs: a frame, and a block in which the scalars of the signature lie.

    ``cells`` and ``zeros`` have for each word of the frame that is a scalar its element, as a memoryview and as a 0-d
    array; ``write`` and ``read`` are all scalars in and out at once, where each side has one dtype.
    """

    __slots__ = ("argument", "block", "cells", "frame", "read", "slots", "write", "zeros")

    def __init__(self, program: Program, threads: int, places: Mapping[int, tuple[int, DType]], nbytes: int) -> None:
        self.frame = frame_of(program, threads)
        self.slots, self.argument = self.frame.slots, self.frame.argument
        self.write: Any = None
        self.read: Callable[[], list[Any]] = list
        raw = aligned_empty((nbytes,), BOOL).view(np.uint8)
        self.block = memoryview(raw.data)
        self.cells: dict[int, Any] = {}
        self.zeros: dict[int, Array] = {}
        for word, (offset, dtype) in places.items():
            element: Any = self.block[offset : offset + dtype.itemsize]
            self.cells[word] = element.cast(FORMATS[str(dtype)])
            self.zeros[word] = raw[offset : offset + dtype.itemsize].view(dtype.numpy).reshape(())
            self.slots[word] = program.place(self.zeros[word])


class Function:
    """A compiled function. Made by :func:`graphc.compile` and :func:`graphc.train_step`.

    Call it with its inputs by position or by name: anything NumPy makes an array of, of exactly the declared shape.
    A C-contiguous array of the declared dtype is passed as it is; another real dtype is converted where that loses no
    kind (never float to int). Results are fresh arrays, or Python numbers for scalars, in the structure that was
    compiled. ``out=`` (that structure of arrays, which must match exactly) is written into and given back instead.

    Raises :class:`InputTypeError` and :class:`InputValueError` for arguments that do not fit, and
    :class:`IndexOutOfRangeError` for an index out of range; no parameter has changed then.
    """

    def __init__(self, program: Program, *, threads: int | None = None) -> None:
        signature = program.signature
        self._program, self._signature = program, signature
        self._threads = thread_count(threads) if signature.threaded else 1
        self._names = names = tuple(slot.name for slot in signature.inputs)
        self._by_name: Callable[[Mapping[str, Any]], Sequence[Any]] = (
            itemgetter(*names) if len(names) > 1 else lambda named: [named[name] for name in names]
        )
        self._guards = guards_of(signature.parameters)
        self._sole = self._guards[0][0] if len(self._guards) == 1 and self._guards[0][1] else None
        self._run_once, self._place = program.call, program.place
        self._single, self._listed = signature.form == "single", signature.form == "list"
        self._free: list[_Lane] = []
        self._first_output = len(signature.inputs) + len(signature.parameters)
        # (word, scalar classes or None, NumPy dtype, shape) of each input; (word, dtype, shape) of each output
        self._inputs = [
            (k, None if slot.type.shape else numbers_of(slot.type.dtype), slot.type.dtype.numpy, slot.type.shape)
            for k, slot in enumerate(signature.inputs)
        ]
        self._outputs = [
            (self._first_output + k, slot.type.dtype.numpy, slot.type.shape) for k, slot in enumerate(signature.outputs)
        ]
        self._lay_out_scalars()
        written = [parameter.value for parameter, writes in signature.parameters if writes]
        self._written = written
        self._owners = {id(_owner(array)) for array in written}

    def _lay_out_scalars(self) -> None:
        """Where in a lane's block each scalar lies: the inputs, then the outputs, as C would lay out two structs."""
        self._places: dict[int, tuple[int, DType]] = {}
        end, formats = 0, []
        for slots, first in ((self._signature.inputs, 0), (self._signature.outputs, self._first_output)):
            start = end = -(-end // 64) * 64
            for k, slot in enumerate(slots):
                if not slot.type.shape:
                    dtype = slot.type.dtype
                    end = -(-end // dtype.itemsize) * dtype.itemsize
                    self._places[first + k] = (end, dtype)
                    end += dtype.itemsize
            codes = [FORMATS[str(slot.type.dtype)] for slot in slots if not slot.type.shape]
            formats.append((start, struct.Struct("@" + "".join(codes))))
        self._block_bytes = end
        self._unpack_at, outputs = formats[1]
        self._unpack = outputs.unpack_from
        slots = (*self._signature.inputs, *self._signature.outputs)
        kinds, gives = ({slot.type.dtype for slot in of} for of in (self._signature.inputs, self._signature.outputs))
        all_scalar = not any(slot.type.shape for slot in slots)
        self._scalar_outputs = not any(slot.type.shape for slot in self._signature.outputs)
        # The short way is for numbers of one dtype to numbers of one dtype, without parameters: these classes take it.
        self._short: frozenset[type] | None = None
        self._all = slice(0, len(self._signature.inputs))
        if all_scalar and len(kinds) == len(gives) == 1 and not self._guards:
            self._short = numbers_of(*kinds)

    # --- calling ---
    def __call__(self, /, *args: Any, out: Any = None, **named: Any) -> Any:
        short = self._short
        if short is None or named or out is not None:
            return self._call(self._ordered(args, named), out)
        for value in args:
            if value.__class__ not in short:
                return self._call(self._ordered(args, named), None)
        try:
            lane = self._free.pop()
        except IndexError:
            lane = self._lane()
        try:
            lane.write[self._all] = args
            status = self._run_once(lane.argument)
            results = lane.read()
        except (ValueError, TypeError, OverflowError):  # too many, too few, one that does not fit: said in full there
            status = -1
        finally:
            self._free.append(lane)
        if status:
            return self._call(self._ordered(args, named), None)
        return results if self._listed else results[0] if self._single else self._signature.restore(results)

    def _call(self, given: Sequence[Any], out: Any) -> Any:
        """One call on values in the order of the inputs. Flat and a little long: this is what each step pays."""
        targets = () if out is None else self._given_outputs(out)
        values = [*given]  # what is converted replaces what came, and lives as long as the call
        try:
            lane = self._free.pop()
        except IndexError:
            lane = self._lane()
        try:
            slots, place, owners = lane.slots, self._place, self._owners
            for word, numbers, dtype, shape in self._inputs:
                value = values[word]
                if numbers is not None:
                    self._place_scalar(lane, word, value, numbers)
                    continue
                if not (
                    value.__class__ is _ndarray
                    and value.dtype == dtype
                    and value.shape == shape
                    and value.flags.num & EXACT == EXACT
                ):
                    values[word] = value = convert(self.name, self._signature.inputs[word], value)
                if owners or targets:
                    base = value if value.base is None else value.base
                    # Memory of a single array that is none of those written needs no closer look.
                    if targets or base.__class__ is not _ndarray or base.base is not None or id(base) in owners:
                        values[word] = value = self._apart(value, targets)
                slots[word] = place(value)
            results: list[Any] = []
            if out is not None:
                for (word, _, shape), array in zip(self._outputs, targets, strict=True):
                    if shape:
                        slots[word] = place(array)
            elif not self._scalar_outputs:
                for word, dtype, shape in self._outputs:
                    result = _fresh(self.name, shape, dtype) if shape else None
                    results.append(result)
                    if result is not None:
                        slots[word] = place(result)
            sole = self._sole
            if sole is not None:
                with sole.lock:
                    if sole.readers:
                        sole.drain()
                    status = self._run_once(lane.argument)
            elif self._guards:
                status = guarded_call(self._guards, lane, self._run_once, lane.argument)
            else:
                status = self._run_once(lane.argument)
            if status:
                arrays = [lane.zeros.get(word, value) for word, value in enumerate(values)]
                raise IndexOutOfRangeError(f"{self.name}: {self._culprit(status, arrays).message()}")
            if out is not None:
                for (word, _, shape), array in zip(self._outputs, targets, strict=True):
                    if not shape:
                        array[...] = lane.zeros[word]
                return out
            if self._scalar_outputs:
                scalars = self._unpack(lane.block, self._unpack_at)
                return scalars[0] if self._single else self._signature.restore(scalars)
            for k, (word, _, shape) in enumerate(self._outputs):
                if not shape:
                    results[k] = lane.cells[word][0]
            return results[0] if self._single else self._signature.restore(results)
        finally:
            self._free.append(lane)

    def _place_scalar(self, lane: _Lane, word: int, value: Any, numbers: frozenset[type]) -> None:
        if value.__class__ in numbers:
            try:
                lane.cells[word][0] = value
                return
            except (ValueError, TypeError, OverflowError):  # one that does not fit, or a bool of NumPy's in an int
                pass
        lane.zeros[word][...] = convert(self.name, self._signature.inputs[word], value)

    def _take(self) -> _Lane:
        try:
            return self._free.pop()
        except IndexError:
            return self._lane()

    def _lane(self) -> _Lane:
        lane = _Lane(self._program, self._threads, self._places, self._block_bytes)
        if self._short is not None:
            (of_inputs,), (of_outputs,) = ({slot.type.dtype for slot in of} for of in (self.inputs, self.outputs))
            results: Any = lane.block[self._unpack_at :]
            lane.write = _ffi.cast(f"{of_inputs.ctype} *", _ffi.from_buffer(lane.block))
            lane.read = results.cast(FORMATS[str(of_outputs)]).tolist
        return lane

    def _ordered(self, args: tuple[Any, ...], named: Mapping[str, Any]) -> Sequence[Any]:
        """The arguments in the order of the inputs; raises :class:`InputTypeError` for a wrong set of them."""
        names = self._names
        if not named and len(args) == len(names):
            return args
        if not args and len(named) == len(names):
            try:
                return self._by_name(named)
            except KeyError:
                pass
        if len(args) > len(names):
            raise InputTypeError(f"{self.name} takes {len(names)} inputs ({', '.join(names)}), got {len(args)}")
        for name in named:
            if name not in names:
                near = difflib.get_close_matches(name, names, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"its inputs are {', '.join(names) or 'none'}"
                raise InputTypeError(f"{self.name} has no input {name!r}; {hint}")
        for name in names[: len(args)]:
            if name in named:
                raise InputTypeError(f"{self.name}: input {name!r} is given twice, by position and by name")
        missing = [str(slot) for slot in self._signature.inputs[len(args) :] if slot.name not in named]
        if missing:
            raise InputTypeError(f"{self.name}: missing input{'s' * (len(missing) > 1)} {', '.join(missing)}")
        return [*args, *(named[name] for name in names[len(args) :])]

    def _apart(self, array: Array, out: Sequence[Array]) -> Array:
        """``array``, or a copy where it may overlap a parameter that is written or one of ``out``."""
        return array.copy() if any(np.may_share_memory(array, other) for other in (*self._written, *out)) else array

    def _given_outputs(self, out: Any) -> list[Array]:
        """The arrays of ``out=``, each checked to be exactly what C writes into."""
        signature = self._signature
        flat = signature.flatten(out)
        if flat is None:
            kind = "a dict with the keys" if signature.form == "dict" else f"a {signature.form} of arrays for"
            names = ", ".join(slot.name for slot in signature.outputs)
            raise InputTypeError(f"{self.name}: out= must have the structure of the outputs, {kind} {names}")
        others = [(f"parameter {parameter.name!r}", parameter.value) for parameter, _ in signature.parameters]
        for slot, array in zip(signature.outputs, flat, strict=True):
            where = f"{self.name}: out= for {slot.name!r}"
            if not isinstance(array, np.ndarray) or array.dtype != slot.type.dtype.numpy:
                got = f"an array of {array.dtype}" if isinstance(array, np.ndarray) else type(array).__name__
                raise InputTypeError(f"{where} must be an array of {slot.type}, got {got}")
            if array.shape != slot.type.shape:
                raise InputValueError(f"{where} must be an array of {slot.type}, got shape {array.shape}")
            if array.flags.num & EXACT != EXACT or not array.flags.writeable:
                raise InputValueError(f"{where} must be C-contiguous, aligned and writeable")
            for name, other in others:
                if np.may_share_memory(array, other):
                    raise InputValueError(f"{where} overlaps {name}; give each output memory of its own")
            others.append((f"that for {slot.name!r}", array))
        return flat

    def _culprit(self, status: int, arrays: Sequence[Array]) -> Culprit:
        """Which element of which input failed check number ``status``."""
        check = self._signature.checks[status - 1]
        if check.input is not None:
            array = arrays[self._names.index(check.input)]
            wrong = outside(array, check)
            if wrong.size:
                where = tuple(int(i) for i in np.unravel_index(wrong[0], array.shape))
                return Culprit(check, where, int(array[where]))
        return Culprit(check, None)

    # --- many steps ---
    def run(self, n: int, /, *, progress: Progress | None = None, **arrays: Any) -> Any:
        """``n`` steps in C; the outputs of every step, stacked along a new first axis, in the compiled structure.

        An array of exactly an input's shape is given to every step; one with an extra first axis of extent ``n``
        gives step k its k-th part. ``progress(done, n)`` is called about every 50 ms, with no lock held.

        On Ctrl-C, on an error in ``progress``, and on an index out of range at step k (said in the error) exactly
        the steps before have been applied.
        """
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 0:
            raise InputTypeError(f"{self.name}.run takes a number of steps, got {n!r}")
        n = int(n)
        values, strides = [], []
        for slot, value in zip(self._signature.inputs, self._ordered((), arrays), strict=True):
            stacked = Slot(slot.name, TensorType((n, *slot.type.shape), slot.type.dtype))
            per_step = given_shape(value) == stacked.type.shape
            also = "" if per_step else f" or, one for each step, {stacked.type}"
            array = convert(f"{self.name}.run", stacked if per_step else slot, value, also)
            values.append(array if slot.type.size else np.empty(slot.type.shape, slot.type.dtype.numpy))
            strides.append(slot.type.size if per_step else 0)
        outputs = self._stacked(n)
        loop = Loop(self, outputs)
        try:
            for done in loop.steps(values, strides, n):
                if progress is not None:
                    progress(done, n)
        except IndexFailureError as failure:
            where = f"{self.name}.run: step {failure.step}: {failure.culprit.message()}"
            raise IndexOutOfRangeError(f"{where}; the steps before it were applied") from None
        except BaseException as error:
            error.add_note(f"{self.name}.run: exactly {loop.applied} of {n} steps were applied")
            raise
        return self._signature.restore(outputs)

    def _stacked(self, n: int) -> list[Array]:
        return [
            allocate(f"{self.name}: {n} values of output {slot.name!r}", (n, *slot.type.shape), slot.type.dtype)
            for slot in self._signature.outputs
        ]

    # --- binding ---
    def bind(self, **arrays: Any) -> Bound:
        """Fix the buffers of inputs and outputs once; the result is called with nothing and checks nothing.

        An array must match its input exactly and is read anew at each call: change it in place. Numbers and lists are
        converted once, into ``bound.inputs``. A call gives ``bound.outputs``, the same arrays each time (0-d ones for
        scalars). A bound function belongs to one thread at a time.
        """
        lane = self._lane()
        inputs: list[Array] = []
        for word, (slot, value) in enumerate(zip(self._signature.inputs, self._ordered((), arrays), strict=True)):
            array = convert(f"{self.name}.bind", slot, value)
            if isinstance(value, np.ndarray) and array.size and not np.may_share_memory(array, value):
                raise InputTypeError(
                    f"{self.name}.bind: input {slot.name!r} must be a C-contiguous array of {slot.type} to be bound, "
                    f"got {type(value).__name__} of {value.dtype}; convert it first, with np.ascontiguousarray"
                )
            if any(np.may_share_memory(array, written) for written in self._written):
                raise InputValueError(
                    f"{self.name}.bind: input {slot.name!r} overlaps a parameter that is written; copy it first"
                )
            if not isinstance(value, np.ndarray):
                array = array.copy()
            inputs.append(array)
            lane.slots[word] = self._program.place(array)
        outputs: list[Array] = []
        for slot, (word, _, _) in zip(self._signature.outputs, self._outputs, strict=True):
            outputs.append(allocate(f"{self.name}: output {slot.name!r}", slot.type.shape, slot.type.dtype))
            lane.slots[word] = self._program.place(outputs[-1])
        return Bound(self, lane, inputs, self._signature.restore(outputs))

    # --- profiling ---
    def profile(
        self, /, *args: Any, trace: str | os.PathLike[str] | None = None, show: bool = True, **named: Any
    ) -> Profile:
        """Where the time of a call goes: the seconds, flops and bytes of each kernel, and how near the machine's limit.

        Takes the inputs of a call, runs a C of the same kernels with a clock between them (built at the first use) for
        about a third of a second, and gives all parameters their values back. ``show`` prints the table; ``trace`` names
        a file for the Chrome trace of the steps, for chrome://tracing or ui.perfetto.dev.

        Raises what a call does, and :class:`GraphcError` for ``backend="numpy"``.
        """
        from graphc.profile import report

        run = self._program.timed()
        times, plain = self._timed(run, self._ordered(args, named))
        found = report(self.name, self.kernels, times, plain, self._threads)
        if trace is not None:
            found.write_trace(trace)
        if show:
            print(found)
        return found

    def _timed(self, run: Callable[[Any, int, Array], int], given: Sequence[Any]) -> tuple[Array, float]:
        """Readings of the clock (steps, kernels + 2) by ``run``, and the seconds of a step without them."""
        values = [
            self._apart(convert(f"{self.name}.profile", slot, value), ())
            for slot, value in zip(self._signature.inputs, given, strict=True)
        ]
        program, still = self._program, np.zeros(len(values) + len(self._outputs), np.int64)
        chunks: list[Array] = []
        plain: list[float] = []

        def go(argument: Any) -> int:
            old = [array.copy() for array in self._written]

            def steps(n: int, times: Array | None = None) -> tuple[int, float]:
                """Status and seconds of ``n`` steps from the old parameters, with a clock where ``times`` are given."""
                deque(map(np.copyto, self._written, old), maxlen=0)
                done, began = np.zeros(1, np.int64), time.perf_counter()
                status = program.run(argument, still, n, done) if times is None else run(argument, n, times)
                return status, time.perf_counter() - began

            try:
                status, _ = steps(1)
                if status:
                    return status
                n, (_, took) = 1, steps(1)
                while took < _CHUNK_SECONDS / 5:
                    n *= 4
                    _, took = steps(n)
                at_once = min(n, _PROFILED_STEPS // 4)
                times = np.empty((at_once, len(self.kernels) + 2), np.int64)
                steps(at_once, times)  # the first ones are cold
                began = time.perf_counter()
                while len(chunks) < 3 or (
                    len(chunks) * at_once < _PROFILED_STEPS and time.perf_counter() - began < 6 * _CHUNK_SECONDS
                ):
                    plain.append(steps(n)[1] / n)
                    times = np.empty_like(times)
                    steps(at_once, times)
                    chunks.append(times)
                return 0
            finally:
                deque(map(np.copyto, self._written, old), maxlen=0)

        lane = self._take()
        try:
            for word, value in enumerate(values):
                lane.slots[word] = program.place(value)
            results = [_fresh(self.name, shape, dtype) for _, dtype, shape in self._outputs]
            for (word, _, _), result in zip(self._outputs, results, strict=True):
                lane.slots[word] = program.place(result)
            status = guarded_call(self._guards, lane, go, lane.argument)
            if status:
                raise IndexOutOfRangeError(f"{self.name}: {self._culprit(status, values).message()}")
        finally:
            for word in self._places:
                lane.slots[word] = program.place(lane.zeros[word])
            self._free.append(lane)
        return np.concatenate(chunks), float(np.median(plain))

    # --- looking inside ---
    @property
    def name(self) -> str:
        return self._signature.name

    @property
    def inputs(self) -> tuple[Slot, ...]:
        """Name and type of each input, in order."""
        return self._signature.inputs

    @property
    def outputs(self) -> tuple[Slot, ...]:
        """Name and type of each output, in order."""
        return self._signature.outputs

    @property
    def parameters(self) -> dict[str, Parameter]:
        """Every parameter that is read or written, by name."""
        own = self._signature.parameters[: len(self._signature.parameters) - self._signature.tables]
        return {str(parameter.name): parameter for parameter, _ in own}

    @property
    def signature(self) -> Signature:
        return self._signature

    @property
    def c_source(self) -> str:
        """The C of this function."""
        return self._program.c_source

    @property
    def c_header(self) -> str:
        """The C header that declares this function."""
        return self._program.c_header

    @property
    def library(self) -> Path:
        """The shared library."""
        return self._program.library

    @property
    def kernels(self) -> Sequence[Any]:
        """What was fused and why, flops and bytes, one entry a kernel; empty for the NumPy backend."""
        return self._program.kernels

    @property
    def arena_bytes(self) -> int:
        """Bytes of working memory that a call needs besides arguments and parameters."""
        return self._signature.arena_bytes

    def __repr__(self) -> str:
        signature = self._signature
        outputs = ", ".join(map(str, signature.outputs)) or "nothing"
        written = [str(parameter.name) for parameter, writes in signature.parameters if writes]
        updates = f", updates {', '.join(written)}" if written else ""
        return f"<graphc function {self.name}({', '.join(map(str, signature.inputs))}) -> {outputs}{updates}>"


class Bound:
    """A function on fixed buffers: ``bound()`` computes from ``inputs`` into ``outputs`` and gives these."""

    __slots__ = ("_argument", "_arrays", "_call", "_function", "_guards", "_lane", "inputs", "outputs")

    def __init__(self, function: Function, lane: _Lane, arrays: list[Array], outputs: Any) -> None:
        self._function, self._lane, self._arrays = function, lane, arrays
        self._call, self._argument, self._guards = function._run_once, lane.argument, function._guards
        self.inputs = dict(zip(function._names, arrays, strict=True))
        self.outputs = outputs

    def __call__(self) -> Any:
        if self._guards:
            status = guarded_call(self._guards, self._lane, self._call, self._argument)
        else:
            status = self._call(self._argument)
        if status:
            culprit = self._function._culprit(status, self._arrays)
            raise IndexOutOfRangeError(f"{self._function.name}: {culprit.message()}")
        return self.outputs

    def __repr__(self) -> str:
        return f"<bound {self._function!r}>"


class IndexFailureError(Exception):
    """Inside of ``run`` and ``fit``: step ``step`` met ``culprit``."""

    def __init__(self, step: int, culprit: Culprit) -> None:
        self.step, self.culprit = step, culprit


class Loop:
    """Steps of a function in chunks of about 50 ms, the outputs of step k into ``outputs[...][k]``.

    ``applied`` is at any moment, and after any exception, how many whole steps were applied.
    """

    def __init__(self, function: Function, outputs: Sequence[Array]) -> None:
        self._function, self._outputs = function, outputs
        self._state = (0, np.zeros(1, np.int64))  # steps of finished chunks, steps of this one: replaced in one go
        self._pace = 0.0  # steps a second, as measured, and not so many that a chunk is more than 8 times the last

    @property
    def applied(self) -> int:
        before, done = self._state
        return before + int(done[0])

    def steps(self, values: Sequence[Array], strides: Sequence[int], n: int) -> Iterator[int]:
        """Apply ``n`` more steps; yields ``applied`` after each chunk, with no guard held.

        ``values`` are exact arrays, one an input; where its stride is not 0 an input has a first axis of at least n.
        """
        function, program = self._function, self._function._program
        values = [function._apart(value, ()) for value in values]
        sizes = [*strides, *(slot.type.size for slot in function.outputs)]
        moves = np.array(sizes, np.int64)
        lane = function._take()
        start = self.applied
        try:
            while (at := self.applied) < start + n:
                for k, (value, stride) in enumerate(zip(values, strides, strict=True)):
                    lane.slots[k] = program.place(value[at - start :] if stride else value)
                for (word, _, _), array in zip(function._outputs, self._outputs, strict=True):
                    lane.slots[word] = program.place(array[at:])
                chunk = min(start + n - at, max(1, int(self._pace * _CHUNK_SECONDS)))
                done = self._state[1]
                began = time.perf_counter()

                def go(argument: Any, chunk: int = chunk, done: Array = done) -> int:
                    return program.run(argument, moves, chunk, done)

                status = guarded_call(function._guards, lane, go, lane.argument)
                took = time.perf_counter() - began
                self._pace = min(chunk / max(took, 1e-9), 8 * chunk / _CHUNK_SECONDS)
                if status:
                    failed = self.applied
                    now = [v[failed - start] if s else v for v, s in zip(values, strides, strict=True)]
                    raise IndexFailureError(failed, function._culprit(status, now))
                self._state = (at + chunk, np.zeros(1, np.int64))
                yield at + chunk
                if took > _CHUNK_SECONDS / 4:
                    time.sleep(5e-5)  # a lock is not fair: let whoever waits for it have it
        finally:
            for word in function._places:
                lane.slots[word] = program.place(lane.zeros[word])
            function._free.append(lane)


# --- memory -------------------------------------------------------------------------------------------------
def _owner(array: Array) -> Any:
    """The array that owns the memory of ``array``."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _fresh(function: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    try:
        return np.empty(shape, dtype)
    except (MemoryError, ValueError):
        nbytes = dtype.itemsize * int(np.prod(shape, dtype=object))
        raise InputValueError(
            f"{function}: an output of shape {shape} needs {nbytes:,} bytes, more than there is memory for"
        ) from None
