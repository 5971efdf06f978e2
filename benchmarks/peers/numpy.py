"""NumPy by hand, in place; the steps stand in the workloads. BLAS uses all cores."""

from __future__ import annotations

import numpy as np

from benchmarks.peers import Cannot, Contender, Rotation
from benchmarks.workload import Array, Workload

LIBRARY = "numpy"


def version() -> str:
    return np.__version__


def threads() -> str:
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return f"{blas['name']} {blas['version']}, its default (all cores)"


def build(workload: Workload, mode: str, option: str | None = None) -> Contender:
    if mode != "call":
        raise Cannot("no loop inside C; its time per call stands for it")
    live = {name: value.copy() for name, value in workload.parameters.items()}
    # Scalars become NumPy scalars, which are faster than arrays without axes.
    batches = [tuple(array[i] for array in workload.inputs.values()) for i in range(workload.rotation)]
    rotation = Rotation(workload.numpy(workload, live), batches)

    def reset() -> None:
        rotation.rewind()
        for name, value in workload.parameters.items():
            live[name][...] = value
        if workload.momentum or workload.adam:  # the slots are its own: start anew
            rotation.function = workload.numpy(workload, live)

    def state() -> dict[str, Array]:
        if workload.steps:
            return {"loss": np.asarray(rotation.last)} | {name: value.copy() for name, value in live.items()}
        value, gradients = rotation.last
        return {"loss": np.asarray(value)} | dict(zip(workload.wrt, gradients, strict=True))

    return Contender(reset, rotation.run, state)
