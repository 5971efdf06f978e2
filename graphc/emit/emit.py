"""From a schedule to C text. What is fused is decided before; this file gives each kernel its memory and threads and has it
spelled (loops by ``stages.py``, contractions by ``contract.py``), and the templates arrange what is spelled.

The text depends on the graph and on the target description alone: the same graph gives the same bytes in every process.
"""

from __future__ import annotations

import re
from collections import ChainMap, Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphc.emit import vecmath
from graphc.emit.alike import first_alike
from graphc.emit.contract import (
    Contraction,
    Cut,
    contraction,
    cut,
    micro_kernels,
    transposed_dtypes,
    upright_dtypes,
)
from graphc.emit.memory import arena, on_stack, own, part_of_workspace, rounds_kept
from graphc.emit.render import environment
from graphc.emit.spell import (
    VECTOR_PREFIX,
    CNames,
    ScalarSpeller,
    comment,
    comments,
    counted,
    enclosed,
    literal,
    local_ctype,
    spread,
)
from graphc.emit.stages import StageView, fetch_ahead, stage_view
from graphc.emit.statements import StatementSpeller
from graphc.emit.threads import Threads
from graphc.ir import Array
from graphc.lower.equations import axis_name, format_operand
from graphc.ops.linalg import PANEL
from graphc.plan import aligned
from graphc.program import KernelReport
from graphc.schedule import tiling
from graphc.schedule.kernels import (
    CallKernel,
    CheckKernel,
    ContractKernel,
    CopyKernel,
    Kernel,
    LoopKernel,
    Schedule,
    places_of,
    reads_of,
)
from graphc.schedule.schedule import stores_of
from graphc.schedule.work import flops, moved
from graphc.types import FLOAT32, FLOAT64, TensorType

__all__ = ["Emitted", "emit"]

# Rows up to this length are sorted by counting what comes before each element, longer ones by digits.
SHORT_ROW = 64
# What a kernel reads and writes comes from memory, not from the last cache, if it is so much.
FAR_BYTES = 16 << 20

# What a kernel is passed: its declaration in C, and what the call gives for it.
Passed = tuple[str, str]
THREADS: Passed = ("int threads", "(int)args->threads")


@dataclass(frozen=True)
class Emitted:
    """C file and header, and what the runtime must know of them. ``name`` is the function's in C."""

    name: str
    c_source: str
    c_header: str
    arena_bytes: int
    threaded: bool
    kernels: tuple[KernelReport, ...]
    checks: tuple[tuple[str, int, int], ...]


def emit(
    schedule: Schedule,
    *,
    inputs: Sequence[tuple[str, TensorType]],
    parameters: Sequence[tuple[str, TensorType]],
    outputs: Sequence[str],
    updated: Iterable[str],
    constants: Mapping[str, Array],
    model: tiling.TargetModel,
    timed: bool = False,
) -> Emitted:
    """The C of a schedule. ``inputs`` and ``parameters`` are passed in this order, whether or not they are read;
    ``outputs`` name the equations of the outputs. ``timed`` asks for the C that reads a clock after each kernel, whose one
    function is ``<name>_profile``."""
    return _Emitter(schedule, inputs, parameters, outputs, set(updated), constants, model, timed).emit()


def extents_of(kernel: Kernel) -> list[int]:
    """How far the loops of a kernel go."""
    if isinstance(kernel, LoopKernel):
        stages = (*kernel.stages, *kernel.final)
        return [extent for loops in (kernel.outer, *(stage.loops for stage in stages)) for _, extent in loops]
    return [kernel.m, kernel.n, kernel.k, *kernel.batch] if isinstance(kernel, ContractKernel) else []


def helpers_used(texts: Iterable[str]) -> set[str]:
    """The names of the helpers that C text calls."""
    return {name for text in texts for name in re.findall(r"\bgx_\w+(?=\()", text)}


def includes_of(texts: Iterable[str], vector_math: Sequence[str]) -> list[str]:
    """The headers of the C library that the text needs."""
    text = "\n".join(texts)
    needs_math = vector_math or re.search(
        r"\b(fabsf?|sqrtf?|floorf?|ceilf?|truncf?|rintf?|fmodf?|copysignf?|NAN|INFINITY)\b", text
    )
    return ["math.h"] * bool(needs_math) + ["string.h"] * bool(vector_math or re.search(r"\bmem(cpy|set)\(", text))


