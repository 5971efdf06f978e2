"""From what the user asked for to a function that runs.

The front half checks the request and freezes it as a :class:`Graph`, which is all that the stages behind it see; the
back half finds the library of a graph in the cache, or has :mod:`graphc.pipeline` write the C and builds it.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from itertools import count
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from graphc import enter, libraries, toolchain
from graphc.arguments import Check, Slot
from graphc.cache import is_new
from graphc.frontend import parameter as new_parameter
from graphc.ir import Node, Parameter, inputs_of, make, parameters_of, rebuild, rounded, toposort
from graphc.ops.pointwise import as_node, cast
from graphc.ops.structural import broadcast_to
from graphc.passes.draws import counted
from graphc.program import Form, KernelReport, NativeProgram, NumpyProgram, Program, Signature
from graphc.runtime import Function
from graphc.types import BOOL, DTypeError, GraphcError, GraphError, NameClashError, ShapeError, promote

if TYPE_CHECKING:
    from graphc.emit.emit import Emitted

__all__ = ["Graph", "compile", "freeze", "index_checks", "program_of", "write_c"]

Updates = Mapping[Any, Any]

# A constant with more elements than this is passed as data.
LARGEST_TABLE = 256
# Keywords of a call, which no input can be named.
_OF_CALLS = ("out", "progress", "show", "trace")


# --- the front half: what was asked for -------------------------------------------------------------------
@dataclass(frozen=True)
class Graph:
    """One function, checked: what :func:`compile` hands to the stages.

    ``inputs`` are in the user's order and may hold ones that nothing reads; ``parameters`` are all that are read or
    written, in the order of the graph, then those that are only written. Each of ``updates`` pairs a parameter with a
    node of exactly its type; all take effect after every output and new value is computed. An output may be any
    node (an input, a parameter, a constant, one node twice). Names are unique among inputs and parameters, and among
    outputs; an output may have the name of an input. ``cotangents`` pairs nodes with those whose gradient they are; the
    C names them so. ``draws`` are the parameters that random draws read: the step and their keys. ``tables`` are the last
    of ``parameters``: large constants, not the user's business.
    """

    name: str
    inputs: tuple[Node, ...]
    parameters: tuple[Parameter, ...]
    outputs: tuple[Node, ...]
    output_names: tuple[str, ...]
    form: Form
    updates: tuple[tuple[Parameter, Node], ...]
    cotangents: tuple[tuple[Node, Node], ...] = ()
    draws: tuple[Parameter, ...] = ()
    tables: tuple[Parameter, ...] = ()

    @property
    def results(self) -> tuple[Node, ...]:
        """Everything to compute: the outputs, then the new values."""
        return (*self.outputs, *(value for _, value in self.updates))

    def signature(self, *, arena_bytes: int = 0, checks: tuple[Check, ...] = (), threaded: bool = False) -> Signature:
        """What the runtime must know of the graph, with what planning adds."""
        written = {parameter for parameter, _ in self.updates}
        return Signature(
            name=self.name,
            inputs=tuple(Slot(str(node.name), node.type) for node in self.inputs),
            parameters=tuple((parameter, parameter in written) for parameter in self.parameters),
            outputs=tuple(Slot(name, node.type) for name, node in zip(self.output_names, self.outputs, strict=True)),
            form=self.form,
            arena_bytes=arena_bytes,
            checks=checks,
            threaded=threaded,
            tables=len(self.tables),
        )


def compile(
    inputs: Sequence[Node] | Node,
    outputs: Node | Sequence[Node] | Mapping[str, Node],
    updates: Updates | None = None,
    *,
    name: str | None = None,
    threads: int | None = None,
    target: str | None = None,
    backend: str | None = None,
) -> Function:
    """A function that computes ``outputs``, in their structure, from ``inputs`` and the parameters they reach.

    ``updates={parameter: new_value}`` all take effect together, after every output and new value was computed from
    the old ones. A new value has the parameter's shape, and a dtype that converts to the parameter's without losing kind.
    ``threads`` bounds the threads of a call (as do OMP_NUM_THREADS and the processors there are), ``target`` names an
    instruction set, ``backend`` is ``"native"`` (C, the default) or ``"numpy"`` (no compiler needed).

    Raises :class:`GraphError`, :class:`ShapeError`, :class:`DTypeError` or :class:`NameClashError`.

    >>> import graphc as gx
    >>> x, y = gx.input("x"), gx.input("y")
    >>> f = gx.compile([x, y], {"sum": x + y, "product": x * y}, backend="numpy")
    >>> f(2, y=3)
    {'sum': 5.0, 'product': 6.0}
    """
    form, names, nodes = _structure(outputs)
    graph = freeze(inputs, nodes, names, form, updates or {}, "function" if name is None else name)
    program = program_of(graph, threads=threads, target=target, backend=backend)
    return Function(program, graph=graph, threads=threads)


def program_of(graph: Graph, *, threads: int | None, target: str | None, backend: str | None) -> Program:
    """The program of ``graph`` for a backend."""
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise GraphError(f"threads must be a positive number or None, got {threads!r}")
    if backend not in (None, "native", "numpy"):
        raise GraphError(f"backend must be 'native', 'numpy' or None, got {backend!r}")
    if backend == "numpy":
        checks = index_checks(graph.results)
        return NumpyProgram(graph.signature(checks=checks), graph.inputs, graph.outputs, graph.updates)
    return _native(graph, target)


def _structure(outputs: Any) -> tuple[Form, tuple[str, ...], tuple[Node, ...]]:
    """The form, the names and the nodes of ``outputs=``."""
    if isinstance(outputs, Node):
        return "single", ("output",), (outputs,)
    if isinstance(outputs, Mapping):
        for key in outputs:
            if not isinstance(key, str) or not key:
                raise GraphError(f"outputs: a key must be a non-empty string, got {key!r}")
        return "dict", tuple(outputs), _nodes("outputs", outputs.values())
    if not isinstance(outputs, list | tuple):
        raise GraphError(f"outputs must be a node, or a list, tuple or dict of nodes, got {outputs!r}")
    names = tuple(f"output_{k}" for k in range(len(outputs)))
    return "tuple" if isinstance(outputs, tuple) else "list", names, _nodes("outputs", outputs)


def _nodes(what: str, values: Any) -> tuple[Node, ...]:
    for value in values:
        if not isinstance(value, Node):
            raise GraphError(f"{what} must be nodes, got {value!r}; graphc.constant makes a node of a number or array")
    return tuple(values)


def freeze(
    inputs: Sequence[Node] | Node,
    outputs: tuple[Node, ...],
    output_names: tuple[str, ...],
    form: Form,
    updates: Updates,
    name: str,
    cotangents: Mapping[Node, Node] | None = None,
) -> Graph:
    """Check everything and order it; raises what :func:`compile` does."""
    if not isinstance(name, str) or not name:
        raise GraphError(f"name must be a non-empty string, got {name!r}")
    if isinstance(inputs, Mapping) or not isinstance(inputs, Sequence | Node):
        raise GraphError(f"inputs must be a sequence of input nodes, got {inputs!r}")
    listed = _nodes("inputs", [inputs] if isinstance(inputs, Node) else inputs)
    for node, times in Counter(listed).items():
        if isinstance(node, Parameter):
            raise GraphError(f"inputs: {node!r} is a parameter; a function knows its parameters, leave it out")
        if node.op.name != "input":
            raise GraphError(f"inputs: {node!r} is computed, not an input; make one with graphc.input")
        if node.name in _OF_CALLS:
            raise NameClashError(f"no input can be named {node.name!r}: it is a keyword of the call")
        if times > 1:
            raise GraphError(f"inputs: {node.name!r} is listed twice")
    pairs = tuple(_update(parameter, value) for parameter, value in updates.items())
    pairs = tuple((parameter, value) for parameter, value in pairs if value is not parameter)
    if not outputs and not pairs:
        raise GraphError("nothing to compute: there are no outputs and no updates")
    outputs, pairs, trail, draws = _with_draws(outputs, pairs, cotangents or {})
    order, given = toposort([*outputs, *(value for _, value in pairs)]), set(listed)
    inputs_of([*listed, *order])  # one name with two types is said here
    for node in inputs_of(order):
        if node not in given:
            raise GraphError(f"input {node.name!r} is needed but not listed: add it to inputs=[...]")
    parameters = tuple(dict.fromkeys([*parameters_of(order), *(parameter for parameter, _ in pairs)]))
    taken: dict[str | None, Node] = {node.name: node for node in listed}
    for parameter in parameters:
        if taken.setdefault(parameter.name, parameter) is not parameter:
            other = "a parameter" if isinstance(taken[parameter.name], Parameter) else "an input"
            raise NameClashError(
                f"{parameter.name!r} names a parameter {parameter.type} and {other} {taken[parameter.name].type} "
                "of one function; give each a name of its own"
            )
    return Graph(name, listed, parameters, outputs, output_names, form, pairs, trail, draws)


Pairs = tuple[tuple[Parameter, Node], ...]
Trail = tuple[tuple[Node, Node], ...]


def _with_draws(
    outputs: tuple[Node, ...], pairs: Pairs, cotangents: Mapping[Node, Node]
) -> tuple[tuple[Node, ...], Pairs, Trail, tuple[Parameter, ...]]:
    """Outputs, updates and cotangents that are reached, in which random draws read the state of this function; and that."""
    results = [*outputs, *(value for _, value in pairs)]
    reached = set(toposort(results))
    trail = tuple(pair for pair in cotangents.items() if reached.issuperset(pair))
    renewed, state, steps = counted([*results, *(node for pair in trail for node in pair)])
    if not state:
        return outputs, pairs, trail, ()
    ends = renewed[len(results) :]
    values = renewed[len(outputs) : len(results)]
    new = tuple((parameter, value) for (parameter, _), value in zip(pairs, values, strict=True))
    return tuple(renewed[: len(outputs)]), new + steps, tuple(zip(ends[::2], ends[1::2], strict=True)), state


def _update(parameter: Any, value: Any) -> tuple[Parameter, Node]:
    """The new value as a node of exactly the parameter's type."""
    if not isinstance(parameter, Parameter):
        raise GraphError(f"updates: only a parameter can be updated, got {parameter!r}")
    node = as_node(value, None if isinstance(value, Node) else parameter.dtype)
    if not isinstance(value, Node) and node.shape == ():
        node = broadcast_to(node, parameter.shape)
    if node.shape != parameter.shape:
        raise ShapeError(f"the new value of {parameter.name!r} has shape {node.shape}, the parameter {parameter.shape}")
    old, new = parameter.dtype, node.dtype
    if new is not old and (not old.is_float or not new.is_float) and promote(old, new) is not old:
        hint = "compare it" if old is BOOL else f"use .astype({str(old)!r})"
        raise DTypeError(f"the new value of {parameter.name!r} is {new}, the parameter {old}; {hint}")
    return parameter, cast(node, old)


