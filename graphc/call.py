"""One call from Python: its arguments in, its results out.

A *lane* is a frame with what one call in flight needs besides: an arena and a block for the scalars. A call takes a
lane from a free list and puts it back, so calls may overlap (threads, signal handlers) and none allocates twice.

There are two ways in. :meth:`Caller.call` is the long one: it takes whatever can be converted, gives every error its
words, and knows nothing of C or NumPy programs. :meth:`Caller.function` writes a short one for a signature, as graphc
writes C for a graph; it takes what fits exactly, which is what a training loop passes again and again:

    y = f(x)     id(x) --enter.c--> frame --> C --> fresh arrays, or numbers from the scalar block

and for everything else calls the long one, before anything has happened.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from keyword import iskeyword
from typing import Any

import numpy as np

from graphc.arguments import EXACT, FORMATS, Culprit, convert, numbers_of, outside
from graphc.concurrency import frame_of, guarded_call, guards_of, thread_count
from graphc.enter import Entry
from graphc.frontend.sources import aligned_empty
from graphc.ir import Array
from graphc.program import Program
from graphc.types import BOOL, DType, IndexOutOfRangeError, InputTypeError, InputValueError

__all__ = ["Caller", "Lane"]

_ndarray = np.ndarray

# Bytes of an output from which on its memory is used again.
LARGE = 1 << 20


class Lane:
    """What one call in flight needs: a frame, and a block in which the scalars of the signature lie.

    ``cells`` and ``zeros`` have for each word of the frame that is a scalar its element, as a memoryview and as a 0-d
    array. ``inputs`` and ``outputs`` are the cells of either side, or one memoryview of them all where they have one dtype.
    ``ids`` and ``way_in`` are those of :meth:`Entry.lane`; without one, ``way_in`` is the frame's argument.
    """

    __slots__ = ("argument", "cells", "frame", "ids", "inputs", "outputs", "slots", "way_in", "zeros")

    def __init__(
        self, program: Program, threads: int, places: Mapping[int, tuple[int, DType]], nbytes: int, entry: Entry | None
    ) -> None:
        self.frame = frame_of(program, threads)
        self.slots, self.argument = self.frame.slots, self.frame.argument
        self.ids: Any = None
        self.way_in = self.argument
        if entry is not None:
            self.ids, self.way_in = entry.lane(self.argument)
        raw = aligned_empty((nbytes,), BOOL).view(np.uint8)
        self.cells: dict[int, Any] = {}
        self.zeros: dict[int, Array] = {}
        for word, (offset, dtype) in places.items():
            element: Any = raw.data[offset : offset + dtype.itemsize]
            self.cells[word] = element.cast(FORMATS[str(dtype)])
            self.zeros[word] = raw[offset : offset + dtype.itemsize].view(dtype.numpy).reshape(())
            self.slots[word] = program.place(self.zeros[word])
        first_output = len(program.signature.inputs)
        self.inputs = _together(raw, [place for word, place in places.items() if word < first_output])
        self.outputs = _together(raw, [place for word, place in places.items() if word >= first_output])


def _together(raw: Array, places: Sequence[tuple[int, DType]]) -> Any:
    """The elements at ``places`` of a block: as one memoryview, or one for each where they have several dtypes."""
    bytes_of: Any = raw.data
    if _uniform([dtype for _, dtype in places]):
        (start, dtype), end = places[0], places[-1][0] + places[-1][1].itemsize
        return bytes_of[start:end].cast(FORMATS[str(dtype)])
    return [bytes_of[start : start + dtype.itemsize].cast(FORMATS[str(dtype)]) for start, dtype in places]


def _uniform(dtypes: Sequence[DType]) -> bool:
    return len(set(dtypes)) == 1


class Caller:
    """What calls of one program share. ``positional`` says whether inputs may come by position."""

    def __init__(self, program: Program, threads: int | None, *, positional: bool = True) -> None:
        signature = program.signature
        self.program, self.signature, self.name, self.positional = program, signature, signature.name, positional
        self.threads = thread_count(threads) if signature.threaded else 1
        self.names = tuple(slot.name for slot in signature.inputs)
        self.guards = guards_of(signature.parameters)
        self.written = [parameter.value for parameter, writes in signature.parameters if writes]
        self.place = program.place
        self.free: list[Lane] = []
        self._first_output = len(signature.inputs) + len(signature.parameters)
        # (word, scalar classes or None, NumPy dtype, shape) of each input; (word, dtype, shape) of each output
        self._inputs = [
            (k, None if slot.type.shape else numbers_of(slot.type.dtype), slot.type.dtype.numpy, slot.type.shape)
            for k, slot in enumerate(signature.inputs)
        ]
        self.outputs = [
            (self._first_output + k, slot.type.dtype.numpy, slot.type.shape) for k, slot in enumerate(signature.outputs)
        ]
        nbytes = [slot.type.nbytes for slot in signature.outputs]
        self.empties: list[Any] = [_Recycled() if size >= LARGE else np.empty for size in nbytes]
        self._lay_out_scalars()
        self._entry = self._enterable()

    def _lay_out_scalars(self) -> None:
        """Where in a lane's block each scalar lies: the inputs, then the outputs, as C would lay out two structs."""
        self.places: dict[int, tuple[int, DType]] = {}
        self._block_bytes = 0
        for slots, first in ((self.signature.inputs, 0), (self.signature.outputs, self._first_output)):
            end = -(-self._block_bytes // 64) * 64
            for k, slot in enumerate(slots):
                if not slot.type.shape:
                    dtype = slot.type.dtype
                    end = -(-end // dtype.itemsize) * dtype.itemsize
                    self.places[first + k] = (end, dtype)
                    end += dtype.itemsize
            self._block_bytes = end

    def _enterable(self) -> Entry | None:
        """How arrays go in without being asked in Python; None where there are none, or no such way."""
        signature, ways = self.signature, self.program.ways
        enter = ways and ways.enter
        slots = [*enumerate(signature.inputs), *enumerate(signature.outputs, self._first_output)]
        arrays = [(slot.type, word) for word, slot in slots if slot.type.shape]
        return Entry(enter, self.program.call, arrays, self.written) if enter and arrays else None

    # --- lanes ---
    def take(self) -> Lane:
        try:
            return self.free.pop()
        except IndexError:
            return self.lane()

    def lane(self) -> Lane:
        return Lane(self.program, self.threads, self.places, self._block_bytes, self._entry)

    def give_back(self, lane: Lane) -> None:
        """After its words were set to something else than calls leave there."""
        for word in self.places:
            lane.slots[word] = self.place(lane.zeros[word])
        self.free.append(lane)

    # --- the long way ---
    def general(self, args: tuple[Any, ...], named: Mapping[str, Any], out: Any) -> Any:
        """A call with whatever came; raises what :class:`graphc.runtime.Function` says."""
        return self.call(self.ordered(args, named), out)

    def call(self, given: Sequence[Any], out: Any) -> Any:
        """One call on values in the order of the inputs."""
        targets = () if out is None else self._given_outputs(out)
        values = [*given]  # what is converted replaces what came, and lives as long as the call
        lane = self.take()
        try:
            slots, place = lane.slots, self.place
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
                    value = convert(self.name, self.signature.inputs[word], value)
                values[word] = value = self.apart(value, targets)
                slots[word] = place(value)
            results: list[Any] = [None] * len(self.outputs)
            for k, (word, dtype, shape) in enumerate(self.outputs):
                if shape:
                    results[k] = targets[k] if targets else _fresh(self.name, self.empties[k], shape, dtype)
                    slots[word] = place(results[k])
            status = guarded_call(self.guards, lane, self.program.call, lane.argument)
            if status:
                arrays = [lane.zeros.get(word, value) for word, value in enumerate(values)]
                raise IndexOutOfRangeError(f"{self.name}: {self.culprit(status, arrays).message()}")
            for k, (word, _, shape) in enumerate(self.outputs):
                if not shape and targets:
                    targets[k][...] = lane.zeros[word]
                elif not shape:
                    results[k] = lane.cells[word][0]
            return out if targets else self.signature.restore(results)
        finally:
            self.free.append(lane)

    def _place_scalar(self, lane: Lane, word: int, value: Any, numbers: frozenset[type]) -> None:
        if value.__class__ in numbers:
            try:
                lane.cells[word][0] = value
                return
            except (ValueError, TypeError, OverflowError):  # one that does not fit, or a bool of NumPy's in an int
                pass
        lane.zeros[word][...] = convert(self.name, self.signature.inputs[word], value)

    def ordered(self, args: tuple[Any, ...], named: Mapping[str, Any]) -> Sequence[Any]:
        """The arguments in the order of the inputs; raises :class:`InputTypeError` for a wrong set of them."""
        names = self.names
        named = {name: value for name, value in named.items() if value is not _MISSING}
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

    # --- the short way ---
    def function(self) -> Callable[..., Any]:
        """What stands behind ``f(...)``: the short way, where there is one for such a signature."""
        plain = all(n.isascii() and n.isidentifier() and not iskeyword(n) and n[0] != "_" for n in self.names)
        arrays = any(slot.type.shape for slot in (*self.signature.inputs, *self.signature.outputs))
        general = self.general
        if not plain or (arrays and self._entry is None):
            return lambda *args, out=None, **named: general(args, named, out)
        known: dict[str, Any] = {
            "_missing": _MISSING, "_refused": _REFUSED, "_general": general, "_free": self.free, "_lane_of": self.lane,
            "_guards": self.guards, "_guarded": guarded_call, "_guard": self.guards[0][0] if self.guards else None,
            "_enter": self._entry.enter if self._entry else self.program.call, "_id": id, "_type": type,
            "_IndexError": IndexError,
        }  # fmt: skip
        known |= {f"_numbers_{k}": numbers for k, numbers, _, _ in self._inputs}
        for k, (_, dtype, shape) in enumerate(self.outputs):
            known |= {f"_empty_{k}": self.empties[k], f"_shape_{k}": shape, f"_dtype_{k}": dtype}
        exec(compile(self._text(), f"<call of {self.name}>", "exec"), known)
        called: Callable[..., Any] = known.pop("_call")  # no cycle: a function that nobody needs is gone at once
        return called

    def _text(self) -> str:
        """The Python of the short way. What is not the user's name begins with an underscore."""
        names, inputs, outputs = self.names, self.signature.inputs, self.signature.outputs
        given = "{" + ", ".join(f"{name!r}: {name}" for name in names) + "}"
        long_way = f"return _general((), {given}, None)"
        otherwise = f"return _general(_args, {{**{given}, **_more}}, out)"
        if names and self.positional:
            by_name = " or ".join(f"{name} is not _missing" for name in names)
            otherwise = (
                f"if len(_args) != {len(names)} or _more or out is not None or {by_name}:\n"
                f"            {otherwise}\n"
                f"        {', '.join(names)}, = _args"
            )
        numbers = [(k, name) for k, name in enumerate(names) if not inputs[k].type.shape]
        fresh = [k for k, slot in enumerate(outputs) if slot.type.shape]
        arrays = [*(name for k, name in enumerate(names) if inputs[k].type.shape), *(f"_{k}" for k in fresh)]
        checks = " or ".join(f"_type({name}) not in _numbers_{k}" for k, name in numbers)
        cell = "" if _uniform([inputs[k].type.dtype for k, _ in numbers]) else "[0]"
        placing = ["_in = _lane.inputs"] if numbers else []
        placing += [f"_in[{place}]{cell} = {name}" for place, (_, name) in enumerate(numbers)]
        placing += [f"_{k} = _empty_{k}(_shape_{k}, _dtype_{k})" for k in fresh]
        placing += ["_ids = _lane.ids"] if arrays else []
        placing += [f"_ids[{place}] = _id({array})" for place, array in enumerate(arrays)]
        if not self.guards:
            entering = "_status = _enter(_lane.way_in)"
        elif len(self.guards) == 1 and self.guards[0][1]:
            entering = """with _guard.lock:
            if _guard.readers:
                _guard.drain()
            _status = _enter(_lane.way_in)"""
        else:
            entering = "_status = _guarded(_guards, _lane, _enter, _lane.way_in)"
        scalars = [k for k, slot in enumerate(outputs) if not slot.type.shape]
        uniform = _uniform([outputs[k].type.dtype for k in scalars])
        read = {k: f"_out[{place}]{'' if uniform else '[0]'}" for place, k in enumerate(scalars)}
        results = self.signature.spelled([read.get(k, f"_{k}") for k in range(len(outputs))])
        if uniform and len(scalars) == len(outputs) and self.signature.form == "list":
            results = "_out.tolist()"
        return f"""\
def _call(*_args, {"".join(f"{name}=_missing, " for name in names)}out=None, **_more):
    if _args or _more or out is not None:
        {otherwise}
    try:
        _lane = _free.pop()
    except _IndexError:
        _lane = _lane_of()
    try:
        {f"if {checks}:{chr(10)}            {long_way}" if numbers else "pass"}
        try:
            {f"{chr(10)}            ".join(placing or ["pass"])}
        except _refused:
            {long_way}
        {entering}
        if _status:  # refused, or an index out of range: nothing was done, and the long way says what is wrong
            {long_way}
        {"_out = _lane.outputs" if scalars else "pass"}
        return {results}
    finally:
        _free.append(_lane)
"""

    # --- what is wrong ---
    def apart(self, array: Array, out: Sequence[Array]) -> Array:
        """``array``, or a copy where it may overlap a parameter that is written or one of ``out``."""
        return array.copy() if any(np.may_share_memory(array, other) for other in (*self.written, *out)) else array

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


_MISSING: Any = object()  # for an input that was not given
_REFUSED = (TypeError, ValueError, OverflowError, MemoryError)  # of numbers that do not fit, and of numpy.empty


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


def _fresh(function: str, empty: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    try:
        return empty(shape, dtype)  # type: ignore[no-any-return]
    except (MemoryError, ValueError):
        nbytes = dtype.itemsize * int(np.prod(shape, dtype=object))
        raise InputValueError(
            f"{function}: an output of shape {shape} needs {nbytes:,} bytes, more than there is memory for"
        ) from None
