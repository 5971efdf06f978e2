"""What users write graphs with, composed from the operations. One file per question:

- ``sources``: where values come from (inputs, parameters, constants, grids)
- ``elementwise``: what is composed of pointwise operations
- ``movement``: the same elements in other places
- ``pieces``: tensors put together and taken apart
- ``diagonals``: what lies on, above and below the diagonals of matrices
- ``differences``: slopes and integrals of sampled functions
- ``indexing``: which elements
- ``at``: some elements changed
- ``reductions``: many elements to one
- ``contractions``: sums of products
- ``aliases``: second names
- ``norms``: lengths and sizes, for ``graphc.linalg``
- ``protocol``: NumPy's own functions on nodes
"""

from graphc.frontend import (
    aliases,
    at,
    contractions,
    diagonals,
    differences,
    elementwise,
    indexing,
    movement,
    pieces,
    protocol,
    reductions,
    sources,
)
from graphc.frontend.aliases import *  # noqa: F403 (its __all__ is ours)
from graphc.frontend.at import *  # noqa: F403
from graphc.frontend.contractions import *  # noqa: F403
from graphc.frontend.diagonals import *  # noqa: F403
from graphc.frontend.differences import *  # noqa: F403
from graphc.frontend.elementwise import *  # noqa: F403
from graphc.frontend.indexing import *  # noqa: F403
from graphc.frontend.movement import *  # noqa: F403
from graphc.frontend.pieces import *  # noqa: F403
from graphc.frontend.reductions import *  # noqa: F403
from graphc.frontend.sources import *  # noqa: F403
from graphc.ops.structural import stop_gradient

__all__ = [
    *sources.__all__,
    *elementwise.__all__,
    *movement.__all__,
    *pieces.__all__,
    *diagonals.__all__,
    *indexing.__all__,
    *at.__all__,
    *reductions.__all__,
    *differences.__all__,
    *contractions.__all__,
    *aliases.__all__,
    *protocol.__all__,
    "stop_gradient",
]
