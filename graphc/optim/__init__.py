"""Optimizers: recipes from ``{parameter: gradient}`` to updates, with schedules of the learning rate and clipping.

- ``algorithms``: SGD, Adagrad, RMSprop, Adadelta, Adam and its relatives, Lion
- ``schedules``: learning rates as functions of the step
- ``clipping``: wrappers that bound the gradients
- ``optimizer``: what the algorithms share, and where another one begins
"""

from graphc.optim import algorithms as _algorithms
from graphc.optim import clipping as _clipping
from graphc.optim import schedules as _schedules
from graphc.optim.algorithms import *  # noqa: F403 (its __all__ is ours)
from graphc.optim.clipping import *  # noqa: F403
from graphc.optim.optimizer import Optimizer
from graphc.optim.schedules import *  # noqa: F403

__all__ = [*_algorithms.__all__, *_clipping.__all__, *_schedules.__all__, "Optimizer"]
