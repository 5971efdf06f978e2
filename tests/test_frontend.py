"""NumPy's functions, composed: one table of calls, each against NumPy itself.

A call is (name, args, kwargs); the arrays in it become inputs. It is evaluated, compiled natively (the whole table is one
function, its gradients another), and its gradient is compared with differences in float64.
"""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gx
from graphc.types import FLOAT32, FLOAT64, INT32, DTypeError, GraphError, ShapeError
from tests.oracles import assert_values_and_gradients_are_pytorchs

pytestmark = pytest.mark.filterwarnings("ignore:numpy.fix is deprecated")  # but the array-API standard's trunc is not

rng = np.random.default_rng(7)


def f64(*shape):
    return rng.normal(size=shape)


def i32(*shape):
    return rng.integers(-9, 9, shape).astype("int32")


def b8(*shape):
    return rng.integers(0, 2, shape).astype(bool)


ZEROS = np.array([0.0, -0.0, -1.5, np.nan, np.inf, -0.0])
MOVEMENT = [
    ("ravel", (f64(2, 3),)), ("ravel", (f64(),)), ("ravel", (f64(0, 3),)),
    ("permute_dims", (f64(2, 3, 4), (2, 0, 1))), ("transpose", (f64(2, 3, 4),)), ("transpose", (f64(2, 3, 4), (1, -1, 0))),
    ("matrix_transpose", (f64(2, 3, 4),)), ("swapaxes", (f64(2, 3, 4), 0, -1)), ("swapaxes", (f64(2, 3, 4), 1, 1)),
    ("moveaxis", (f64(2, 3, 4, 5), 0, -1)), ("moveaxis", (f64(2, 3, 4, 5), (0, -1), (2, 0))), ("moveaxis", (f64(2, 3, 4, 5), [3, 2], [0, 1])),
    *(("rollaxis", (f64(2, 3, 4, 5), axis, start)) for axis, start in [(2, 0), (0, 3), (1, 4), (-1, 1), (1, -1)]),
    ("expand_dims", (f64(2, 3), 1)), ("expand_dims", (f64(2, 3), (0, -1))), ("expand_dims", (f64(2, 3), (3, 1))),
    ("broadcast_arrays", (f64(3, 1), f64(4), f64())),
    ("concatenate", ([f64(2, 3), f64(1, 3)],)), ("concatenate", ((f64(2, 3), f64(2, 1), f64(2, 4), f64(2, 1), f64(2, 2)), 1)),
    ("concatenate", ([f64(2, 3), f64(2, 3)],), {"axis": -1}), ("concatenate", ([f64(2, 3), f64(5)],), {"axis": None}),
    ("concatenate", ([f64(0, 3), f64(2, 3), f64(0, 3)],)), ("concatenate", ([f64(0, 3), f64(0, 3)],)), ("concatenate", ([ZEROS, ZEROS[:3]],)),
    ("concatenate", ([i32(3), i32(4)],)), ("concatenate", ([b8(3), b8(4)],)), ("concatenate", ([f64(2)],)),
    ("stack", ([f64(2, 3), f64(2, 3)],)), ("stack", ([f64(2, 3), f64(2, 3), f64(2, 3)], -1)), ("stack", ([f64(), f64(), f64()],)),
    ("vstack", ([f64(3), f64(3)],)), ("vstack", ([f64(2, 3), f64(3)],)), ("hstack", ([f64(3), f64(2)],)), ("hstack", ([f64(2, 3), f64(2, 1)],)), ("hstack", ([f64(), f64(2)],)),
    ("split", (f64(6, 2), 3)), ("split", (f64(6, 2), [2, 3])), ("split", (f64(3, 6), (1, 4, 9)), {"axis": 1}), ("split", (f64(6), [4, 2, -1])),
    ("array_split", (f64(7, 2), 3)), ("array_split", (f64(2, 7), 4, -1)), ("array_split", (f64(2), 4)),
    ("tile", (f64(2, 3), 2)), ("tile", (f64(2, 3), (2, 1))), ("tile", (f64(3), (2, 2, 2))), ("tile", (f64(2, 3, 1), (2,))), ("tile", (f64(), 3)), ("tile", (f64(2), (0,))),
    ("repeat", (f64(2, 3), 2)), ("repeat", (f64(2, 3), 3, 1)), ("repeat", (f64(3, 2), [1, 0, 3]), {"axis": 0}), ("repeat", (f64(2, 2), [0, 0]), {"axis": 0}), ("repeat", (f64(), 3)),
    ("flip", (f64(2, 3),)), ("flip", (f64(2, 3, 4), (0, -1))), ("flip", (ZEROS, 0)), ("flip", (f64(0, 2),)), ("flipud", (f64(3, 2),)), ("fliplr", (f64(3, 2),)),
    *(("rot90", (f64(2, 3), k)) for k in range(-1, 4)), ("rot90", (f64(2, 3, 4), 1, (1, 2))), ("rot90", (f64(2, 3, 4), 3, (2, 0))),
    ("roll", (f64(5), 2)), ("roll", (f64(2, 3), -1)), ("roll", (f64(2, 3), 4, 1)), ("roll", (f64(3, 4), (1, 2), (0, 1))), ("roll", (f64(3, 4), 1, (0, 1))), ("roll", (f64(0),  1)), ("roll", (f64(3), 0)),
    ("pad", (f64(2, 3), 1)), ("pad", (f64(2, 3), (1, 2)), {"constant_values": 3.5}), ("pad", (f64(2, 3), ((1, 0), (0, 2))), {"constant_values": (1.0, 2.0)}),
    ("pad", (f64(2, 3), 1), {"constant_values": ((1, 2), (3, 4))}), ("pad", (ZEROS, (1, 1)), {"constant_values": -0.0}), ("pad", (i32(3), 2), {"constant_values": 7}), ("pad", (b8(3), 2), {"constant_values": True}), ("pad", (f64(), 1)), ("pad", (f64(0, 2), 1)),
    *(("pad", (f64(3, 4), widths, mode)) for mode in ("edge", "reflect", "symmetric", "wrap") for widths in (1, ((2, 1), (0, 3)), ((7, 5), (9, 0)))),
    ("pad", (f64(1), 3, "reflect")),
    *(("diagonal", (f64(3, 4), offset)) for offset in (-4, -3, -2, 0, 1, 3, 4)), ("diagonal", (f64(2, 3, 4, 3), 1, -1, 1)), ("diagonal", (f64(1, 5), -1)),
    *(("diag", (f64(*shape), k)) for shape in [(3,), (3, 4), (0,), (1,)] for k in (-2, 0, 1)),
    *((name, (f64(*shape), k)) for name in ("tril", "triu") for shape in [(3, 4), (2, 4, 3)] for k in (-1, 0, 2)), ("tril", (b8(3, 3),)), ("triu", (i32(3, 3),)),
    ("triu", (np.where(np.tri(3, k=-1), np.nan, 1.0),)),
    *(("trace", (f64(3, 4), offset)) for offset in (-1, 0, 2)), ("trace", (f64(2, 3, 4), 0, 1, 2)), ("trace", (i32(3, 3),)),
    ("zeros_like", (f64(2, 3),)), ("ones_like", (i32(2),)), ("full_like", (f64(2, 3), 2.5)),
    ("meshgrid", (f64(3), f64(2))), ("meshgrid", (f64(3), f64(2), f64(4)), {"indexing": "ij"}), ("meshgrid", (f64(3), f64(2), f64(4)), {"sparse": True}), ("meshgrid", (f64(3),)),
    *((f"atleast_{n}d", (f64(*shape),)) for n in (1, 2, 3) for shape in [(), (3,), (2, 3), (2, 3, 4), (1, 2, 1, 2)]), ("atleast_2d", (f64(), f64(2))),
    ("diff", (f64(5),)), ("diff", (f64(5, 3), 2, 0)), ("diff", (f64(2, 3),), {"prepend": 0, "append": f64(2, 2)}), ("diff", (b8(6),)), ("diff", (i32(6), 3)), ("diff", (f64(2), 4)), ("diff", (f64(3), 0)),
    *(("gradient", (f64(*shape), *spacing), {"edge_order": order}) for order in (1, 2) for shape, *spacing in [((5,),), ((5,), 0.5), ((3, 4),), ((3, 4), 2.0, np.array([0.0, 1.0, 3.0, 3.5])), ((6,), f64(6).cumsum())]),
    ("gradient", (f64(2),)), ("gradient", (f64(3, 4), 0.5), {"axis": 1}), ("gradient", (f64(3, 4), 0.5, 2.0), {"axis": (1, 0)}),
    ("unstack", (f64(3, 2),)), ("unstack", (f64(3, 2),), {"axis": 1}),
    ("linspace", (f64(), f64(), 5)), ("linspace", (f64(3), 2.0, 4), {"axis": -1}), ("linspace", (f64(2, 1), f64(3), 4), {"endpoint": False, "axis": 1}), ("linspace", (f64(), f64(), 1)), ("linspace", (f64(), 1.0, 0)),
]  # fmt: skip

