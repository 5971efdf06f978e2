"""A second process finds what the first one built, without rendering or compiling anything."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
import numpy as np
import graphc as gx

W = [gx.parameter(f"W{i}", gx.init.he_normal((8, 8), seed=i)) for i in range(6)]
h = X = gx.input("X", (4, 8))
for w in W:
    h = gx.nn.relu(h @ w)
step = gx.train_step(gx.mean(h * h), gx.optim.SGD(0.1, momentum=0.9), name="deep")
step(X=np.ones((4, 8)))
print("graphc.pipeline" in sys.modules, "jinja2" in sys.modules, "subprocess" in sys.modules)
"""

COUNTED = """
import jinja2
parse, parsed = jinja2.Environment._parse, []
jinja2.Environment._parse = lambda *args: (parsed.append(1), parse(*args))[1]
import graphc as gx
x = gx.input("x", ({n},))
assert gx.compile([x], gx.sum(gx.exp(x)))([0.0] * {n}) == {n}
print(len(parsed))
"""


def run(cache: Path, seed: str, program: str = PROGRAM) -> list[str]:
    root = str(Path(__file__).resolve().parent.parent)
    environment = {**os.environ, "GRAPHC_BUILD_DIR": str(cache), "PYTHONHASHSEED": seed, "PYTHONPATH": root}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_second_process_starts_from_the_cache(tmp_path):
    assert run(tmp_path, "1") == ["True"] * 3
    for seed in ("2", "3", "4"):
        assert run(tmp_path, seed) == ["False"] * 3


def test_templates_are_compiled_once(tmp_path):
    """For another graph in another process Jinja has nothing to parse, but for what was damaged."""
    (first,), (second,) = (run(tmp_path, "1", COUNTED.format(n=n)) for n in (3, 4))
    assert second == "0"
    kept = sorted((tmp_path / "bytes").iterdir())
    assert len(kept) == int(first)
    for file in kept:
        file.write_bytes(file.read_bytes()[:-1])
    (damaged,) = run(tmp_path, "1", COUNTED.format(n=5))
    for file in kept:
        file.chmod(0o666)
    (foreign,) = run(tmp_path, "1", COUNTED.format(n=6))
    assert int(first) >= int(damaged) == int(foreign) > 5  # the first time more are read ahead, beside the questions to the compiler
