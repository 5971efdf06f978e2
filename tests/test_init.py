"""Initialisers: moments against their formulas, the shape of the distributions, and that a seed is a value."""

from __future__ import annotations

import math

import numpy as np
import pytest

import graphc as gx
from graphc.types import GraphError, ShapeError

SHAPES = [(300, 200), (3, 3, 40, 50)]  # a matrix; the window of a convolution
FANS = {(300, 200): (300, 200), (3, 3, 40, 50): (360, 450)}


def kolmogorov(sample, cdf):
    """Kolmogorov's statistic times the root of the size: below 1.95 in 999 of 1000 samples of this distribution."""
    ordered = np.sort(sample.ravel())
    expected, steps = cdf(ordered), np.arange(len(ordered) + 1) / len(ordered)
    return max((expected - steps[:-1]).max(), (steps[1:] - expected).max()) * math.sqrt(len(ordered))


def normal_cdf(std):
    return np.vectorize(lambda x: 0.5 * math.erfc(-x / std / math.sqrt(2)))


def uniform_cdf(limit):
    return lambda x: (x + limit) / (2 * limit)


@pytest.mark.parametrize("shape", SHAPES)
def test_variances(shape):
    fan_in, fan_out = FANS[shape]
    init = gx.init
    cases = {
        2 / (fan_in + fan_out): (init.xavier_normal(shape, seed=0), init.xavier_uniform(shape, seed=0)),
        9 * 2 / (fan_in + fan_out): (init.glorot_normal(shape, 3.0, seed=1), init.glorot_uniform(shape, 3.0, seed=1)),
        2 / fan_in: (init.he_normal(shape, seed=2), init.he_uniform(shape, seed=2)),
        2 / fan_out: (init.he_normal(shape, mode="fan_out", seed=3), init.he_uniform(shape, mode="fan_out", seed=3)),
        2 / 1.25 / fan_in: (
            init.kaiming_normal(shape, negative_slope=0.5, seed=4),
            init.kaiming_uniform(shape, negative_slope=0.5, seed=4),
        ),
    }
    for variance, (gaussian, flat) in cases.items():
        assert gaussian.shape == flat.shape == shape
        assert gaussian.dtype == flat.dtype == np.float64
        assert kolmogorov(gaussian, normal_cdf(math.sqrt(variance))) < 1.95
        assert kolmogorov(flat, uniform_cdf(math.sqrt(3 * variance))) < 1.95
        assert kolmogorov(flat, uniform_cdf(1.1 * math.sqrt(3 * variance))) > 1.95  # the test can fail


def test_plain_ones():
    assert (gx.init.zeros((2, 3)) == np.zeros((2, 3))).all()
    assert (gx.init.ones(4) == np.ones(4)).all()
    assert (gx.init.constant((2,), 0.1) == np.full(2, 0.1)).all()
    assert gx.init.constant((), 3).shape == ()
    sample = gx.init.normal((10_000,), 2.0, 0.5, seed=0)
    assert kolmogorov(sample - 2, normal_cdf(0.5)) < 1.95
    sample = gx.init.uniform((10_000,), -2.0, 6.0, seed=0)
    assert kolmogorov(sample - 2, uniform_cdf(4.0)) < 1.95
    assert -2 <= sample.min() < sample.max() < 6


@pytest.mark.parametrize("shape", [(5, 5), (8, 3), (3, 8), (2, 4, 3), (1, 1), (0, 3)])
def test_orthogonal(shape):
    W = gx.init.orthogonal(shape, 2.0, seed=0)
    assert W.shape == shape
    matrix = W.reshape(-1, shape[-1])
    gram = matrix.T @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.T
    np.testing.assert_allclose(gram, 4 * np.eye(len(gram)), atol=1e-14)


def test_orthogonal_is_uniform():
    """Of all rotations and reflections: neither the signs nor the determinant is fixed, and all entries are alike."""
    many = np.array([gx.init.orthogonal((3, 3), seed=seed) for seed in range(2000)])
    assert 0.45 < (np.linalg.det(many) > 0).mean() < 0.55
    for entry in many.reshape(2000, 9).T:  # one coordinate of a uniform point of the sphere is uniform
        assert kolmogorov(entry, uniform_cdf(1.0)) < 1.95


def test_a_seed_is_a_value():
    for name in ("normal", "uniform", "xavier_normal", "xavier_uniform", "he_normal", "he_uniform", "orthogonal"):
        function = getattr(gx.init, name)
        np.testing.assert_array_equal(function((4, 3), seed=7), function((4, 3), seed=7))
        assert (function((4, 3), seed=7) != function((4, 3), seed=8)).any()
        with pytest.raises(TypeError, match="seed"):
            function((4, 3))
    weights = gx.parameter("W", gx.init.he_normal((4, 3), seed=0))
    assert str(weights.dtype) == "float32"


def test_gains():
    assert gx.init.gain("linear") == 1
    assert gx.init.gain("relu") == math.sqrt(2)
    assert gx.init.gain("leaky_relu", 1.0) == 1
    with pytest.raises(GraphError, match=r"'swish'.*linear, sigmoid"):
        gx.init.gain("swish")


def test_refusals():
    for call, error, words in [
        (lambda: gx.init.he_normal((3,), seed=0), ShapeError, r"at least two axes .* got \(3,\)"),
        (lambda: gx.init.orthogonal(3, seed=0), ShapeError, "at least two axes"),
        (lambda: gx.init.he_normal((3, 3), mode="fan", seed=0), GraphError, "'fan_in' or 'fan_out', got 'fan'"),
        (lambda: gx.init.xavier_normal((3, 3), -1.0, seed=0), GraphError, "gain must be finite"),
        (lambda: gx.init.normal((3, 3), 0, float("nan"), seed=0), GraphError, "std must be finite"),
        (lambda: gx.init.uniform((3, 3), 1, 0, seed=0), GraphError, "low <= high"),
        (lambda: gx.init.zeros((-1,)), ShapeError, "must not be negative"),
    ]:
        with pytest.raises(error, match=words):
            call()
