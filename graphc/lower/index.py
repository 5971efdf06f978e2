"""Index algebra: where an element lies, as an integer expression over the axes of whoever reads it.

An :class:`Index` is a constant plus integer multiples of atoms: an axis variable, a floor division or remainder of
another index (what a reshape leaves), or a picked value (a gather). Movements compose by substitution, and
divisions that the extents decide vanish: with j < 32, ``(32 i + j) // 32`` is i and ``(32 i + j) % 32`` is j.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

__all__ = ["Atom", "Divide", "Index", "Modulo", "Pick", "Var", "flatten", "unflatten"]


@dataclass(frozen=True)
class Var:
    """The loop variable of one axis; ``extent`` bounds it."""

    axis: int
    extent: int


@dataclass(frozen=True)
class Divide:
    """``index // by``, rounded down; the index is never negative."""

    index: Index
    by: int


@dataclass(frozen=True)
class Modulo:
    """``index % by``; the index is never negative."""

    index: Index
    by: int


@dataclass(frozen=True)
class Pick:
    """An index known at run time: the element of an index tensor, checked to be in ``0 <= index < extent``; ``wrap``: or, where
    it is negative, the element plus ``extent``."""

    tensor: str
    index: tuple[Index, ...]
    extent: int
    wrap: bool = False


Atom = Var | Divide | Modulo | Pick


