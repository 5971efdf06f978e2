"""What several tests compare with: central differences, and PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gx


def assert_slopes(function, at, du, dv):
    """First and second derivatives of a function of one float64 array, along two directions, against central differences of the compiled function."""
    x, u, v = (gx.input(name, at.shape, "float64") for name in "xuv")
    y = function(x)
    weights = np.linspace(0.5, 2, y.size).reshape(y.shape)
    loss = gx.sum((gx.cos(y) + y) * weights)
    first = gx.sum(gx.grad(loss, x) * u)
    second = gx.sum(gx.grad(first, x) * v)
    f = gx.compile([x, u, v], [loss, first, second])
    h = 1e-5

    def along(place, direction):
        return (f(at + h * direction, du, dv)[place] - f(at - h * direction, du, dv)[place]) / (2 * h)

    _, slope, curvature = f(at, du, dv)
    assert slope == pytest.approx(along(0, du), rel=1e-7, abs=1e-8)
    assert curvature == pytest.approx(along(1, dv), rel=1e-7, abs=1e-8)


def assert_values_and_gradients_are_pytorchs(torch, cases, tolerances=None):
    """cases: name, our function, theirs, float64 arrays; tolerances: relative ones by name, where not 1e-11."""
    for name, ours, theirs, arrays in cases:
        inputs = [gx.input(f"x{k}", array.shape, "float64") for k, array in enumerate(arrays)]
        tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
        y, z = ours(*inputs), theirs(*tensors)
        cotangent = np.random.default_rng(1).uniform(0.5, 1.5, y.shape)
        found = gx.evaluate([y, *gx.grad(gx.sum(y * cotangent), inputs)], dict(zip(inputs, arrays, strict=True)))
        wanted = [z, *torch.autograd.grad(z, tensors, torch.tensor(cotangent))]
        rtol = (tolerances or {}).get(name, 1e-11)
        for part, (a, b) in enumerate(zip(found, wanted, strict=True)):
            np.testing.assert_allclose(a, b.detach().numpy(), rtol=rtol, atol=1e-13, err_msg=f"{name}, {part}")