# --- what templates see -------------------------------------------------------------------------------
@dataclass
class FunctionView:
    """A kernel as a C function."""

    name: str
    comment: list[str]
    parameters: str
    given: list[str]  # for the parameters
    loops: list[tuple[str, int]] = field(default_factory=list)
    simd: bool = False
    threaded: bool = False
    most_parts: int = 0  # that there is memory for; 0 is any number
    declarations: list[str] = field(default_factory=list)
    private: list[str] = field(default_factory=list)
    strip: int = 0
    abreast: bool = False
    block: int = 0
    opened: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    gathered: list[str] = field(default_factory=list)
    stages: list[StageView] = field(default_factory=list)
    finish: list[str] = field(default_factory=list)
    final: list[StageView] = field(default_factory=list)
    contraction: Contraction | None = None
    check: str = ""
    status: int = 0
    statement: str = ""
    parts: int = 1
    items: int = 1

    @property
    def hints(self) -> bool:
        """Whether hints to the compiler stand before its loops."""
        stages = (*self.stages, *self.final)
        return bool(
            self.simd
            or self.threaded
            or self.check
            or any((s.simd and (s.loops or self.strip)) or s.lanes > 1 for s in stages)
        )

    @property
    def call(self) -> str:
        return f"{self.name}({spread(self.name, self.given, 4)})"

    @property
    def text(self) -> str:
        """The function in C."""
        if self.contraction is not None:
            return str(environment().get_template("contract.c.j2").module.contraction(self.contraction))  # type: ignore[attr-defined]
        return str(environment().get_template("loops.c.j2").module.kernel(self))  # type: ignore[attr-defined]

    @property
    def texts(self) -> list[str]:
        """All of its C, to be searched."""
        lines = [*self.declarations, *self.opened, *self.closed, *self.gathered, *self.finish, self.check, self.statement]
        lines += [line for stage in (*self.stages, *self.final) for line in stage.texts]
        if self.contraction is not None:
            lines += self.contraction.epilogue
            for operand in (self.contraction.a, self.contraction.b):
                lines += [*operand.statements, operand.value, operand.base]
        return lines


