"""Random graphs: the compiled C against NumPy.

Every leaf holds small integers and the operations keep them integers (as floats), so that sums are exact in any order
and no comparison depends on rounding: what comes out of C must be what comes out of NumPy, all decisions included.
Gradients come last and may round. Run as a script to look for more (with sanitizers as test_fuzz_smooth.py says)::

    python tests/test_fuzz.py 1000 2000
"""

from __future__ import annotations

import math
import os
import sys
import traceback

import numpy as np
import pytest

import graphc as gx
from graphc.ir import Node, format_graph
from graphc.ops import structural as st
from graphc.passes.simplify import simplify
from graphc.types import GraphcError

EXTENTS = (1, 1, 2, 2, 3, 4, 5, 6, 7, 8, 12, 16, 17, 31, 32, 33, 40)
LIMIT = 2.0**20  # well inside of what float32 holds exactly
SIZE = 3000


class Generator:
    """One random program: ``outputs``, ``updates`` and ``inputs`` of a compile."""

    def __init__(self, seed, steps=None):
        self.rng = np.random.default_rng(seed)
        self.dtype = str(self.rng.choice(["float64", "float64", "float32"]))
        extents = list(EXTENTS) + [0] * (self.rng.random() < 0.15)
        self.extents = [int(e) for e in self.rng.choice(extents, 3)]
        self.bounds = {}
        self.pool = []
        self.inputs, self.parameters = [], []
        for place in range(self.integer(1, 4)):
            self.inputs.append(self.enter(gx.input(f"x{place}", self.shape(), self.dtype), 2))
        if self.coin(0.4):
            self.inputs.append(self.enter(gx.input("n", self.shape(), "int32"), 2))
        for place in range(self.integer(0, 4)):
            shape = self.pick(self.parameters).shape if self.parameters and self.coin(0.6) else self.shape()
            value = self.rng.integers(-2, 3, shape)
            self.parameters.append(self.enter(gx.parameter(f"p{place}", value, self.dtype), 2))
        for _ in range(self.integer(4, 22) if steps is None else steps):
            made = getattr(self, str(self.rng.choice(KINDS, p=WEIGHTS)))()
            if made is not None:
                self.enter(*made)
        self.finish()

    # --- drawing -------------------------------------------------------------------------------------
    def integer(self, low, high):
        return int(self.rng.integers(low, high))

    def coin(self, chance=0.5):
        return self.rng.random() < chance

    def pick(self, items):
        return items[self.integer(0, len(items))]

    def shape(self):
        shape = tuple(self.pick(self.extents) for _ in range(int(self.rng.choice([0, 1, 2, 2, 2, 3, 3]))))
        return shape if math.prod(shape) <= SIZE else shape[1:]

    def node(self, floats=False):
        """Mostly a recent one."""
        pool = [n for n in self.pool if n.dtype.is_float] if floats else self.pool
        return pool[-1 - min(int(self.rng.exponential(4)), len(pool) - 1)] if self.coin(0.7) else self.pick(pool)

    def enter(self, node, bound):
        if bound > LIMIT or node.size > SIZE:
            return node
        self.bounds.setdefault(node, bound)
        self.pool.append(node)
        return node

    def small(self, node, bound=3):
        """The node, clipped if its values may be large."""
        if self.bounds[node] <= bound:
            return node
        clipped = gx.minimum(gx.maximum(node, -bound), bound)
        self.bounds.setdefault(clipped, bound)
        return clipped

    def fitting(self, a):
        """Another node that broadcasts with ``a``, or a reduction of one."""
        for _ in range(6):
            b = self.node()
            try:
                if math.prod(np.broadcast_shapes(a.shape, b.shape)) <= SIZE:
                    return b
            except ValueError:
                pass
            if a.ndim and b.shape == a.shape[:-1]:
                column = gx.expand_dims(b, -1)
                self.bounds[column] = self.bounds[b]
                return column
            if b.ndim == a.ndim == 2 and b.shape == a.shape[::-1]:
                turned = b.T
                self.bounds[turned] = self.bounds[b]
                return turned
        return a

    # --- steps ---------------------------------------------------------------------------------------
    def unary(self):
        x = self.node()
        b = self.bounds[x]
        kind = self.integer(0, 7)
        if kind == 0:
            return -x, b
        if kind == 1:
            return gx.abs(x), b
        if kind == 2:
            return gx.nn.relu(x), b
        if kind == 3:
            return gx.sign(x), 1
        if kind == 4:
            return x * self.integer(-2, 3), 2 * b
        if kind == 5:
            return self.integer(-2, 3) - x, b + 2
        return gx.square(self.small(x, 30)), min(b, 30) ** 2

    def binary(self):
        a = self.node()
        b = self.fitting(a)
        a, b = (a, b) if self.coin() else (b, a)
        kind = self.integer(0, 7)
        if kind == 0:
            return a + b, self.bounds[a] + self.bounds[b]
        if kind == 1:
            return a - b, self.bounds[a] + self.bounds[b]
        top = max(self.bounds[a], self.bounds[b])
        if kind == 2:
            return gx.maximum(a, b), top
        if kind == 3:
            return gx.minimum(a, b), top
        if kind == 4:
            comparison = self.pick([gx.less, gx.greater_equal, gx.equal, gx.not_equal])
            return gx.where(comparison(a, b), a, b), top
        a, b = self.small(a, 100), self.small(b, 100)
        return a * b, self.bounds[a] * self.bounds[b]

    def reduction(self):
        x = self.node()
        axes = [axis for axis in range(x.ndim) if self.coin()] or ([self.integer(0, x.ndim)] if x.ndim else [])
        keep = self.coin(0.4)
        count = math.prod(x.shape[a] for a in axes)
        kind = self.integer(0, 4)
        if kind < 2 or count == 0:
            return gx.sum(x, tuple(axes), keep), self.bounds[x] * max(count, 1)
        return (gx.max if kind == 2 else gx.min)(x, tuple(axes), keep), self.bounds[x]

    def arg(self):
        x = self.node()
        if x.ndim == 0:
            return None
        axis = None if self.coin(0.2) else self.integer(0, x.ndim)
        if 0 in (x.shape if axis is None else (x.shape[axis],)):
            return None
        return (gx.argmax if self.coin() else gx.argmin)(x, axis, self.coin(0.3)), max(x.size, 1)

    def gather(self):
        x = self.node()
        if x.ndim == 0:
            return None
        axis = self.integer(0, x.ndim)
        extent = x.shape[axis]
        if extent == 0:
            return None
        table = gx.take_along_axis
        if self.coin(0.3):  # a constant table
            index = gx.constant(self.rng.integers(0, extent, self.replaced(x.shape, axis, self.integer(1, 5))))
            return table(x, index, axis), self.bounds[x]
        source = self.node()
        if source.ndim == 0 or 0 in source.shape:
            return None
        if source.dtype.is_int:
            index = gx.minimum(gx.maximum(source, 0), extent - 1)
        else:
            index = gx.minimum(gx.argmax(source, self.integer(0, source.ndim), keepdims=True), extent - 1)
        try:
            picked = table(x, index, axis)
        except GraphcError:
            if index.size == 0:
                return None
            index = gx.broadcast_to(gx.reshape(index, (index.size,))[:1], (1,) * x.ndim)
            picked = table(x, index, axis)
        return picked, self.bounds[x]

    @staticmethod
    def replaced(shape, axis, extent):
        return tuple(extent if a == axis else e for a, e in enumerate(shape))

    def permute(self):
        x = self.node()
        return gx.transpose(x, [int(a) for a in self.rng.permutation(x.ndim)]), self.bounds[x]

    def reshape(self):
        x = self.node()
        shape = list(x.shape)
        for _ in range(self.integer(1, 4)):
            at = self.integer(0, len(shape) + 1)
            kind = self.integer(0, 3)
            if kind == 0:
                shape.insert(at, 1)
            elif kind == 1 and at + 1 < len(shape):
                shape[at : at + 2] = [shape[at] * shape[at + 1]]
            elif at < len(shape):
                divisors = [0] if shape[at] == 0 else [d for d in range(1, shape[at] + 1) if shape[at] % d == 0]
                d = self.pick(divisors)
                shape[at : at + 1] = [d, shape[at] // d if d else 1]
        if len(shape) > 5:
            return None
        return gx.reshape(x, shape), self.bounds[x]

    def slice(self):
        x = self.node()
        key = []
        for extent in x.shape:
            kind = self.integer(0, 4)
            if kind == 0 and extent and self.coin(0.4):
                key.append(self.integer(-extent, extent))
            elif kind < 3 and extent:
                start = self.integer(0, extent)
                stop = self.integer(start, extent + 1)
                step = self.pick([1, 1, 2, 3])
                key.append(slice(start, stop, step) if self.coin() else slice(stop - 1, None if start == 0 else start - 1, -step) if stop > start else slice(None, None, -1))
            else:
                key.append(slice(None))
        return x[tuple(key)], self.bounds[x]

    def pad(self):
        x = self.node()
        start, step, shape = [], [], []
        for extent in x.shape:
            d = self.pick([1, 1, 1, 2, -1, -2])
            low, high = self.integer(0, 3), self.integer(0, 3)
            reach = max(abs(d) * (extent - 1) + 1, 0)
            shape.append(low + reach + high)
            start.append(low if d > 0 else low + max(reach - 1, 0))
            step.append(d)
        return st.pad(x, start, step, shape), self.bounds[x]

    def spread(self):
        x = self.node()
        return gx.broadcast_to(x, (self.pick(self.extents), *x.shape)), self.bounds[x]

    def product(self):
        """A contraction of any labels."""
        a, b = self.small(self.node(floats=True)), self.small(self.node(floats=True))
        if self.coin(0.5) and a.ndim and b.ndim:  # a matrix product, turned until it fits
            for _ in range(8):
                if a.ndim and b.ndim and a.shape[-1] == (b.shape[-2] if b.ndim > 1 else b.shape[0]):
                    try:
                        y = gx.matmul(a, b)
                    except GraphcError:
                        pass
                    else:
                        return (y, 9 * max(a.shape[-1], 1)) if y.size <= SIZE else None
                b = self.small(self.node(floats=True))
                if b.ndim > 1 and self.coin():
                    turned = gx.transpose(b, [*range(b.ndim - 2), b.ndim - 1, b.ndim - 2])
                    self.bounds.setdefault(turned, self.bounds[b])
                    b = turned
            if a.ndim < 2:
                return None
            turned = gx.transpose(a, [*range(a.ndim - 2), a.ndim - 1, a.ndim - 2])
            a, b = (a, turned) if self.coin() else (turned, a)
            y = gx.matmul(a, b)
            return (y, 9 * max(a.shape[-1], 1)) if y.size <= SIZE else None
        left = list(range(a.ndim))
        right, free = [], a.ndim
        for extent in b.shape:
            same = [label for label in left if a.shape[label] == extent and label not in right]
            if same and self.coin(0.7):
                right.append(self.pick(same))
            else:
                right.append(free)
                free += 1
        summed = [label for label in left if label in right and self.coin(0.6)]
        out = [int(label) for label in self.rng.permutation([x for x in range(free) if x not in summed])]
        y = st.contract(a, b, left, right, out)
        return y, 9 * max(math.prod(a.shape[label] for label in summed), 1)

    def convert(self):
        x = self.node()
        if x.dtype.is_float:
            return gx.stop_gradient(x), self.bounds[x]
        return x.astype(self.dtype), self.bounds[x]

    def einsum(self):
        """One to three operands, with labels that repeat, that several share, or that one of them has alone."""
        operands, extents = [], []
        for _ in range(self.integer(1, 4)):
            x = self.small(self.node(floats=True), 2)
            own = []
            for extent in x.shape:
                same = [label for label, other in enumerate(extents) if other == extent]
                own.append(self.pick(same) if same and self.coin(0.6) else len(extents))
                extents += [extent] * (own[-1] == len(extents))
            operands += x, own
        out = [int(label) for label in self.rng.permutation(len(extents)) if self.coin(0.4)]
        bound = 2 ** (len(operands) // 2) * math.prod(max(extent, 1) for label, extent in enumerate(extents) if label not in out)
        if bound > LIMIT or math.prod(extents) > 20 * SIZE:
            return None
        return gx.einsum(*operands, out), bound

    def truth(self):
        x = self.node()
        axis = self.axis(x) if x.ndim and self.coin() else None
        truths = self.pick([gx.equal, gx.less, gx.isclose])(x, self.integer(-2, 3))
        return self.pick([gx.any, gx.all])(truths, axis, self.coin(0.3)).astype(self.dtype), 1

    def axis(self, x):
        return self.integer(0, x.ndim)

    def rearranged(self):
        """Pieces put together, repeated, turned."""
        x = self.node()
        if x.ndim == 0:
            return gx.stack([x, -x]), self.bounds[x]
        axis, b = self.axis(x), self.bounds[x]
        kind = self.integer(0, 10)
        if kind == 0:
            others = [y for y in self.pool if y.dtype is x.dtype and self.replaced(y.shape, axis, 0) == self.replaced(x.shape, axis, 0)]
            y = self.pick([y for y in others if y.ndim == x.ndim] or [x])
            return gx.concatenate([x, y, x[::-1]], axis), max(b, self.bounds[y])
        if kind == 1:
            return gx.roll(x, self.integer(-3, 4), axis), b
        if kind == 2:
            return gx.tile(x, self.integer(1, 3)), b
        if kind == 3:
            return gx.repeat(x, [self.integer(0, 3) for _ in range(x.shape[axis])] if self.coin() else 2, axis), b
        if kind == 4:
            return gx.flip(x, axis), b
        if kind == 5:
            return gx.diff(x, axis=axis), 2 * b
        if kind == 6 and x.ndim > 1:
            return (gx.tril if self.coin() else gx.triu)(x, self.integer(-2, 3)), b
        if kind == 7 and x.ndim > 1:
            return gx.diagonal(x, self.integer(-1, 2)), b
        if kind == 8 and x.shape[axis]:
            return gx.split(x, [self.integer(0, x.shape[axis])], axis)[self.integer(0, 2)], b
        return gx.pad(x, 1, constant_values=self.integer(-2, 3)), max(b, 2)

    def running(self):
        """What goes along an axis in order: running sums and products, sorting."""
        x = self.node()
        if x.ndim == 0:
            return None
        axis, b = self.axis(x), self.bounds[x]
        kind = self.integer(0, 4)
        if kind == 0:
            return gx.cumsum(x, axis), b * max(x.shape[axis], 1)
        if kind == 1:
            return gx.cumprod(gx.sign(x), axis), 1
        if kind == 2:
            return gx.sort(x, axis), b
        return gx.argsort(x, axis), x.shape[axis]

    def indexed(self):
        """Elements picked and changed by arrays of indices, known when the graph is built or only when it runs."""
        x = self.node()
        if x.ndim == 0 or 0 in x.shape:
            return None
        first = x.shape[0]
        index = self.rng.integers(-first, first, self.integer(0, 6))
        if self.coin():
            source = gx.ravel(self.node())[:5]
            index = gx.clip(source.astype("int32"), -first, first - 1)
        key = (index, *([slice(None, None, self.pick([1, -1, 2]))] if x.ndim > 1 and self.coin() else []))
        if x.ndim > 1 and self.coin(0.3) and not isinstance(index, Node):
            key = (index, self.rng.integers(-x.shape[1], x.shape[1], len(index)))
        key = key if len(key) > 1 else key[0]
        kind = self.integer(0, 3)
        picked = x[key]
        if kind == 0:
            return picked, self.bounds[x]
        value = picked * 2 + 1 if self.coin() else gx.constant(self.integer(-2, 3)).astype(str(x.dtype))
        bound = 2 * self.bounds[x] + 2
        if kind == 1:
            return x.at[key].set(value), bound
        return x.at[key].add(value), self.bounds[x] + bound * max(picked.size, 1)

    def whole(self):
        """Functions of whole numbers."""
        x = self.node()
        b, k = self.bounds[x], self.pick([-3, -2, 2, 3])
        kind = self.integer(0, 7)
        if kind == 0:
            return gx.remainder(x, k), 3
        if kind == 1:
            return gx.fmod(x, k), 3
        if kind == 2:
            return gx.floor_divide(x, k), b
        if kind == 3:
            return gx.clip(x, -2, 2), 2
        if kind == 4:
            return gx.logical_and(x > 0, gx.not_equal(x, k)).astype(self.dtype), 1
        if kind == 5:
            return gx.copysign(x.astype(self.dtype), -1.0), b
        return gx.count_nonzero(x, axis=None if self.coin() or not x.ndim else self.axis(x)), max(x.size, 1)

    # --- what is asked for ----------------------------------------------------------------------------
    def finish(self):
        outputs = {}
        for place in range(self.integer(1, 5)):
            outputs[f"y{place}"] = self.node()
        floats = [node for node in self.pool if node.dtype.is_float]
        loss = None
        for _ in range(self.integer(1, 4)):
            node = floats[-1 - min(int(self.rng.exponential(3)), len(floats) - 1)]
            term = gx.sum(self.small(node, 50) * self.integer(1, 4))
            loss = term if loss is None else loss + term.astype(str(loss.dtype))
        wrt = [*[x for x in self.inputs if x.dtype.is_float], *self.parameters]
        if self.coin(0.3):
            wrt += [self.pick(floats)]
        gradients = gx.grad(loss, wrt)
        if self.coin(0.3):
            outputs["loss"] = loss
        if self.coin(0.15):  # second order
            again = gx.sum(gradients[0] * 2)
            outputs["second"] = gx.grad(again, wrt[0])
        for place, (node, g) in enumerate(zip(wrt, gradients, strict=True)):
            if (node not in self.parameters or self.coin(0.3)) and self.coin(0.7):
                outputs[f"d{place}"] = g
        self.outputs, self.updates = outputs, {}
        step = dict(zip(wrt, gradients, strict=True))
        for p in self.parameters:
            like = [node for node in self.pool if node.shape == p.shape and node.dtype.is_float]
            kind = self.integer(0, 7)
            if kind == 0:
                continue
            if kind == 1:
                new = self.pick([q for q in self.parameters if q.shape == p.shape])
            elif kind == 2:
                new = self.pick(like)
            elif kind == 3 and p.ndim == 2 and p.shape[0] == p.shape[1]:
                new = p.T - 0.5 * step[p]
            elif kind == 3 and p.ndim:
                new = p[::-1] - step[p]
            elif kind == 4:
                scale = gx.sum(gx.square(self.pick(list(step.values()))))
                new = p - step[p] / (1 + scale.astype(self.dtype))
            else:
                new = p - 0.5 * step[p]
            self.updates[p] = new.astype(self.dtype)

    def feeds(self):
        return {
            x.name: self.rng.integers(-2, 3, x.shape).astype(str(x.dtype)) for x in self.inputs
        }


KINDS, WEIGHTS = zip(*{
    "unary": 3, "binary": 6, "reduction": 4, "arg": 1, "gather": 2, "permute": 2, "reshape": 2,
    "slice": 2, "pad": 1, "spread": 1, "product": 4, "convert": 1, "rearranged": 3, "einsum": 2, "truth": 1, "running": 2, "indexed": 3, "whole": 2,
}.items(), strict=True)  # fmt: skip
WEIGHTS = tuple(weight / sum(WEIGHTS) for weight in WEIGHTS)


def run(function, program, feeds, start):
    """Outputs and the parameters after a call that starts from the given values."""
    for p, value in zip(program.parameters, start, strict=True):
        p.value = value
    results = dict(function(**feeds))
    for p in program.parameters:
        results[f"new {p.name}"] = p.value.copy()
    return results


def difference(program, outputs=None, updates=None):
    """The first result in which C and NumPy disagree, as text; None if there is none."""
    outputs = program.outputs if outputs is None else outputs
    updates = program.updates if updates is None else updates
    feeds = program.feeds()
    start = [p.value.copy() for p in program.parameters]
    native, numpy = (gx.compile(program.inputs, outputs, updates, backend=b) for b in ("native", "numpy"))
    expected = run(numpy, program, feeds, start)
    found = run(native, program, feeds, start)
    for p, value in zip(program.parameters, start, strict=True):
        p.value = value
    for name, want in expected.items():
        want, got = np.asarray(want), np.asarray(found[name])
        assert want.dtype == got.dtype or want.ndim == 0, name
        scale = np.max(np.abs(want), initial=1, where=np.isfinite(want))
        tolerance = 1e-9 if program.dtype == "float64" else 2e-4
        if not np.allclose(got, want, rtol=0, atol=tolerance * scale, equal_nan=True):
            return f"{name}: {got!r} is not {want!r}"
    return None


@pytest.mark.parametrize("seed", range(100))
def test_random_program(seed):
    assert difference(Generator(seed)) is None


def attempt(seed, keep=None):
    """What is wrong with a program, as text; None if nothing."""
    try:
        program = Generator(seed)
        if keep is None:
            return difference(program)
        outputs = {name: node for name, node in program.outputs.items() if name in keep}
        updates = {p: node for p, node in program.updates.items() if p.name in keep}
        return difference(program, outputs, updates) if outputs or updates else None
    except Exception as error:
        return "".join(traceback.format_exception(error)[-3:]).strip()[-1500:]


def apart(function, *args):
    """The result of a function called in a process of its own, so that a crash is a result too."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, repr(function(*args)).encode()[:4000])
        os._exit(0)
    _, status = os.waitpid(child, 0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        text = pipe.read().decode(errors="replace")
    return f"crashed: {status}" if status else (None if text == "None" else text)


def shrink(seed):
    """The outputs and updates that are needed for a program to be wrong, and their graph."""
    program = Generator(seed)
    keep = [*program.outputs, *(p.name for p in program.updates)]
    for name in list(keep):
        fewer = [other for other in keep if other != name]
        if apart(attempt, seed, fewer):
            keep = fewer
    nodes = [program.outputs[name] for name in keep if name in program.outputs]
    nodes += [node for p, node in program.updates.items() if p.name in keep]
    return keep, format_graph(simplify(nodes))


if __name__ == "__main__":
    if len(sys.argv) == 2:
        print(apart(attempt, int(sys.argv[1])))
        print(*shrink(int(sys.argv[1])), sep="\n")
    else:
        for seed in range(*map(int, sys.argv[1:])):
            message = apart(attempt, seed)
            if message:
                print("SEED", seed, message[:1500], flush=True)
