"""One call from Python: its arguments in, its results out.

A *lane* is a frame with what one call in flight needs besides: an arena and a block for the scalars. A call takes a
lane from a free list and puts it back, so calls may overlap (threads, signal handlers) and none allocates twice.

There are two ways in. The short one is a function in C (:mod:`graphc.enter`); it takes what fits exactly, which is what a
training loop passes again and again, while the first lane is free:

    y = f(x)     x --gx_call--> frame --> program --> fresh arrays, or numbers from the scalar block

and for everything else calls the long one, before anything has happened. :meth:`Caller.call` is the long one: it takes
whatever can be converted, gives every error its words, and knows nothing of C or NumPy programs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from graphc.arguments import EXACT, Culprit, convert, outside
from graphc.concurrency import frame_of, guarded_call, guards_of, thread_count
from graphc.enter import Argument, Call, address
from graphc.frontend.sources import aligned_empty
from graphc.ir import Array
from graphc.program import Program
from graphc.types import BOOL, DType, IndexOutOfRangeError, InputTypeError, InputValueError

__all__ = ["Caller", "Lane"]

# Bytes of an output from which on its memory is used again.
LARGE = 1 << 20
# Flops and bytes up to which a program is short, some ten microseconds: it keeps the GIL, which costs as much to let go of and
# take again as a small step, and which Python itself keeps for 5 ms.
SHORT = 1_000_000


class Lane:
    """What one call in flight needs: a frame, and ``cells``, an element (a 0-d array) for each word that is a scalar."""

    __slots__ = ("argument", "cells", "frame", "slots")

    def __init__(self, program: Program, threads: int, scalars: Mapping[int, DType]) -> None:
        self.frame = frame_of(program, threads)
        self.slots, self.argument = self.frame.slots, self.frame.argument
        block = aligned_empty((len(scalars), 8), BOOL)
        self.cells = {
            word: row[: dtype.itemsize].view(dtype.numpy).reshape(())
            for row, (word, dtype) in zip(block, scalars.items(), strict=True)
        }
        for word, cell in self.cells.items():
            self.slots[word] = program.place(cell)


class Caller:
    """What calls of one program share. ``positional`` says whether inputs may come by position."""

    def __init__(self, program: Program, threads: int | None, *, positional: bool = True) -> None:
        signature = program.signature
        self.program, self.signature, self.name, self.positional = program, signature, signature.name, positional
        self.threads = thread_count(threads) if signature.threaded else 1
        self.names = tuple(slot.name for slot in signature.inputs)
        self.guards = guards_of(signature.parameters)
        self.written = [parameter.value for parameter, writes in signature.parameters if writes]
        self._spans = [_span(array) for array in self.written]
        self.place = program.place
        first_output = len(signature.inputs) + len(signature.parameters)
        self.outputs = [  # (word, NumPy dtype, shape) of each
            (first_output + k, slot.type.dtype.numpy, slot.type.shape) for k, slot in enumerate(signature.outputs)
        ]
        nbytes = [slot.type.nbytes for slot in signature.outputs]
        self.empties = [_Recycled() if size >= LARGE else None for size in nbytes]  # None: NumPy's
        slots = [*enumerate(signature.inputs), *enumerate(signature.outputs, first_output)]
        self._scalars = {word: slot.type.dtype for word, slot in slots if not slot.type.shape}
        self.pace = 0.0  # of the last run, for the next: steps a second
        self._first = self.lane()
        self._free = [self._first]

    # --- lanes ---
    def take(self) -> Lane:
        try:
            return self._free.pop()
        except IndexError:
            return self.lane()

    def lane(self) -> Lane:
        return Lane(self.program, self.threads, self._scalars)

    def give_back(self, lane: Lane) -> None:
        """After its words were set to something else than calls leave there, too."""
        for word, cell in lane.cells.items():
            lane.slots[word] = self.place(cell)
        self._free.insert(len(self._free) if lane is self._first else 0, lane)  # where the short way looks for it

    # --- the short way ---
    def function(self) -> Callable[..., Any]:
        """What stands behind ``f(...)``."""
        return self.entered(
            self._first, self._free, self.general, by_position=self.positional, form=self.signature.form,
            inputs=[
                Argument(slot.name, slot.type, word, self._first.cells.get(word))
                for word, slot in enumerate(self.signature.inputs)
            ],
            outputs=[
                Argument(slot.name, slot.type, word, self._first.cells.get(word), empty)
                for (word, _, _), slot, empty in zip(self.outputs, self.signature.outputs, self.empties, strict=True)
            ],
        )  # fmt: skip

    def entered(
        self, lane: Lane, lanes: list[Lane] | None, otherwise: Callable[..., Any], **details: Any
    ) -> Callable[..., Any]:
        """``otherwise``, behind the short way if there is one. The details are those of :class:`graphc.enter.Call`."""
        ways, program = self.program.ways, self.program
        if ways is None or ways.function is None:
            return otherwise
        work = sum(kernel.flops + kernel.bytes for kernel in program.kernels)
        short = work <= SHORT and not self.signature.threaded
        call = Call(
            program=program.call, frame=lane.argument, lane=lane, lanes=lanes, otherwise=otherwise, written=self.written,
            guards=self.guards if short else (),
            run=None if short else partial(guarded_call, self.guards, lane, program.call, lane.argument),
            **details,
        )  # fmt: skip
        return ways.function(call.laid_out())

    # --- the long way ---
    def general(self, /, *args: Any, out: Any = None, **named: Any) -> Any:
        """A call with whatever came; raises what :class:`graphc.runtime.Function` says."""
        return self.call(self.ordered(args, named), out)

    def call(self, given: Sequence[Any], out: Any) -> Any:
        """One call on values in the order of the inputs."""
        targets = () if out is None else self._given_outputs(out)
        values = [*given]  # what is converted replaces what came, and lives as long as the call
        lane = self.take()
        try:
            slots, place = lane.slots, self.place
            for word, slot in enumerate(self.signature.inputs):
                value = convert(self.name, slot, values[word])
                if word in lane.cells:
                    lane.cells[word][...] = value
                    continue
                values[word] = value = self.apart(value, targets)
                slots[word] = place(value)
            results: list[Any] = [None] * len(self.outputs)
            for k, (word, dtype, shape) in enumerate(self.outputs):
                if shape:
                    results[k] = targets[k] if targets else _fresh(self.name, self.empties[k], shape, dtype)
                    slots[word] = place(results[k])
            status = guarded_call(self.guards, lane, self.program.call, lane.argument)
            if status:
                arrays = [lane.cells.get(word, value) for word, value in enumerate(values)]
                raise IndexOutOfRangeError(f"{self.name}: {self.culprit(status, arrays).message()}")
            for k, (word, _, shape) in enumerate(self.outputs):
                if not shape and targets:
                    targets[k][...] = lane.cells[word]
                elif not shape:
                    results[k] = lane.cells[word].item()
            return out if targets else self.signature.restore(results)
        finally:
            self.give_back(lane)

    def ordered(self, args: tuple[Any, ...], named: Mapping[str, Any]) -> Sequence[Any]:
        """The arguments in the order of the inputs; raises :class:`InputTypeError` for a wrong set of them."""
        names = self.names
        if args and not self.positional:
            raise InputTypeError(f"{self.name} takes its inputs by name: {', '.join(names)}")
        if len(args) > len(names):
            raise InputTypeError(f"{self.name} takes {len(names)} inputs ({', '.join(names)}), got {len(args)}")
        for name in named:
            if name not in names:
                import difflib  # only a mistake needs it

                near = difflib.get_close_matches(name, names, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"its inputs are {', '.join(names) or 'none'}"
                raise InputTypeError(f"{self.name} has no input {name!r}; {hint}")
        for name in names[: len(args)]:
            if name in named:
                raise InputTypeError(f"{self.name}: input {name!r} is given twice, by position and by name")
        missing = [str(slot) for slot in self.signature.inputs[len(args) :] if slot.name not in named]
        if missing:
            raise InputTypeError(f"{self.name}: missing input{'s' * (len(missing) > 1)} {', '.join(missing)}")
        return [*args, *(named[name] for name in names[len(args) :])]

    # --- what is wrong ---
    def apart(self, array: Array, out: Sequence[Array]) -> Array:
        """``array``, or a copy where it may overlap a parameter that is written or one of ``out``."""
        begin = address(array)
        end, spans = begin + array.nbytes, [*self._spans, *map(_span, out)]
        return array.copy() if any(begin < last and first < end for first, last in spans) else array

    def _given_outputs(self, out: Any) -> list[Array]:
        """The arrays of ``out=``, each checked to be exactly what C writes into."""
        signature = self.signature
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

    def culprit(self, status: int, arrays: Sequence[Array]) -> Culprit:
        """Which element of which input failed check number ``status``."""
        check = self.signature.checks[status - 1]
        if check.input is not None:
            array = arrays[self.names.index(check.input)]
            wrong = outside(array, check)
            if wrong.size:
                where = tuple(int(i) for i in np.unravel_index(wrong[0], array.shape))
                return Culprit(check, where, int(array[where]))
        return Culprit(check, None)


class _Recycled:
    """``numpy.empty`` for one large output: in the memory of an earlier one, once nobody has that any more.

    The first touch of new memory is a page fault for every few kB, which costs more than many a kernel. What is given are
    views, and each refers to its block; so a block with no reference but ours is free. Two are kept, for in ``y = f(x)`` the
    old ``y`` lives until the new one is there.
    """

    __slots__ = ("_blocks",)

    def __init__(self) -> None:
        self._blocks: list[Array] = []  # without the one that a call is looking at

    def __call__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        alone = object()
        for _ in range(2):
            try:
                block = self._blocks.pop(0)
            except IndexError:
                break
            free = sys.getrefcount(block) <= sys.getrefcount(alone)
            self._blocks.append(block)
            if free:
                return block[...]
        block = np.empty(shape, dtype)
        self._blocks[:] = [*self._blocks[-1:], block]
        return block[...]


def _span(array: Array) -> tuple[int, int]:
    return (begin := address(array)), begin + array.nbytes


def _fresh(function: str, empty: Callable[..., Array] | None, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    try:
        return (empty or np.empty)(shape, dtype)
    except (MemoryError, ValueError):
        nbytes = dtype.itemsize * int(np.prod(shape, dtype=object))
        raise InputValueError(
            f"{function}: an output of shape {shape} needs {nbytes:,} bytes, more than there is memory for"
        ) from None
