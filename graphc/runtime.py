"""From a compiled program to a Python function: calls, bound calls, many steps, and a look inside.

:class:`Function` is what a caller sees, and does not know whether its program is C or NumPy. ``f(...)`` is the
business of :mod:`graphc.call`; here are ``bind``, ``run`` and ``profile``. ``run`` and ``fit`` let go of the guards
between chunks of about 50 ms.
"""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from graphc.arguments import Culprit, Slot, allocate, convert, given_shape
from graphc.call import Caller, Lane
from graphc.concurrency import guarded_call
from graphc.ir import Array, Parameter
from graphc.program import Program, Signature
from graphc.types import IndexOutOfRangeError, InputTypeError, InputValueError, TensorType

if TYPE_CHECKING:
    from graphc.compile import Graph
    from graphc.profile import Profile

__all__ = ["Bound", "Function", "IndexFailureError", "Loop", "Progress"]

Progress = Callable[[int, int], object]
_Steps = Callable[[int, int, Array], int]  # from a step on so many more: status, and whole ones in [0] of the array

_CHUNK_SECONDS = 0.05  # how long C runs before Python looks up for Ctrl-C, progress and other threads


class Function:
    """A compiled function. Made by :func:`graphc.compile` and :func:`graphc.train_step`.

    Call it with its inputs by position or by name: anything NumPy makes an array of, of exactly the declared shape.
    A C-contiguous array of the declared dtype is passed as it is; another real dtype is converted where that loses no
    kind (never float to int). Results are fresh arrays (a large one may lie in the memory of an earlier result that is
    gone), or Python numbers for scalars, in the structure that was compiled. ``out=`` (that structure of arrays, which must
    match exactly) is written into and given back instead.

    Raises :class:`InputTypeError` and :class:`InputValueError` for arguments that do not fit, and
    :class:`IndexOutOfRangeError` for an index out of range; no parameter has changed then.
    """

    # In a slot, each function has a call of its own, made for its program.
    __slots__ = ("__call__", "__dict__", "__weakref__", "_caller")

    __call__: Callable[..., Any]
    __signature__ = inspect.signature(lambda *args, out=None, **named: None)
    _positional = True  # whether inputs may be given by position

    def __init__(self, program: Program, *, graph: Graph | None = None, threads: int | None = None) -> None:
        self.graph = graph  # what was compiled, for the printers of its stages
        self._caller = Caller(program, threads, positional=self._positional)
        self.__call__ = self._caller.function()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"the compiled function {self.name!r} can be neither pickled nor copied; compile its graph where it is needed "
            "(a warm start takes milliseconds), and pass parameters on with graphc.save and graphc.load"
        )

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
        for slot, value in zip(self.inputs, self._caller.ordered((), arrays), strict=True):
            stacked = TensorType((n, *slot.type.shape), slot.type.dtype)
            per_step = given_shape(value) == stacked.shape
            wanted = Slot(slot.name, stacked) if per_step else slot
            array = convert(f"{self.name}.run", wanted, value, None if per_step else stacked)
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
        return self.signature.restore(outputs)

    def _stacked(self, n: int) -> list[Array]:
        return [
            allocate(f"{self.name}: {n} values of output {slot.name!r}", (n, *slot.type.shape), slot.type.dtype)
            for slot in self.signature.outputs
        ]

    # --- binding ---
    def bind(self, **arrays: Any) -> Bound:
        """Fix the buffers of inputs and outputs once; the result takes no arguments and checks nothing.

        An array must match its input exactly and is read anew at each call: change it in place. Numbers and lists are
        converted once, into ``bound.inputs``. A call gives ``bound.outputs``, the same arrays each time (0-d ones for
        scalars). A bound function belongs to one thread at a time.
        """
        lane = self._caller.lane()
        inputs: list[Array] = []
        for word, (slot, value) in enumerate(zip(self.inputs, self._caller.ordered((), arrays), strict=True)):
            array = convert(f"{self.name}.bind", slot, value)
            if isinstance(value, np.ndarray) and array.size and not np.may_share_memory(array, value):
                raise InputTypeError(
                    f"{self.name}.bind: input {slot.name!r} must be a C-contiguous array of {slot.type} to be bound, "
                    f"got {type(value).__name__} of {value.dtype}; convert it first, with np.ascontiguousarray"
                )
            if any(np.may_share_memory(array, written) for written in self._caller.written):
                raise InputValueError(
                    f"{self.name}.bind: input {slot.name!r} overlaps a parameter that is written; copy it first"
                )
            if not isinstance(value, np.ndarray):
                array = array.copy()
            inputs.append(array)
            lane.slots[word] = self._caller.program.place(array)
        outputs: list[Array] = []
        for slot, (word, _, _) in zip(self.signature.outputs, self._caller.outputs, strict=True):
            outputs.append(allocate(f"{self.name}: output {slot.name!r}", slot.type.shape, slot.type.dtype))
            lane.slots[word] = self._caller.program.place(outputs[-1])
        return Bound(self, lane, inputs, self.signature.restore(outputs))

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
        from graphc.profile import profile

        found = profile(self._caller, self._caller.ordered(args, named))
        if trace is not None:
            found.write_trace(trace)
        if show:
            print(found)
        return found

    # --- looking inside ---
    @property
    def name(self) -> str:
        """The name it was compiled under."""
        return self.signature.name

    @property
    def inputs(self) -> tuple[Slot, ...]:
        """Name and type of each input, in order."""
        return self.signature.inputs

    @property
    def outputs(self) -> tuple[Slot, ...]:
        """Name and type of each output, in order."""
        return self.signature.outputs

    @property
    def parameters(self) -> dict[str, Parameter]:
        """Every parameter that is read or written, by name."""
        own = self.signature.parameters[: len(self.signature.parameters) - self.signature.tables]
        return {str(parameter.name): parameter for parameter, _ in own}

    @property
    def signature(self) -> Signature:
        """Inputs, parameters and outputs in the order in which its C takes them."""
        return self._caller.signature

    @property
    def c_source(self) -> str:
        """The C of this function."""
        return self._caller.program.c_source

    @property
    def c_header(self) -> str:
        """The C header that declares this function."""
        return self._caller.program.c_header

    @property
    def library(self) -> Path:
        """The shared library."""
        return self._caller.program.library

    @property
    def kernels(self) -> Sequence[Any]:
        """What was fused and why, flops and bytes, one entry a kernel; empty for the NumPy backend."""
        return self._caller.program.kernels

    @property
    def arena_bytes(self) -> int:
        """Bytes of working memory that a call needs besides arguments and parameters."""
        return self.signature.arena_bytes

    def __repr__(self) -> str:
        signature = self.signature
        outputs = ", ".join(map(str, signature.outputs)) or "nothing"
        written = [str(parameter.name) for parameter, writes in signature.parameters if writes]
        updates = f", updates {', '.join(written)}" if written else ""
        return f"<graphc function {self.name}({', '.join(map(str, signature.inputs))}) -> {outputs}{updates}>"


