"""What pip installs: the wheel holds all that a compilation needs, and says truly what it depends on."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

IMPORTED_AS = {"scikit-learn": "sklearn"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built without a network."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    code = "import sys, hatchling.build as build; print(build.build_wheel(sys.argv[1]))"
    made = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, cwd=ROOT)
    assert made.returncode == 0, made.stderr
    return folder / made.stdout.split()[-1]


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    code = {f"graphc/{f.relative_to(ROOT / 'graphc').as_posix()}" for f in (ROOT / "graphc").rglob("*.py")}
    templates = {f"graphc/{f.relative_to(ROOT).as_posix()}" for f in (ROOT / "templates").rglob("*.*")}
    assert templates
    assert names == code | templates | {"graphc/py.typed"}


def test_installed_package_renders(wheel: Path, tmp_path: Path) -> None:
    """From the unpacked wheel alone, far from the checkout."""
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import graphc as gx
from graphc.compile import freeze
from graphc.emit.render import environment
from graphc.pipeline import render
assert gx.__file__.startswith({str(tmp_path)!r}), gx.__file__
assert [f for f in environment().loader.list_templates()]
x, W = gx.input("x", (4, 3)), gx.parameter("W", [[1.0] * 5] * 3)
loss = gx.sum(gx.tanh(x @ W))
graph = freeze([x], (loss, gx.grad(loss, W)), ("loss", "slope"), "list", {{}}, "installed")
print(render(graph, vector_bytes=32, cores=2).c_source)
"""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert ran.returncode == 0, ran.stderr
    assert "int installed(const installed_args *args)" in ran.stdout


def test_installed_package_is_typed_and_licensed(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    names = archive.namelist()
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert "belongs to whoever generated it" in archive.read(next(n for n in names if n.endswith("/LICENSE"))).decode()
    points = archive.read(next(n for n in names if n.endswith("entry_points.txt"))).decode()
    assert "graphc = graphc.cli:main" in points


def test_version_is_said_once_more_and_the_same() -> None:
    import graphc

    assert graphc.__version__ == PROJECT["version"]
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def imported(*folders: str) -> set[str]:
    """The top-level names that the files import anywhere, or skip without."""
    found = set()
    for folder in folders:
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    found |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    found.add(node.module.partition(".")[0])
                elif isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.importorskip":
                    found.add(ast.literal_eval(node.args[0]).partition(".")[0])
    return found - set(sys.stdlib_module_names)


def declared(*extras: str) -> set[str]:
    """The top-level names that the dependencies and the given extras bring."""
    open_, found = [*PROJECT["dependencies"], *(f"graphc[{extra}]" for extra in extras)], set()
    while open_:
        requirement = open_.pop()
        if inner := re.match(r"graphc\[(.*)\]", requirement):
            open_ += [each for extra in inner[1].split(",") for each in PROJECT["optional-dependencies"][extra.strip()]]
        else:
            name = re.match(r"[\w.-]+", requirement)
            assert name
            found.add(IMPORTED_AS.get(name[0], name[0]))
    return found | {"_cffi_backend", "graphc", "benchmarks", "tests"}


def test_what_is_imported_is_declared() -> None:
    assert imported("graphc") <= declared("progress", "draw", "safetensors", "zig", "demo")
    assert imported("tests", "examples") <= declared("test", "bench")  # the peers, for tests that are asked for
    assert imported("benchmarks") <= declared("bench", "demo")
