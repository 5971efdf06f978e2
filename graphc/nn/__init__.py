"""Neural nets, composed from the operations: activations, layers and losses under the names of ``torch.nn.functional``."""

from graphc.nn import activations as _activations
from graphc.nn import layers as _layers
from graphc.nn import losses as _losses
from graphc.nn import regularization as _regularization
from graphc.nn.activations import *  # noqa: F403 (its __all__ is ours)
from graphc.nn.layers import *  # noqa: F403
from graphc.nn.losses import *  # noqa: F403
from graphc.nn.regularization import *  # noqa: F403

__all__ = [*_activations.__all__, *_regularization.__all__, *_layers.__all__, *_losses.__all__]
