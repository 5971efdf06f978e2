"""The order of the house: who may import whom, what is public, and what an import must not cost."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "graphc"

# From the bottom to the top: a module imports only from those before it. A new module gets its place here.
ORDER = """
    types ir
    ops ops.structural ops.special ops.pointwise ops.routines ops.gather ops.sorting ops.random ops.linalg
    frontend.sources frontend.elementwise frontend.movement frontend.pieces frontend.diagonals frontend.indexing frontend.at frontend.reductions frontend.contractions
    frontend.differences frontend.norms frontend.aliases frontend.protocol frontend capture scans sorting random linalg nn.activations nn.regularization nn.layers nn.losses nn init
    optim.optimizer optim.algorithms optim.schedules optim.clipping optim evaluate
    passes passes.retype passes.grad passes.units passes.derivatives passes.simplify passes.draws
    arguments enter feed program concurrency call runtime
    lower lower.index lower.equations lower.columns lower.lower
    schedule schedule.kernels schedule.fuse schedule.tiling schedule.scalars schedule.nest schedule.product schedule.routines schedule.schedule schedule.work schedule.show
    plan cache processes toolchain libraries
    emit emit.threads emit.memory emit.vecmath emit.render emit.spell emit.statements emit.stages emit.contract emit.alike emit.emit
    compile pipeline profile
    train persist check draw
    __init__ demo cli __main__
""".split()

# Imports that point upward, none of them at the top of a module, and why.
UPWARD = {
    ("compile", "emit.emit"): "a type, for the type checker only",
    ("runtime", "compile"): "a type, for the type checker only",
    ("runtime", "profile"): "a method that few functions are asked for",
    ("compile", "pipeline"): "a start from the cache does without all the stages",
}


def name_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1]) if parts[-1] == "__init__" and len(parts) > 1 else ".".join(parts)


MODULES = {name_of(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def imports(tree: ast.AST) -> Iterator[tuple[ast.stmt, str]]:
    """Each statement that imports from graphc, and the module, named from within the package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import; write the full name"
            whole = str(node.module)
            found = [f"{whole}.{a.name}" if f"{whole}.{a.name}".partition(".")[2] in MODULES else whole for a in node.names]
        else:
            continue
        for each in found:
            package, _, module = each.partition(".")
            if package == "graphc":
                yield node, module or "__init__"


def test_every_module_has_its_place() -> None:
    assert sorted(ORDER) == sorted(MODULES), "ORDER in tests/test_layers.py does not list the modules there are"


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_downward(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    for statement, other in imports(tree):
        if ORDER.index(other) < ORDER.index(module):
            continue
        where = f"graphc/{module}.py:{statement.lineno} imports graphc.{other}, which stands above it"
        assert (module, other) in UPWARD, where
        assert statement not in tree.body, where


def test_exceptions_are_used() -> None:
    found = {(module, other) for module, file in MODULES.items() for _, other in imports(ast.parse(file.read_text(encoding="utf-8")))}
    assert UPWARD.keys() <= found


@pytest.mark.parametrize("module", [module for module in MODULES if module != "__main__"])
def test_public_names_exist(module: str) -> None:
    loaded = importlib.import_module("graphc" if module == "__init__" else f"graphc.{module}")
    names = getattr(loaded, "__all__", None)
    empty = MODULES[module].name == "__init__.py" and module != "__init__"  # the docstring of a folder
    assert names is not None or empty, f"graphc.{module} does not say what is public: it needs __all__"
    assert len(set(names or ())) == len(names or ())
    for name in names or ():
        assert hasattr(loaded, name), f"graphc.{module}.__all__ has {name!r}, the module has not"


def test_import_is_light() -> None:
    """What a start from the cache would pay for without using it is imported late; extras are optional."""
    heavy = {"jinja2", "cffi", "pycparser", "platformdirs", "rich", "matplotlib", "graphviz", "safetensors", "sklearn"}
    heavy |= {"difflib", "subprocess", "tempfile", "zipfile"}
    stages = {"graphc.emit.emit", "graphc.lower.lower", "graphc.schedule.schedule"}
    code = "import sys, numpy; before = {*sys.modules}; import graphc; print(*{*sys.modules} - before)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert not (heavy | stages) & set(loaded.stdout.split())
