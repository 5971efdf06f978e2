"""The examples run and do what they say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SAYS = {
    "circuit": ["f = -12", "df/dx = -4, df/dy = -4, df/dz = 3"],
    "curve_fit": ["ok", "exp("],
    "gaussian_process": ["noise 0.2", "in truth"],
    "linear_classifier": ["softmax", "hinge"],
    "sampler": ["74% of the proposals", "x: mean", "y: mean"],
    "train_in_c": ["in C:      2.00000 x + 1.00000", "in Python: 2.00000 x + 1.00000"],
    "two_layer_net": ["accuracy"],
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path, tmp_path):
    if "sklearn" in path.read_text():
        pytest.importorskip("sklearn")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GRAPHC_BUILD_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, str(path)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in SAYS[path.stem]), done.stdout
    assert len(path.read_text().splitlines()) < 45
