"""graphc: a static expression graph in Python becomes gradients, one readable C file, and a fast train step."""

from graphc.ops.pointwise import *  # noqa: F403, I001
from graphc.frontend import *  # noqa: F403
from graphc.evaluate import evaluate
from graphc.passes.grad import grad, vjp
from graphc.compile import compile
from graphc.train import train_step
from graphc.persist import load, save
from graphc import init, nn, optim
