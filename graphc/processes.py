"""Other programs, run to their end."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

__all__ = ["TIMEOUT", "Ran", "first_lines", "run"]

TIMEOUT = 600.0  # seconds; zig's first compile ever builds its runtime, on a slow disk for minutes


class Ran(NamedTuple):
    """How a program ended, and what it said."""

    code: int | None  # None: stopped after TIMEOUT; 127: not started; negative: ended by that signal
    output: str
    messages: str


def run(command: Sequence[str], directory: str | Path) -> Ran:
    """Run a program to its end, or to TIMEOUT seconds. English messages, no input, never raises OSError."""
    import subprocess  # a warm start gets by without it

    pipe = subprocess.PIPE
    try:
        # A session of its own, so that what ends a compiler's driver also ends the programs it has started,
        # which would otherwise hold the pipes open.
        process = subprocess.Popen(
            command, cwd=directory, env=os.environ | {"LC_ALL": "C"}, stdin=subprocess.DEVNULL, stdout=pipe,
            stderr=pipe, encoding="utf-8", errors="replace", start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        return Ran(127, "", str(error))
    with process:
        try:
            output, messages = process.communicate(timeout=TIMEOUT)
        except BaseException as error:  # Ctrl-C included
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL) if os.name == "posix" else process.kill()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            return Ran(None, "", f"no answer in {TIMEOUT:g} s")
    return Ran(process.returncode, output, messages)


def first_lines(text: str, count: int = 20) -> str:
    """The beginning of a text, with a word on how much is left out."""
    lines = text.strip().splitlines()
    if len(lines) > count:
        lines[count:] = [f"... ({len(lines) - count} more lines)"]
    return "\n".join(lines)