def index_checks(results: Sequence[Node]) -> tuple[Check, ...]:
    """A check for each tensor of indices, in graph order; it names the input whose elements they are, if they are."""
    checks: dict[Check, None] = {}
    for node in toposort(results):
        if node.op.name == "gather" or node.op.name.startswith("scatter_"):
            table, *indices = node.operands if node.op.name == "gather" else (node.operands[0], *node.operands[2:])
            for axis, index in enumerate(indices, node.attrs["axis"]):
                while index.op.name in ("reshape", "broadcast_to", "permute") or _widens(index):
                    index = index.operands[0]
                source = str(index.name) if index.op.name == "input" else None
                extent = table.shape[axis]
                low = -extent if "wrap" in node.attrs else 0
                checks[Check(f"of {table!r}, axis {axis}", source, extent, low)] = None
    return tuple(checks)


def _widens(node: Node) -> bool:
    """Whether ``node`` is a cast that changes no int."""
    return node.op.name == "cast" and promote(node.dtype, node.operands[0].dtype) is node.dtype and node.dtype.is_int


# --- the back half: from the cache, or written, built and loaded ----------------------------------------------
def _native(graph: Graph, target: str | None) -> Program:
    """The native program of ``graph``: from the cache if it has been built before, else through all stages."""
    with _beside(_read_templates) if is_new() else nullcontext():
        compiler = toolchain.find_compiler()
        chosen = toolchain.resolve_target(compiler, target)
    graph = with_tables(graph)
    record = _built(graph, compiler, chosen)
    return _load(graph, record, partial(_timed, graph, compiler, chosen), _ways(compiler, chosen))


