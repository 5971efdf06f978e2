"""All stages in a row: a checked graph becomes C. The only file that knows every one of them."""

from __future__ import annotations

from graphc.compile import Graph
from graphc.emit.emit import Emitted, emit
from graphc.emit.spell import function_name
from graphc.ir import Node, verify
from graphc.lower.equations import Program
from graphc.lower.equations import verify as verify_program
from graphc.lower.lower import lower
from graphc.passes.simplify import simplify
from graphc.schedule.kernels import Schedule
from graphc.schedule.schedule import schedule
from graphc.schedule.tiling import TargetModel

__all__ = ["render", "stages"]


def stages(graph: Graph) -> tuple[list[Node], Program, Schedule]:
    """The simplified graph, its equations and their schedule, the first two verified."""
    count, wanted = len(graph.outputs), len(graph.results)
    simple = simplify([*graph.results, *(node for pair in graph.cotangents for node in pair)])
    results, trail = simple[:wanted], simple[wanted:]
    verify(results)
    outputs = list(zip(graph.output_names, results[:count], strict=True))
    updates = [(parameter, new) for (parameter, _), new in zip(graph.updates, results[count:], strict=True)]
    cotangents = dict(zip(trail[::2], trail[1::2], strict=True))
    program = lower(function_name(graph.name), outputs, updates, cotangents, graph.tables)
    verify_program(program)
    return results, program, schedule(program)


def render(graph: Graph, vector_bytes: int, cores: int, *, timed: bool = False) -> Emitted:
    """The C of a graph for a target with vectors of so many bytes (64, 32, 16, or 0 for none) and so many cores.

    ``timed``: with a clock between the kernels, for :meth:`Function.profile`.
    """
    _, program, kernels = stages(graph)
    return emit(
        kernels,
        inputs=[(str(node.name), node.type) for node in graph.inputs],
        parameters=[(str(node.name), node.type) for node in graph.parameters],
        outputs=program.outputs,
        updated=list(program.updates),
        constants=program.constants,
        model=TargetModel.from_vector_bytes(vector_bytes, cores),
        timed=timed,
    )