MINUS = np.array([[-np.inf, 1.0, -np.inf], [-np.inf] * 3, [np.inf, 0.0, -np.inf], [-800.0, -801.0, -800.5], [900.0, 901.0, 0.0]])
AXES = (None, 0, -1, (0, 2), (-1, 0, 1), ())  # of a tensor of three
REDUCTIONS = [
    *((name, (f64(3, 2, 4),), {"axis": axis, "keepdims": keepdims}) for name in ("sum", "mean", "max", "min", "var", "std", "ptp", "logsumexp") for axis in AXES for keepdims in (False, True) if axis != () or name not in ("ptp",)),
    *((name, (b8(3, 2, 4),), {"axis": axis, "keepdims": keepdims}) for name in ("all", "any", "count_nonzero", "sum", "max", "min") for axis in AXES for keepdims in (False, True)),
    *((name, (i32(3, 4),), {"axis": axis}) for name in ("sum", "mean", "max", "min", "var", "std", "ptp", "all", "any", "count_nonzero", "argmax", "argmin") for axis in (None, 1)),
    *((name, (f64(3, 4),), {"axis": axis, "keepdims": keepdims}) for name in ("argmax", "argmin") for axis in (None, 0, -1) for keepdims in (False, True)),
    *((name, (f64(3, 4), axis), {"ddof": ddof}) for name in ("var", "std") for axis in (None, 1) for ddof in (1, 2, 0.5)),
    *((name, (f64(3, 4),), {"axis": 0, "correction": 1}) for name in ("var", "std")),
    ("var", (f64(1, 1),)), ("std", (f64(),)), ("var", (f64(),), {"keepdims": True}), ("var", (f64(0, 3), 1)), ("std", (np.array([1.0, np.nan, 2.0]),)), ("std", (np.array([1.0, np.inf, 2.0]),)),
    ("logsumexp", (MINUS, 1)), ("logsumexp", (MINUS, 0)), ("logsumexp", (np.array([0.0, np.nan]),)), ("logsumexp", (f64(0, 3), 0)), ("logsumexp", (f64(0, 3), 1)), ("logsumexp", (f64(),)),
    *((name, (f64(2, 0), axis)) for name in ("all", "any", "count_nonzero", "sum") for axis in (None, 0, 1)), ("all", (f64(),)), ("any", (ZEROS, 0)), ("all", (ZEROS, 0)),
    *(("average", (f64(3, 2, 4), axis), {"weights": np.abs(f64(*shape)) + 0.5, "keepdims": keepdims}) for keepdims in (False, True)
      for axis, shape in [(None, (3, 2, 4)), (1, (3, 2, 4)), (1, (2,)), (-1, (4,)), ((0, 2), (3, 4)), ((2, 0), (4, 3)), ((0, 1), (3, 2, 4))]),
    ("average", (f64(3, 4), 1)), ("average", (i32(4),), {"weights": np.array([1, 2, 0, 4], "int32")}),
]  # fmt: skip