@dataclass(frozen=True)
class Index:
    """``constant + sum(factor * atom)``; the terms are distinct and non-zero."""

    terms: tuple[tuple[Atom, int], ...] = ()
    constant: int = 0

    @staticmethod
    def of(axis: int, extent: int) -> Index:
        """The variable of an axis; the constant 0 where there is only one position."""
        return Index(((Var(axis, extent), 1),)) if extent != 1 else Index()

    def __add__(self, other: Index | int) -> Index:
        if isinstance(other, int):
            return Index(self.terms, self.constant + other)
        factors = dict(self.terms)
        for atom, factor in other.terms:
            factors[atom] = factors.get(atom, 0) + factor
        total = Index(tuple((atom, f) for atom, f in factors.items() if f), self.constant + other.constant)
        for atom, factor in factors.items():  # by * (x // by) + x % by is x
            if isinstance(atom, Modulo):
                quotient = atom.index.divide(atom.by).terms
                if len(quotient) == 1 and factors.get(quotient[0][0]) == factor * atom.by * quotient[0][1]:
                    gone = (atom, quotient[0][0])
                    rest = Index(tuple(term for term in total.terms if term[0] not in gone), total.constant)
                    return rest + atom.index * factor
        return total

    def __mul__(self, factor: int) -> Index:
        return Index(tuple((atom, f * factor) for atom, f in self.terms) if factor else (), self.constant * factor)

    @cached_property
    def bounds(self) -> tuple[int, int]:
        """Smallest and largest value, both included."""
        low = high = self.constant
        for atom, factor in self.terms:
            top = _top(atom) * factor
            low, high = low + min(0, top), high + max(0, top)
        return low, high

    @cached_property
    def variables(self) -> frozenset[int]:
        """The axes whose variables occur, also inside of divisions and picks."""
        return frozenset(atom.axis for atom in self.atoms() if isinstance(atom, Var))

    def atoms(self) -> Iterator[Atom]:
        """Every atom, also inside of divisions and picks."""
        stack = [self]
        while stack:
            for atom, _ in stack.pop().terms:
                yield atom
                if isinstance(atom, Pick):
                    stack.extend(atom.index)
                elif not isinstance(atom, Var):
                    stack.append(atom.index)

    @property
    def picks(self) -> Iterator[str]:
        """The tensors whose elements it picks."""
        return (atom.tensor for atom in self.atoms() if isinstance(atom, Pick))

    @property
    def axis(self) -> int | None:
        """The axis, if this index is one plain variable."""
        if len(self.terms) == 1 and self.constant == 0 and self.terms[0][1] == 1:
            atom = self.terms[0][0]
            return atom.axis if isinstance(atom, Var) else None
        return None

    def factor(self, axis: int) -> int | None:
        """By how much the index grows along ``axis``; None where that is not constant."""
        result = 0
        for atom, factor in self.terms:
            if isinstance(atom, Var):
                result += factor if atom.axis == axis else 0
            elif axis in Index(((atom, 1),)).variables:
                return None
        return result

    def substitute(self, values: Mapping[int, Index] | Sequence[Index]) -> Index:
        """Each variable replaced by an index over other axes."""
        result = Index((), self.constant)
        for atom, factor in self.terms:
            if isinstance(atom, Var):
                part = values[atom.axis]
            elif isinstance(atom, Divide):
                part = atom.index.substitute(values).divide(atom.by)
            elif isinstance(atom, Modulo):
                part = atom.index.substitute(values).modulo(atom.by)
            else:
                inner = tuple(position.substitute(values) for position in atom.index)
                part = Index(((Pick(atom.tensor, inner, atom.extent, atom.wrap), 1),))
            result = result + part * factor
        return result

    def _split(self, by: int) -> tuple[Index, Index]:
        """(multiples of ``by``, the rest), as two indices that add up to this one."""
        whole = tuple((atom, f) for atom, f in self.terms if f % by == 0)
        rest = tuple((atom, f) for atom, f in self.terms if f % by)
        constant = self.constant // by * by
        return Index(whole, constant), Index(rest, self.constant - constant)

    def _decided(self, by: int) -> tuple[Index, Index] | None:
        """Quotient and remainder where the bounds leave no choice: of 21 i by 20, with i < 20, both are i."""
        rest = Index(tuple((atom, f % by) for atom, f in self.terms if f % by), self.constant % by)
        if rest.bounds[1] >= by:
            return None
        return Index(tuple((atom, f // by) for atom, f in self.terms if f // by), self.constant // by), rest

    def multiple(self, by: int) -> tuple[Index, Index] | None:
        """(q, r) with this index equal to ``by * q + r`` and r within ``by`` of 0, so that it is a multiple of ``by`` just where
        r is 0; None if there are none. 20 i + k is 21 i + (k - i), for i and k below 20."""
        near = [(atom, (f + by // 2) % by - by // 2) for atom, f in self.terms]
        for constant in (self.constant % by, self.constant % by - by):
            rest = Index(tuple((atom, f) for atom, f in near if f), constant)
            if -by < rest.bounds[0] and rest.bounds[1] < by:
                whole = self + rest * -1
                return Index(tuple((atom, f // by) for atom, f in whole.terms), whole.constant // by), rest
        return None

    def divide(self, by: int) -> Index:
        """``self // by``, in the simplest form that the bounds allow."""
        if by == 1:
            return self
        whole, rest = self._split(by)
        quotient = Index(tuple((atom, f // by) for atom, f in whole.terms), whole.constant // by)
        low, high = rest.bounds
        if low < 0:  # keep the operand of / non-negative, as C rounds towards zero
            quotient, rest = Index((), 0), self
            low, high = rest.bounds
        if low // by == high // by:
            return quotient + low // by
        if decided := self._decided(by):
            return decided[0]
        if (
            len(rest.terms) == 1
            and rest.constant == 0
            and isinstance(rest.terms[0][0], Divide)
            and rest.terms[0][1] == 1
        ):
            inner = rest.terms[0][0]
            return quotient + Index(((Divide(inner.index, inner.by * by), 1),))
        return quotient + Index(((Divide(rest, by), 1),))

    def modulo(self, by: int) -> Index:
        """``self % by``, in the simplest form that the bounds allow."""
        if by == 1:
            return Index()
        _, rest = self._split(by)
        low, high = rest.bounds
        if 0 <= low and high < by:
            return rest
        if decided := self._decided(by):
            return decided[1]
        rest = self if low < 0 else rest
        if (
            len(rest.terms) == 1
            and rest.constant == 0
            and isinstance(rest.terms[0][0], Modulo)
            and rest.terms[0][1] == 1
        ):
            inner = rest.terms[0][0]
            if inner.by % by == 0:
                return inner.index.modulo(by)
        return Index(((Modulo(rest, by), 1),))


def _top(atom: Atom) -> int:
    """The largest value of an atom; the smallest is 0."""
    if isinstance(atom, Var | Pick):
        return max(atom.extent - 1, 0)
    if isinstance(atom, Divide):
        return max(atom.index.bounds[1] // atom.by, 0)
    return atom.by - 1


def flatten(index: Sequence[Index], shape: Sequence[int]) -> Index:
    """The row-major offset of an element."""
    offset = Index()
    for position, extent in zip(index, shape, strict=True):
        offset = offset * extent + position
    return offset


def unflatten(offset: Index, shape: Sequence[int]) -> tuple[Index, ...]:
    """The position per axis of a row-major offset; 0 where there are no elements at all."""
    if 0 in shape:
        return (Index(),) * len(shape)
    positions: list[Index] = []
    for extent in reversed(shape):
        positions.append(offset.modulo(extent) if len(positions) < len(shape) - 1 else offset)
        offset = offset.divide(extent)
    return tuple(reversed(positions))