class _Emitter:
    def __init__(
        self, schedule: Schedule, inputs: Sequence[tuple[str, TensorType]], parameters: Sequence[tuple[str, TensorType]],
        outputs: Sequence[str], updated: set[str], constants: Mapping[str, Array], model: tiling.TargetModel, timed: bool,
    ) -> None:  # fmt: skip
        self.schedule, self.model, self.constants = schedule, model, constants
        self.inputs, self.parameters = [name for name, _ in inputs], [name for name, _ in parameters]
        self.outputs, self.updated, self.timed = outputs, updated, timed
        self.passed = frozenset([*self.inputs, *self.parameters, *outputs])
        of_header = [
            schedule.name,
            *(schedule.name + end for end in ("_run", "_args", "_strides", *(["_profile"] if timed else []))),
            f"{schedule.name.upper()}_H",
        ]
        self.names = CNames([*of_header, f"{schedule.name}_ARENA_BYTES"])
        self.types = {**schedule.types, **dict(inputs), **dict(parameters)}
        for name in (*self.inputs, *self.parameters, *outputs):
            self.names[name]
        for name in self.types:
            if name not in schedule.aliases:
                self.names[name]
        for name, parameter in schedule.aliases.items():
            self.names.known[name] = self.names[parameter]
        self.functions = CNames([*of_header, *self.names.known.values()])
        for type in self.types.values():
            counted(type.size, "a tensor of {:,} elements")
        for extent in (extent for kernel in schedule.kernels for extent in extents_of(kernel)):
            counted(extent, "a loop over {:,} elements")
        self.threaded = False

    # --- the whole file ------------------------------------------------------------------------------
    def emit(self) -> Emitted:
        kernels = self.schedule.kernels
        self.threads = Threads(kernels, self.types, self.model)
        self.spellers = [self.speller(kernel) for kernel in kernels]
        self.cuts = {n: self.cut(n, kernel) for n, kernel in enumerate(kernels) if isinstance(kernel, ContractKernel)}
        outside = {*self.passed, *self.constants, *self.schedule.aliases}
        self.plan = arena(kernels, self.types, outside, self.threads, {n: tiling for n, (_, _, tiling) in self.cuts.items()})
        self.in_arena: dict[str, None] = {}
        self.checks: list[tuple[str, int, int]] = []
        functions = [self.function(number, kernel) for number, kernel in enumerate(kernels)]
        context = {
            "name": self.schedule.name,
            "functions": functions,
            "inputs": [self.field(name, False) for name in self.inputs],
            "parameters": [self.field(name, name in self.updated) for name in self.parameters],
            "outputs": [self.field(name, True) for name in self.outputs],
            "stepped": [self.names[name] for name in (*self.inputs, *self.outputs)],
            "arena_bytes": self.plan.nbytes,
            "threaded": self.threaded,
            "timed": self.timed,
            "intermediates": [self.field(name, True) | {"offset": self.plan.offsets[name]} for name in self.in_arena],
            "dtypes": sorted({str(type.dtype) for type in self.types.values()}),
            **self.definitions(functions),
        }
        source = environment().get_template("program.c.j2").render(context)
        source = re.sub(r"\n{3,}", "\n\n", source)  # what was left out leaves its blank lines
        header = environment().get_template("program.h.j2").render(context)
        reports = tuple(self.report(kernel, view) for kernel, view in zip(kernels, functions, strict=True))
        return Emitted(self.schedule.name, source, header, self.plan.nbytes, self.threaded, reports, tuple(self.checks))

    def definitions(self, functions: Sequence[FunctionView]) -> dict[str, Any]:
        """What is defined ahead of the main function: the kernels and, ahead of those, what they use and nothing else."""
        written = self.written(functions)
        contractions = [f.contraction for f in functions if f.contraction is not None]
        texts = [line for f in functions for line in f.texts]
        used = helpers_used(texts)
        read = {name for kernel in self.schedule.kernels for name in reads_of(kernel)}
        tables = [self.table(name) for name in self.constants if name in read]
        values = [value for table in tables for value in table["values"]]
        vector = vecmath.closure(sorted(used & set(vecmath.DEPENDS)))
        template = environment().get_template("helpers.h.j2")
        helpers = template.render(helpers=sorted(used - set(vector)), short=SHORT_ROW, panel=PANEL)
        return {
            "kernels": written,
            "micro_kernels": micro_kernels(contractions),
            **self.vectors(contractions, used, helpers),
            "math_used": vector,
            "math_files": vecmath.files(vector),
            "helpers": helpers,
            "includes": includes_of([*texts, *values, helpers], vector),
            "prelude": bool(
                contractions or vector or any(f.hints for f in functions) or any("GX_" in t for t in [*written, helpers])
            ),
            "tables": tables,
        }

    def written(self, functions: Sequence[FunctionView]) -> list[str]:
        """The C of the functions. Those that are alike become the first of them, which stays apart: a compiler would put a small
        one in the place of each of its calls."""
        texts = [view.text for view in functions]
        variables = self.names.all - {self.names[name] for name in self.constants}
        places = first_alike([(view.name, text) for view, text in zip(functions, texts, strict=True)], variables)
        for view, place in zip(functions, places, strict=True):
            view.name = functions[place].name
        for place, calls in Counter(places).items():
            if calls > 1:
                about, code = texts[place].split(" */", 1)
                texts[place] = f"{about}\n   Called {calls} times; the names are those of the first. */\nGX_APART {code.lstrip()}"
        return [texts[place] for place in dict.fromkeys(places)]

    def vectors(self, contractions: Sequence[Contraction], used: set[str], helpers: str) -> dict[str, Any]:
        """What the prelude of vectors needs to have: dtypes, by what is done with them."""
        row_dots, column_dots, row_sums, abreast = (
            [d for d, prefix in VECTOR_PREFIX.items() if any(f"{prefix}_{name}" in used for name in names)]
            for names in (["row_dots"], ["column_dots"], ["row_sums", "row_dots"], ["abreast"])
        )
        needed = {*row_sums, *column_dots, *abreast, *(c.dtype for c in contractions)}
        return {
            "vector_dtypes": [str(d) for d, prefix in VECTOR_PREFIX.items() if d in needed or f"{prefix}x" in helpers],
            "row_sums": row_sums,
            "row_dots": row_dots,
            "column_dots": column_dots,
            "vector_bytes": self.model.vector_bytes,
            "transposed": transposed_dtypes(contractions),
            "upright": [*upright_dtypes(contractions), *abreast],
            "abreast": abreast,
        }

    def field(self, name: str, written: bool) -> dict[str, Any]:
        type = self.types[name]
        return {
            "name": self.names[name],
            "ctype": type.dtype.ctype,
            "const": not written,
            "type": str(type),
            "user": name,
        }

    def table(self, name: str) -> dict[str, Any]:
        type = self.types[name]
        values = [literal(v, type.dtype) for v in self.constants[name].reshape(-1).tolist()]
        return {"name": self.names[name], "ctype": type.dtype.ctype, "values": values, "size": type.size}

    # --- memory ----------------------------------------------------------------------------------------
    def place(self, name: str) -> str:
        """The C expression for a tensor's memory, inside of the main function."""
        if name in self.constants:
            return self.names[name]
        name = self.schedule.aliases.get(name, name)
        if name in self.passed:
            return f"args->{self.names[name]}"
        self.in_arena[name] = None
        return self.names[name]

    # --- kernels -----------------------------------------------------------------------------------------
    def function(self, number: int, kernel: Kernel) -> FunctionView:
        reads, writes = reads_of(kernel), stores_of(kernel)
        buffers = {*kernel.buffers, *kernel.results} if isinstance(kernel, LoopKernel) else set()
        written, by_value, starts = {self.names[n] for n in writes}, self.spellers[number].by_value, self.spellers[number].starts
        arguments: dict[str, tuple[str, str]] = {}
        for name in (*reads, *writes):
            if name in buffers or name in self.constants:
                continue
            c_name, ctype, place = self.names[name], self.types[name].dtype.ctype, self.place(name)
            if name in by_value:
                arguments[c_name] = (f"{ctype} {c_name}", f"*{place}")
            else:
                const = "" if c_name in written else "const "
                place += f" + {starts[name]}" if name in starts else ""
                arguments.setdefault(c_name, (f"{const}{ctype} *restrict {c_name}", place))
        passed = list(arguments.values())
        name = self.functions.fresh(f"{self.schedule.name}_{kernel.name}")
        view = FunctionView(name, self.about(kernel, reads, writes, starts), "", [])
        if isinstance(kernel, LoopKernel):
            self.loops(number, kernel, view, passed)
        elif isinstance(kernel, ContractKernel):
            self.contraction(number, kernel, view, passed)
        elif isinstance(kernel, CheckKernel):
            check = kernel.check
            element = self.spellers[number].value(kernel.load)
            view.loops = [(axis_name(axis), extent) for axis, extent in enumerate(check.axes)]
            self.checks.append((check.load.tensor, check.low, check.extent))
            view.status = len(self.checks)
            view.check = f"{element} >= {check.low} && {element} < {check.extent}"
        elif isinstance(kernel, CallKernel):
            if kernel.workspace:
                passed.append(self.workspace(number))
            view.statement, view.parts, view.items = self.call(kernel), self.threads.parts(kernel), kernel.items
            view.threaded = view.parts > 1
            if view.threaded:
                passed.append(THREADS)
        else:
            type = self.types[kernel.source]
            view.statement = f"memcpy({self.names[kernel.target]}, {self.names[kernel.source]}, {type.nbytes});"
        view.parameters = spread(f"static void {view.name}", [declared for declared, _ in passed]) or "void"
        view.given = [given for _, given in passed]
        self.threaded = self.threaded or view.threaded
        return view

    def by_value(self, kernel: Kernel) -> frozenset[str]:
        """The scalars that a kernel reads and is passed by value: those of other kernels, and what users pass."""
        if not isinstance(kernel, LoopKernel | ContractKernel):
            return frozenset()
        written = {self.names[name] for name in stores_of(kernel)}
        small = [name for name in reads_of(kernel) if name in self.types and self.types[name].size == 1]
        return frozenset(name for name in small if self.names[name] not in written and name not in self.constants)

    def starts(self, kernel: Kernel) -> dict[str, int]:
        """Where in an array the part begins that a kernel reads or stores, if not at the front. The kernel is passed that place,
        so that the steps of a recurrence, each of which reads its own part of one array, are alike."""
        outside = set(self.constants)
        if isinstance(kernel, LoopKernel):
            outside |= {*kernel.buffers, *kernel.results}
        least: dict[str, int] = {}  # an update and its parameter are one array
        for tensor, index in places_of(kernel, self.types):
            name = self.names[tensor]
            least[name] = min(index.constant, least.get(name, index.constant))
        of_all = {name: least.get(self.names[name], 0) for name in (*reads_of(kernel), *stores_of(kernel)) if name not in outside}
        return {name: start for name, start in of_all.items() if 0 < start < self.types[name].size}

    def speller(self, kernel: Kernel) -> ScalarSpeller:
        return ScalarSpeller(self.names, self.types, by_value=self.by_value(kernel), starts=self.starts(kernel))

    def workspace(self, number: int) -> Passed:
        """The workspace of a kernel, as it is passed."""
        return "void *restrict workspace", f"arena + {self.plan.offsets[own(number, 'workspace')]}"

    def scratch(self, number: int, name: str, ctype: str, array: str) -> Passed:
        """An array that a kernel has in the arena, as it is passed."""
        return f"{ctype} *restrict {array}", f"({ctype} *)(arena + {self.plan.offsets[own(number, name)]})"

    def about(self, kernel: Kernel, reads: Sequence[str], writes: Sequence[str], starts: Mapping[str, int]) -> list[str]:
        """The comment of a kernel: why it is one, the shapes of what it reads and writes, and its formulas."""
        if isinstance(kernel, CheckKernel):
            check = kernel.check
            return comment(f"{check.low} <= {format_operand(check.load)} < {check.extent}, for all of it")
        formulas = [f"{kernel.target} = {kernel.source}"] if isinstance(kernel, CopyKernel) else kernel.formulas
        shapes = {self.names[name]: list(self.types[name].shape) for name in (*reads, *writes) if name in self.types}
        if not any(shapes.values()):
            return comments(formulas)
        stored = {self.names[name] for name in writes}
        parts = {self.names[name]: f" from element {start:,}" for name, start in starts.items()}
        said = {name: f"{name} {shape}{parts.get(name, '')}" if shape else name for name, shape in shapes.items()}
        given, results = (
            ", ".join(text for name, text in said.items() if (name in stored) == result) for result in (False, True)
        )
        return comments([f"{kernel.why}: {given} -> {results}", *formulas])

    # --- loops -------------------------------------------------------------------------------------------
    def loops(self, number: int, kernel: LoopKernel, view: FunctionView, passed: list[Passed]) -> None:
        names = CNames([self.schedule.name], within=self.names)
        names.known = ChainMap({}, self.names.known)  # its own arrays, then those of all kernels
        types = ChainMap(kernel.results, kernel.buffers, self.types)
        outer = self.spellers[number]
        speller = ScalarSpeller(names, types, by_value=outer.by_value, starts=outer.starts)
        view.threaded = self.threads.share_rounds(kernel)
        view.loops = [(axis_name(axis), extent) for axis, extent in kernel.outer]
        view.strip, view.abreast = kernel.strip, kernel.abreast
        view.block = max((a.block for a in kernel.accumulators), default=0)
        if view.strip:
            name, extent = view.loops[0]
            speller.place = name if kernel.strip == extent else f"{name} - {name}_0"
        if view.threaded:
            passed.append(THREADS)
        self.arrays(number, kernel, view, speller, passed)
        for name, dtype in kernel.handed.items():
            array = speller.handed[name] = speller.locals.fresh(name)
            view.private.append(f"{local_ctype(dtype)} {array}[{kernel.strip}];")
        shared = view.threaded and view.block
        spell = StatementSpeller(speller, lane=speller.place, shared="block" if shared else "")
        for a in kernel.accumulators:
            if shared:
                passed.append(self.scratch(number, f"{a.name}_blocks", a.dtype.ctype, spell.local(a, "_blocks")))
        for a in kernel.accumulators:
            view.declarations += spell.declare(a)
            view.opened += spell.open(a)
            view.closed += spell.close(a)
            if shared:
                view.gathered += spell.gather(a)
        view.declarations += [spell.line(line) for line in kernel.before]
        view.stages = [stage_view(stage, spell, kernel, view.private) for stage in kernel.stages]
        if moved(kernel, self.types, self.schedule.aliases) >= FAR_BYTES:
            fetch_ahead(kernel, view.stages, speller, self.types, self.model.l2_bytes)
        for a in kernel.accumulators:
            view.finish += spell.finish(a)
        after_all = StatementSpeller(speller)
        view.finish += [after_all.line(line) for line in kernel.after]
        view.final = [stage_view(stage, after_all, kernel, view.private) for stage in kernel.final]
        view.simd = bool(kernel.outer) and not kernel.accumulators and all(not stage.loops for stage in kernel.stages)

    def arrays(
        self, number: int, kernel: LoopKernel, view: FunctionView, speller: ScalarSpeller, passed: list[Passed]
    ) -> None:
        """Memory for buffers and arrays of running results: small ones on the stack, others in the arena."""
        names, place = speller.names, speller.place
        for name, type in (*kernel.buffers.items(), *kernel.results.items()):
            array = names.known[name] = names.fresh("row_" + name if name in self.names.known else name)
            size, rounds = max(type.size, 1), rounds_kept(kernel, name)
            if rounds > 1:
                alone = size == 1 or kernel.abreast
                speller.rows[name] = f"{place} + " if alone else f"{enclosed(place)} * {size} + "
                speller.apart[name] = rounds if kernel.abreast else 1
            if view.threaded and view.block and name.endswith("_part") and name in kernel.results:
                continue
            if not on_stack(type) and view.threaded and name in kernel.buffers:
                space, elements = names.fresh(f"{name}_space"), aligned(type.nbytes * rounds) // type.dtype.itemsize
                passed.append(self.scratch(number, name, type.dtype.ctype, space))
                view.private.append(f"{type.dtype.ctype} *const {array} = {space} + part * {elements};")
                view.most_parts = self.model.cores
            elif not on_stack(type):
                passed.append(self.scratch(number, name, type.dtype.ctype, array))
            else:
                lines = view.private if name in kernel.buffers else view.declarations
                extent = f"{rounds} * {size}" if rounds > 1 < size else size * rounds
                lines.append(f"{type.dtype.ctype} {array}[{extent}];")

    def call(self, kernel: CallKernel) -> str:
        """The call of a routine: for all items, or for those from ``first`` to ``last`` of a part."""
        whole = self.threads.parts(kernel) == 1
        arrays = [
            self.names[name] + ("" if whole else f" + first * {self.types[name].size // kernel.items}")
            for name in (*kernel.operands, kernel.result)
        ]
        workspace = "workspace" if whole else f"(char *)workspace + part * {part_of_workspace(kernel)}"
        count = str(kernel.items) if whole else "last - first"
        return kernel.call.format(*arrays[:-1], y=arrays[-1], n=count, w=workspace) + ";"

    def cut(self, number: int, kernel: ContractKernel) -> Cut:
        by_columns = kernel.left.scalar.tensor in self.threads.by_columns
        return cut(kernel, self.spellers[number], self.model, awake=self.threads.awake, by_columns=by_columns)

    def contraction(self, number: int, kernel: ContractKernel, view: FunctionView, passed: list[Passed]) -> None:
        chosen = self.cuts[number][2]
        if chosen.workspace_bytes:
            passed.append(self.workspace(number))
        view.threaded = bool(chosen.parallel)
        if view.threaded:
            passed.append(THREADS)
        view.contraction = contraction(
            kernel,
            self.cuts[number],
            self.spellers[number],
            self.model,
            name=view.name,
            comment=view.comment,
            parameters=[declared for declared, _ in passed],
        )

    # --- reports -----------------------------------------------------------------------------------------
    def report(self, kernel: Kernel, view: FunctionView) -> KernelReport:
        kind = {
            LoopKernel: "loops", ContractKernel: "contraction", CallKernel: "routine", CheckKernel: "check", CopyKernel: "copy"
        }[type(kernel)]  # fmt: skip
        formulas = tuple(kernel.formulas) if isinstance(kernel, LoopKernel | ContractKernel | CallKernel) else ()
        dtypes = [self.types[name].dtype for name in (*reads_of(kernel), *stores_of(kernel)) if name in self.types]
        dtype = str(FLOAT64 if FLOAT64 in dtypes else FLOAT32)
        nbytes = moved(kernel, self.types, self.schedule.aliases)
        return KernelReport(kernel.name, kind, kernel.why, formulas, flops(kernel), nbytes, dtype, view.threaded)
