"""Graph to graph: random draws get the state of their function, which step it is and the key of each draw.

Both are parameters, so that the same graph with other seeds is the same C, and a saved step goes on as if it had not
been interrupted:

    philox(random_step, 7)   becomes   philox(random.step, random.keys[0])        random.step = random.step + 1
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphc.frontend.sources import parameter
from graphc.ir import Node, Parameter, make, rebuild, toposort
from graphc.ops.pointwise import add
from graphc.ops.random import PHILOX, STEP
from graphc.ops.structural import reshape, slice_
from graphc.types import INT64

__all__ = ["counted"]


Updates = tuple[tuple[Parameter, Node], ...]


def counted(outputs: Sequence[Node]) -> tuple[list[Node], tuple[Parameter, ...], Updates]:
    """The outputs of one function, the parameters that their draws read, and how each call updates these; none without draws."""
    keys = list(dict.fromkeys(node.operands[1] for node in toposort(outputs) if node.op is PHILOX))
    if not keys:
        return list(outputs), (), ()
    step = parameter("random.step", 0, INT64, trainable=False)
    values = np.array([int(key.attrs["value"].array) for key in keys], np.int64)
    state = parameter("random.keys", values, INT64, trainable=False)
    places = {key: reshape(slice_(state, [place], [1], [1]), ()) for place, key in enumerate(keys)}

    def rule(node: Node, operands: tuple[Node, ...]) -> Node:
        if node.op is STEP:
            return step
        if node.op is PHILOX:
            return make(PHILOX, step, places[node.operands[1]], **node.attrs)
        return node if operands == node.operands else make(node.op, *operands, **node.attrs)

    return rebuild(outputs, rule), (step, state), ((step, add(step, 1)),)
