"""Who computes: one file per library, which knows how that library is used at its fastest.

Data are converted to each library's own arrays before anything is timed. A peer is a module with

    LIBRARY      what is imported
    version      () -> str, importing the library (ImportError where it is not installed)
    threads      () -> str
    build        (workload, mode) -> Contender, or raises Cannot with the reason
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from types import ModuleType
from typing import Any, NamedTuple

from benchmarks.workload import Array

__all__ = ["PEERS", "Cannot", "Contender", "Peer", "Rotation"]


class Cannot(Exception):  # noqa: N818  (a peer raises Cannot("...") as a sentence)
    """This peer cannot run this row; the message says why."""


@dataclass(frozen=True, eq=False)
class Contender:
    reset: Callable[[], None]  # back to the initial parameters
    run: Callable[[int], None]  # that many steps, and wait for their end
    state: Callable[[], dict[str, Array]]  # loss of the last step (before its update); parameters, or gradients


class Peer(NamedTuple):
    title: str
    module: str
    option: str | None = None  # handed to build
    modes: tuple[str, ...] = ("call",)
    quick: bool = True  # takes part in --quick

    def load(self) -> ModuleType:
        return importlib.import_module(f"benchmarks.peers.{self.module}")


PEERS: dict[str, Peer] = {
    "graphc": Peer("graphc", "graphc", modes=("call", "bind", "loop")),
    "numpy": Peer("NumPy", "numpy"),
    "jax": Peer("JAX", "jax", modes=("call", "loop")),
    "torch": Peer("PyTorch", "torch", option="eager"),
    "torch.compile": Peer("torch.compile", "torch", option="compile", quick=False),
    "pytensor-c": Peer("PyTensor C", "pytensor", option="CVM", quick=False),
    "pytensor-numba": Peer("PyTensor Numba", "pytensor", option="NUMBA", quick=False),
}


class Rotation:
    """A function called with each batch in turn (a tuple, or a dict by name), or a list of functions called in turn."""

    def __init__(self, function: Any, batches: Sequence[Any] = ()) -> None:
        self.function = function
        self.batches = batches
        self.last: Any = None  # the latest result
        self.rewind()

    def rewind(self) -> None:
        self._turn = cycle(self.function if isinstance(self.function, list) else self.batches)

    def run(self, n: int) -> None:
        function, result = self.function, None
        if isinstance(function, list):
            for call in islice(self._turn, n):
                result = call()
        elif not self.batches[0]:
            for _ in range(n):
                result = function()
        elif isinstance(self.batches[0], dict):
            for batch in islice(self._turn, n):
                result = function(**batch)
        else:
            for batch in islice(self._turn, n):
                result = function(*batch)
        self.last = result
