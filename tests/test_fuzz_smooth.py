"""Random float64 formulas over every declared operation: C against NumPy, gradients against differences, simplified
against as written.

Each operand is first brought into the domain that its operation declares. Run as a script to look for more, or with
``CC="gcc -fsanitize=undefined -fno-sanitize-recover"`` (or address, with libasan in LD_PRELOAD and ASAN_OPTIONS=detect_leaks=0)::

    python tests/test_fuzz_smooth.py 1000 2000
"""

from __future__ import annotations

import sys

import numpy as np
import pytest

import graphc as gx
from graphc.evaluate import evaluate_all
from graphc.ir import REGISTRY, format_graph
from graphc.ops.pointwise import Pointwise
from graphc.passes.simplify import simplify

ROWS, COLUMNS = 3, 4
SHAPES = [(), (COLUMNS,), (ROWS, 1), (ROWS, COLUMNS)]
POINTWISE = [op for op in REGISTRY.values() if isinstance(op, Pointwise) and op.takes in ("float", "number", "select")]


def inside(x, domain):
    """x, moved into the inner part of an interval."""
    low, high = domain
    return (low + high) / 2 + 0.45 * (high - low) * gx.sin(x)


def spread(x):
    """A result of any shape as one that fits the others."""
    return x if x.shape in SHAPES else gx.mean(x)


WHOLE = [
    lambda x, y: x @ gx.transpose(y),
    lambda x, y: gx.nn.softmax(x) + gx.nn.log_softmax(y, axis=0),
    lambda x, y: gx.logsumexp(x, axis=1, keepdims=True),
    lambda x, y: gx.cumsum(x, axis=1) * gx.cumprod(y, axis=0),
    lambda x, y: gx.std(x, axis=0) + gx.var(y, axis=1, ddof=1, keepdims=True),
    lambda x, y: gx.sort(x, axis=1) * y,
    lambda x, y: gx.prod(x, axis=1, keepdims=True) + gx.median(y, axis=0),
    lambda x, y: gx.einsum("ij,kj,kl->il", x, y, y),
    lambda x, y: gx.linalg.solve(x @ x.T + 3 * gx.eye(ROWS), y),
    lambda x, y: gx.linalg.cholesky(x @ x.T + gx.eye(ROWS)) @ y,
    lambda x, y: gx.linalg.slogdet(x @ x.T + gx.eye(ROWS))[1] * y,
    lambda x, y: gx.linalg.norm(x, axis=1, keepdims=True) * y,
    lambda x, y: gx.nn.layer_norm(x, COLUMNS) + gx.nn.rms_norm(y, COLUMNS),
    lambda x, y: gx.nn.scaled_dot_product_attention(x, y, x, is_causal=True),
    lambda x, y: x.at[[0, 2, 0], 1:3].add(y[1, ::2]) + gx.take(y, gx.argmax(x, 1), axis=1)[:, :1],
    lambda x, y: gx.concatenate([x[:1], y[:0:-1]]) * gx.roll(x, 1, axis=1),
    lambda x, y: gx.grad(gx.sum(gx.tanh(x) * gx.exp(-y * y)), x),
    lambda x, y: gx.pad(x[:, 1:-1], ((0, 0), (1, 1)), mode="reflect") - gx.tril(y),
]


class Formula:
    """``inputs`` and the ``outputs`` of one random program, the last of them a scalar to differentiate."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.inputs = [gx.input(f"x{k}", self.pick(SHAPES[1:]), "float64") for k in range(3)]
        self.feeds = {x: self.rng.normal(size=x.shape) for x in self.inputs}
        self.pool = list(self.inputs)
        for _ in range(self.rng.integers(3, 10)):
            made = self.whole() if self.rng.random() < 0.25 else self.pointwise()
            self.pool.append(spread(made.astype("float64")))
        weights = [gx.constant(self.rng.normal(size=node.shape)) for node in self.pool[-3:]]
        loss = sum(gx.sum(gx.arctan(node) * w.astype("float64")) for node, w in zip(self.pool[-3:], weights, strict=True))
        self.outputs = [*self.pool[-3:], loss]

    def pick(self, items):
        return items[self.rng.integers(len(items))]

    def recent(self):
        return self.pool[-1 - min(int(self.rng.exponential(3)), len(self.pool) - 1)]

    def pointwise(self):
        op = self.pick(POINTWISE)
        operands = [inside(self.recent(), domain) for domain in op.domain]
        if op.takes == "select":
            operands[0] = self.recent() > self.recent()
        return op(*operands)

    def whole(self):
        x, y = (gx.broadcast_to(inside(self.recent(), (-1.5, 1.5)), (ROWS, COLUMNS)) for _ in range(2))
        return self.pick(WHOLE)(x, y)


def slopes(formula, gradients):
    """The slope of the loss along a random direction: by the gradient, and by central differences of two widths."""
    directions = {x: formula.rng.normal(size=x.shape) for x in formula.inputs}

    def along(t):
        return float(gx.evaluate(formula.outputs[-1], {x: v + t * directions[x] for x, v in formula.feeds.items()}))

    by_gradient = sum(float(np.sum(g * directions[x])) for x, g in zip(formula.inputs, gradients, strict=True))
    return by_gradient, *((along(h) - along(-h)) / (2 * h) for h in (2e-5, 1e-5))


def wrong(seed):
    """What is wrong with a formula, as text; None if nothing."""
    formula = Formula(seed)
    outputs, feeds = formula.outputs, formula.feeds
    with np.errstate(all="ignore"):
        expected = evaluate_all(outputs, feeds)
        simpler = evaluate_all(simplify(outputs), feeds)
    gradients = gx.grad(outputs[-1], formula.inputs)
    results = [*outputs, *gradients]
    compiled = gx.compile(formula.inputs, results)(*feeds.values())
    with np.errstate(all="ignore"):
        meant = [*expected, *evaluate_all(gradients, feeds)]
    for name, found in (("C", compiled), ("simplified", simpler)):
        for place, (got, want) in enumerate(zip(found, meant, strict=False)):
            scale = np.max(np.abs(want), initial=1, where=np.isfinite(want))
            if not np.allclose(got, want, rtol=0, atol=1e-8 * scale, equal_nan=True):
                return f"{name}, result {place}: {got!r} is not {want!r}\n{format_graph([results[place]])}"
    with np.errstate(all="ignore"):
        slope, wide, narrow = slopes(formula, meant[len(outputs) :])
    smooth = abs(wide - narrow) < 1e-6 * max(abs(narrow), 1)  # else a jump or a kink lies between, or it curves too much
    if smooth and abs(slope - narrow) > 1e-4 * max(abs(narrow), 1):
        return f"slope {slope}, by differences {narrow}\n{format_graph([outputs[-1]])}"
    return None if smooth else ROUGH


ROUGH = "too rough for differences"


@pytest.mark.parametrize("first", range(0, 100, 10))
def test_random_formulas(first):
    found = [wrong(seed) for seed in range(first, first + 10)]
    assert [text for text in found if text not in (None, ROUGH)] == []
    assert found.count(None) >= 5  # most have been compared with differences


if __name__ == "__main__":
    for seed in range(*map(int, sys.argv[1:])):
        if (text := wrong(seed)) not in (None, ROUGH):
            print("SEED", seed, text[:3000], flush=True)
