"""Which kernels are one function in C: those that differ by the names of variables alone, as the layers of a deep net do.

The function is written once and called with the arrays of each. That keeps the C short, and the C compiler's time.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

__all__ = ["first_alike"]

_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_TOKEN = re.compile(r"\w+|[^\w\s]")


def first_alike(functions: Sequence[tuple[str, str]], variables: Collection[str]) -> list[int]:
    """For each function (name and C) the place of the first one that is the same but for comments, its name, and the names
    of ``variables``; all other words mean the same in every function."""
    places: dict[tuple[str, ...], int] = {}
    return [places.setdefault(_nameless(name, text, variables), place) for place, (name, text) in enumerate(functions)]


def _nameless(name: str, text: str, variables: Collection[str]) -> tuple[str, ...]:
    """The tokens of a function, with a number for each variable in the order in which they occur."""
    numbers = {name: "#0"}
    return tuple(
        numbers.setdefault(token, f"#{len(numbers)}") if token == name or token in variables else token
        for token in _TOKEN.findall(_COMMENT.sub(" ", text))
    )
