"""PyTorch: eager with ``autograd.grad`` and updates in place; or the whole step through ``torch.compile``."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.peers import Cannot, Contender, Rotation
from benchmarks.workload import ADAM, Array, Workload

LIBRARY = "torch"


def version() -> str:
    import torch

    return torch.__version__


def threads() -> str:
    import torch

    return str(torch.get_num_threads())


def build(workload: Workload, mode: str, option: str | None = "eager") -> Contender:
    import torch

    if mode != "call":
        raise Cannot("no loop inside C; its time per call stands for it")
    formula, compiled = workload.formulas["torch"], option == "compile"
    names, wrt = list(workload.inputs), list(workload.wrt)
    # Labels are int64: the losses take nothing else.
    arguments = [
        tuple(torch.tensor(a.astype(np.int64) if a.dtype == np.int32 else a) for a in batch.values())
        for batch in workload.batches()
    ]
    parameters = [torch.tensor(value) for value in workload.parameters.values()]
    speed = [torch.zeros_like(p) for p in parameters] if workload.momentum else []
    rate, mu = workload.learning_rate, workload.momentum

    # Its fused kernel is the fastest. The compiler refuses to have it in one graph with the rest and gets the formula.
    fused = workload.adam and not compiled
    adam = torch.optim.Adam(parameters, lr=rate, betas=ADAM.betas, eps=ADAM.eps, fused=True) if fused else None
    averages = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters] if workload.adam and compiled else []
    count = torch.zeros(())

    def update(gradients: Any) -> None:
        if adam:
            for p, g in zip(parameters, gradients, strict=True):
                p.grad = g
            adam.step()
            return
        if averages:
            count.add_(1)
            size, scale = ADAM.scalars(rate, count)
            for p, (m, v), g in zip(parameters, averages, gradients, strict=True):
                m.mul_(ADAM.betas[0]).add_(g, alpha=1 - ADAM.betas[0])
                v.mul_(ADAM.betas[1]).addcmul_(g, g, value=1 - ADAM.betas[1])
                p.sub_(size * m / (v.sqrt() * scale + ADAM.eps))
            return
        if mu:
            for v, g in zip(speed, gradients, strict=True):
                v.mul_(mu).add_(g)
            gradients = speed
        for p, g in zip(parameters, gradients, strict=True):
            p.sub_(g, alpha=rate)

    if compiled:
        # One graph: forward, backward and update, by the functional gradient that the compiler traces through.
        def loss(at: Any, rest: Any) -> Any:
            return formula(torch, **dict(zip(wrt, at, strict=True)), **rest)

        def call(*values: Any) -> Any:
            rest = dict(zip(names, values, strict=True))
            at = tuple(parameters) if parameters else tuple(rest.pop(name) for name in wrt)
            gradients, value = torch.func.grad_and_value(loss)(at, rest)
            if parameters:
                update(gradients)
                return value
            return value, gradients

        torch._dynamo.reset()
        call = torch.compile(call, fullgraph=True, dynamic=False)
    elif parameters:
        for p in parameters:
            p.requires_grad_(True)
        named = dict(zip(workload.parameters, parameters, strict=True))

        def call(*values: Any) -> Any:
            value = formula(torch, *values, **named)
            gradients = torch.autograd.grad(value, parameters)
            with torch.no_grad():
                update(gradients)
            return value
    else:
        places = [names.index(name) for name in wrt]
        for values in arguments:
            for i in places:
                values[i].requires_grad_(True)

        def call(*values: Any) -> Any:
            value = formula(torch, *values)
            return value, torch.autograd.grad(value, [values[i] for i in places])

    rotation = Rotation(call, arguments)

    def reset() -> None:
        rotation.rewind()
        with torch.no_grad():
            for p, value in zip(parameters, workload.parameters.values(), strict=True):
                p.copy_(torch.from_numpy(np.asarray(value)))
            for v in speed:
                v.zero_()
            count.zero_()
            for pair in averages:
                for slot in pair:
                    slot.zero_()
            for slots in adam.state.values() if adam else ():
                for slot in slots.values():
                    slot.zero_()

    def state() -> dict[str, Array]:
        if parameters:
            values = zip(workload.parameters, parameters, strict=True)
            return {"loss": rotation.last.detach().numpy()} | {n: p.detach().numpy().copy() for n, p in values}
        value, gradients = rotation.last
        return {"loss": value.detach().numpy()} | {n: g.detach().numpy() for n, g in zip(wrt, gradients, strict=True)}

    return Contender(reset, rotation.run, state)
