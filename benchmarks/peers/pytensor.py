"""PyTensor: shared parameters with updates, ``trust_input``; its C mode (CVM) or its Numba mode."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import numpy as np

from benchmarks.peers import Cannot, Contender, Rotation
from benchmarks.workload import ADAM, Array, Workload

LIBRARY = "pytensor.tensor"


def version() -> str:
    # What it says of BLAS stands in threads().
    logging.getLogger("pytensor.tensor.blas").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pytensor

    return pytensor.__version__


def threads() -> str:
    import pytensor

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        blas = pytensor.config.blas__ldflags
    return f"its default; BLAS: {blas or 'none found'} (C mode), SciPy's (Numba mode)"


def build(workload: Workload, mode: str, option: str | None = "CVM") -> Contender:
    version()
    import pytensor
    import pytensor.tensor as pt
    import pytensor.tensor.special

    if mode != "call":
        raise Cannot("its loop (scan) copies the state; its time per call stands for it")
    inputs = {name: pt.tensor(name, dtype=a.dtype.name, shape=a.shape[1:]) for name, a in workload.inputs.items()}
    parameters = {n: pytensor.shared(v.copy(), name=n, shape=v.shape) for n, v in workload.parameters.items()}
    values = inputs | parameters
    loss = workload.formulas["pytensor"](pt, **values).astype(workload.dtype.name)
    gradients = pytensor.grad(loss, [values[name] for name in workload.wrt])
    slots: list[Any] = []
    updates = []
    outputs = [loss, *gradients]
    if parameters:
        outputs = [loss]
        f = workload.dtype.type  # Python floats would make float64 of float32
        if workload.adam:
            count = pytensor.shared(np.zeros((), workload.dtype))
            slots.append(count)
            updates.append((count, count + f(1)))
            size, scale = (x.astype(workload.dtype.name) for x in ADAM.scalars(workload.learning_rate, count + 1))
            for p, g in zip(parameters.values(), gradients, strict=True):
                m, v = (pytensor.shared(np.zeros_like(p.get_value()), shape=p.type.shape) for _ in range(2))
                slots += [m, v]
                new_m = f(ADAM.betas[0]) * m + f(1 - ADAM.betas[0]) * g
                new_v = f(ADAM.betas[1]) * v + f(1 - ADAM.betas[1]) * g * g
                updates += [(m, new_m), (v, new_v), (p, p - size * new_m / (pt.sqrt(new_v) * scale + f(ADAM.eps)))]
        for p, g in () if workload.adam else zip(parameters.values(), gradients, strict=True):
            if workload.momentum:
                v = pytensor.shared(np.zeros_like(p.get_value()), shape=p.type.shape)
                slots.append(v)
                g = f(workload.momentum) * v + g
                updates.append((v, g))
            updates.append((p, p - f(workload.learning_rate) * g))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        function = pytensor.function(
            list(inputs.values()), [pytensor.Out(o, borrow=True) for o in outputs], updates=updates, mode=option
        )
    function.trust_input = True
    rotation = Rotation(function, [tuple(np.asarray(a) for a in batch.values()) for batch in workload.batches()])

    def reset() -> None:
        rotation.rewind()
        for name, value in workload.parameters.items():
            parameters[name].set_value(value.copy(), borrow=True)
        for slot in slots:
            slot.set_value(np.zeros_like(slot.get_value(borrow=True)), borrow=True)

    def state() -> dict[str, Array]:
        value, *gradients = rotation.last
        if parameters:
            return {"loss": np.asarray(value)} | {name: p.get_value() for name, p in parameters.items()}
        return {"loss": np.asarray(value)} | {n: np.asarray(g) for n, g in zip(workload.wrt, gradients, strict=True)}

    return Contender(reset, rotation.run, state)
