"""JAX: ``jit`` with the parameters donated; ``lax.fori_loop`` over the batches in rotation for the loop.

Inputs lie on the device beforehand. Where a value is asked for, every call waits for it (an optimiser needs it);
where parameters are stepped, calls are dispatched one after the other and the last is waited for.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.peers import Cannot, Contender, Rotation
from benchmarks.workload import ADAM, Array, Workload

LIBRARY = "jax.numpy"


def version() -> str:
    import jax

    return jax.__version__


def threads() -> str:
    import os

    return f"its default (all cores: {os.cpu_count()})"


def build(workload: Workload, mode: str, option: str | None = None) -> Contender:
    import jax

    jax.config.update("jax_enable_x64", workload.dtype == np.float64)
    return (_step if workload.steps else _gradients)(workload, mode)


def _gradients(workload: Workload, mode: str) -> Contender:
    import jax
    import jax.numpy as jnp

    if mode == "loop":
        raise Cannot("no state to step")
    names = list(workload.inputs)
    formula = workload.formulas["jax"]

    def loss(*values: Any) -> Any:
        return formula(jnp, **dict(zip(names, values, strict=True)))

    function = jax.jit(jax.value_and_grad(loss, argnums=tuple(names.index(name) for name in workload.wrt)))
    arguments = [tuple(jnp.array(a) for a in batch.values()) for batch in workload.batches()]

    def call(*values: Any) -> Any:
        value, gradients = function(*values)
        value.block_until_ready()  # all outputs of one call become ready together
        return value, gradients

    rotation = Rotation(call, arguments)

    def state() -> dict[str, Array]:
        value, gradients = rotation.last
        return {"loss": np.asarray(value)} | {n: np.asarray(g) for n, g in zip(workload.wrt, gradients, strict=True)}

    return Contender(rotation.rewind, rotation.run, state)


def _step(workload: Workload, mode: str) -> Contender:
    import jax
    import jax.numpy as jnp
    from jax import lax

    names, formula = list(workload.parameters), workload.formulas["jax"]
    rate, mu = workload.learning_rate, workload.momentum

    def loss(parameters: Any, batch: Any) -> Any:
        return formula(
            jnp, **dict(zip(names, parameters, strict=True)), **dict(zip(workload.inputs, batch, strict=True))
        )

    def step(state: Any, batch: Any) -> Any:
        parameters, speed = state
        value, gradients = jax.value_and_grad(loss)(parameters, batch)
        if workload.adam:  # as optax has it
            t, ms, vs = speed
            t = t + 1
            ms = [ADAM.betas[0] * m + (1 - ADAM.betas[0]) * g for m, g in zip(ms, gradients, strict=True)]
            vs = [ADAM.betas[1] * v + (1 - ADAM.betas[1]) * g * g for v, g in zip(vs, gradients, strict=True)]
            size, scale = ADAM.scalars(rate, t)
            moved = [p - size * m / (jnp.sqrt(v) * scale + ADAM.eps) for p, m, v in zip(parameters, ms, vs, strict=True)]
            return (moved, (t, ms, vs)), value
        if mu:
            speed = gradients = [mu * v + g for v, g in zip(speed, gradients, strict=True)]
        return ([p - rate * g for p, g in zip(parameters, gradients, strict=True)], speed), value

    def loop(state: Any, data: Any, n: Any) -> Any:
        def body(i: Any, carry: Any) -> Any:
            batch = [lax.dynamic_index_in_dim(a, lax.rem(i, workload.rotation), keepdims=False) for a in data]
            return step(carry[0], batch)

        return lax.fori_loop(0, n, body, (state, jnp.zeros((), workload.dtype)))

    cell: list[Any] = [None, None]  # state, loss
    if mode == "loop":
        whole = jax.jit(loop, donate_argnums=0)
        data = [jnp.array(array) for array in workload.inputs.values()]

        def run(n: int) -> None:  # every call begins with the first batch
            cell[:] = whole(cell[0], data, n)
            jax.block_until_ready(cell)

        def rewind() -> None:
            pass

    else:
        once = jax.jit(step, donate_argnums=0)

        def call(*batch: Any) -> Any:
            cell[:] = once(cell[0], batch)

        batches = [tuple(jnp.array(a) for a in batch.values()) for batch in workload.batches()]
        rotation = Rotation(call, batches)
        rewind = rotation.rewind

        def run(n: int) -> None:
            rotation.run(n)
            jax.block_until_ready(cell)

    def reset() -> None:
        rewind()
        parameters = [jnp.array(value, copy=True) for value in workload.parameters.values()]
        slots: Any = [jnp.zeros_like(p) for p in parameters] if mu else []
        if workload.adam:
            zeros = [[jnp.zeros_like(p) for p in parameters] for _ in range(2)]
            slots = (jnp.zeros((), workload.dtype), *zeros)
        cell[:] = [(parameters, slots), None]

    def state() -> dict[str, Array]:
        return {"loss": np.asarray(cell[1])} | {n: np.asarray(p) for n, p in zip(names, cell[0][0], strict=True)}

    reset()
    return Contender(reset, run, state)
