"""docs/operations.md is made of the declarations; ``pytest tests/test_operations_doc.py --update-golden`` writes it."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import graphc as gx
from graphc.ir import NO_GRADIENT, Op
from graphc.ops.pointwise import Pointwise

FILE = Path(__file__).resolve().parents[1] / "docs" / "operations.md"
HEAD = """# Operations

Everything that makes a node, by where it is defined; this page is made of the declarations (`tests/test_operations_doc.py`). Names and
keywords are NumPy's, those of `graphc.nn` are PyTorch's. *Slope* says what a gradient does: of an operation
that is constant in pieces it is zero, and one without a gradient says so when it is asked for one. Most functions are also methods of a
node (`x.sum(axis=0)`), and NumPy's own functions build nodes (`np.tanh(x)`).
"""

# In this order.
SECTIONS = [
    ("Sources", "frontend.sources"), ("Pointwise", "ops.pointwise"), ("Pointwise, composed", "frontend.elementwise"),
    ("Reductions", "frontend.reductions"), ("Running results", "scans"),
    ("Movement", "frontend.movement"), ("Put together and taken apart", "frontend.pieces"), ("Diagonals", "frontend.diagonals"),
    ("Differences", "frontend.differences"),
    ("Indexing", "frontend.indexing"), ("Elements changed", "frontend.at"), ("Sorting", "sorting"),
    ("Contractions", "frontend.contractions"), ("Linear algebra", "linalg"), ("Second names", "frontend.aliases"),
    ("Random", "random"), ("Activations", "nn.activations"), ("Layers", "nn.layers"), ("Dropout", "nn.regularization"),
    ("Losses", "nn.losses"), ("Optimizers", "optim.algorithms"), ("Learning rates", "optim.schedules"), ("Clipping", "optim.clipping"),
    ("An optimizer of your own", "optim.optimizer"), ("Initialisers", "init"),
    ("Gradient control", "frontend"), ("Derivatives", "passes.grad"), ("Derivatives beyond the gradient", "passes.derivatives"),
]  # fmt: skip
PREFIX = {"linalg": "linalg.", "random": "random.", "nn": "nn.", "optim": "optim.", "init": "init."}

# What PyTorch calls otherwise; all other names of nn are its own.
PYTORCH = {
    "absolute_error": "l1_loss", "squared_error": "mse_loss", "huber": "huber_loss", "smooth_l1": "smooth_l1_loss", "nll": "nll_loss",
    "softmax_cross_entropy": "cross_entropy", "sigmoid_binary_cross_entropy": "binary_cross_entropy_with_logits",
    "poisson_nll": "poisson_nll_loss", "gaussian_nll": "gaussian_nll_loss", "multiclass_hinge": "multi_margin_loss",
    "kl_divergence": "kl_div", "log_sigmoid": "logsigmoid", "hard_tanh": "hardtanh", "hard_sigmoid": "hardsigmoid",
    "hard_swish": "hardswish", "maxout": "", "hinge": "",
}  # fmt: skip


def sections() -> list[tuple[str, str, ModuleType]]:
    return [(title, name, importlib.import_module(f"graphc.{name}")) for title, name in SECTIONS]


def functions(module: ModuleType) -> list[tuple[str, Any]]:
    """The public functions that a module defines itself, as it lists them."""
    own = [name for name in getattr(module, "__all__", []) if callable(getattr(module, name))]
    return [(name, getattr(module, name)) for name in own]


def first_sentence(thing: Any) -> str:
    text = " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())
    sentence = re.split(r"(?<=[a-z0-9`)])\. (?=[A-Z])", text)[0]
    sentence = re.sub(r"^\w+, elementwise, as NumPy's; operands.*", "as NumPy's", sentence)
    sentence = re.sub(r":\w+:`(?:graphc\.)?([\w.]+)`", r"`\1`", sentence)
    return sentence.replace("``", "`").replace("|", "\\|").rstrip(".")


def equivalent(name: str, section: str) -> str:
    if section.startswith("nn"):
        torch = PYTORCH.get(name, name)
        return f"`torch.nn.functional.{torch}`" if torch else ""
    if section.startswith(("optim", "init", "random", "passes")):
        return ""
    home = np.linalg if section == "linalg" and not hasattr(np, name) else np
    return f"`{home.__name__.replace('numpy', 'np')}.{name}`" if hasattr(home, name) else ""


def slope(thing: Any, name: str) -> str:
    """What the gradient of an operation is, by asking its declaration."""
    if not isinstance(thing, Op):
        return {"argmax": "none", "argmin": "none", "argsort": "none"}.get(name, "")
    if thing.gradient is NO_GRADIENT:
        return "none"
    if isinstance(thing, Pointwise):
        given = [gx.input(f"x{k}", dtype="float64") for k in range(thing.arity)]
        try:
            result = thing(*(given if thing.takes != "select" else [given[0] > 0, *given[1:]]))
        except gx.GraphcError:
            return "zero"  # of ints and bools
        slopes = thing.gradient(gx.constant(1.0, "float64"), result, *result.operands) if result.op is thing else [None]
        return "yes" if any(s is not None for s in slopes) else "zero"
    return "yes"


def page() -> str:
    parts, seen = [HEAD], set()
    for title, name, module in sections():
        rows = []
        for function, thing in functions(module):
            if (name.split(".")[0], function) in seen or (inspect.isfunction(thing) and not thing.__module__.startswith("graphc")):
                continue
            seen.add((name.split(".")[0], function))
            full = PREFIX.get(name.split(".")[0], "") + function
            rows.append(f"| `{full}` | {equivalent(function, name)} | {slope(thing, function)} | {first_sentence(thing)} |")
        parts.append(f"\n## {title}\n\n| name | elsewhere | slope | what |\n|---|---|---|---|\n" + "\n".join(rows) + "\n")
    return "".join(parts)


def test_the_page_is_what_is_declared(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-golden"):
        FILE.write_text(page(), encoding="utf-8")
    assert FILE.read_text(encoding="utf-8") == page(), "if the new one is right: pytest tests/test_operations_doc.py --update-golden"


def test_every_public_function_is_on_the_page() -> None:
    names = set(re.findall(r"^\| `([\w.]+)`", page(), re.MULTILINE))
    beside = {"check_grad", "compile", "draw", "evaluate", "load", "save", "train_step", "capture", "GraphcError"}
    names.add("matrix_power")  # on the page as linalg.matrix_power
    spaces = {"init", "linalg", "nn", "optim", "random"}
    assert {name for name in gx.__all__ if name not in beside | spaces} <= names
    for space in spaces & set(gx.__all__):
        assert {f"{space}.{name}" for name in getattr(gx, space).__all__} <= names


@pytest.mark.peers
def test_pytorch_has_what_it_is_said_to_have() -> None:
    import torch

    found = re.findall(r"`torch\.nn\.functional\.(\w+)`", page())
    assert [name for name in found if not hasattr(torch.nn.functional, name)] == []
