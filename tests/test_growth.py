"""What compiling costs grows as the graph does: counted in calls of functions, which no other work on the machine disturbs."""

import sys

import numpy as np
import pytest

import graphc as gx
from graphc.compile import digest, freeze
from graphc.passes.grad import grad_with_trail
from graphc.pipeline import render


def trained(inputs, loss, parameters):
    """A step of gradient descent with momentum, clipped by the norm of all gradients."""
    gradients, trail = grad_with_trail(loss, parameters)
    norm = gx.sqrt(sum(gx.sum(g * g) for g in gradients))
    updates = {}
    for p, g in zip(parameters, gradients, strict=True):
        velocity = gx.parameter(f"{p.name}.velocity", np.zeros(p.shape), trainable=False)
        updates[velocity] = 0.9 * velocity + g / norm
        updates[p] = p - 0.1 * updates[velocity]
    return freeze(inputs, (loss,), ("loss",), "single", updates, "grown", trail)


def layers(count):
    h = X = gx.input("X", (8, 8))
    labels = gx.input("labels", (8,), dtype="int32")
    parameters = []
    for k in range(count):
        parameters += [gx.parameter(f"W{k}", np.ones((8, 8))), gx.parameter(f"b{k}", np.zeros(8))]
        h = gx.nn.relu(h @ parameters[-2] + parameters[-1])
    return trained([X, labels], gx.mean(gx.nn.softmax_cross_entropy(h, labels)), parameters)


def tables(count):
    rows = gx.input("rows", (16,), dtype="int32")
    parameters = [gx.parameter(f"T{k}", np.ones((100, 8))) for k in range(count)]
    loss = gx.sum(sum(gx.tanh(gx.take(T, rows, axis=0)) for T in parameters))
    gradients, trail = grad_with_trail(loss, parameters)
    updates = {T: T - 0.1 * g for T, g in zip(parameters, gradients, strict=True)}
    return freeze([rows], (loss,), ("loss",), "single", updates, "grown", trail)


def outputs(count):
    """Half of them sums, so that kernels of one reader each stand beside kernels that share what they read."""
    x = gx.input("x", (16,))
    maps = [gx.tanh(x * float(k + 1)) for k in range(count)]
    results = (*maps[::2], *(gx.sum(y) for y in maps[1::2]))
    return freeze([x], results, tuple(f"y{k}" for k in range(count)), "tuple", {}, "grown")


def chain(count):
    x = h = gx.parameter("x", np.ones(64))
    for k in range(count):
        h = gx.sin(h) if k % 2 else h * 1.01
    return trained([], gx.sum(h), [x])


def calls(work):
    """What ``work`` gives, and how many functions it calls."""
    count = 0

    def note(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        return work(), count
    finally:
        sys.setprofile(before)


def costs(net, size):
    """Calls to build a net, to name it for the cache, to write its C."""
    graph, built = calls(lambda: net(size))
    return built, calls(lambda: digest(graph))[1], calls(lambda: render(graph, 64, 2))[1]


@pytest.mark.parametrize("net", [layers, tables, outputs, chain])
def test_cost_grows_in_proportion(net):
    costs(net, 2)  # what is done once a process
    counts = zip(*(costs(net, size) for size in (25, 50, 100)), strict=True)
    for stage, (low, middle, high) in zip(("graph", "digest", "C"), counts, strict=True):
        assert high - middle < 2.05 * (middle - low), (stage, low, middle, high)
