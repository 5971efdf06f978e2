"""graphc: a static expression graph in Python becomes gradients, one readable C file, and a fast train step.

>>> import graphc as gx
>>> x, y, z = gx.input("x"), gx.input("y"), gx.input("z")
>>> f = (x + y) * z
>>> product = gx.compile([x, y, z], [f, *gx.grad(f, [x, y, z])], name="product")
>>> product(-2, 5, -4)
[-12.0, -4.0, -4.0, 3.0]
"""

from graphc import frontend as _frontend
from graphc import init, linalg, nn, optim, random
from graphc import scans as _scans
from graphc import sorting as _sorting
from graphc.capture import capture
from graphc.check import check_grad
from graphc.compile import compile
from graphc.draw import draw
from graphc.evaluate import evaluate
from graphc.frontend import *  # noqa: F403 (its __all__ is ours)
from graphc.linalg import matrix_power
from graphc.ops import pointwise as _pointwise
from graphc.ops.pointwise import *  # noqa: F403 (so one statement adds an operation)
from graphc.passes.derivatives import hessian, hvp, jacobian, jvp
from graphc.passes.grad import grad, vjp
from graphc.persist import load, save
from graphc.scans import *  # noqa: F403
from graphc.sorting import *  # noqa: F403
from graphc.train import train_step
from graphc.types import GraphcError

__version__ = "0.1.0"

__all__ = [
    *_frontend.__all__,
    *_pointwise.__all__,
    *_scans.__all__,
    *_sorting.__all__,
    "GraphcError",
    "capture",
    "check_grad",
    "compile",
    "draw",
    "evaluate",
    "grad",
    "hessian",
    "hvp",
    "init",
    "jacobian",
    "jvp",
    "linalg",
    "load",
    "matrix_power",
    "nn",
    "optim",
    "random",
    "save",
    "train_step",
    "vjp",
]
