"""Linear algebra: values against NumPy and SciPy's meaning, the same bits on every target, gradients of any order."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

import graphc as gx

BATCHES = [(), (2, 3), (0,)]
SIZES = [0, 1, 2, 3, 5, 16, 17, 33, 70]
CPU = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
NATIVE = " avx2 " in CPU and " fma " in CPU
TOLERANCE = {"float32": 3e-5, "float64": 1e-12}


def matrices(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def definite(batch, n, dtype="float64", seed=0):
    """Symmetric positive definite matrices."""
    root = matrices((*batch, n, n), seed)
    return (root @ np.swapaxes(root, -1, -2) / max(n, 1) + np.eye(n)).astype(dtype)


def triangles(batch, n, dtype="float64", seed=0):
    """Full matrices, both triangles of which have a small inverse, also with ones on the diagonal."""
    return (matrices((*batch, n, n), seed) / max(n, 1) + 2 * np.eye(n)).astype(dtype)


def check(outputs, inputs, given, wanted, dtype):
    """Compiled and evaluated, against wanted values, relative to the largest."""
    got = gx.compile(inputs, outputs)(**given)
    evaluated = dict(zip(outputs, gx.evaluate(list(outputs.values()), given), strict=True))
    for key, want in wanted.items():
        scale = np.max(np.abs(want), initial=1e-30)
        for found in (np.asarray(got[key]), evaluated[key]):
            assert found.shape == want.shape, key
            assert found.dtype == dtype or found.shape == (), key  # a scalar comes back as a number of Python
            np.testing.assert_allclose(found, want, rtol=0, atol=TOLERANCE[dtype] * scale, err_msg=key)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cholesky(dtype):
    inputs, given, outputs, wanted = [], {}, {}, {}
    for batch, n in itertools.product(BATCHES, SIZES):
        a = gx.input(f"a_{len(inputs)}", (*batch, n, n), dtype)
        inputs.append(a)
        given[a.name] = definite(batch, n, dtype, n)
        outputs[f"{batch} {n}"] = gx.linalg.cholesky(a)
        wanted[f"{batch} {n}"] = np.linalg.cholesky(given[a.name].astype("float64"))
        if n == 17:
            outputs[f"{batch} upper"] = gx.linalg.cholesky(a, upper=True)
            wanted[f"{batch} upper"] = np.swapaxes(wanted[f"{batch} {n}"], -1, -2)
    check(outputs, inputs, given, wanted, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_solve_triangular(dtype):
    inputs, given, outputs, wanted = [], {}, {}, {}
    for batch, n in itertools.product(BATCHES, SIZES):
        a = gx.input(f"a_{len(inputs)}", (*batch, n, n), dtype)
        sides = [gx.input(f"b_{len(inputs)}_{m}", (*batch, n, m), dtype) for m in (0, 1, 3, 50)]
        inputs += [a, *sides]
        given[a.name] = triangles(batch, n, dtype, n)
        given.update({b.name: matrices(b.shape, n + 1).astype(dtype) for b in sides})
        for b, lower, trans, unit in itertools.product(sides, *[(False, True)] * 3):
            key = f"{a.name} {b.name} lower={lower} trans={trans} unit={unit}"
            outputs[key] = gx.linalg.solve_triangular(a, b, int(trans), lower=lower, unit_diagonal=unit)
            wanted[key] = np.linalg.solve(triangle(given[a.name].astype("float64"), lower, trans, unit), given[b.name])
    check(outputs, inputs, given, wanted, dtype)


def triangle(a, lower, trans, unit):
    """The matrix that solve_triangular solves with."""
    t = np.tril(a) if lower else np.triu(a)
    if unit:
        t = t - t * np.eye(a.shape[-1]) + np.eye(a.shape[-1])
    return np.swapaxes(t, -1, -2) if trans else t


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_solve_inverse_and_determinants(dtype):
    """Matrices that need their rows swapped: a zero stands in front."""
    inputs, given, outputs, wanted = [], {}, {}, {}
    for batch, n in itertools.product(BATCHES, SIZES):
        a = gx.input(f"a_{len(inputs)}", (*batch, n, n), dtype)
        sides = [gx.input(f"b_{len(inputs)}_{m}", (*batch, n, m), dtype) for m in (0, 1, 3, 50)]
        inputs += [a, *sides]
        values = triangles(batch, n, "float64", n)[..., ::-1, :].copy()
        values[..., :1, :1] = 0 if n > 1 else 3
        given[a.name] = values.astype(dtype)
        given.update({b.name: matrices(b.shape, n + 1).astype(dtype) for b in sides})
        wide = given[a.name].astype("float64")
        signs, logs = gx.linalg.slogdet(a)
        outputs |= {f"inv {batch} {n}": gx.linalg.inv(a), f"sign {batch} {n}": signs, f"log {batch} {n}": logs}
        wanted |= {f"inv {batch} {n}": np.linalg.inv(wide)}
        wanted |= dict(zip((f"sign {batch} {n}", f"log {batch} {n}"), np.linalg.slogdet(wide), strict=True))
        if n < 40:
            outputs[f"det {batch} {n}"], wanted[f"det {batch} {n}"] = gx.linalg.det(a), np.linalg.det(wide)
        for b in sides:
            outputs[f"solve {a.name} {b.name}"] = gx.linalg.solve(a, b)
            wanted[f"solve {a.name} {b.name}"] = np.linalg.solve(wide, given[b.name])
    check(outputs, inputs, given, {key: np.asarray(value) for key, value in wanted.items()}, dtype)


def test_powers_with_negative_exponents():
    a = gx.input("a", (2, 3, 3), "float64")
    values = triangles((2,), 3)
    check({"-3": gx.linalg.matrix_power(a, -3)}, [a], {"a": values}, {"-3": np.linalg.matrix_power(values, -3)}, "float64")


def test_singular_matrices():
    """As LAPACK leaves them: a zero pivot, so that the determinant is 0; solutions are not finite, other matrices are not touched."""
    values = np.stack([np.zeros((3, 3)), np.ones((3, 3)), np.diag([1.0, 0, 2]), triangles((), 3)])
    a = gx.input("a", values.shape, "float64")
    outputs = {"det": gx.linalg.det(a), "inv": gx.linalg.inv(a), **gx.linalg.slogdet(a)._asdict()}
    got = gx.compile([a], outputs)(values)
    np.testing.assert_allclose(got["det"], np.linalg.det(values), atol=1e-14)
    np.testing.assert_array_equal(got["sign"], [0, 0, 0, 1])
    np.testing.assert_array_equal(got["logabsdet"][:3], [-np.inf] * 3)
    assert not np.isfinite(got["inv"][:3]).all(axis=(1, 2)).any()
    np.testing.assert_allclose(got["inv"][3], np.linalg.inv(values[3]), atol=1e-14)


def test_nan_comes_through():
    values = triangles((2,), 20)
    values[0, 3, 7] = np.nan
    a = gx.input("a", values.shape, "float64")
    inverse, det = gx.compile([a], [gx.linalg.inv(a), gx.linalg.det(a)])(values)
    assert np.isnan(inverse[0]).any()
    assert np.isnan(det[0])
    assert np.isfinite(inverse[1]).all()
    assert np.isfinite(det[1])


def test_one_factorisation_serves_all():
    """Solutions, inverse, determinant and all their gradients."""
    a, b = gx.input("a", (5, 5)), gx.input("b", (5,))
    loss = gx.sum(gx.linalg.solve(a, b) ** 2) + gx.sum(gx.linalg.inv(a)) + gx.linalg.slogdet(a).logabsdet
    function = gx.compile([a, b], [loss, *gx.grad(loss, [a, b])])
    assert sum("= lu(" in text for kernel in function.kernels for text in kernel.formulas) == 1


def test_vectors_and_axes_in_front_broadcast():
    a, v, B = gx.input("a", (4, 4), "float64"), gx.input("v", (4,), "float64"), gx.input("B", (3, 1, 4, 2), "float64")
    A = gx.input("A", (2, 4, 4), "float64")
    outputs = {"a v": gx.linalg.solve_triangular(a, v), "A v": gx.linalg.solve_triangular(A, v), "A B": gx.linalg.solve_triangular(A, B)}
    outputs |= {"solve A v": gx.linalg.solve(A, v), "solve A B": gx.linalg.solve(A, B)}
    given = {"a": triangles((), 4), "A": triangles((2,), 4), "v": matrices(4), "B": matrices((3, 1, 4, 2))}
    wanted = {
        "a v": np.linalg.solve(np.triu(given["a"]), given["v"]), "A v": np.linalg.solve(np.triu(given["A"]), given["v"]),
        "A B": np.linalg.solve(np.triu(given["A"]), given["B"]), "solve A v": np.linalg.solve(given["A"], given["v"]),
        "solve A B": np.linalg.solve(given["A"], given["B"]),
    }  # fmt: skip
    check(outputs, [a, v, B, A], given, wanted, "float64")


def test_what_is_not_positive_definite_has_no_factor():
    """All of the triangle is NaN, that of other matrices of the batch is not touched."""
    values = np.stack([definite((), 20), definite((), 20, seed=1), np.ones((20, 20))])
    values[1, 18, 18] = -1
    a = gx.input("a", values.shape, "float64")
    got = gx.compile([a], gx.linalg.cholesky(a))(values)
    np.testing.assert_allclose(got[0], np.linalg.cholesky(values[0]), atol=1e-14)
    for each in (*got[1:], *gx.evaluate(gx.linalg.cholesky(a), {"a": values})[1:]):
        assert np.isnan(each[np.tril_indices(20)]).all()
        assert (each[np.triu_indices(20, 1)] == 0).all()


@pytest.mark.skipif(not NATIVE, reason="needs fused multiply-add")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_bits_for_every_target(dtype):
    """The width of vectors does not show."""
    a, b = gx.input("a", (2, 41, 41), dtype), gx.input("b", (2, 41, 37), dtype)
    outputs = [gx.linalg.cholesky(a), gx.linalg.solve(a, b), gx.linalg.inv(a), gx.linalg.det(a), *(gx.linalg.solve_triangular(a, b, trans, lower=low) for trans in (0, 1) for low in (0, 1))]
    given = definite((2,), 41, dtype), matrices((2, 41, 37)).astype(dtype)
    results = [gx.compile([a, b], outputs, target=target)(*given) for target in ("native", "x86-64-v3")]
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


# --- gradients ----------------------------------------------------------------------------------------
def symmetric(x):
    """Positive definite for any x."""
    return x @ gx.swapaxes(x, -1, -2) + 3 * gx.eye(x.shape[-1], dtype="float64")


SLOPES = {
    "cholesky": lambda x, b: gx.linalg.cholesky(symmetric(x)),
    "cholesky of what is not quite symmetric": lambda x, b: gx.linalg.cholesky(x * 0.1 + 3 * gx.eye(4, dtype="float64")),
    "solve_triangular": lambda x, b: gx.linalg.solve_triangular(x + 4 * gx.eye(4, dtype="float64"), b),
    "solve_triangular, lower, of the transpose": lambda x, b: gx.linalg.solve_triangular(x + 4 * gx.eye(4, dtype="float64"), b, 1, lower=True),
    "solve_triangular, upper, of the transpose": lambda x, b: gx.linalg.solve_triangular(x + 4 * gx.eye(4, dtype="float64"), b, "T"),
    "solve_triangular, unit diagonal": lambda x, b: gx.linalg.solve_triangular(x, b, lower=True, unit_diagonal=True),
    "solve_triangular, one vector": lambda x, b: gx.linalg.solve_triangular(x + 4 * gx.eye(4, dtype="float64"), b[0, :, 0], lower=True),
    "solve": lambda x, b: gx.linalg.solve(x, b),
    "solve, one vector": lambda x, b: gx.linalg.solve(x[0], b[0, :, 0]),
    "inv": lambda x, b: gx.linalg.inv(x),
    "det": lambda x, b: gx.linalg.det(x),
    "slogdet": lambda x, b: gx.linalg.slogdet(x).logabsdet,
    "solve, transposed and again": lambda x, b: gx.linalg.solve(gx.swapaxes(x, -1, -2), gx.linalg.solve(x, b) ** 2),
}


@pytest.mark.parametrize("name", SLOPES)
def test_gradients_of_first_and_second_order(name):
    """Directional central differences in float64, compiled, by both operands and through both."""
    shapes = {"x": (2, 4, 4), "b": (2, 4, 3)}
    x, b, dx, db, ex, eb = (gx.input(n, shapes[n[-1]], "float64") for n in ("x", "b", "dx", "db", "ex", "eb"))
    at = [matrices(shapes[n], seed) for seed, n in enumerate("xbxbxb")]
    y = SLOPES[name](x, b)
    loss = gx.sum(gx.sin(y) * np.linspace(0.5, 2, y.size).reshape(y.shape))
    first = sum(gx.sum(g * d) for g, d in zip(gx.grad(loss, [x, b]), (dx, db), strict=True))
    second = sum(gx.sum(g * d) for g, d in zip(gx.grad(first, [x, b]), (ex, eb), strict=True))
    f = gx.compile([x, b, dx, db, ex, eb], [loss, first, second])
    h = 1e-5

    def along(place, toward):
        ends = [f(at[0] + s * toward[0], at[1] + s * toward[1], *at[2:])[place] for s in (h, -h)]
        return (ends[0] - ends[1]) / (2 * h)

    _, slope, curvature = f(*at)
    assert slope == pytest.approx(along(0, at[2:4]), rel=1e-7, abs=1e-8)
    assert curvature == pytest.approx(along(1, at[4:6]), rel=1e-7, abs=1e-8)


def test_a_jacobian_solves_for_all_unit_vectors_at_once():
    """The right sides of all rows stand beside each other, rather than one solve for each."""
    x, b = gx.input("x", (2, 3, 3), "float64"), gx.input("b", (2, 3, 2), "float64")
    given = {"x": triangles((2,), 3), "b": matrices((2, 3, 2))}
    solved = {"solve": gx.linalg.solve(x, b), "triangular": gx.linalg.solve_triangular(x, b, 1, lower=True)}
    wanted = {}
    for key, y in solved.items():
        flat = gx.reshape(y, (12,))
        for by in (x, b):
            rows = np.stack([gx.evaluate(gx.grad(flat[k], by), given) for k in range(12)])
            wanted[f"{key} {by.name}"] = rows.reshape((*y.shape, *by.shape))
    outputs = {f"{key} {by.name}": gx.jacobian(y, by) for key, y in solved.items() for by in (x, b)}
    function = gx.compile([x, b], outputs)
    got = function(**given)
    for key, value in wanted.items():
        np.testing.assert_allclose(got[key], value, atol=1e-12, err_msg=key)
    assert sum(kernel.kind == "routine" for kernel in function.kernels) <= 8


def test_hessians_both_ways():
    """Of the logarithm of a normal density by what its covariance is made of, by Cholesky and by LU; forward over reverse as well."""
    p, t = gx.input("p", (3,), "float64"), gx.constant(np.sort(matrices(6, 1)), "float64")
    K = gx.exp(p[0] - 0.5 * ((t[:, None] - t) * gx.exp(-p[1])) ** 2) + gx.exp(p[2]) * gx.eye(6, dtype="float64")
    L = gx.linalg.cholesky(K)
    ways = [
        gx.sum(gx.linalg.solve_triangular(L, gx.sin(t), lower=True) ** 2) / 2 + gx.sum(gx.log(gx.diagonal(L))),
        (gx.sin(t) @ gx.linalg.solve(K, gx.sin(t)) + gx.linalg.slogdet(K).logabsdet) / 2,
    ]
    at, along = np.array([0.1, 0.2, -1.0]), np.array([1.0, -2.0, 0.5])
    outputs = [node for loss in ways for node in (loss, gx.grad(loss, p), gx.hessian(loss, p), gx.jvp(loss, p, along))]
    value, slope, curvature, forward, *others = gx.compile([p], outputs)(at)
    for one, other in zip((value, slope, curvature, forward), others, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)
    assert forward == pytest.approx(slope @ along, rel=1e-12)
    f, h = gx.compile([p], outputs[1]), 1e-5
    differences = np.stack([(f(at + h * e) - f(at - h * e)) / (2 * h) for e in np.eye(3)])
    np.testing.assert_allclose(curvature, differences, atol=1e-8)


def test_updates_read_the_old_values():
    """A routine never writes over what it reads."""
    A, B = gx.parameter("A", triangles((), 5, seed=1), "float64"), gx.parameter("B", triangles((), 5, seed=2), "float64")
    a, b = A.value.copy(), B.value.copy()
    total = gx.compile([], gx.sum(A * B), updates={A: gx.linalg.solve(B, A), B: gx.linalg.inv(B) @ A})()
    assert total == pytest.approx(np.sum(a * b))
    np.testing.assert_allclose(A.value, np.linalg.solve(b, a), atol=1e-14)
    np.testing.assert_allclose(B.value, np.linalg.inv(b) @ a, atol=1e-14)
    gx.compile([], [], updates={A: gx.linalg.inv(A), B: gx.sort(B, 0)})()
    np.testing.assert_allclose(A.value, np.linalg.inv(np.linalg.solve(b, a)), atol=1e-13)
    np.testing.assert_array_equal(B.value, np.sort(B.value, 0))


# --- in a train step ------------------------------------------------------------------------------------
@pytest.mark.parametrize("way", ["cholesky", "solve and slogdet"])
def test_a_gaussian_process_learns_its_length_scale(way):
    """Steps down the marginal likelihood, against NumPy with the gradient as a trace: -tr((r r^T - K^-1) dK) / 2 where K r = y."""
    n, rate = 30, 0.01
    times = np.sort(matrices(n, 3)) * 3
    y = np.sin(times) + 0.1 * matrices(n, 4)
    scale, size = gx.parameter("scale", 0.6, "float64"), gx.parameter("size", 1.2, "float64")
    t, target = gx.input("t", (n,), "float64"), gx.input("target", (n,), "float64")
    apart = (t[:, None] - t[None, :]) / scale
    K = size * gx.exp(-0.5 * apart**2) + 0.01 * gx.eye(n, dtype="float64")
    if way == "cholesky":
        L = gx.linalg.cholesky(K)
        loss = 0.5 * gx.sum(gx.linalg.solve_triangular(L, target, lower=True) ** 2) + gx.sum(gx.log(gx.diagonal(L)))
    else:
        loss = 0.5 * (target @ gx.linalg.solve(K, target) + gx.linalg.slogdet(K).logabsdet)
    step = gx.train_step(loss, gx.optim.SGD(rate))
    losses = step.run(5, t=times, target=y)
    at_scale, at_size = 0.6, 1.2
    for found in losses:
        square = (times[:, None] - times) ** 2
        alike = np.exp(-0.5 * square / at_scale**2)
        K = at_size * alike + 0.01 * np.eye(n)
        r = np.linalg.solve(K, y)
        assert found == pytest.approx(0.5 * (y @ r + np.linalg.slogdet(K)[1]), rel=1e-9)
        inner = np.outer(r, r) - np.linalg.inv(K)
        by_scale, by_size = (-0.5 * np.sum(inner * slope) for slope in (at_size * alike * square / at_scale**3, alike))
        at_scale, at_size = at_scale - rate * by_scale, at_size - rate * by_size
    assert scale.value == pytest.approx(at_scale, rel=1e-9)
    assert size.value == pytest.approx(at_size, rel=1e-9)


# --- names and errors ---------------------------------------------------------------------------------
def test_numpys_functions_build_nodes():
    a = gx.input("a", (3, 3))
    assert np.linalg.cholesky(a) is gx.linalg.cholesky(a)
    assert np.linalg.det(a) is gx.linalg.det(a)
    assert np.linalg.solve(a, a) is gx.linalg.solve(a, a)
    assert np.linalg.slogdet(a).logabsdet is gx.linalg.slogdet(a)[1]
    assert np.linalg.matmul(a, a) is gx.matmul(a, a)
    with pytest.raises(gx.GraphcError, match=r"numpy\.linalg\.svd has no counterpart"):
        np.linalg.svd(a)


def test_what_does_not_fit_is_said():
    a = gx.input("a", (3, 4))
    with pytest.raises(gx.GraphcError, match=r"square matrices in the last two axes, got shape \(3, 4\)"):
        gx.linalg.cholesky(a)
    with pytest.raises(gx.GraphcError, match=r"need 3 rows on the right side, got shape \(4,\)"):
        gx.linalg.solve_triangular(a[:, :3], a[0])
    with pytest.raises(gx.GraphcError, match="trans is 0"):
        gx.linalg.solve_triangular(a[:, :3], a, 3)


# --- the peers ------------------------------------------------------------------------------------------
PEERS = ["cholesky", "solve", "solve vector", "inv", "det", "slogdet", "triangular", "triangular, transposed"]


def of_mine(name, a, b):
    spd = a @ gx.swapaxes(a, -1, -2) + 3 * gx.eye(7, dtype="float64")
    return {
        "cholesky": lambda: gx.linalg.cholesky(spd), "solve": lambda: gx.linalg.solve(a, b),
        "solve vector": lambda: gx.linalg.solve(a, b[0, :, 0]), "inv": lambda: gx.linalg.inv(a), "det": lambda: gx.linalg.det(a),
        "slogdet": lambda: gx.linalg.slogdet(a).logabsdet, "triangular": lambda: gx.linalg.solve_triangular(spd, b, lower=True),
        "triangular, transposed": lambda: gx.linalg.solve_triangular(spd, b, 1, lower=True, unit_diagonal=True),
    }[name]()  # fmt: skip


def of_torch(name, a, b, torch):
    spd = a @ a.mT + 3 * torch.eye(7, dtype=a.dtype)
    solve = torch.linalg.solve_triangular
    return {
        "cholesky": lambda: torch.linalg.cholesky(spd), "solve": lambda: torch.linalg.solve(a, b),
        "solve vector": lambda: torch.linalg.solve(a, b[0, :, 0].expand(2, 7)), "inv": lambda: torch.linalg.inv(a),
        "det": lambda: torch.linalg.det(a), "slogdet": lambda: torch.linalg.slogdet(a).logabsdet,
        "triangular": lambda: solve(spd.tril(), b, upper=False),
        "triangular, transposed": lambda: solve(spd.tril().mT, b, upper=True, unitriangular=True),
    }[name]()  # fmt: skip


def of_jax(name, a, b, jnp, scipy):
    spd = a @ a.mT + 3 * jnp.eye(7)
    return {
        "cholesky": lambda: jnp.linalg.cholesky(spd), "solve": lambda: jnp.linalg.solve(a, b),
        "solve vector": lambda: jnp.linalg.solve(a, jnp.broadcast_to(b[0, :, 0, None], (2, 7, 1)))[..., 0],
        "inv": lambda: jnp.linalg.inv(a), "det": lambda: jnp.linalg.det(a), "slogdet": lambda: jnp.linalg.slogdet(a)[1],
        "triangular": lambda: scipy.solve_triangular(spd, b, lower=True),
        "triangular, transposed": lambda: scipy.solve_triangular(spd, b, trans=1, lower=True, unit_diagonal=True),
    }[name]()  # fmt: skip


def mine_at(name, given):
    """Value, and the gradients of a sum with weights."""
    a, b = gx.input("a", (2, 7, 7), "float64"), gx.input("b", (2, 7, 3), "float64")
    y = of_mine(name, a, b)
    weights = np.cos(np.arange(y.size)).reshape(y.shape)
    return weights, gx.compile([a, b], [y, *gx.grad(gx.sum(y * weights), [a, b])])(*given)


@pytest.mark.peers
@pytest.mark.parametrize("name", PEERS)
def test_torch(name):
    torch = pytest.importorskip("torch")
    given = triangles((2,), 7)[:, ::-1].copy(), matrices((2, 7, 3))
    weights, mine = mine_at(name, given)
    a, b = (torch.tensor(value, requires_grad=True) for value in given)
    y = of_torch(name, a, b, torch)
    slopes = torch.autograd.grad((y * torch.tensor(weights)).sum(), [a, b], allow_unused=True)
    for one, other in zip(mine, (y.detach(), *slopes), strict=True):
        np.testing.assert_allclose(one, 0 if other is None else other.numpy(), rtol=1e-9, atol=1e-11)


@pytest.mark.peers
@pytest.mark.parametrize("name", PEERS)
def test_jax(name):
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    given = triangles((2,), 7)[:, ::-1].copy(), matrices((2, 7, 3))
    weights, mine = mine_at(name, given)

    def value(a, b):
        return of_jax(name, a, b, jax.numpy, jax.scipy.linalg)

    slopes = jax.grad(lambda a, b: jax.numpy.sum(value(a, b) * weights), (0, 1))(*map(jax.numpy.asarray, given))
    for one, other in zip(mine, (value(*map(jax.numpy.asarray, given)), *slopes), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)
