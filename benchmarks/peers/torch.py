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
    # Labels are int64: the losses take nothing else.
    arguments = [
        tuple(torch.tensor(a.astype(np.int64) if a.dtype == np.int32 else a) for a in batch.values())
        for batch in workload.batches()
    ]
    parameters = [torch.tensor(value) for value in workload.parameters.values()]
    compiled = option == "compile"
    update = _Update(workload, parameters, fused=not compiled)
    if compiled:
        call = _compiled(workload, parameters, update)
    elif parameters:
        call = _step(workload, parameters, update)
    else:
        call = _gradients(workload, arguments)
    rotation = Rotation(call, arguments)

    def reset() -> None:
        rotation.rewind()
        with torch.no_grad():
            for p, value in zip(parameters, workload.parameters.values(), strict=True):
                p.copy_(torch.from_numpy(np.asarray(value)))
            for slot in update.slots():
                slot.zero_()

    def state() -> dict[str, Array]:
        if parameters:
            values = zip(workload.parameters, parameters, strict=True)
            return {"loss": rotation.last.detach().numpy()} | {n: p.detach().numpy().copy() for n, p in values}
        value, gradients = rotation.last
        found = zip(workload.wrt, gradients, strict=True)
        return {"loss": value.detach().numpy()} | {n: g.detach().numpy() for n, g in found}

    return Contender(reset, rotation.run, state)


# --- the update -------------------------------------------------------------------------------------------
class _Update:
    """Gradients to parameters, in place: gradient descent, with momentum, or Adam.

    Adam's ``fused`` kernel is the fastest. The compiler refuses to have it in one graph with the rest and gets the formula.
    """

    def __init__(self, workload: Workload, parameters: list[Any], *, fused: bool) -> None:
        import torch

        self.parameters, self.rate, self.momentum = parameters, workload.learning_rate, workload.momentum
        self.speed = [torch.zeros_like(p) for p in parameters] if workload.momentum else []
        self.count, self.averages, self.adam = torch.zeros(()), [], None
        if workload.adam and fused:
            self.adam = torch.optim.Adam(parameters, lr=self.rate, betas=ADAM.betas, eps=ADAM.eps, fused=True)
        elif workload.adam:
            self.averages = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]

    def slots(self) -> list[Any]:
        """What it remembers from step to step."""
        of_adam = [slot for slots in self.adam.state.values() for slot in slots.values()] if self.adam else []
        return [*self.speed, self.count, *(slot for pair in self.averages for slot in pair), *of_adam]

    def __call__(self, gradients: Any) -> None:
        if self.adam:
            for p, g in zip(self.parameters, gradients, strict=True):
                p.grad = g
            self.adam.step()
        elif self.averages:
            self.count.add_(1)
            size, scale = ADAM.scalars(self.rate, self.count)
            for p, (m, v), g in zip(self.parameters, self.averages, gradients, strict=True):
                m.mul_(ADAM.betas[0]).add_(g, alpha=1 - ADAM.betas[0])
                v.mul_(ADAM.betas[1]).addcmul_(g, g, value=1 - ADAM.betas[1])
                p.sub_(size * m / (v.sqrt() * scale + ADAM.eps))
        else:
            for v, g in zip(self.speed, gradients, strict=True) if self.speed else ():
                v.mul_(self.momentum).add_(g)
            for p, g in zip(self.parameters, self.speed or gradients, strict=True):
                p.sub_(g, alpha=self.rate)


# --- the step ---------------------------------------------------------------------------------------------
def _compiled(workload: Workload, parameters: list[Any], update: _Update) -> Any:
    """One graph: forward, backward and update, by the functional gradient that the compiler traces through."""
    import torch

    formula, names, wrt = workload.formulas["torch"], list(workload.inputs), list(workload.wrt)

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
    return torch.compile(call, fullgraph=True, dynamic=False)


def _step(workload: Workload, parameters: list[Any], update: _Update) -> Any:
    import torch

    formula, named = workload.formulas["torch"], dict(zip(workload.parameters, parameters, strict=True))
    for p in parameters:
        p.requires_grad_(True)

    def call(*values: Any) -> Any:
        value = formula(torch, *values, **named)
        gradients = torch.autograd.grad(value, parameters)
        with torch.no_grad():
            update(gradients)
        return value

    return call


def _gradients(workload: Workload, arguments: list[tuple[Any, ...]]) -> Any:
    import torch

    formula, places = workload.formulas["torch"], [list(workload.inputs).index(name) for name in workload.wrt]
    for values in arguments:
        for place in places:
            values[place].requires_grad_(True)

    def call(*values: Any) -> Any:
        value = formula(torch, *values)
        return value, torch.autograd.grad(value, [values[place] for place in places])

    return call
