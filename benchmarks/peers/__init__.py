"""Who computes: one file per library, which knows how that library is used at its fastest.

Data are converted to each library's own arrays before anything is timed. A peer is a module with

    VERSION      () -> str, importing the library (ImportError where it is not installed)
    THREADS      () -> str
    build        (workload, mode) -> Contender, or raises Cannot with the reason
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import cycle, islice
from types import ModuleType
from typing import Any, NamedTuple

from benchmarks.workload import Array

__all__ = ["PEERS", "Cannot", "Contender", "Peer", "repeat"]


class Cannot(Exception):
    """This peer cannot run this row; the message says why."""


@dataclass(frozen=True, eq=False)
class Contender:
    reset: Callable[[], None]  # back to the initial parameters
    run: Callable[[int], None]  # that many steps, and wait for their end
    state: Callable[[], dict[str, Array]]  # the loss of the last step (before its update); parameters, or gradients


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


def repeat(call: Callable[..., Any], arguments: Iterable[tuple[Any, ...]], wait: Callable[[Any], Any] | None = None) -> Any:
    """``run`` and a cell with the last result, for a function called with the arguments in rotation."""
    rotation: Any = None
    last: list[Any] = [None]
    arguments = list(arguments)
    single = arguments[0] if len(arguments) == 1 else None

    def rewind() -> None:
        nonlocal rotation
        rotation = cycle(arguments)

    def run(n: int) -> None:
        result = None
        if single is not None and not single:
            for _ in range(n):
                result = call()
        else:
            for values in islice(rotation, n):
                result = call(*values)
        if wait is not None:
            wait(result)
        last[0] = result

    rewind()
    return run, rewind, last
