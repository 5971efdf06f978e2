"""The index algebra, against Python's integers at every position."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from graphc.lower.equations import Guard, Load
from graphc.lower.index import Divide, Index, Modulo, Var, flatten, unflatten


def value(index, position):
    total = index.constant
    for atom, factor in index.terms:
        if isinstance(atom, Var):
            part = position[atom.axis]
        else:
            part = value(atom.index, position)
            part = part // atom.by if isinstance(atom, Divide) else part % atom.by
        total += factor * part
    return total


def positions(extents):
    return itertools.product(*map(range, extents))


def random_index(rng, extents):
    """A sum over the axes, then divided, or a remainder of it taken, and added to, again and again."""
    index = Index((), int(rng.integers(0, 9)))
    for axis, extent in enumerate(extents):
        index = index + Index.of(axis, extent) * int(rng.integers(-3, 40))
    index = index + max(-index.bounds[0], 0)
    for _ in range(rng.integers(0, 3)):
        by = int(rng.integers(1, 30))
        index = index.divide(by) if rng.random() < 0.5 else index.modulo(by)
        index = index * int(rng.integers(1, 25)) + Index.of(0, extents[0]) * int(rng.integers(0, 9))
    return index


@pytest.mark.parametrize("seed", range(300))
def test_quotients_and_remainders(seed):
    rng = np.random.default_rng(seed)
    extents = [int(e) for e in rng.integers(1, 9, 3)]
    index, by = random_index(rng, extents), int(rng.integers(1, 45))
    quotient, remainder = index.divide(by), index.modulo(by)
    for position in positions(extents):
        exact = value(index, position)
        assert (value(quotient, position), value(remainder, position)) == divmod(exact, by)
        for part in (index, quotient, remainder):
            assert part.bounds[0] <= value(part, position) <= part.bounds[1]
        assert value(quotient * by + remainder, position) == exact


@pytest.mark.parametrize("seed", range(100))
def test_multiples(seed):
    rng = np.random.default_rng(seed)
    extents = [int(e) for e in rng.integers(1, 6, 2)]
    by = int(rng.integers(2, 30))
    index = Index((), int(rng.integers(-9, 40)))
    for axis, extent in enumerate(extents):
        index = index + Index.of(axis, extent) * int(rng.integers(-1, 2) + by * rng.integers(-2, 3))
    split = index.multiple(by)
    if split is not None:
        times, rest = split
        for position in positions(extents):
            assert value(index, position) == by * value(times, position) + value(rest, position)
            assert (value(rest, position) == 0) == (value(index, position) % by == 0)
    assert split is not None or max(extents) > 1


@pytest.mark.parametrize("seed", range(100))
def test_guards_of_steps_hold_where_they_did(seed):
    """A load under guards, moved to other axes: the same element, or none, as by plain arithmetic."""
    rng = np.random.default_rng(seed)
    n, step = int(rng.integers(2, 7)), int(rng.integers(2, 9))
    flat = Index.of(0, 64) + -int(rng.integers(0, 5))
    load = Load("x", (flat.divide(step),), (Guard(flat, 0, (n - 1) * step + 1, step),))
    rows, columns = (int(e) for e in rng.integers(1, 9, 2))
    place = Index.of(0, rows) * int(rng.integers(1, 9)) + Index.of(1, columns)
    moved = load.substitute([place])
    for position in positions([rows, columns]):
        at = value(flat, [value(place, position)])
        inside = 0 <= at <= (n - 1) * step and at % step == 0
        assert all(g.low <= value(g.index, position) < g.high and value(g.index, position) % g.step == 0 for g in moved.guards) == inside
        if inside:
            assert value(moved.index[0], position) == at // step


def test_what_the_bounds_decide_needs_no_division():
    i, j = Index.of(0, 20), Index.of(1, 9)
    assert (i * 21).divide(20) == (i * 21).modulo(20) == i  # the diagonal of a square
    assert (i * 20 + j).divide(20) == i
    assert (i * 20 + j).modulo(20) == j
    assert (i + j * 101).modulo(100) == i + j
    assert isinstance((i * 21).modulo(19).terms[0][0], Modulo)
    assert unflatten(flatten([i, j], (20, 9)), (20, 9)) == (i, j)
