"""The way from Python into a program through a function in C, ``templates/call.c``, and the library that has it.

To ask an array in Python for its class, dtype, shape, flags and address takes half a microsecond, which is what a small
train step takes, and to cross from Python to C and back through a foreign-function interface takes as much again. A function
that C makes through Python's own interface is called in 0.05 us, and looks at an array in 0.005. The addresses of that interface
come from the running interpreter, so that no headers are needed to build it.

The fields of an array object are part of NumPy's C interface, those of its header of Python's. That they lie where the C
looks is tried out when the library is loaded; where they do not, calls take the long way (:mod:`graphc.call`).
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import _cffi_backend  # type: ignore[import-untyped]
import numpy as np

from graphc.arguments import FORMATS, numbers_of
from graphc.ir import Array
from graphc.types import FLOAT32, CacheError, DType, TensorType

__all__ = ["Argument", "Call", "Ways", "address", "load", "loaded", "source"]

_ffi = _cffi_backend.FFI()
# Never unloaded: threads that OpenMP started stay inside of it.
_FLAGS = _ffi.RTLD_NOW | getattr(_ffi, "RTLD_NODELETE", 0)
_RUN_ROWS = _ffi.typeof("int(*)(void *, int64_t *, int64_t, int64_t *)")
_MEET = _ffi.typeof("void(*)(void *, void *, int64_t)")
_ANY = _ffi.typeof("void(*)(void)")

_beside, _inside = (folder / "templates" for folder in (Path(__file__).parents[1], Path(__file__).parent))
_TEMPLATES = _inside if _inside.exists() else _beside  # in a checkout the templates stand beside the package

# The fields of gx_python: functions of Python's, and of those in NumPy's table for extension modules one.
_PYTHON = """
    Py_IncRef Py_DecRef PyErr_Clear PyErr_Occurred PyObject_Vectorcall PyObject_CallNoArgs
    PyFloat_FromDouble PyFloat_AsDouble PyLong_FromLongLong PyLong_AsLongLong PyBool_FromLong PyObject_IsTrue
    PyList_New PyList_Size PyList_GetItem PyList_SetItem PyList_Append PyList_SetSlice
    PyTuple_New PyTuple_Size PyTuple_GetItem PyTuple_SetItem PyDict_New PyDict_Size PyDict_SetItem PyCFunction_NewEx
""".split()
_NUMPY_EMPTY = 184  # PyArray_Empty
_FORMS = ("single", "list", "tuple", "dict", "fixed")  # in the order of GX_ONE, ...


def address(thing: Any) -> int:
    """Where an array's data, or what a pointer of cffi's points to, lies."""
    return int(_ffi.cast("intptr_t", _ffi.from_buffer(thing) if isinstance(thing, np.ndarray) else thing))


# --- a call -----------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Argument:
    """What a call takes or gives: an array, whose data become ``word`` of the frame, or where there is a ``cell`` its number.

    ``empty(shape, dtype)`` makes the array of an output; None: NumPy does.
    """

    name: str
    type: TensorType
    word: int
    cell: Array | None = None
    empty: Callable[..., Array] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One program with one frame, and how Python calls it: what the C knows as gx_caller.

    ``program`` is a C function of ``frame``, both pointers of cffi's. Frame and cells belong to ``lane``; a call works with
    it while it is the last of ``lanes`` (None: always), and goes to ``otherwise``, with the same arguments, if not, or if
    these do not fit. Inputs must not overlap what is ``written``.

    The program runs with the GIL held, while nobody is at work under ``guards``, which pair a
    :class:`graphc.concurrency.Guard` with whether something under it is written; or ``run``, where there is one, takes these
    itself, and computes the status with the GIL released. ``result`` is given back in form "fixed".
    """

    program: Any
    frame: Any
    lane: object
    lanes: list[Any] | None
    otherwise: Callable[..., Any]
    inputs: Sequence[Argument] = ()
    outputs: Sequence[Argument] = ()
    by_position: bool = True
    written: Sequence[Array] = ()
    guards: Sequence[tuple[Any, bool]] = ()
    run: Callable[[], int] | None = None
    form: str = "fixed"
    result: object = None

    def laid_out(self) -> tuple[Any, ...]:
        """The gx_caller, and after it all that it refers to."""
        keep: list[Any] = []

        def at(thing: object) -> int:
            keep.append(thing)
            return id(thing)

        def data(array: Array) -> int:
            keep.append(array)
            return address(array)

        def table(rows: Sequence[Sequence[int]]) -> int:
            return data(np.array([word for row in rows for word in row], np.int64))

        def element(dtype: DType, cell: Array | None) -> tuple[int, int]:
            return (0, 0) if cell is None else (data(cell), ord(FORMATS[str(dtype)]))

        inputs = [
            (
                at(sys.intern(slot.name)), *element(slot.type.dtype, slot.cell),
                len(classes := sorted(numbers_of(slot.type.dtype), key=_common)), table([[id(each) for each in classes]]),
                at(slot.type.dtype.numpy), len(slot.type.shape), table([slot.type.shape]), slot.type.nbytes, slot.word,
            )
            for slot in self.inputs
        ]  # fmt: skip
        outputs = [
            (
                at(slot.name), *element(slot.type.dtype, slot.cell),
                0 if slot.empty is None else at(slot.empty), at(slot.type.shape), at(slot.type.dtype.numpy),
                len(slot.type.shape), table([slot.type.shape]), slot.word,
            )
            for slot in self.outputs
        ]  # fmt: skip
        spans = [(address(array), address(array) + array.nbytes) for array in self.written]
        guards = [(at(guard.readers), at(guard.writers), writes) for guard, writes in self.guards]
        run, lanes = (0 if thing is None else at(thing) for thing in (self.run, self.lanes))
        keep += [self.program, self.frame]
        caller = [
            address(self.program), address(self.frame), at(self.lane), lanes, at(self.otherwise), run, self.by_position,
            len(inputs), len(outputs), len(spans), len(guards), table(inputs), table(outputs), table(spans), table(guards),
            _FORMS.index(self.form), at(self.result),
        ]  # fmt: skip
        return np.array(caller, np.int64), *keep


