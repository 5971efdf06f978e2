"""Random bits from a counter: Philox4x32-10, a function of where and when, with no state of its own.

    bits of one draw:   block b of step s  =  philox(counter (b, stream, s), key)          four words of 32 bits

A key says which draw it is, the counter which block of which step; so any element can be computed at any time, by any
thread. Salmon et al., *Parallel random numbers: as easy as 1, 2, 3*, SC 2011.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.ir import Array, Node, Op, Routine, make, register
from graphc.ops.pointwise import COSTLY, Pointwise, pointwise
from graphc.types import INT32, INT64, DType, DTypeError, TensorType

__all__ = ["PHILOX", "STEP", "per_block", "philox", "step"]

ROUNDS = 10
MULTIPLIERS, WEYL = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)


def blocks(block: Any, stream: Any, step: Any, key: Any) -> list[Array]:
    """The four words (uint32) of each block; step and key count as 64 bits, block and stream as 32."""
    word, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    a, b, step, key = (np.asarray(value, np.int64).view(np.uint64) for value in (block, stream, step, key))
    a, b, c, d, k, m = a & word, b & word, step & word, step >> half, key & word, key >> half
    for _ in range(ROUNDS):
        p, q = a * np.uint64(MULTIPLIERS[0]), c * np.uint64(MULTIPLIERS[1])
        a, b, c, d = (q >> half) ^ b ^ k, q & word, (p >> half) ^ d ^ m, p & word
        k, m = (k + np.uint64(WEYL[0])) & word, (m + np.uint64(WEYL[1])) & word
    return [np.asarray(part).astype(np.uint32) for part in np.broadcast_arrays(a, b, c, d)]


def _pair(words: list[Array], first: int) -> Array:
    """Two words as one of 64 bits, the first the lower."""
    return words[first].astype(np.uint64) | (words[first + 1].astype(np.uint64) << np.uint64(32))


# --- one word: what the kernels are made of ------------------------------------------------------------
def _word(block: Array, stream: Array, step: Array, key: Array, number: Array) -> Array:
    words = blocks(block, stream, step, key)
    return np.select([number == 0, number == 1, number == 2], words[:3], words[3]).view(np.int32)


def _words(block: Array, stream: Array, step: Array, key: Array, number: Array) -> Array:
    words = blocks(block, stream, step, key)
    return np.where(number == 0, _pair(words, 0), _pair(words, 2)).view(np.int64)


_SMALL = ((-3.0, 3.0),) * 5

WORD = pointwise("philox_word_", takes="int", gives=INT32, reference=_word, c="gx_philox({0}, {1}, {2}, {3}, {4})",
                 cost=2 * COSTLY, domain=_SMALL, derivative=lambda *_: [None] * 5)  # fmt: skip
PAIR = pointwise("philox_pair_", takes="int", gives=INT64, reference=_words, c="gx_philox_pair({0}, {1}, {2}, {3}, {4})",
                 cost=2 * COSTLY, domain=_SMALL, derivative=lambda *_: [None] * 5)  # fmt: skip


# --- the bits of a draw ----------------------------------------------------------------------------------
def per_block(dtype: DType) -> tuple[int, Pointwise]:
    """How many ints of ``dtype`` one block gives, and the operation that gives one of them."""
    return (4, WORD) if dtype is INT32 else (2, PAIR)


def _infer(step: TensorType, key: TensorType, *, shape: tuple[int, ...], dtype: DType, stream: int) -> TensorType:
    if not dtype.is_int or step != TensorType((), INT64) or key != step:
        raise DTypeError(f"random bits are ints, from an int64 step and an int64 key; got {dtype}, {step} and {key}")
    return TensorType(shape, dtype)


def _reference(step: Array, key: Array, *, type: TensorType, shape: tuple[int, ...], dtype: DType, stream: int) -> Array:
    count, _ = per_block(dtype)
    words = blocks(np.arange(-(-type.size // count)), stream, step, key)
    parts = words if dtype is INT32 else [_pair(words, 0), _pair(words, 2)]
    return np.concatenate(parts)[: type.size].view(dtype.numpy).reshape(shape)


PHILOX = register(Routine("philox", _infer, _reference, lambda g, y, *_, **__: [None, None]))
STEP = register(Op("random_step", lambda: TensorType((), INT64), lambda *, type: np.int64(0), lambda *_: []))


def step() -> Node:
    """Which call of a compiled function this is, an int64; 0 where there is none."""
    return make(STEP)


def philox(key: Node, shape: tuple[int, ...], dtype: DType, stream: int = 0) -> Node:
    """Random ints of ``dtype``, all values equally likely, other ones in every step.

    Of n elements in row-major order, with q = ceil(n / 4) blocks (of int64: n / 2), element e is word ``e // q`` of block
    ``e % q``: all first words, then all second ones. Draws of one key differ in the stream or are the same numbers.
    """
    return make(PHILOX, step(), key, shape=shape, dtype=dtype, stream=stream)
