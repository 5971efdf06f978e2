"""Ctrl-C for tests."""

from __future__ import annotations

import gc
import signal
from contextlib import contextmanager


@contextmanager
def ctrl_c(delay):
    """Ctrl-C after ``delay`` seconds, with no garbage about: Python drops one that comes in a weakref callback."""
    gc.collect()
    gc.disable()
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, delay)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        gc.enable()