CHAIN = (f64(2, 6), f64(6, 3), f64(3, 7), f64(7, 1), f64(1, 4), f64(4, 2))
CONTRACTIONS = [
    *(("matmul", (f64(*a), f64(*b))) for a, b in [((3, 4), (4, 5)), ((4,), (4, 5)), ((3, 4), (4,)), ((4,), (4,)), ((2, 3, 4), (4, 5)), ((3, 4), (2, 4, 5)), ((2, 1, 3, 4), (5, 4, 2)), ((1, 3, 4), (2, 4, 1)),
      ((4,), (2, 4, 5)), ((2, 3, 4), (4,)), ((1, 1), (1, 1)), ((0, 3), (3, 2)), ((2, 0), (0, 3)), ((0, 3, 4), (4, 5)), ((3, 1), (1, 4)), ((2, 0, 3), (3,))]),
    *((name, (values(3, 4), values(4, 2))) for name in ("matmul", "dot") for values in (i32, b8)), ("matmul", (i32(3, 4), f64(4))), ("inner", (b8(4), b8(4))),
    *(("dot", (f64(*a), f64(*b))) for a, b in [((), (3,)), ((3,), ()), ((4,), (4,)), ((3, 4), (4, 5)), ((2, 3, 4), (4,)), ((4,), (4, 2)), ((2, 3, 4), (5, 4, 2)), ((0,), (0,))]),
    ("vdot", (f64(2, 3), f64(3, 2))), ("vdot", (f64(), f64())), ("vdot", (i32(4), i32(4))),
    *(("inner", (f64(*a), f64(*b))) for a, b in [((4,), (4,)), ((3, 4), (4,)), ((3, 4), (2, 5, 4)), ((), (2, 3)), ((0, 3), (2, 3))]),
    *(("outer", (f64(*a), f64(*b))) for a, b in [((3,), (4,)), ((2, 3), (2, 2)), ((), (3,)), ((0,), (2,)), ((1,), (1,))]), ("outer", (i32(3), i32(2))), ("outer", (b8(3), b8(2))),
    ("vecdot", (f64(2, 3), f64(2, 3))), ("vecdot", (f64(3), f64(2, 3))), ("vecdot", (f64(2, 3, 4), f64(3, 1)), {"axis": -2}), ("vecdot", (f64(2, 3), f64(2, 3)), {"axis": 0}), ("vecdot", (f64(4), f64(4))),
    *(("tensordot", (f64(2, 3, 4), f64(3, 4, 5)), {"axes": axes}) for axes in (2, ([1, 2], [0, 1]), ([2, 1], [1, 0]), ([-1], (1,)))), ("tensordot", (f64(2, 3), f64(4)), {"axes": 0}), ("tensordot", (f64(2, 3), f64(3, 2), 1)),
    ("tensordot", (f64(2, 3), f64(2, 3))), ("tensordot", (f64(2, 3), f64(3), (1, 0))), ("tensordot", (i32(2, 3), i32(3)), {"axes": 1}),
    *(("kron", (f64(*a), f64(*b))) for a, b in [((2, 3), (3, 2)), ((2,), (3,)), ((2, 2), (3,)), ((2,), (2, 3)), ((2, 1, 2), (1, 3, 2)), ((), (3,)), ((), ())]), ("kron", (i32(2, 2), i32(2, 2))),
    ("cross", (f64(3), f64(3))), ("cross", (f64(4, 3), f64(3))), ("cross", (f64(2, 1, 3), f64(4, 3))), ("cross", (f64(3, 4), f64(4, 3)), {"axisa": 0, "axisc": 0}), ("cross", (f64(3, 4), f64(3, 4)), {"axis": 0}), ("cross", (i32(3), i32(3))),
    *(("einsum", (spec, *(f64(*shape) for shape in shapes))) for spec, *shapes in [
        ("ij,jk->ik", (2, 3), (3, 4)), ("ij,jk", (2, 3), (3, 4)), ("ji", (2, 3)), ("ba", (2, 3)), ("ij->ji", (2, 3)), ("ii", (3, 3)), ("ii->i", (3, 3)), ("iij->ij", (3, 3, 2)), ("iji->j", (3, 2, 3)), ("iii", (2, 2, 2)),
        ("ij->", (2, 3)), ("ij->j", (2, 3)), ("ij->i", (2, 3)), ("i,i", (3,), (3,)), ("i,j->ij", (3,), (4,)), ("i,j->ji", (3,), (4,)), ("i,j", (3,), (4,)), ("i,j->", (3,), (4,)), ("ij,ij->ij", (2, 3), (2, 3)), ("ij,ji->ij", (2, 3), (3, 2)),
        ("ij,ij", (2, 3), (2, 3)), ("ij,i->ij", (2, 3), (2,)), ("bij,bjk->bik", (2, 3, 4), (2, 4, 2)), ("bhqd,bhkd->bhqk", (2, 3, 4, 5), (2, 3, 6, 5)), ("ijk,k->ji", (2, 3, 4), (4,)), ("ii,ij->j", (3, 3), (3, 2)),
        ("...ij,...jk->...ik", (2, 1, 3, 4), (5, 4, 2)), ("...ij,jk", (2, 3, 4), (4, 2)), ("...", (2, 3)), ("...->...", ()), ("i...->...", (2, 3, 4)), ("...i->i...", (2, 3, 4)), ("i...,i...->...", (3, 2), (3, 4, 2)), ("i...i->...", (3, 2, 3)),
        (" i j , j -> i ", (2, 3), (3,)), ("i,i", (1,), (5,)), ("ij,jk", (2, 1), (3, 4)), ("ij,ij->j", (1, 3), (4, 3)), ("aB,Bc", (2, 3), (3, 4)), (",i->i", (), (3,)), (",", (), ()), ("ij,jk->ik", (0, 3), (3, 2)), ("ij,jk->ik", (2, 0), (0, 3)), ("i->", (0,)),
        ("i,i,i", (3,), (3,), (3,)), ("i,j,k->kij", (2,), (3,), (4,)), ("i,ij,j", (2,), (2, 3), (3,)), ("ij,kj,lj->ikl", (2, 3), (4, 3), (5, 3)), ("ab,cd,ef", (2, 1), (1, 2), (2, 1)), ("bi,bj,bk,ijk->b", (5, 2), (5, 3), (5, 4), (2, 3, 4)),
    ]),
    ("einsum", ("ab,bc,cd,de,ef,fa", *CHAIN)), ("einsum", ("ab,bc,cd,de,ef,fg->ga", *CHAIN)), ("einsum", ("ab,bc,cd,de->ae", *CHAIN[:4]), {"optimize": True}), ("einsum", ("ij,jk", i32(2, 3), i32(3, 4))), ("einsum", ("i,i", b8(4), b8(4))), ("einsum", ("ij->j", b8(4, 3))),
    ("einsum", (f64(2, 3), [0, 1], f64(3, 4), [1, 2], [0, 2])), ("einsum", (f64(2, 3), [5, 2])), ("einsum", (f64(2, 3), [0, ...], [..., 0])), ("einsum", (f64(3, 3), [0, 0])),
]  # fmt: skip