def _common(number: type) -> int:
    """Python's own classes first, float before int: they are what is mostly given."""
    return (float, int, bool).index(number) if number in (float, int, bool) else 3


# --- the library ------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Ways:
    """The functions of a library made from :func:`source`.

    ``function`` (gx_function) makes of a laid-out :class:`Call` what Python calls; it is None where objects do not lie in
    memory as it expects. ``run_rows`` is gx_run_rows, for :class:`graphc.feed.Feed`.
    """

    library: Any  # which its functions do not keep
    function: Callable[[tuple[Any, ...]], Callable[..., Any]] | None
    run_rows: Callable[[Any, Any, int, Any], int]


def source() -> str:
    """The C of the library: small enough to be compiled once for a compiler, not once for a program."""
    return "\n".join((_TEMPLATES / name).read_text(encoding="utf-8") for name in ("call.c", "feed.c"))


def loaded(library: str | os.PathLike[str]) -> Any:
    """A shared library as cffi sees it. Raises :class:`CacheError` where the system refuses it."""
    try:
        return _cffi_backend.load_library(os.path.abspath(library), _FLAGS)
    except OSError as error:
        raise CacheError(
            f"{error}. If that is because nothing there may be executed (a file system mounted with noexec), "
            "set GRAPHC_BUILD_DIR to a directory elsewhere."
        ) from None


@cache
def load(library: Path) -> Ways:
    """The functions of a library that was built from :func:`source`; it is never unloaded."""
    entered = loaded(library)
    function = _function(entered) if _is_usual() else None
    works = function is not None and _reads_objects(function, entered.load_function(_ANY, "gx_nothing"))
    return Ways(entered, function if works else None, entered.load_function(_RUN_ROWS, "gx_run_rows"))


def _is_usual() -> bool:
    """Whether this is a Python whose objects look as CPython's do, with one thread at a time among them."""
    locked = getattr(sys, "_is_gil_enabled", lambda: True)()
    known = all(hasattr(ctypes.pythonapi, name) for name in _PYTHON) if sys.implementation.name == "cpython" else False
    wide = object.__basicsize__ >= 16 and np.ndarray.__basicsize__ >= object.__basicsize__ + 56
    return locked and known and wide and np.intp().itemsize == 8


def _function(library: Any) -> Callable[[tuple[Any, ...]], Callable[..., Any]]:
    """gx_function, after gx_meet. It must be called with the GIL, which cffi lets go of and ctypes can keep."""
    addresses = [ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value for name in _PYTHON]
    functions = np.array([*addresses, _numpy_function(_NUMPY_EMPTY)], np.int64)
    array_class = _ffi.cast("void *", id(np.ndarray))
    library.load_function(_MEET, "gx_meet")(_ffi.from_buffer(functions), array_class, object.__basicsize__)
    make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)
    return make(address(library.load_function(_ANY, "gx_function")))


def _numpy_function(number: int) -> int:
    """The address of a function in the table that NumPy hands to extension modules."""
    from numpy._core import _multiarray_umath  # type: ignore[attr-defined]

    prototype = ctypes.PYFUNCTYPE(ctypes.POINTER(ctypes.c_void_p), ctypes.py_object, ctypes.c_char_p)
    look = prototype(("PyCapsule_GetPointer", ctypes.pythonapi))
    return int(look(_multiarray_umath._ARRAY_API, None)[number])


def _reads_objects(function: Callable[[tuple[Any, ...]], Callable[..., Any]], nothing: Any) -> bool:
    """Whether a call takes an array whose data we know, and refuses those that differ in one thing each."""
    frame, good = np.zeros(1, np.int64), np.zeros((2, 3), np.float32)
    call = Call(
        program=nothing, frame=_ffi.from_buffer(frame), lane=None, lanes=None, otherwise=lambda value: False,
        inputs=[Argument("x", TensorType((2, 3), FLOAT32), 0)], written=[written := np.zeros((4, 3), np.float32)], result=True,
    )  # fmt: skip
    takes = function(call.laid_out())
    if not takes(good) or frame[0] != address(good) or not takes(part := np.zeros((4, 3), np.float32)[1:3]):
        return False
    unaligned = np.zeros(25, np.uint8)[1:].view(np.float32).reshape(2, 3)
    others = [written[1:3], np.zeros((3, 2), np.float32), np.zeros((2, 3, 1), np.float32), np.zeros((2, 3), np.int32)]
    others += [good.astype(">f4"), np.asfortranarray(good), np.zeros((2, 6), np.float32)[:, ::2], unaligned]
    return frame[0] == address(part) and not any(map(takes, [*others, good.view(np.matrix), good.tolist()]))
