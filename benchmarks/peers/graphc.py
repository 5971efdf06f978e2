"""graphc: a compiled function or train step; called, with its buffers bound, or looping in C."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.peers import Cannot, Contender, repeat
from benchmarks.workload import Array, Workload

TILE = 2 << 20  # bytes: the batches of one `run` in C, the rotation repeated (short, so that they stay in the cache)


def VERSION() -> str:
    from importlib.metadata import PackageNotFoundError, version

    import graphc  # noqa: F401

    try:
        return version("graphc")
    except PackageNotFoundError:
        return "of this checkout"


def THREADS() -> str:
    return "by its cost model, at most all cores"


def graph(workload: Workload) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """The loss node, the inputs and the parameters by name."""
    import graphc as gx

    inputs = {name: gx.input(name, array.shape[1:], array.dtype.name) for name, array in workload.inputs.items()}
    parameters = {name: gx.parameter(name, value, value.dtype.name) for name, value in workload.parameters.items()}
    return workload.formulas["graphc"](gx, **inputs, **parameters), inputs, parameters


def build(workload: Workload, mode: str, option: str | None = None) -> Contender:
    return (_step if workload.steps else _gradients)(workload, mode)


def _gradients(workload: Workload, mode: str) -> Contender:
    import graphc as gx

    if mode == "loop":
        raise Cannot("no state to step")
    loss, inputs, _ = graph(workload)
    outputs = [loss, *gx.grad(loss, [inputs[name] for name in workload.wrt])]
    function = gx.compile(inputs=list(inputs.values()), outputs=outputs, name=workload.key.replace("-", "_"))
    batches = [{name: _own(array) for name, array in batch.items()} for batch in workload.batches()]
    if mode == "bind":
        run, rewind, last = _cycle_bound([function.bind(**batch) for batch in batches])
    else:  # scalars as a user would give them, arrays as they are
        run, rewind, last = repeat(function, [tuple(a.item() if a.ndim == 0 else a for a in batch.values()) for batch in batches])

    def state() -> dict[str, Array]:
        value, *gradients = last[0]
        return {"loss": np.asarray(value)} | {n: np.asarray(g) for n, g in zip(workload.wrt, gradients, strict=True)}

    return Contender(rewind, run, state)


def _step(workload: Workload, mode: str) -> Contender:
    import graphc as gx

    loss, _, parameters = graph(workload)
    optimizer = gx.optim.SGD(learning_rate=workload.learning_rate, **({"momentum": workload.momentum} if workload.momentum else {}))
    step = gx.train_step(loss, optimizer, name=workload.key.replace("-", "_"))
    batches = [{name: _own(array) for name, array in batch.items()} for batch in workload.batches()]
    if mode == "bind":
        run, rewind, last = _cycle_bound([step.bind(**batch) for batch in batches])
    elif mode == "loop":
        run, rewind, last = _in_c(step, workload)
    elif len(batches) == 1 and not batches[0]:
        run, rewind, last = repeat(step, [()])
    else:
        run, rewind, last = repeat(lambda batch: step(**batch), [(batch,) for batch in batches])

    # Slots may share a name with nothing else; whatever is not a parameter of the model starts at zero.
    def reset() -> None:
        rewind()
        for name, slot in getattr(step, "state", {}).items():
            if name not in parameters:
                slot.value[...] = 0
        for name, parameter in parameters.items():
            parameter.value[...] = workload.parameters[name]

    def state() -> dict[str, Array]:
        return {"loss": np.asarray(last[0])} | {name: np.array(p.value) for name, p in parameters.items()}

    return Contender(reset, run, state)


def _in_c(step: Any, workload: Workload) -> Any:
    """Loops inside C over the batches in rotation: all n steps in one go where nothing is to be fed."""
    last: list[Any] = [None]
    if not workload.inputs:

        def run(n: int) -> None:
            last[0] = step.run(n)[-1]

        return run, lambda: None, last

    size = sum(array.nbytes for array in workload.inputs.values())
    times = max(1, TILE // size)
    tiled = {name: _own(np.concatenate([array] * times)) for name, array in workload.inputs.items()}
    chunk, place = times * workload.rotation, 0

    def run(n: int) -> None:
        nonlocal place
        losses = None
        while n:
            count = min(n, chunk - place)
            batches = tiled if count == chunk else {name: array[place : place + count] for name, array in tiled.items()}
            losses = step.run(count, **batches)
            place, n = (place + count) % chunk, n - count
        last[0] = losses[-1]

    def rewind() -> None:
        nonlocal place
        place = 0

    return run, rewind, last


def _cycle_bound(bound: list[Any]) -> Any:
    return repeat(bound[0], [()]) if len(bound) == 1 else repeat(lambda call: call(), [(call,) for call in bound])


def _own(array: Array) -> Array:
    return np.array(array)