INF = np.inf
LINALG = [
    *(("linalg.norm", (f64(2, 3, 4),), {"axis": axis, "keepdims": keepdims}) for axis in (None, 0, (-1,), (0, 2), (2, 0)) for keepdims in (False, True)), ("linalg.norm", (f64(),)), ("linalg.norm", (f64(0),)), ("linalg.norm", (i32(4),)),
    *(("linalg.norm", (f64(5), ord)) for ord in (1, 2, 0, INF, -INF, 3, 4, 1.5, 0.5, -1, -1.5)), *(("linalg.norm", (f64(3, 4), ord, axis)) for ord in (1, INF, 3) for axis in (0, 1)), ("linalg.norm", (np.array([0.0, 2.0, -0.0, 1.0]), 0)), ("linalg.norm", (np.array([1, 0], "int32"), -2)),
    *(("linalg.norm", (f64(3, 4), ord), {"keepdims": keepdims}) for ord in ("fro", 1, -1, INF, -INF) for keepdims in (False, True)), *(("linalg.norm", (f64(2, 3, 4), ord, axis)) for ord in ("fro", 1, -INF) for axis in ((0, 1), (2, 0), (-1, -2))),
    *(("linalg.vector_norm", (f64(2, 3, 4),), {"ord": ord, "axis": axis, "keepdims": keepdims}) for ord in (2, 1, INF, 2.5) for axis in (None, 1, (0, 2)) for keepdims in (False, True)),
    *(("linalg.matrix_norm", (f64(2, 3, 4),), {"ord": ord, "keepdims": keepdims}) for ord in ("fro", 1, -1, INF, -INF) for keepdims in (False, True)),
    *(("linalg.matrix_power", (f64(3, 3), n)) for n in range(6)), ("linalg.matrix_power", (f64(2, 3, 3), 3)), ("linalg.matrix_power", (i32(2, 2), 3)), ("linalg.matrix_power", (f64(2, 3, 3), 0)), ("linalg.matrix_power", (f64(0, 0), 2)),
    ("linalg.trace", (f64(2, 3, 4),)), ("linalg.trace", (f64(2, 3, 4),), {"offset": 1}), ("linalg.diagonal", (f64(2, 3, 4),), {"offset": -1}), ("linalg.matrix_transpose", (f64(2, 3, 4),)),
    ("linalg.outer", (f64(3), f64(2))), ("linalg.vecdot", (f64(2, 3), f64(3))), ("linalg.cross", (f64(2, 3), f64(2, 3))), ("linalg.matmul", (f64(2, 3), f64(3, 2))), ("linalg.tensordot", (f64(2, 3), f64(3, 2)), {"axes": 1}),
]  # fmt: skip

NEAR = np.array([0.0, 1.0, 1.0 + 1e-6, 1.1, np.inf, -np.inf, np.nan, 1e-9])
SMALL = [
    ("dstack", ([f64(2, 3), f64(2, 3)],)), ("dstack", ([f64(3), f64(3)],)), ("dstack", ([f64(2, 3, 1), f64(2, 3, 2)],)), ("column_stack", ([f64(3), f64(3, 2), f64(3)],)), ("column_stack", ([f64(2), f64(2)],)),
    ("append", (f64(2, 3), f64(4))), ("append", (f64(2, 3), f64(1, 3)), {"axis": 0}), ("append", (f64(), f64())),
    ("block", ([[f64(2, 2), f64(2, 1)], [f64(1, 2), f64(1, 1)]],)), ("block", ([f64(2, 3), f64(2, 1)],)), ("block", (f64(2),)), ("block", ([[f64(3)], [f64(3)]],)), ("block", ([f64(), f64(2)],)), ("block", ([[[f64(2, 2)], [f64(2, 2)]]],)), ("block", ([[f64(2, 1, 2), f64(2, 1, 1)]],)),
    ("vsplit", (f64(4, 3), 2)), ("hsplit", (f64(4, 3), [1])), ("hsplit", (f64(6), 3)), ("dsplit", (f64(2, 2, 4), 2)),
    ("isclose", (NEAR[:, None], NEAR)), ("isclose", (NEAR[:, None], NEAR), {"equal_nan": True}), ("isclose", (f64(3), 0.1, 0.5, 1.0)), ("isclose", (i32(5), i32(5))), ("isposinf", (NEAR,)), ("isneginf", (NEAR,)),
    *(("allclose", (NEAR[:n], NEAR[:n] + 1e-9)) for n in (6, 8)), ("allclose", (NEAR, NEAR), {"equal_nan": True}), ("allclose", (f64(0), f64(0))),
    ("array_equal", (NEAR[:6], NEAR[:6])), ("array_equal", (NEAR, NEAR)), ("array_equal", (NEAR, NEAR), {"equal_nan": True}), ("array_equal", (f64(3), f64(3))), ("array_equal", (f64(3), f64(4))), ("array_equal", (i32(0), i32(0))),
    ("heaviside", (np.array([-2.0, -0.0, 0.0, 1.5, np.nan, np.inf, -np.inf]), 0.5)), ("heaviside", (f64(2, 3), f64(3))), ("heaviside", (np.array([0.0, 0.0]), np.array([np.nan, 3.0]))),
    ("polyval", (f64(4), f64(3, 2))), ("polyval", ([1.0, 2.0, -3.0], f64(3))), ("polyval", (f64(1), f64(3))), ("polyval", (i32(3), f64())), ("polyval", ([2, 1], i32(3))), ("polyval", (f64(3), f64(0))),
    *((name, (f64(3),)) for name in ("absolute", "around", "degrees", "radians", "fix", "conj", "conjugate")), *((name, (f64(3, 2), 1)) for name in ("amax", "amin")), ("pow", (np.abs(f64(3)), f64(3))), ("true_divide", (f64(3), 2.0)),
    ("concat", ([f64(2), f64(3)],)), *((name, (i32(3),)) for name in ("bitwise_not", "bitwise_invert")), *((name, (i32(4), np.array([0, 1, 2, 3], "int32"))) for name in ("bitwise_left_shift", "bitwise_right_shift")),
]  # fmt: skip


