"""What README.md and docs/design.md print is what graphc prints.

Their Python blocks are run from top to bottom. A block after ``<!-- output: NAME -->`` must be what the function NAME below
makes of the names that those blocks have defined; ``pytest tests/test_docs.py --update-golden`` writes it there.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import graphc as gx
from graphc import pipeline
from graphc.compile import Graph, freeze
from graphc.ir import format_graph
from graphc.lower.equations import format_program
from graphc.passes.grad import grad_with_trail
from graphc.schedule.show import format_schedule

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
PRINTED = re.compile(r"(<!-- output: (\w+) -->\n```\w+\n)(.*?)(```\n)", re.DOTALL)

Names = dict[str, Any]


# --- what is printed ------------------------------------------------------------------------------------
def product(names: Names) -> str:
    return kernels("product", names["product"].c_source)


def graph(names: Names) -> str:
    return format_graph([names["loss"]])


def gradient(names: Names) -> str:
    return format_graph(pipeline.stages(training(names["loss"]))[0])


def equations(names: Names) -> str:
    return format_program(pipeline.stages(training(names["loss"]))[1])


def schedule(names: Names) -> str:
    return format_schedule(pipeline.stages(training(names["loss"]))[2])


def schedule_of_net(names: Names) -> str:
    return format_schedule(pipeline.stages(training(names["net_loss"]))[2])


def plan_of_net(names: Names) -> str:
    text = pipeline.render(training(names["net_loss"]), vector_bytes=32, cores=1).c_source
    return "\n".join(line.strip() for line in text.splitlines() if "(arena + " in line or "_ARENA_BYTES " in line[:40])


def micro_kernel(names: Names) -> str:
    text = pipeline.render(training(names["loss"]), vector_bytes=32, cores=1).c_source
    return text[(start := text.index("/* 4 x 8: tile")) : text.index("\n}\n", start) + 3]


def c(names: Names) -> str:
    text = pipeline.render(training(names["loss"]), vector_bytes=32, cores=1).c_source
    return kernels("train", text)


def training(loss: gx.Node) -> Graph:
    """The graph of a train step on ``loss``, as train_step builds it."""
    parameters = [node for node in gx.ir.parameters_of(gx.ir.toposort([loss])) if node.trainable]
    inputs = gx.ir.inputs_of(gx.ir.toposort([loss]))
    gradients, trail = grad_with_trail(loss, parameters)
    updates = gx.optim.SGD(learning_rate=0.1)(dict(zip(parameters, gradients, strict=True)))
    return freeze(inputs, (loss,), ("loss",), "single", updates, "train", trail)


def kernels(name: str, text: str) -> str:
    """The functions of a C file from its first kernel to the one that calls them all."""
    first = re.search(rf"/\*(?:(?!\*/).)*\*/\nstatic \w+ {name}_", text, re.DOTALL)
    assert first
    return text[first.start() : text.rindex(f"int {name}_run(")].rstrip()


# --- the tests ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("file", ["README.md", "docs/design.md"])
def test_documents_print_what_graphc_prints(file: str, request: pytest.FixtureRequest) -> None:
    pytest.importorskip("sklearn")
    text = (ROOT / file).read_text(encoding="utf-8")
    names: Names = {}
    for block in BLOCK.findall(text):
        exec(compile(block, file, "exec"), names)

    def printed(match: re.Match[str]) -> str:
        return match[1] + globals()[match[2]](names).rstrip("\n") + "\n" + match[4]

    assert len(PRINTED.findall(text)) == text.count("<!-- output:"), "an output marker without a block after it"
    fresh = PRINTED.sub(printed, text)
    if request.config.getoption("--update-golden"):
        (ROOT / file).write_text(fresh, encoding="utf-8")
        return
    for old, new in zip(PRINTED.findall(text), PRINTED.findall(fresh), strict=True):
        hint = "if the new one is right: pytest tests/test_docs.py --update-golden"
        assert old[2] == new[2], f"{file} prints another {new[1]}; {hint}"


def test_the_python_of_the_readme_trains(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    names: Names = {}
    for block in BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8")):
        exec(compile(block, "README.md", "exec"), names)
    assert names["product"](-2, 5, -4) == {"f": -12.0, "df_dx": -4.0, "df_dy": -4.0, "df_dz": 3.0}
    assert float(capsys.readouterr().out.splitlines()[-1]) > 0.9


def test_quick_start_holds_one_line_each() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    demo, tests = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)[:2]
    assert demo.count("\n") == tests.count("\n") == 1
    assert shlex.split(demo)[-2:] == [".venv/bin/graphc", "demo"]
    assert shlex.split(tests)[-7:-2] == [".venv/bin/python", "-m", "pytest", "-n", "auto"]
    assert text.index("## Quick start") < text.index("```sh")


@pytest.mark.parametrize("file", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/design.md", "docs/performance.md"])
def test_links_between_documents_lead_somewhere(file: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / file).read_text(encoding="utf-8")):
        assert ((ROOT / file).parent / target).exists(), f"{file} links to {target}"


def test_the_operation_of_contributing_is_one_statement(tmp_path: Path) -> None:
    """The example runs as it stands, in a process of its own: an operation cannot be taken back."""
    block = BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))[0]
    code = f"""
import numpy as np, graphc as gx
from graphc.ops import pointwise
exec({block!r}, vars(pointwise))
x = gx.input("x", (3,))
y = pointwise.softsign(x)
f = gx.compile([x], [y, gx.grad(gx.sum(y), x)], name="softsign")
values, slopes = f([-1, 0, 3])
assert np.allclose(values, [-0.5, 0, 0.75]) and np.allclose(slopes, [0.25, 1, 0.0625])
assert gx.check_grad(gx.sum(y), at={{"x": [-1.0, 0.5, 3.0]}}, show=False).ok
"""
    file = tmp_path / "softsign.py"
    file.write_text(code)
    ran = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
