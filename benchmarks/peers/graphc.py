"""graphc: a compiled function or train step; called, with its buffers bound, or looping in C."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.peers import Cannot, Contender, Rotation
from benchmarks.workload import ADAM, Array, Workload

LIBRARY = "graphc"
TILE = 2 << 20  # bytes: the batches of one `run` in C, the rotation repeated (short, so that they stay in the cache)


def version() -> str:
    from importlib import metadata

    import graphc  # noqa: F401

    try:
        return metadata.version("graphc")
    except metadata.PackageNotFoundError:
        return "of this checkout"


def threads() -> str:
    return "by its cost model, at most all cores"


def graph(workload: Workload) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """The loss node, the inputs and the parameters by name."""
    import graphc as gx

    inputs = {name: gx.input(name, array.shape[1:], array.dtype.name) for name, array in workload.inputs.items()}
    parameters = {name: gx.parameter(name, value, value.dtype.name) for name, value in workload.parameters.items()}
    return workload.formulas["graphc"](gx, **inputs, **parameters), inputs, parameters


def build(workload: Workload, mode: str, option: str | None = None) -> Contender:
    """``option`` is graphc's backend: None for C, "numpy" for its reference."""
    return (_step if workload.steps else _gradients)(workload, mode, option)


def _gradients(workload: Workload, mode: str, backend: str | None) -> Contender:
    import graphc as gx

    if mode == "loop":
        raise Cannot("no state to step")
    loss, inputs, _ = graph(workload)
    outputs = [loss, *gx.grad(loss, [inputs[name] for name in workload.wrt])]
    name = workload.key.replace("-", "_")
    function = gx.compile(inputs=list(inputs.values()), outputs=outputs, name=name, backend=backend)
    if mode == "bind":
        rotation = Rotation([function.bind(**batch) for batch in _batches(workload)])
    else:  # scalars as a user would give them
        batches = [tuple(a.item() if a.ndim == 0 else a for a in batch.values()) for batch in _batches(workload)]
        rotation = Rotation(function, batches)

    def state() -> dict[str, Array]:
        value, *gradients = rotation.last
        return {"loss": np.asarray(value)} | {n: np.asarray(g) for n, g in zip(workload.wrt, gradients, strict=True)}

    return Contender(rotation.rewind, rotation.run, state)


def _step(workload: Workload, mode: str, backend: str | None) -> Contender:
    import graphc as gx

    loss, _, parameters = graph(workload)
    optimizer: Any = gx.optim.SGD(workload.learning_rate, momentum=workload.momentum)
    if workload.adam:
        optimizer = gx.optim.Adam(workload.learning_rate, betas=ADAM.betas, eps=ADAM.eps)
    step = gx.train_step(loss, optimizer, name=workload.key.replace("-", "_"), backend=backend)
    rotation: Any
    if mode == "bind":
        rotation = Rotation([step.bind(**batch) for batch in _batches(workload)])
    elif mode == "loop":
        rotation = _InC(step, workload)
    else:
        rotation = Rotation(step, _batches(workload))

    def reset() -> None:
        rotation.rewind()
        for slot in step.state.values():
            slot.value[...] = 0
        for name, parameter in parameters.items():
            parameter.value[...] = workload.parameters[name]

    def state() -> dict[str, Array]:
        return {"loss": np.asarray(rotation.last)} | {name: np.array(p.value) for name, p in parameters.items()}

    return Contender(reset, rotation.run, state)


class _InC:
    """Loops inside C over the batches in rotation: all n steps in one go where nothing is to be fed."""

    def __init__(self, step: Any, workload: Workload) -> None:
        self.step = step
        self.last: Any = None
        size = sum(array.nbytes for array in workload.inputs.values())
        times = max(1, TILE // size) if size else 1
        self.tiled = {name: np.concatenate([array] * times) for name, array in workload.inputs.items()}
        self.chunk = times * workload.rotation if size else None
        self.rewind()

    def rewind(self) -> None:
        self.place = 0

    def run(self, n: int) -> None:
        losses: Any = [None]
        while n:
            count = n if self.chunk is None else min(n, self.chunk - self.place)
            whole = count == self.chunk
            batches = self.tiled if whole else {k: a[self.place : self.place + count] for k, a in self.tiled.items()}
            losses = self.step.run(count, **batches)
            n -= count
            self.place = (self.place + count) % (self.chunk or 1)
        self.last = losses[-1]


def _batches(workload: Workload) -> list[dict[str, Array]]:
    return [{name: np.array(array) for name, array in batch.items()} for batch in workload.batches()]