# --- running a table --------------------------------------------------------------------------------------
def find(module, name):
    for part in name.split("."):
        module = getattr(module, part)
    return module


def mapped(value, leaf):
    """``value`` with ``leaf`` in place of each array."""
    if isinstance(value, np.ndarray):
        return leaf(value)
    if isinstance(value, list | tuple):
        return type(value)(mapped(item, leaf) for item in value)
    return {key: mapped(item, leaf) for key, item in value.items()} if isinstance(value, dict) else value


OTHER = {np.dtype("float64"): np.float32, np.dtype("int32"): np.int64}


class Case:
    """One call: its inputs and their values, its outputs and NumPy's. ``other``: with the other float and the other int."""

    def __init__(self, number, name, args, kwargs=None, other=False):
        self.title, self.feeds = f"{number}: {name}{args} {kwargs or ''}", {}
        if other:
            args, kwargs = mapped((args, kwargs), lambda array: array.astype(OTHER.get(array.dtype, array.dtype)))

        def leaf(array):
            node = gx.input(f"c{number}_{len(self.feeds)}", array.shape, array.dtype)
            self.feeds[node] = array
            return node

        got = find(gx, name)(*mapped(args, leaf), **mapped(kwargs or {}, leaf))
        reference = getattr(np, name, None) if "." not in name else find(np, name)
        with np.errstate(all="ignore"):
            want = REFERENCES.get(name, reference)(*args, **(kwargs or {}))
        self.container = type(got) if isinstance(got, list | tuple) else None
        assert self.container is None or isinstance(want, list | tuple), self.title
        self.outputs = list(got) if self.container else [got]
        self.wanted = [np.asarray(array) for array in (want if self.container else [want])]
        assert len(self.outputs) == len(self.wanted), self.title

    def compare(self, values):
        for node, value, want in zip(self.outputs, values, self.wanted, strict=True):
            value = np.asarray(value)
            assert value.shape == want.shape, self.title
            assert value.dtype.kind == want.dtype.kind, self.title
            near = {"rtol": 1e-12, "atol": 1e-13} if node.dtype is not FLOAT32 else {"rtol": 3e-5, "atol": 3e-6}
            np.testing.assert_allclose(value, want, **near, err_msg=self.title)
            if want.dtype.kind == "f":
                assert ((np.signbit(value) == np.signbit(want)) | (want != 0) | self.rounded).all(), self.title

    rounded = False  # whether a zero may come out with either sign


REFERENCES = {
    "unstack": lambda x, axis=0: tuple(np.moveaxis(x, axis, 0)),
    "logsumexp": lambda x, axis=None, keepdims=False: np.logaddexp.reduce(x, axis, keepdims=keepdims),
}
TABLES = {"movement": MOVEMENT, "reductions": REDUCTIONS, "contractions": CONTRACTIONS, "linalg": LINALG, "small": SMALL}


def cases(table, other=False):
    return [Case(number, *row, other=other) for number, row in enumerate(TABLES[table])]


@pytest.mark.parametrize("other", [False, True])
@pytest.mark.parametrize("table", TABLES)
def test_evaluated_as_numpy(table, other):
    for case in cases(table, other):
        dtypes = {node.dtype for node in case.feeds}
        for node, want in zip(case.outputs, case.wanted, strict=True):
            assert node.shape == want.shape, case.title
            assert not node.dtype.is_float or node.dtype is (FLOAT64 if FLOAT64 in dtypes else FLOAT32), case.title
            assert not node.dtype.is_int or node.dtype in (*dtypes, INT32), case.title
        case.compare(gx.evaluate(case.outputs, case.feeds))


def compiled(all_cases, outputs):
    """The values of the outputs of each case, from one native function."""
    feeds = {node: array for case in all_cases for node, array in case.feeds.items()}
    flat = [node for nodes in outputs for node in nodes]
    values = iter(gx.compile(list(feeds), flat)(*feeds.values()))
    return [[np.asarray(next(values)) for _ in nodes] for nodes in outputs]


@pytest.mark.parametrize("other", [False, True])
@pytest.mark.parametrize("table", TABLES)
def test_compiled_as_numpy(table, other):
    table_cases = cases(table, other)
    for case, values in zip(table_cases, compiled(table_cases, [case.outputs for case in table_cases]), strict=True):
        case.compare(values)


def weighed(case):
    """One number of the outputs of a case, and its float inputs; None if it has no slope."""
    draw = np.random.default_rng(1)
    floats = [node for node in case.outputs if node.dtype.is_float]
    sources = [node for node, array in case.feeds.items() if array.dtype.kind == "f" and np.isfinite(array).all()]
    if not floats or len(sources) < len(case.feeds):
        return None
    return sum((gx.sum(node * draw.normal(size=node.shape)) for node in floats), gx.constant(0.0, "float64")), sources


