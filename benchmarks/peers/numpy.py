"""NumPy by hand, in place; the steps stand in the workloads. BLAS uses all cores."""

from __future__ import annotations

import numpy as np

from benchmarks.peers import Cannot, Contender, repeat
from benchmarks.workload import Array, Workload


def VERSION() -> str:
    return np.__version__


def THREADS() -> str:
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]  # type: ignore[call-overload]
    return f"{blas['name']} {blas['version']}, its default (all cores)"


def build(workload: Workload, mode: str, option: str | None = None) -> Contender:
    if mode != "call":
        raise Cannot("no loop inside C")
    live = {name: value.copy() for name, value in workload.parameters.items()}
    holder = [workload.numpy(workload, live)]
    # Scalars become NumPy scalars, which are faster than arrays without axes.
    arguments = [tuple(array[i] for array in workload.inputs.values()) for i in range(workload.rotation)]
    run, rewind, last = repeat(lambda *values: holder[0](*values), arguments)
    if not workload.steps:
        run, rewind, last = repeat(holder[0], arguments)

    def reset() -> None:
        rewind()
        for name, value in workload.parameters.items():
            live[name][...] = value
        if workload.momentum:  # the velocities are its own: start anew
            holder[0] = workload.numpy(workload, live)

    def state() -> dict[str, Array]:
        if workload.steps:
            return {"loss": np.asarray(last[0])} | {name: value.copy() for name, value in live.items()}
        value, gradients = last[0]
        return {"loss": np.asarray(value)} | dict(zip(workload.wrt, gradients, strict=True))

    return Contender(reset, run, state)
