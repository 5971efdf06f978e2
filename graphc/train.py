"""Training: a step is gradients plus an optimizer's updates, compiled as one function; ``fit`` feeds it a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphc.arguments import Slot, convert, given_shape
from graphc.compile import Graph, freeze, program_of
from graphc.ir import Array, Node, Parameter, inputs_of, parameters_of, toposort
from graphc.passes.grad import grad_with_trail
from graphc.program import Program
from graphc.runtime import Function, IndexFailureError, Loop, Progress
from graphc.types import (
    GradientError,
    GraphError,
    IndexOutOfRangeError,
    InputTypeError,
    InputValueError,
    NameClashError,
    TensorType,
)

__all__ = ["History", "TrainStep", "train_step"]

Optimizer = Callable[[dict[Parameter, Node]], Mapping[Parameter, Node]]

_ORDERED_ROWS = 2**17  # of small data sets, many epochs go to C at once: so many numbers of rows, 1 MB


def train_step(
    loss: Node,
    optimizer: Optimizer,
    *,
    parameters: Sequence[Parameter] | None = None,
    updates: Mapping[Parameter, Any] | None = None,
    outputs: Mapping[str, Node] | None = None,
    name: str | None = None,
    threads: int | None = None,
    target: str | None = None,
    backend: str | None = None,
) -> TrainStep:
    """One step of ``optimizer`` on the float scalar ``loss``, as a function of the inputs that it reaches.

    ``parameters`` are what to train: by default, all trainable ones that the loss reaches. ``optimizer``, such as
    :class:`graphc.optim.SGD`, turns ``{parameter: gradient}`` into updates. ``updates`` adds more of them, ``outputs`` metrics
    that are returned beside the loss. ``threads``, ``target`` and ``backend`` are those of :func:`graphc.compile`.

    Raises :class:`GradientError` for a loss that is no float scalar or reaches no trainable parameter, and
    :class:`GraphError` for anything else that does not fit.

    >>> import graphc as gx
    >>> w = gx.parameter("w", 3.0)
    >>> step = train_step((w - 1) ** 2, gx.optim.SGD(learning_rate=0.25), backend="numpy")
    >>> step(), w.value.item()
    (4.0, 2.0)
    """
    if not isinstance(loss, Node) or loss.shape != () or not loss.dtype.is_float:
        raise GradientError(f"the loss must be a float scalar, got {loss!r}; reduce it with graphc.mean or graphc.sum")
    reached = parameters_of(toposort([loss]))
    if isinstance(parameters, Node):
        raise GraphError(f"parameters must be a sequence of parameters, got {parameters!r} alone; put it into a list")
    chosen = [p for p in reached if p.trainable] if parameters is None else list(parameters)
    if not chosen:
        raise GradientError("the loss reaches no trainable parameter, so there is nothing to train")
    for parameter in chosen:
        if not isinstance(parameter, Parameter):
            raise GraphError(f"parameters: expected parameters, got {parameter!r}")
        if not parameter.trainable:
            raise GraphError(f"parameters: {parameter.name!r} is not trainable")
        if parameter not in reached:
            raise GraphError(f"parameters: the loss does not reach {parameter.name!r}; leave it out")
        if chosen.count(parameter) > 1:
            raise GraphError(f"parameters: {parameter.name!r} is named twice")
    if outputs is not None and not isinstance(outputs, Mapping):
        raise GraphError(f"outputs must be a dict of metrics by name, got {outputs!r}")
    metrics = dict(outputs or {})
    if "loss" in metrics:
        raise NameClashError("outputs: 'loss' is the name of the loss itself; give the metric another")
    for key, metric in metrics.items():
        if not isinstance(key, str) or not key or not isinstance(metric, Node):
            raise GraphError(f"outputs must map names to nodes, got {key!r}: {metric!r}")

    if isinstance(optimizer, type) or not callable(optimizer):
        raise GraphError(f"optimizer: expected one such as graphc.optim.SGD(learning_rate=0.1), got {optimizer!r}")

    gradients, trail = grad_with_trail(loss, chosen)
    proposed = optimizer(dict(zip(chosen, gradients, strict=True)))
    if not isinstance(proposed, Mapping):
        raise GraphError(f"an optimizer gives a dict from parameters to new values, got {proposed!r}")
    merged: dict[Parameter, Any] = dict(proposed)
    for parameter, value in (updates or {}).items():
        if parameter in merged:
            raise GraphError(f"updates: {parameter!r} is already updated by the optimizer")
        merged[parameter] = value
    results = (loss, *metrics.values())
    inputs = inputs_of(toposort([*results, *(value for value in merged.values() if isinstance(value, Node))]))
    graph = freeze(inputs, results, ("loss", *metrics), "dict" if metrics else "single", merged, name or "step", trail)
    state = {str(slot.name): slot for slot in (*proposed, *graph.draws) if slot not in chosen}
    program = program_of(graph, threads=threads, target=target, backend=backend)
    return TrainStep(program, graph=graph, state=state, threads=threads)


@dataclass
class History:
    """What a ``fit`` saw: per step, and as means over the steps of each epoch.

    ``losses`` (steps,) and ``metrics[name]`` (steps, ...) have the dtype of the node; ``epochs`` (epochs,) and
    ``epoch_metrics[name]`` (epochs, ...) are float64; the last epoch of an interrupted fit counts as far as it came.
    """

    losses: Array
    epochs: Array
    metrics: dict[str, Array] = field(default_factory=dict)
    epoch_metrics: dict[str, Array] = field(default_factory=dict)


class TrainStep(Function):
    """A compiled train step: ``step(X=..., labels=...)`` updates the parameters and gives the loss before the update.

    With metrics it gives ``{"loss": ..., **metrics}``. Everything else is as with :class:`graphc.runtime.Function`.
    ``state`` holds the optimizer's slots by name, and what random draws read; ``history`` what the last :meth:`fit` saw,
    also an interrupted one.
    """

    _positional = False

    def __init__(
        self, program: Program, *, graph: Graph | None, state: Mapping[str, Parameter], threads: int | None = None
    ) -> None:
        super().__init__(program, graph=graph, threads=threads)
        self.state = dict(state)
        self.history: History | None = None

    def fit(
        self,
        data: Mapping[str, Any],
        epochs: int,
        *,
        shuffle: bool = True,
        seed: int | None = 0,
        progress: bool | Progress = False,
    ) -> History:
        """Train for ``epochs`` passes over ``data``, whole batches at a time, in C.

        ``data`` has an entry for each input: for an input of shape (batch, ...) an array of shape (rows, ...), with the
        same rows and one batch size throughout; for a scalar input a number. Each epoch takes the rows in a fresh order
        (as they stand, without ``shuffle``); rows that fill no batch come first in the next epoch. ``progress`` is a
        callable of (steps done, steps in all), or True for a bar (needs ``pip install 'graphc[progress]'``).

        On Ctrl-C, an error in ``progress``, or an index out of range (the error says which row of ``data``) exactly the
        steps before have been applied; ``history`` has them.
        """
        if isinstance(epochs, bool) or not isinstance(epochs, int | np.integer) or epochs < 0:
            raise InputTypeError(f"{self.name}.fit: epochs must be a number >= 0, got {epochs!r}")
        arrays, rows, batch = self._data(data)
        counts = np.diff(np.arange(int(epochs) + 1) * rows // batch)  # steps of each epoch
        total = int(counts.sum())
        outputs = self._stacked(total)
        loop = Loop(self, outputs)
        rng = np.random.default_rng(seed)
        with _reporter(self.name, progress, total, outputs[0]) as report:
            left, at_once = np.arange(0), max(1, _ORDERED_ROWS // rows)
            try:
                for epoch in range(0, len(counts), at_once):
                    fresh = range(min(at_once, len(counts) - epoch))
                    order = np.concatenate([left, *(rng.permutation(rows) if shuffle else np.arange(rows) for _ in fresh)])
                    steps = len(order) // batch
                    left = order[steps * batch :]
                    for done in self._steps(loop, arrays, order[: steps * batch].reshape(steps, batch)):
                        report(done, total)
            except BaseException as error:
                if not isinstance(error, IndexOutOfRangeError):
                    error.add_note(f"{self.name}.fit: exactly {loop.applied} of {total} steps were applied")
                raise
            finally:
                self.history = self._history(outputs, counts, loop.applied)
        return self.history

    def _data(self, data: Mapping[str, Any]) -> tuple[list[tuple[Array, bool]], int, int]:
        """Each input's array of exact dtype, with whether it has rows; how many there are; how many make a batch."""
        if not isinstance(data, Mapping):
            raise InputTypeError(f"{self.name}.fit takes a dict of arrays by input, got {type(data).__name__}")
        where = f"{self.name}.fit"
        arrays: list[tuple[Array, bool]] = []
        rows: tuple[str, int] | None = None
        batch: tuple[str, int] | None = None
        for slot, value in zip(self.inputs, self._caller.ordered((), data), strict=True):
            if not slot.type.shape:
                arrays.append((convert(where, slot, value), False))
                continue
            extent = slot.type.shape[0]
            batch = batch or (slot.name, extent)
            if extent != batch[1]:
                raise InputValueError(
                    f"{where}: inputs {batch[0]!r} and {slot.name!r} have first axes of {batch[1]} and {extent}, "
                    "no batch axis in common; make what is the same at each step a parameter with trainable=False"
                )
            found = given_shape(value) or (0,)
            rows = rows or (slot.name, found[0])
            if found[:1] != (rows[1],) and found[1:] == slot.type.shape[1:]:
                raise InputValueError(f"{where}: {slot.name!r} has {found[0]} rows, {rows[0]!r} has {rows[1]}")
            stacked = TensorType((rows[1], *slot.type.shape[1:]), slot.type.dtype)
            arrays.append((convert(where, Slot(slot.name, stacked), value), True))
        if rows is None or batch is None:
            raise InputTypeError(f"{where}: no input has a batch axis; use {self.name}.run")
        if batch[1] == 0 or rows[1] < batch[1]:
            raise InputValueError(f"{where}: {rows[1]} rows are fewer than one batch of {batch[1]}")
        return arrays, rows[1], batch[1]

    def _steps(self, loop: Loop, arrays: Sequence[tuple[Array, bool]], order: Array) -> Iterator[int]:
        """Apply one step for each row of ``order`` (steps, batch); yields how many steps of all epochs are done."""
        before = loop.applied
        try:
            yield from loop.rows(arrays, order)
        except IndexFailureError as failure:
            raise IndexOutOfRangeError(self._wrong_row(failure, order[failure.step - before])) from None

    def _wrong_row(self, failure: IndexFailureError, picked: Array) -> str:
        """The message of ``failure`` in terms of the user's rows; ``picked`` (batch,) are those of the failed step."""
        where = failure.culprit.where
        shift = (int(picked[where[0]]), *where[1:]) if where else None
        return (
            f"{self.name}.fit: {failure.culprit.message(shift)}; exactly {failure.step} steps were applied, "
            "the next one met this row"
        )

    def _history(self, outputs: Sequence[Array], counts: Array, applied: int) -> History:
        bounds = np.minimum(np.concatenate([[0], np.cumsum(counts)]), applied)
        begun = np.diff(bounds) > 0
        starts, steps = bounds[:-1][begun], np.diff(bounds)[begun]

        def epochs_of(array: Array) -> Array:
            if not len(starts):
                return np.zeros((0, *array.shape[1:]))
            means: Array = np.add.reduceat(array, starts, axis=0, dtype=np.float64)
            means /= steps.reshape(-1, *(1 for _ in array.shape[1:]))
            return means

        named = {slot.name: array[:applied] for slot, array in zip(self.outputs, outputs, strict=True)}
        loss, metrics = named.pop("loss"), named
        return History(loss, epochs_of(loss), metrics, {name: epochs_of(array) for name, array in metrics.items()})


@contextmanager
def _reporter(name: str, progress: bool | Progress, total: int, losses: Array) -> Iterator[Progress]:
    """What to tell the progress to: nothing, the user's callable, or a bar."""
    if progress is False or progress is None:
        yield lambda done, total: None
    elif progress is not True:
        yield progress
    else:
        try:
            from rich.progress import Progress as Bar
        except ImportError as error:
            raise ImportError("progress=True needs `pip install 'graphc[progress]'`; a callable works too") from error
        with Bar() as bar:
            task = bar.add_task(name, total=total)

            def update(done: int, total: int) -> None:
                bar.update(task, completed=done, description=f"{name}  loss {losses[done - 1]:.4g}")

            yield update