def slopes_along(total, sources, feeds, draw):
    """The derivative along a random direction as a node, its value, and that by central differences."""
    directions = [draw.normal(size=node.shape) for node in sources]
    slope = sum((gx.sum(g * d) for g, d in zip(gx.grad(total, sources), directions, strict=True)), gx.constant(0.0, "float64"))
    h = 1e-5
    moved = [{n: feeds[n] + sign * h * d for n, d in zip(sources, directions, strict=True)} for sign in (1, -1)]
    high, low = (gx.evaluate(total, {**feeds, **ends}).item() for ends in moved)
    return slope, gx.evaluate(slope, feeds).item(), (high - low) / (2 * h)


@pytest.mark.parametrize("table", TABLES)
def test_gradients(table):
    """Of first and second order against central differences along one direction, and the compiled against the evaluated."""
    draw = np.random.default_rng(2)
    found, slopes = [], []
    for case in cases(table):
        number = weighed(case)
        if number is None or not np.isfinite(gx.evaluate(number[0], case.feeds)):
            continue
        total, sources = number
        for order in (1, 2):
            total, symbolic, numeric = slopes_along(total, sources, case.feeds, draw)
            assert symbolic == pytest.approx(numeric, rel=1e-6, abs=1e-7), (order, case.title)
        grads = gx.grad(number[0], sources)
        found.append(case)
        slopes.append((grads, gx.evaluate(grads, case.feeds)))
    assert len(found) > len(TABLES[table]) / 4
    for case, values, (_, want) in zip(found, compiled(found, [grads for grads, _ in slopes]), slopes, strict=True):
        for value, array in zip(values, want, strict=True):
            np.testing.assert_allclose(value, array, rtol=1e-11, atol=1e-12, err_msg=case.title)


def test_slopes_where_there_are_several():
    """Standard deviations of equal elements, rows of minus infinity, ties: as in PyTorch, and zero rather than NaN."""
    x = gx.input("x", (2, 3), "float64")
    equal, ties, minus = np.full((2, 3), 0.1), np.array([[1.0, 1, 0], [2, 2, 2]]), np.array([[-np.inf] * 3, [0, -np.inf, 0]])
    outputs = [gx.grad(gx.sum(f), x) for f in (gx.std(x, 1, 1), gx.ptp(x, 1), gx.logsumexp(x, 1))]
    slope = gx.compile([x], [*outputs, gx.grad(gx.sum(outputs[0]), x), gx.std(x, 1)])
    assert not slope(equal)[0].any()
    assert not slope(equal)[3].any()
    assert not slope(equal)[4].any()
    assert slope(ties)[1].tolist() == [[0.5, 0.5, -1], [0, 0, 0]]
    assert slope(minus)[2].tolist() == [[0, 0, 0], [0.5, 0, 0.5]]


# --- sources ----------------------------------------------------------------------------------------------
def test_sources():
    pairs = [
        (gx.zeros((2, 3)), np.zeros((2, 3))), (gx.ones(3, "int32"), np.ones(3)), (gx.full((2, 2), 1.5), np.full((2, 2), 1.5)), (gx.zeros(()), np.zeros(())),
        (gx.full((2, 2), [1, 2]), np.full((2, 2), [1, 2])), (gx.eye(3), np.eye(3)), (gx.eye(2, 4, 1), np.eye(2, 4, 1)), (gx.eye(3, k=-2, dtype=bool), np.eye(3, k=-2)),
        (gx.identity(2), np.identity(2)), (gx.tri(3, 4, -1), np.tri(3, 4, -1)), (gx.tri(3), np.tri(3)), (gx.arange(5), np.arange(5)), (gx.arange(2, 9, 3), np.arange(2, 9, 3)),
        (gx.arange(5, 0, -2), np.arange(5, 0, -2)), (gx.arange(0.5, 3), np.arange(0.5, 3)), (gx.arange(3, dtype="float64"), np.arange(3.0)), (gx.arange(2**40, 2**40 + 3), np.arange(2**40, 2**40 + 3)),
        (gx.arange(0), np.arange(0)), (gx.linspace(0, 1, 5), np.linspace(0, 1, 5)), (gx.linspace(0, 1, 4, endpoint=False), np.linspace(0, 1, 4, endpoint=False)), (gx.arange(3, 0), np.arange(3, 0)),
    ]  # fmt: skip
    compiled_values = gx.compile([], [node for node, _ in pairs])()
    for (node, want), value in zip(pairs, compiled_values, strict=True):
        assert node.shape == want.shape
        np.testing.assert_allclose(gx.evaluate(node), want, rtol=1e-7)
        np.testing.assert_allclose(value, want, rtol=1e-7)
    dtypes = {gx.zeros(2): "float32", gx.arange(3): "int32", gx.arange(3.0): "float32", gx.arange(2**40, 2**40 + 3): "int64", gx.eye(2, dtype=bool): "bool", gx.linspace(0, 1): "float32"}
    assert {node: str(node.dtype) for node in dtypes} == dtypes
    x = gx.input("x", (3,), "int32")
    assert gx.zeros_like(x).dtype is x.dtype
    assert gx.ones_like(x, dtype="float64", shape=(4,)).type == gx.ones(4, "float64").type
    assert gx.full((3,), x) is x


@pytest.mark.parametrize("ord", [1, 2, 0, INF, 3, 1.5, 0.5])
def test_slope_of_a_norm_at_zero(ord):
    """The slope of a length at 0 is 0, and so is that of a size among others."""
    x = gx.input("x", (3,), "float64")
    f = gx.linalg.norm(x, ord)
    slope = gx.compile([x], [gx.grad(f, x), gx.grad(gx.sum(gx.grad(f, x) ** 2), x)])
    assert not np.any(slope(np.zeros(3)))
    first, second = slope(np.array([0.0, -2.0, 1.0]))
    assert first[0] == 0
    assert np.isfinite([first, second]).all()


def test_hundreds_of_parts():
    parts = [gx.input(f"p{k}", (k % 3,)) for k in range(300)]
    values = [np.full(k % 3, k, "float32") for k in range(300)]
    total = gx.concatenate(parts)
    got, slope = gx.compile(parts, [total, gx.grad(gx.sum(total * total), parts[299])])(*values)
    assert got.tolist() == np.concatenate(values).tolist()
    assert slope.tolist() == [598.0, 598.0]