def _read_templates() -> None:
    from graphc.emit.render import read_templates  # all the stages: a start from the cache does without them

    read_templates()


@cache
def _ways(compiler: toolchain.Compiler, target: toolchain.Target) -> enter.Ways:
    """The C that takes arrays from Python's memory and rows from data sets, compiled once for a compiler."""
    return enter.load(libraries.build(enter.source(), name="enter", compiler=compiler, target=target))


def _timed(graph: Graph, compiler: toolchain.Compiler, target: toolchain.Target) -> Path:
    """The library of the same kernels that reads a clock after each."""
    return Path(_built(graph, compiler, target, timed=True)["library"])


def _built(
    graph: Graph, compiler: toolchain.Compiler, target: toolchain.Target, *, timed: bool = False
) -> Mapping[str, Any]:
    """What loading needs of the library of ``graph``, remembered or built."""
    key = digest(graph) + (" timed" if timed else "")
    found = libraries.recall(key, compiler, target)
    if found is None:
        with _beside(partial(_ways, compiler, target)):
            emitted = write_c(graph, compiler, target, timed=timed)
            openmp = emitted.threaded and compiler.openmp is not None
            library = libraries.build(emitted.c_source, name=emitted.name, compiler=compiler, target=target, openmp=openmp)
        found = {
            "arena_bytes": emitted.arena_bytes,
            "threaded": emitted.threaded,
            "checks": emitted.checks,
            "kernels": [asdict(kernel) for kernel in emitted.kernels],
            "header": emitted.c_header,
            "name": emitted.name,
        }
        libraries.remember(key, found, library=library, compiler=compiler, target=target)
        found["library"] = library
    return found


