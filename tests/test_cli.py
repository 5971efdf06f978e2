"""The command: demo, info, show, and what it says when something is wrong."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
pytest.importorskip("rich")

ROOT = Path(__file__).resolve().parent.parent


def graphc(*arguments, cache, **environment):
    env = {**os.environ, "GRAPHC_BUILD_DIR": str(cache), "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run([sys.executable, "-m", "graphc", *arguments], env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cli")


def test_demo(cache, tmp_path):
    done = graphc("demo", "--seed", "3", "--output", str(tmp_path), cache=cache)
    assert done.returncode == 0, done.stdout + done.stderr
    accuracy = float(re.search(r"^test accuracy: (0\.\d{3})$", done.stdout, re.MULTILINE)[1])
    assert accuracy >= 0.97
    assert "-12" in done.stdout
    assert "NumPy by hand" in done.stdout
    assert (tmp_path / "graphc-demo.png").read_bytes()[:4] == b"\x89PNG"
    c_file = Path(re.search(r"^C +(\S+)$", done.stdout, re.MULTILINE)[1])
    assert "int digits(" in c_file.read_text()


def test_five_seeds(monkeypatch, cache):
    """What the demo promises of its accuracy, without the rest of it."""
    from graphc import demo
    from graphc.train import train_step

    monkeypatch.setenv("GRAPHC_BUILD_DIR", str(cache))
    for seed in range(5):
        data, net = demo._digits(seed), demo._Net(seed, "native")
        step = train_step(net.loss, net.optimizer, name="digits")
        step.fit({"X": data.X, "labels": data.labels}, demo.EPOCHS, seed=seed)
        assert demo._accuracy(net, data) >= 0.97


def test_demo_says_what_is_missing(monkeypatch, capsys):
    from importlib import util

    from graphc.cli import main

    find_spec = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name, *rest: None if name == "sklearn" else find_spec(name, *rest))
    assert main(["demo"]) == 1
    assert "scikit-learn: pip install 'graphc[demo]'" in capsys.readouterr().err


def test_demo_needs_a_folder(capsys, tmp_path):
    from graphc.cli import main

    (tmp_path / "file").write_text("")
    assert main(["demo", "--output", str(tmp_path / "file" / "sub")]) == 2
    out, err = capsys.readouterr()
    assert "cannot write" in err
    assert out == ""  # said before anything is computed


def test_demo_without_compiler(cache, tmp_path):
    bare = tmp_path / "bin"
    bare.mkdir()
    hide = tmp_path / "hide"
    (hide / "ziglang").mkdir(parents=True)
    (hide / "ziglang" / "__init__.py").write_text("raise ImportError('hidden')")
    path = f"{hide}{os.pathsep}{ROOT}"
    done = graphc("demo", "--output", str(tmp_path), cache=tmp_path / "cache", PATH=str(bare), CC="", PYTHONPATH=path)
    if "numpy" not in done.stdout.lower():
        pytest.skip("ziglang cannot be hidden here")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^test accuracy: 0\.9[789]", done.stdout, re.MULTILINE)


def test_info(cache):
    done = graphc("info", cache=cache)
    assert done.returncode == 0
    for word in ("compiler", "flags", "CPU features", "cache directory", str(cache)):
        assert word in done.stdout


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ("graph", ["multiply", "x "]),
        ("gradient", ["add"]),
        ("equations", ["output", "="]),
        ("schedule", ["equation"]),
        ("c", ["int ", "#include", "restrict"]),
    ],
)
def test_show(cache, stage, words):
    done = graphc("show", f"{ROOT / 'examples' / 'circuit.py'}:f", "--stage", stage, cache=cache)
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in words), done.stdout


@pytest.mark.parametrize("stage", ["graph", "gradient", "equations", "schedule", "c"])
def test_show_what_is_compiled(cache, stage):
    """NAME may be a train step as well as a node."""
    done = graphc("show", f"{ROOT / 'examples' / 'two_layer_net.py'}:step", "--stage", stage, cache=cache)
    assert done.returncode == 0, done.stderr
    assert "W1" in done.stdout
    assert "labels" in done.stdout


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("examples/circuit.py:nothing", ["nothing"]),
        ("examples/no_such_file.py:f", ["no_such_file.py"]),
        ("circuit.py", ["FILE.py:NAME"]),
        ("examples/circuit.py:gx", ["module", "expected a node"]),
    ],
)
def test_wrong_questions(cache, what, words):
    done = graphc("show", what if ":" not in what else str(ROOT / what), cache=cache)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert all(word in done.stderr for word in words)


def test_a_file_that_does_not_run(cache, tmp_path):
    file = tmp_path / "wrong.py"
    file.write_text('import graphc as gx\ny = gx.input("x", (3,)) + gx.input("z", (4,))\n')
    done = graphc("show", f"{file}:y", cache=cache)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "line 2" in done.stderr
    assert "(3,) and (4,)" in done.stderr