def test_first_part_of_a_result_is_not_the_result():
    """The whole is not written into the room of its first part: alone, and as what a routine reads."""
    x = gx.input("x", (5, 4))
    head = gx.exp(x)[:3, :2]
    room = np.full(8, 7.0, "float32")
    values = rng.normal(size=(5, 4)).astype("float32")
    out, sums = gx.compile([x], [head, gx.cumsum(head, 0)])(values)
    np.testing.assert_allclose(out, np.exp(values[:3, :2]), rtol=1e-6)
    np.testing.assert_allclose(sums, np.exp(values[:3, :2]).cumsum(0), rtol=1e-6)
    gx.compile([x], head)(values, out=room[:6].reshape(3, 2))
    assert room[6:].tolist() == [7.0, 7.0]


# --- contractions -----------------------------------------------------------------------------------------
def test_sums_of_products_are_contractions_without_a_copy():
    """Whatever the order of the axes: one kernel, which reads its operands where they are, and so for the gradients."""
    q, k = gx.input("q", (8, 2, 40, 16)), gx.input("k", (8, 2, 48, 16))
    for build, kernels in [
        (lambda: gx.einsum("bhid,bhjd->bhij", q, k), 1), (lambda: gx.einsum("bhid,bhjd->jbih", q, k), 1), (lambda: gx.tensordot(q, k, ((1, 3), (1, 3))), 1),
        (lambda: gx.inner(q, k), 1), (lambda: gx.matmul(q, gx.matrix_transpose(k)), 1),
    ]:  # fmt: skip
        y = build()
        forward = gx.compile([q, k], y, name="forward").kernels
        assert [kernel.kind for kernel in forward] == ["contraction"] * kernels
        slopes = gx.compile([q, k], gx.grad(gx.sum(y * y), [q, k]), name="slopes").kernels
        assert [kernel.kind for kernel in slopes] == ["contraction"] * 3


def test_order_of_a_chain_is_the_cheap_one():
    """(A (B (C v))) rather than from the left: the flops say so."""
    A, B, C = (gx.input(name, (50, 50)) for name in "ABC")
    v = gx.input("v", (50,))
    chain = gx.compile([A, B, C, v], gx.einsum("ij,jk,kl,l->i", A, B, C, v))
    assert sum(kernel.flops for kernel in chain.kernels) == pytest.approx(3 * 2 * 50 * 50, rel=0.1)


def test_cross_of_vectors_of_two():
    a, b, c = gx.input("a", (4, 2)), gx.input("b", (4, 3)), gx.input("c", (2,))
    values = {a: f64(4, 2), b: f64(4, 3), c: f64(2)}
    grown = np.pad(values[a], ((0, 0), (0, 1)))
    got = gx.evaluate([gx.cross(a, b), gx.cross(b, a), gx.cross(a, c)], values)
    for value, want in zip(got, [np.cross(grown, values[b]), np.cross(values[b], grown), np.cross(grown, [*values[c], 0])[:, 2]], strict=True):
        np.testing.assert_allclose(value, want, rtol=1e-5, atol=1e-6)


