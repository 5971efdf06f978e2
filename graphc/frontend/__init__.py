"""What users write graphs with, composed from the operations. One file per question:

- ``sources``: where values come from (inputs, parameters, constants)
- ``elementwise``: what is composed of pointwise operations
- ``movement``: the same elements in other places
- ``indexing``: which elements
- ``reductions``: many elements to one
- ``contractions``: sums of products
"""

from graphc.frontend import contractions, elementwise, indexing, movement, reductions, sources
from graphc.frontend.contractions import *  # noqa: F403 (its __all__ is ours)
from graphc.frontend.elementwise import *  # noqa: F403
from graphc.frontend.indexing import *  # noqa: F403
from graphc.frontend.movement import *  # noqa: F403
from graphc.frontend.reductions import *  # noqa: F403
from graphc.frontend.sources import *  # noqa: F403
from graphc.ops.structural import stop_gradient

__all__ = [
    *sources.__all__,
    *elementwise.__all__,
    *movement.__all__,
    *indexing.__all__,
    *reductions.__all__,
    *contractions.__all__,
    "stop_gradient",
]