@contextmanager
def _beside(work: Callable[[], object]) -> Iterator[None]:
    """Has ``work`` done meanwhile; what is wrong with it whoever needs it will hear."""

    def quietly() -> None:
        with suppress(GraphcError):
            work()

    thread = Thread(target=quietly)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def write_c(graph: Graph, compiler: toolchain.Compiler, target: toolchain.Target, *, timed: bool = False) -> Emitted:
    """The C of a graph for a target; threads only where the compiler can link OpenMP."""
    from graphc.pipeline import render  # all the stages: a start from the cache does without them

    return render(graph, target.vector_bytes, (os.cpu_count() or 1) if compiler.openmp else 1, timed=timed)


def with_tables(graph: Graph) -> Graph:
    """The graph with its large constants passed at run time, as parameters that nobody sees: data is not C text."""
    tables: dict[Node, Parameter] = {}
    taken = {node.name for node in (*graph.inputs, *graph.parameters)}
    cotangents = [node for pair in graph.cotangents for node in pair]

    def rule(node: Node, operands: tuple[Node, ...]) -> Node:
        if node.op.name == "constant" and node.size > LARGEST_TABLE:
            name = next(name for n in count(1) if (name := f"table_{n}") not in taken)
            taken.add(name)
            tables[node] = new_parameter(name, rounded(node), node.dtype, trainable=False)
            return tables[node]
        return node if operands == node.operands else make(node.op, *operands, **node.attrs)

    if not any(node.op.name == "constant" and node.size > LARGEST_TABLE for node in toposort(graph.results)):
        return graph
    new = rebuild([*graph.results, *cotangents], rule)
    results, trail = new[: len(graph.results)], new[len(graph.results) :]
    values = results[len(graph.outputs) :]
    return replace(
        graph,
        parameters=(*graph.parameters, *tables.values()),
        outputs=tuple(results[: len(graph.outputs)]),
        updates=tuple((target, value) for (target, _), value in zip(graph.updates, values, strict=True)),
        cotangents=tuple(zip(trail[::2], trail[1::2], strict=True)),
        tables=tuple(tables.values()),
    )


def _load(
    graph: Graph, record: Mapping[str, Any], timed: Callable[[], Path], ways: enter.Ways
) -> Program:
    inputs = {node.name for node in graph.inputs}
    checks = tuple(
        Check(f"of {tensor}", tensor if tensor in inputs else None, extent, low)
        for tensor, low, extent in record["checks"]
    )
    signature = graph.signature(arena_bytes=record["arena_bytes"], checks=checks, threaded=record["threaded"])
    library = Path(record["library"])
    kernels = tuple(KernelReport(**{**kernel, "formulas": tuple(kernel["formulas"])}) for kernel in record["kernels"])
    return NativeProgram(
        library,
        signature,
        entry=record["name"],
        c_source=library.with_suffix(".c"),
        c_header=record["header"],
        kernels=kernels,
        timed=timed,
        ways=ways,
    )


def digest(graph: Graph) -> str:
    """A name for all that decides the C: the graph, the options, and graphc's own text."""
    order = toposort(graph.results)
    number = {node: place for place, node in enumerate(order)}
    state = hashlib.sha256(_own_text().encode())
    for node in order:
        if node.op.name == "constant":
            array = node.attrs["value"].array
            attrs = f"{array.dtype}{array.shape}{array.tobytes().hex() if array.size < 64 else hashlib.sha256(array).hexdigest()}"
        else:
            attrs = repr(sorted((key, str(value)) for key, value in node.attrs.items()))
        state.update(f"{node.op.name}({[number[o] for o in node.operands]}){node.type}{attrs};".encode())
    head = [(node.name, str(node.type)) for node in (*graph.inputs, *graph.parameters)]
    tail = (
        [number[node] for node in graph.results],
        graph.output_names,
        [p.name for p, _ in graph.updates],
        os.cpu_count(),
    )
    names = [(number[g], number[node]) for g, node in graph.cotangents]
    bounds = [(t.value.min().item(), t.value.max().item()) for t in graph.tables if t.dtype.is_int]  # may spare a check
    state.update(repr((graph.name, head, tail, names, bounds)).encode())
    return state.hexdigest()


@cache
def _own_text() -> str:
    """Changes whenever a file of graphc does: its sizes and times, which cost nothing to read."""
    package = Path(__file__).parent
    folders = [package, package.parent / "templates"]
    files = [file for folder in folders for file in sorted(folder.rglob("*")) if file.suffix in (".py", ".j2")]
    return repr([(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files])
