"""Who may run at the same time: locks of parameters, threads of C, and forks.

Parameters that one function writes share a guard, every other parameter has a guard of its own. A call that
writes holds the guards of what it writes alone; a call that only reads shares them with other readers; guards are
taken in the order in which they were made. So nobody sees half of an update, and calls on disjoint parameters, and
readers of the same ones, run in parallel. A call so short that it keeps the GIL takes none: it only looks whether somebody is
at work (:mod:`graphc.enter`). No user code runs while a guard is held. ``Parameter.value`` is the live
buffer and takes no guard.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from graphc.ir import Parameter
from graphc.program import Frame, Program

__all__ = ["Guard", "Guards", "frame_of", "guarded", "guarded_call", "guards_of", "thread_count"]


# --- guards: who may touch a parameter when -----------------------------------------------------------------
class Guard:
    """One writer or several readers. Reentrant: a signal handler may call what it interrupted.

    ``readers`` and ``writers`` have a token for each call in flight, and its thread; a writer holds ``lock`` all the while.
    """

    __slots__ = ("lock", "readers", "serial", "writers")
    _serials = count()

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.readers: dict[object, int] = {}
        self.writers: dict[object, int] = {}
        self.serial = next(self._serials)

    def drain(self) -> None:
        """Wait, with the lock held so that nobody enters, until the readers of other threads have left."""
        me, delay = threading.get_ident(), 1e-5
        while any(thread != me for thread in list(self.readers.values())):
            time.sleep(delay)
            delay = min(2 * delay, 1e-3)


Guards = tuple[tuple[Guard, bool], ...]
_guards: WeakKeyDictionary[Parameter, Guard] = WeakKeyDictionary()
_guards_lock = threading.Lock()


def guards_of(parameters: Sequence[tuple[Parameter, bool]]) -> Guards:
    """The guards of ``parameters``, in order, each with whether something under it is written."""
    written = None
    modes: dict[Guard, bool] = {}
    with _guards_lock:
        for parameter, writes in parameters:
            guard = _guards.get(parameter)
            if guard is None:
                guard = written = (written or Guard()) if writes else Guard()
                _guards[parameter] = guard
            modes[guard] = modes.get(guard, False) or writes
    return tuple(sorted(modes.items(), key=lambda item: item[0].serial))


def guarded_call(guards: Guards, token: object, call: Callable[[Any], int], argument: Any) -> int:
    """``call(argument)`` under all ``guards``. Written so that no exception, at any bytecode, leaves one taken."""
    if not guards:
        return call(argument)
    (guard, writes), rest = guards[0], guards[1:]
    if writes:
        with guard.lock:
            try:
                guard.writers[token] = threading.get_ident()
                if guard.readers:
                    guard.drain()
                return guarded_call(rest, token, call, argument)
            finally:
                guard.writers.pop(token, None)
    try:
        with guard.lock:
            guard.readers[token] = threading.get_ident()
        return guarded_call(rest, token, call, argument)
    finally:
        guard.readers.pop(token, None)


@contextmanager
def guarded(parameters: Sequence[Parameter]) -> Iterator[None]:
    """No function writes or reads ``parameters`` meanwhile: for saving and loading them."""
    token = object()
    with ExitStack() as stack:
        for guard, _ in guards_of([(parameter, False) for parameter in parameters]):
            stack.enter_context(guard.lock)
            stack.callback(guard.writers.pop, token, None)
            guard.writers[token] = threading.get_ident()
            guard.drain()
        yield


# --- threads and forks ------------------------------------------------------------------------------------
_frames: WeakSet[Frame] = WeakSet()
_started = False  # whether C may have started threads in this process
_serial = False  # whether this process was forked from one where it had


def thread_count(limit: int | None = None) -> int:
    """How many threads a call may use: the least of ``limit``, OMP_NUM_THREADS and the processors given to us."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if asked.isdecimal() and int(asked) > 0:
        available = min(available, int(asked))
    return 1 if _serial else max(1, min(available, limit or available))


def frame_of(program: Program, threads: int) -> Frame:
    """A frame for at most so many threads, which after a fork are one."""
    global _started
    threads = 1 if _serial else threads
    _started = _started or threads > 1
    frame = program.frame(threads)
    _frames.add(frame)
    return frame


def _in_child() -> None:
    """After a fork only this thread lives: OpenMP's pool is gone, and so is whoever held a lock."""
    global _serial, _guards_lock
    _guards_lock = threading.Lock()
    for guard in list(_guards.values()):
        guard.lock = threading.RLock()
        guard.readers.clear()
        guard.writers.clear()
    if _started:
        _serial = True
        for frame in list(_frames):
            if frame.words is not None:
                frame.words[-1] = 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
