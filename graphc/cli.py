"""The command `graphc`: demo, info, show."""

from __future__ import annotations

import argparse
import linecache
import os
import runpy
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib import metadata
from itertools import count
from pathlib import Path
from typing import Any

from graphc import __version__, toolchain
from graphc.compile import Graph, freeze, write_c
from graphc.ir import Node, format_graph, inputs_of, parameters_of, toposort
from graphc.runtime import Function
from graphc.types import GraphcError

__all__ = ["main"]

STAGES = ("graph", "gradient", "equations", "schedule", "c")


class UsageError(Exception):
    """What the user asked for cannot be; the message says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; gives its exit code: 0, 1 where something did not hold, 2 for a wrong question."""
    options = _parser().parse_args(arguments)
    try:
        code = int(options.run(options))
        sys.stdout.flush()
        return code
    except (UsageError, GraphcError, ImportError) as error:
        print(f"graphc {options.command}: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        print(f"graphc {options.command}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `graphc show ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left to flush at the end goes nowhere
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="graphc", description="A computational-graph compiler: gradients, C, train steps.")
    parser.add_argument("--version", action="version", version=f"graphc {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="{demo,info,show}")

    demo = commands.add_parser("demo", help="train a net on handwritten digits, and check everything on the way")
    demo.add_argument("--seed", type=_seed, default=0, metavar="N", help="of the split, the weights and the batches (0)")
    demo.add_argument("--backend", choices=("native", "numpy"), help="native unless there is no C compiler")
    demo.add_argument("--output", type=Path, metavar="DIR", help="where the picture goes (the cache directory)")
    demo.set_defaults(run=_demo)

    info = commands.add_parser("info", help="which compiler, flags, CPU features and cache directory are used")
    info.set_defaults(run=_info)

    show = commands.add_parser(
        "show", help="print a stage of a graph",
        description="Print a stage of a graph in a Python file. NAME is a node, a list, tuple or dict of nodes, a "
        "compiled function or a train step; the file runs with __name__ == '__graphc__'.",
    )  # fmt: skip
    show.add_argument("what", metavar="FILE.py:NAME")
    show.add_argument("--stage", choices=STAGES, default="graph")
    show.set_defaults(run=_show)
    return parser


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number >= 0, got {text!r}")
    return int(text)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


# --- demo, info -----------------------------------------------------------------------------------------------
def _demo(options: argparse.Namespace) -> int:
    from graphc.demo import demo

    try:
        return 0 if demo(options.seed, options.backend, options.output) else 1
    except OSError as error:
        if options.output is None or isinstance(error, GraphcError):
            raise
        raise UsageError(f"cannot write to --output {options.output}: {error.strerror or error}") from error


def _info(options: argparse.Namespace) -> int:
    facts: dict[str, Any] = {"graphc": __version__, "numpy": _version("numpy"), "cffi": _version("cffi")}
    facts = {**facts, "python": sys.version.split()[0], **toolchain.describe()}
    if facts.get("OpenMP", "") is None:
        facts["OpenMP"] = "none: kernels run in one thread"
    width = max(map(len, facts))
    for name, fact in facts.items():
        text = ", ".join(fact) if isinstance(fact, list) else str(fact)
        print(f"{name:<{width}}  {text}")
    return 0


# --- show -----------------------------------------------------------------------------------------------------
def _show(options: argparse.Namespace) -> int:
    value, name = _load(options.what)
    print(_stage(value, name, options.stage))
    return 0


def _load(what: str) -> tuple[Any, str]:
    """The object that FILE.py:NAME names, and the name."""
    file, colon, name = what.rpartition(":")
    if not colon or not file or not name.isidentifier():
        raise UsageError(f"expected FILE.py:NAME, such as examples/circuit.py:f, got {what!r}")
    path = Path(file)
    if not path.is_file():
        raise UsageError(f"there is no file {file!r}")
    sys.path.insert(0, str(path.resolve().parent))
    try:
        names = runpy.run_path(str(path), run_name="__graphc__")
    except (Exception, SystemExit) as error:
        raise UsageError(f"{file} does not run: {_where(path, error)}{type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
    if name not in names:
        known = [key for key, value in names.items() if not key.startswith("_") and _is_graph(value)]
        raise UsageError(f"{file} has no {name!r}; it has {', '.join(known) or 'no nodes or compiled functions'}")
    return names[name], name


def _where(path: Path, error: BaseException) -> str:
    """The last line of the user's file on the way to the error."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename == str(path):
            return f"line {frame.lineno}, `{linecache.getline(frame.filename, frame.lineno or 0).strip()}`\n  "
    return ""


def _is_graph(value: Any) -> bool:
    if isinstance(value, Mapping):
        return bool(value) and all(isinstance(key, str) and isinstance(node, Node) for key, node in value.items())
    if isinstance(value, list | tuple):
        return bool(value) and all(isinstance(node, Node) for node in value)
    return isinstance(value, Node | Function)


def _graph(value: Any, name: str) -> Graph:
    """The graph of what the user named."""
    if isinstance(value, Function):
        if value.graph is None:
            raise UsageError(f"{name!r} was made of a library, not of a graph; name nodes, or use --stage c")
        return value.graph
    if not _is_graph(value):
        raise UsageError(
            f"{name!r} is {type(value).__name__} {value!r:.60}; expected a node, a list, tuple or dict of nodes, "
            "a compiled function or a train step"
        )
    named = dict(value) if isinstance(value, Mapping) else {}
    nodes = tuple(named.values()) if named else (value,) if isinstance(value, Node) else tuple(value)
    names = tuple(named) or (("output",) if isinstance(value, Node) else tuple(f"output_{k}" for k in range(len(nodes))))
    return freeze(inputs_of(toposort(nodes)), nodes, names, "list", {}, name)


def _stage(value: Any, name: str, stage: str) -> str:
    if stage == "c" and isinstance(value, Function):
        return value.c_source
    graph = _graph(value, name)
    if stage == "graph":
        return _listing(graph.results, [*graph.output_names, *(f"new {parameter.name}" for parameter, _ in graph.updates)])
    if stage == "gradient":
        return _gradient(graph, name)
    if stage == "c":
        compiler = toolchain.find_compiler()
        return write_c(graph, compiler, toolchain.resolve_target(compiler)).c_source
    from graphc.pipeline import stages

    _, program, schedule = stages(graph)
    if stage == "equations":
        from graphc.lower.equations import format_program

        return format_program(program)
    from graphc.schedule.show import format_schedule

    return format_schedule(schedule)


def _gradient(graph: Graph, name: str) -> str:
    """The gradient of the first output by the trainable parameters, or by the float inputs where there are none."""
    from graphc.passes.grad import grad
    from graphc.passes.simplify import simplify

    output = graph.outputs[0] if graph.outputs else None
    if output is None or output.shape != () or not output.dtype.is_float:
        raise UsageError(f"--stage gradient needs a float scalar, {name!r} is {output!r}")
    order = toposort([output])
    trainable: list[Node] = [parameter for parameter in parameters_of(order) if parameter.trainable]
    sources = trainable or [node for node in inputs_of(order) if node.dtype.is_float]
    if not sources:
        raise UsageError(f"{name!r} reaches no trainable parameter and no float input")
    return _listing(simplify(grad(output, sources)), [f"d/d{node.name}" for node in sources])


def _listing(nodes: Sequence[Node], names: Sequence[str]) -> str:
    """The graph, and which of its nodes are meant: ``d/dx = %3``."""
    numbers = count()
    labels = {node: node.name or f"%{next(numbers)}" for node in toposort(nodes)}
    return "\n".join([format_graph(nodes), "", *(f"{name} = {labels[node]}" for name, node in zip(names, nodes, strict=True))])
