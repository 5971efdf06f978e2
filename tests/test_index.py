"""The index algebra, against Python's integers at every position."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

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


def test_what_the_bounds_decide_needs_no_division():
    i, j = Index.of(0, 20), Index.of(1, 9)
    assert (i * 21).divide(20) == (i * 21).modulo(20) == i  # the diagonal of a square
    assert (i * 20 + j).divide(20) == i
    assert (i * 20 + j).modulo(20) == j
    assert (i + j * 101).modulo(100) == i + j
    assert isinstance((i * 21).modulo(19).terms[0][0], Modulo)
    assert unflatten(flatten([i, j], (20, 9)), (20, 9)) == (i, j)