X = gx.input("X", (2, 3))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: gx.concatenate([]), "concatenate needs at least one array"),
        (lambda: gx.concatenate([X, gx.zeros((2, 4))]), r"concatenate along axis 0: the other axes of shapes .*\(2, 4\).* do not agree"),
        (lambda: gx.concatenate([gx.zeros(())]), "got a scalar; use stack"),
        (lambda: gx.stack([X, X[0]]), r"stack needs arrays of one shape, got \[\(2, 3\), \(3,\)\]"),
        (lambda: gx.split(X, 2, axis=1), "extent 3 does not divide into 2; use array_split"),
        (lambda: gx.array_split(X, 0), "the number must be positive"),
        (lambda: gx.pad(X, 1, "bogus"), "mode must be 'constant' or one of 'edge'.*got 'bogus'"),
        (lambda: gx.pad(X, -1), "pad_width must be whole numbers, not negative"),
        (lambda: gx.roll(X, 1.5), "roll: shift must be a whole number, got 1.5"),
        (lambda: gx.tile(X, 1.5), "reps must be integers, got 1.5"),
        (lambda: gx.repeat(X, 1.5), "repeats must be integers, got 1.5"),
        (lambda: gx.zeros(1.5), "shape must be integers, got 1.5"),
        (lambda: gx.diff(X, 1.5), "diff: n must be a whole number, got 1.5"),
        (lambda: gx.rot90(X, 1.5), "rot90: k must be a whole number, got 1.5"),
        (lambda: gx.diag(X, 0.5), "the diagonal must be a whole number, got 0.5"),
        (lambda: gx.diag(X[0], 0.5), "the diagonal must be a whole number, got 0.5"),
        (lambda: gx.array_split(X, 1.5), "the number of parts must be a whole number, got 1.5"),
        (lambda: gx.split(X, [1.5]), "where to split must be a whole number, got 1.5"),
        (lambda: gx.pad(X, ((1, 2), (3, 4), (5, 6))), "is not a pair for each axis"),
        (lambda: gx.pad(gx.zeros((0,)), 1, "edge"), "an empty axis has nothing to pad with"),
        (lambda: gx.diag(gx.zeros((2, 2, 2))), "diag takes a vector or a matrix"),
        (lambda: gx.diagonal(X, 0, 1, 1), "two different axes"),
        (lambda: gx.moveaxis(X, (0, 0), (0, 1)), "as many different places as axes"),
        (lambda: gx.repeat(X, [1, 2], axis=1), "one number or 3"),
        (lambda: gx.meshgrid(X, indexing="no"), "indexing must be 'xy' or 'ij'"),
        (lambda: gx.arange(gx.input("n")), "arange takes numbers"),
        (lambda: gx.gradient(gx.zeros(2), edge_order=2), "needs at least 3 elements"),
        (lambda: gx.matrix_transpose(gx.zeros(2)), "at least two axes"),
        (lambda: gx.expand_dims(X, (0, 0)), "names an axis twice"),
        (lambda: gx.var(X, 0, ddof=2), r"the variance of 2 elements with ddof=2 does not exist \(shape \(2, 3\), axis 0\)"),
        (lambda: gx.std(X, 0, 1, correction=1), "ddof or correction, not both"),
        (lambda: gx.average(X, 0, X[0]), r"weights of shape \(3,\) fit neither shape \(2, 3\) nor axis 0"),
        (lambda: gx.matmul(X, X), r"matmul of shapes \(2, 3\) and \(2, 3\): 3 columns meet 2 rows"),
        (lambda: gx.matmul(X, 2.0), "use `*`"),
        (lambda: gx.dot(X, X), r"sums of products of shapes \(2, 3\) and \(2, 3\): axes 1 and 0 differ in extent"),
        (lambda: gx.tensordot(X, X, ((0, 0), (0, 0))), "as many different axes on both sides"),
        (lambda: gx.tensordot(X, X, 3), "tensordot over 3 axes"),
        (lambda: gx.vdot(X, X[0]), "as many elements on both sides"),
        (lambda: gx.vecdot(X, X[:, :2]), "vecdot along axis -1: extents 3 and 2 differ"),
        (lambda: gx.cross(X, gx.zeros(4)), "cross takes vectors of two or three, got extents 3 and 4"),
        (lambda: gx.einsum("ij,jk", X), "needs operands, and labels for each: got 1, and labels for 2"),
        (lambda: gx.einsum("ij,jk", X, X), "3 meets 2"),
        (lambda: gx.einsum("ij->k", X), "'k' is in no operand"),
        (lambda: gx.einsum("ij->ii", X), "a label occurs twice"),
        (lambda: gx.einsum("i", X), r"the labels 'i' do not fit the shape \(2, 3\)"),
        (lambda: gx.einsum("i...->i", X), "the result 'i' needs `...`"),
        (lambda: gx.einsum("ii", X[:1]), "equal extents along axes 0 and 1"),
        (lambda: gx.einsum("i1", X), "'1' in 'i1' is no label"),
        (lambda: gx.einsum("ij", "ab"), "cannot make a node of 'ab'"),
        (lambda: gx.linalg.norm(X, 2), "the norm of a matrix has the order 'fro', 1, -1, inf or -inf, got 2"),
        (lambda: gx.linalg.norm(X, "nuc"), "got 'nuc'"),
        (lambda: gx.linalg.norm(X, "fro", 0), "the norm of a vector has a number as its order, got 'fro'"),
        (lambda: gx.linalg.norm(gx.zeros((2, 3, 4)), 1), r"one axis or two, got shape \(2, 3, 4\) and axis None"),
        (lambda: gx.linalg.matrix_power(X, 2), "square matrices"),
        (lambda: gx.linalg.matrix_power(X[:, :2], 0.5), "takes a whole number as exponent, got 0.5"),
        (lambda: gx.block([[X], X]), "block takes lists of one depth"),
        (lambda: gx.block([]), "none of them empty"),
        (lambda: gx.polyval([X, X], X), "polyval takes a vector of coefficients"),
        (lambda: gx.vsplit(X, 4), "does not divide into 4"),
        (lambda: gx.mean(gx.zeros((0, 3))), "the mean over no elements does not exist"),
    ],
)  # fmt: skip
def test_errors_name_what_was_wrong(build, message):
    with pytest.raises((GraphError, ShapeError, DTypeError), match=message):
        build()


# --- against PyTorch, on demand -----------------------------------------------------------------------------
def torch_cases(torch):
    """A name, our function and theirs, and float64 arrays."""
    x, equal = f64(4, 6), np.full((4, 6), 0.1)
    minus = np.where(f64(4, 6) > 0, -np.inf, x)
    for name, ours, theirs in [("var", gx.var, torch.var), ("std", gx.std, torch.std)]:
        for ddof in (0, 1):
            yield f"{name} with ddof={ddof}", lambda a, f=ours, n=ddof: f(a, 1, n), lambda a, f=theirs, n=ddof: f(a, 1, correction=n), [x]
    yield "std of equal ones", lambda a: gx.std(a, 1), lambda a: torch.std(a, 1, correction=0), [equal]
    yield "logsumexp", lambda a: gx.logsumexp(a, 1), lambda a: torch.logsumexp(a, 1), [np.concatenate([x * 300, minus])]
    yield "logsumexp of all", gx.logsumexp, lambda a: torch.logsumexp(a, (0, 1)), [x]
    yield "max of ties", gx.max, torch.amax, [equal]
    for spec, *shapes in [("bij,bjk,bkl->bil", (2, 3, 4), (2, 4, 5), (2, 5, 3)), ("...ij,...kj->...ik", (2, 1, 3, 4), (5, 2, 4)), ("ii->i", (3, 3)), ("ij,j", (3, 4), (4,))]:
        yield spec, lambda *a, s=spec: gx.einsum(s, *a), lambda *a, s=spec: torch.einsum(s, *a), [f64(*shape) for shape in shapes]
    yield "kron", gx.kron, torch.kron, [f64(2, 3), f64(3, 2)]
    yield "cross", gx.cross, torch.linalg.cross, [f64(4, 3), f64(4, 3)]
    for ord in (1, 2, 3, 0.5, INF, -INF):
        for array in (x[0], np.zeros(3), np.array([0.0, 2.0, 0.0, -2.0])):
            if array.all() or ord > 0:
                yield f"norm {ord} of {array}", lambda a, o=ord: gx.linalg.norm(a, o), lambda a, o=ord: torch.linalg.norm(a, o), [array]
    for ord in ("fro", 1, -1, INF, -INF):
        yield f"matrix norm {ord}", lambda a, o=ord: gx.linalg.norm(a, o), lambda a, o=ord: torch.linalg.norm(a, o), [x]
    yield "tensordot", lambda a, b: gx.tensordot(a, b, ((0, 2), (1, 0))), lambda a, b: torch.tensordot(a, b, ([0, 2], [1, 0])), [f64(2, 3, 4), f64(4, 2, 5)]


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_values_and_gradients_are_pytorchs():
    torch = pytest.importorskip("torch")
    assert_values_and_gradients_are_pytorchs(torch, torch_cases(torch))
