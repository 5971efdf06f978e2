"""How cost grows: ``python -m benchmarks.growth``; the tables to the terminal, all numbers to ``results/growth.json``.

compile   seconds of each stage against the number of nodes, for train steps of ever more layers (8 x 8, batch 8)
step      seconds of a step of a three-layer net in C against its width, and against its batch
arena     bytes of working memory against the most that is alive at once, which no plan can do without
"""

# ruff: noqa: N806  (W, X: the letters of the formulas)
from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import graphc as gx
from benchmarks.report import pretty, show
from graphc import libraries, pipeline, toolchain
from graphc.compile import freeze, write_c
from graphc.emit import memory
from graphc.ir import toposort
from graphc.passes.grad import grad_with_trail
from graphc.plan import Span

__all__ = ["arena_growth", "compile_growth", "step_growth"]

RESULTS = Path(__file__).with_name("results") / "growth.json"


def layers(count: int, width: int, batch: int) -> tuple[Any, Any, list[Any]]:
    """Input, loss and parameters of ``count`` fully connected layers with relu."""
    h = X = gx.input("X", (batch, width))
    parameters = []
    for k in range(count):
        W = gx.parameter(f"W{k}", gx.init.he_normal((width, width), seed=k))
        b = gx.parameter(f"b{k}", np.zeros(width))
        parameters += [W, b]
        h = gx.nn.relu(h @ W + b)
    return X, gx.mean(h * h), parameters


def step_graph(count: int, width: int, batch: int) -> Any:
    X, loss, parameters = layers(count, width, batch)
    gradients, trail = grad_with_trail(loss, parameters)
    updates = {p: p - 0.01 * g for p, g in zip(parameters, gradients, strict=True)}
    return freeze([X], (loss,), ("loss",), "single", updates, "grown", trail)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


# --- the three tables -------------------------------------------------------------------------------------
def compile_growth(counts: list[int]) -> list[dict[str, Any]]:
    """Of train steps with so many layers: nodes, kernels, lines of C, and the seconds of each stage."""
    compiler = toolchain.find_compiler()
    target = toolchain.resolve_target(compiler)
    write_c(step_graph(1, 8, 8), compiler, target)  # imports, templates
    rows = []
    for count in counts:
        of_graph, graph = timed(lambda n=count: step_graph(n, 8, 8))
        of_schedule, (_, _, kernels) = timed(lambda g=graph: pipeline.stages(g))
        of_both, emitted = timed(lambda g=graph: write_c(g, compiler, target))
        with tempfile.TemporaryDirectory() as directory, mock.patch.dict("os.environ", GRAPHC_BUILD_DIR=directory):
            of_compiler, _ = timed(
                lambda e=emitted: libraries.build(e.c_source, name=e.name, compiler=compiler, target=target)
            )
        rows.append({
            "nodes": len(toposort(graph.results)), "kernels": len(kernels.kernels),
            "lines of C": emitted.c_source.count("\n"), "graph, gradient": of_graph,
            "equations, schedule": of_schedule, "C text": max(of_both - of_schedule, 0.0), "C compiler": of_compiler,
        })  # fmt: skip
    return rows


def step_growth(shapes: list[tuple[int, int]]) -> list[dict[str, Any]]:
    """Of a three-layer net of each width and batch: the median seconds of a step in C, and flop/s."""
    rows = []
    for width, batch in shapes:
        X, loss, parameters = layers(3, width, batch)
        step = gx.train_step(loss, gx.optim.SGD(1e-4), parameters=parameters, name="grown")
        data = np.random.default_rng(0).normal(size=X.shape).astype(np.float32)
        n, took = 1, 0.0
        while took < 0.02:
            n *= 2
            took, _ = timed(lambda s=step, k=n, d=data: s.run(k, X=d))
        samples = [timed(lambda s=step, k=n, d=data: s.run(k, X=d))[0] / n for _ in range(7)]
        seconds = float(np.median(samples))
        flops = 2 * batch * width * width * (3 + 3 + 2)  # forward, weights, the layer below
        rows.append({"width": width, "batch": batch, "step": seconds, "Gflop/s": flops / seconds / 1e9})
    return rows


def arena_growth(shapes: list[tuple[int, int, int]]) -> list[dict[str, Any]]:
    """Of nets of so many layers, each width and batch: bytes of the arena, and of what is alive at the fullest kernel."""
    compiler = toolchain.find_compiler()
    target = toolchain.resolve_target(compiler)
    rows = []
    for count, width, batch in shapes:
        seen: list[Span] = []
        plan = memory.plan
        with mock.patch.object(memory, "plan", lambda spans, p=plan, s=seen: (s.extend(spans), p(s))[1]):
            emitted = write_c(step_graph(count, width, batch), compiler, target)
        ends = range(max((span.last for span in seen), default=0) + 1)
        alive = max(sum(span.nbytes for span in seen if span.first <= k <= span.last) for k in ends)
        rows.append({"layers": count, "width": width, "batch": batch, "arena": emitted.arena_bytes, "alive": alive,
                     "ratio": emitted.arena_bytes / alive if alive else 1.0})  # fmt: skip
    return rows


# --- the run ----------------------------------------------------------------------------------------------
def spelled(name: str, value: Any) -> str:
    if name in ("graph, gradient", "equations, schedule", "C text", "C compiler", "step"):
        return pretty(value)
    return f"{value:.2f}" if isinstance(value, float) else f"{value:,}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="up to 1,000 nodes and widths of 256")
    parser.add_argument("--json", type=Path, default=RESULTS, metavar="FILE")
    options = parser.parse_args()
    counts = [1, 5, 50] if options.quick else [1, 5, 50, 500]
    widths = [16, 64, 256] if options.quick else [16, 32, 64, 128, 256, 512, 1024]
    tables = {
        "compile": compile_growth(counts),
        "step": step_growth([*((width, 128) for width in widths), *((256, batch) for batch in (1, 8, 32, 512))]),
        "arena": arena_growth([(n, w, b) for n, w, b in ((2, 64, 32), (8, 64, 32), (32, 64, 32), (8, 256, 128))]),
    }
    for title, rows in tables.items():
        show(title, list(rows[0]), [[spelled(name, value) for name, value in row.items()] for row in rows])
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(tables, indent=1) + "\n")
    print(f"wrote {options.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