class Bound:
    """A function on fixed buffers: ``bound()`` computes from ``inputs`` into ``outputs`` and gives these."""

    __slots__ = ("__call__", "_function", "_lane", "inputs", "outputs")

    __call__: Callable[[], Any]

    def __init__(self, function: Function, lane: Lane, arrays: Sequence[Array], outputs: Any) -> None:
        self._function, self._lane, self.outputs = function, lane, outputs
        self.inputs = {slot.name: array for slot, array in zip(function.inputs, arrays, strict=True)}
        self.__call__ = _call_of_bound(function._caller, lane, arrays, outputs)

    def __repr__(self) -> str:
        return f"<bound {self._function!r}>"


def _call_of_bound(caller: Caller, lane: Lane, arrays: Sequence[Array], outputs: Any) -> Callable[[], Any]:
    def call() -> Any:
        status = guarded_call(caller.guards, lane, caller.program.call, lane.argument)
        if status:
            raise IndexOutOfRangeError(f"{caller.name}: {caller.culprit(status, arrays).message()}")
        return outputs

    return caller.entered(lane, None, call, result=outputs)


class IndexFailureError(Exception):
    """Inside of ``run`` and ``fit``: step ``step`` met ``culprit``."""

    def __init__(self, step: int, culprit: Culprit) -> None:
        self.step, self.culprit = step, culprit


