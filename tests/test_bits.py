"""The same bits: for any number of threads, from every compiler, for every vector width."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from graphc.toolchain import find_compiler

ROOT = Path(__file__).resolve().parent.parent

# Trains several programs for some steps; prints a digest of all that they leave behind.
PROGRAM = """
import hashlib, sys
import numpy as np
import graphc as gx

state = hashlib.sha256()
threads = int(sys.argv[1])
rng = np.random.default_rng(0)


def net(name, batch, widths, activation, dtype="float32", steps=3):
    X, labels = gx.input("X", (batch, widths[0]), dtype=dtype), gx.input("labels", (batch,), dtype="int32")
    h, l2 = X, 0.0
    for i, (n, m) in enumerate(zip(widths, widths[1:])):
        W = gx.parameter(f"W{i}", rng.standard_normal((n, m)) / np.sqrt(n), dtype=dtype)
        b = gx.parameter(f"b{i}", np.zeros(m), dtype=dtype)
        h = activation(h) @ W + b if i else h @ W + b
        l2 = l2 + gx.sum(W * W)
    loss = gx.mean(gx.nn.softmax_cross_entropy(h, labels)) + 1e-4 * l2
    step = gx.train_step(loss, gx.optim.SGD(0.1, momentum=0.9), name=name, threads=threads)
    for _ in range(steps):
        x, y = rng.standard_normal((batch, widths[0])), rng.integers(0, widths[-1], batch)
        state.update(np.float64(step(X=x.astype(dtype), labels=y)).tobytes())
    for parameter in step.parameters.values():
        state.update(parameter.value.tobytes())
    return step


net("digits", 32, (64, 100, 10), gx.nn.relu)
large = net("large", 128, (300, 260, 10), gx.nn.tanh, steps=2)
net("wide", 33, (65, 31, 7), gx.nn.elu, "float64")
net("linear", 200, (1500, 10), gx.nn.relu, steps=2)  # on two cores, threads share the depth of the scores

v = gx.input("v", (300_001,))
f = gx.sum(gx.tanh(v) * gx.sigmoid(2 * v) + gx.exp(-v * v)) + gx.sum(gx.log1p(v * v)) + gx.max(gx.logaddexp(v, 1))
chain = gx.compile([v], [f, gx.grad(f, v)], name="chain", threads=threads)
value, gradient = chain(rng.standard_normal(300_001).astype("f"))
state.update(np.float32(value).tobytes() + gradient.tobytes())

X, w = gx.input("X", (20_000, 30)), gx.parameter("w", rng.standard_normal(30))
loss = gx.mean(gx.logaddexp(0, X @ w))
logreg = gx.train_step(loss, gx.optim.SGD(0.1), name="logreg", threads=threads)
state.update(np.float32(logreg(X=rng.standard_normal((20_000, 30)).astype("f"))).tobytes() + w.value.tobytes())

x, tall = gx.input("x", (7, 3001)), gx.input("tall", (5000, 37), dtype="float64")
rows = gx.sum(gx.nn.log_softmax(x) ** 2)
outputs = [gx.nn.softmax(x), gx.grad(rows, x), gx.mean(tall, 0), gx.max(tall, 1), gx.argmin(tall, 0), gx.sin(tall) @ tall[:37, :5]]
sums = gx.compile([x, tall], outputs, name="sums", threads=threads)
for value in sums(rng.standard_normal((7, 3001)).astype("f"), rng.standard_normal((5000, 37))):
    state.update(value.tobytes())

at, targets = gx.input("at", (45, 2)), gx.input("targets", (45, 3))
scale, noise = gx.parameter("scale", 0.7), gx.parameter("noise", 0.4)
distance = gx.sum((at[:, None] - at[None]) ** 2, -1)
K = gx.exp(distance * (-0.5 / scale**2)) + noise**2 * gx.eye(45)
L = gx.linalg.cholesky(K)
misfit = gx.sum(gx.linalg.solve_triangular(L, targets, lower=True) ** 2) + gx.linalg.slogdet(K).logabsdet
order = gx.sum(gx.sort(gx.linalg.solve(K, targets), 0) * gx.arange(45)[:, None])
process = gx.train_step(misfit + 1e-3 * order, gx.optim.SGD(1e-4), name="process", threads=threads)
for _ in range(3):
    process(at=rng.standard_normal((45, 2)).astype("f"), targets=rng.standard_normal((45, 3)).astype("f"))
state.update(scale.value.tobytes() + noise.value.tobytes())
weights = gx.parameter("weights", rng.standard_normal((40, 30)))
hidden = gx.nn.dropout(gx.nn.relu(gx.random.normal((1200, 40)) @ weights), 0.3)
noisy = gx.train_step(gx.mean(gx.square(hidden - gx.random.uniform((1200, 30)))), gx.optim.SGD(0.1), name="noisy", threads=threads)
state.update(noisy.run(3).tobytes() + weights.value.tobytes())
print(state.hexdigest(), "int threads" in large.c_source and "int threads" in logreg.c_source)
"""


def digest(cache: Path, *, cc: str = "", target: str = "native", threads: int = 1, seed: int = 0, must_share: bool = False) -> str:
    environment = {**os.environ, "GRAPHC_BUILD_DIR": str(cache), "PYTHONPATH": str(ROOT), "GRAPHC_TARGET": target}
    environment.pop("CC", None)
    if cc:
        environment["CC"] = cc
    program = PROGRAM.replace("default_rng(0)", f"default_rng({seed})")
    done = subprocess.run([sys.executable, "-c", program, str(threads)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found, shares = done.stdout.split()
    assert shares == "True" or not must_share, "nothing in these programs is shared among threads any more"
    return found


def has_fma() -> bool:
    try:
        return " fma " in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


pytestmark = pytest.mark.skipif(not has_fma(), reason="bits are promised where the hardware has fused multiply-add")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("bits")


@pytest.fixture(scope="module")
def expected(cache):
    return digest(cache)


def test_two_threads(cache, expected):
    shares = (os.cpu_count() or 1) > 1 and find_compiler().openmp is not None
    assert digest(cache, threads=2, must_share=shares) == expected


def test_avx2(cache, expected):
    assert digest(cache, target="x86-64-v3") == expected


CLANG = next((name for name in ("clang", "clang-14", "clang-15", "clang-16") if shutil.which(name)), None)


@pytest.mark.skipif(CLANG is None, reason="needs clang")
def test_clang(cache, expected):
    assert digest(cache, cc=str(CLANG)) == expected


@pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="needs the package ziglang")
def test_zig(cache, expected):
    assert digest(cache, cc=f"{sys.executable} -m ziglang cc") == expected


def test_digest_can_differ(cache, expected):
    """Another seed gives other bits, so that equality above means something."""
    assert digest(cache, seed=1) != expected