class Loop:
    """Steps of a function in chunks of about 50 ms, the outputs of step k into ``outputs[...][k]``.

    ``applied`` is at any moment, and after any exception, how many whole steps were applied.
    """

    def __init__(self, function: Function, outputs: Sequence[Array]) -> None:
        self._caller, self._outputs = function._caller, outputs
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
        program = self._caller.program
        values = [self._caller.apart(value, ()) for value in values]
        moves = np.array([*strides, *(slot.type.size for slot in self._caller.signature.outputs)], np.int64)

        def begin(lane: Lane) -> _Steps:
            def run(at: int, steps: int, done: Array) -> int:
                for k, (value, stride) in enumerate(zip(values, strides, strict=True)):
                    lane.slots[k] = program.place(value[at:] if stride else value)
                return program.run(lane.argument, moves, steps, done)

            return run

        self._pace = self._caller.pace
        yield from self._chunks(n, begin, lambda k: [v[k] if s else v for v, s in zip(values, strides, strict=True)])
        self._caller.pace = self._pace

    def rows(self, values: Sequence[tuple[Array, bool]], order: Array) -> Iterator[int]:
        """Apply a step for each row of ``order`` (steps, batch); yields as :meth:`steps` does.

        ``values`` are exact arrays, one an input, each with whether it is a data set of which ``order`` numbers the rows.
        """
        program = self._caller.program
        values = [(self._caller.apart(value, ()), is_set) for value, is_set in values]

        def begin(lane: Lane) -> _Steps:
            for k, (value, is_set) in enumerate(values):
                if not is_set:
                    lane.slots[k] = program.place(value)
            sets = [(value, k) for k, (value, is_set) in enumerate(values) if is_set]
            run = program.feed(lane.argument, sets, order.shape[1])
            return lambda at, steps, done: run(order[at:], steps, done)

        return self._chunks(len(order), begin, lambda k: [v[order[k]] if is_set else v for v, is_set in values])

    def _chunks(
        self, n: int, begin: Callable[[Lane], _Steps], inputs: Callable[[int], Sequence[Array]]
    ) -> Iterator[int]:
        """``n`` steps by what ``begin`` gives, of which ``inputs(k)`` are those of step k, counted from here."""
        caller, start = self._caller, self.applied
        lane = caller.take()
        try:
            run = begin(lane)
            while (at := self.applied) < start + n:
                for (word, _, _), array in zip(caller.outputs, self._outputs, strict=True):
                    lane.slots[word] = caller.place(array[at:])
                chunk = min(start + n - at, max(1, int(self._pace * _CHUNK_SECONDS)))
                step = partial(run, at - start, chunk)
                began = time.perf_counter()
                status = guarded_call(caller.guards, lane, step, self._state[1])
                took = time.perf_counter() - began
                self._pace = min(chunk / max(took, 1e-9), 8 * chunk / _CHUNK_SECONDS)
                if status:
                    failed = self.applied
                    raise IndexFailureError(failed, caller.culprit(status, inputs(failed - start)))
                self._state = (at + chunk, np.zeros(1, np.int64))
                yield at + chunk
                if took > _CHUNK_SECONDS / 4:
                    time.sleep(5e-5)  # a lock is not fair: let whoever waits for it have it
        finally:
            caller.give_back(lane)
