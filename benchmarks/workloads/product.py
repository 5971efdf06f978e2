"""The circuit of every first lecture: ``(x + y) * z`` and its three derivatives, of scalars."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.workload import ROTATION, Array, Workload, everywhere

__all__ = ["product"]


def formula(xp: Any, x: Any, y: Any, z: Any) -> Any:
    return (x + y) * z


def reference(x: Array, y: Array, z: Array) -> tuple[Any, dict[str, Array]]:
    return (x + y) * z, {"x": z, "y": z, "z": x + y}


def numpy(workload: Workload, parameters: dict[str, Array]) -> Any:
    def value_and_gradients(x: Any, y: Any, z: Any) -> Any:
        total = x + y
        return total * z, (z, z, total)

    return value_and_gradients


def product() -> Workload:
    x, y, z = np.random.default_rng(0).normal(size=(3, ROTATION)).astype(np.float32)
    return Workload(
        key="product", what="(x+y)*z and three gradients", inputs={"x": x, "y": y, "z": z}, parameters={},
        wrt=("x", "y", "z"), formulas=everywhere(formula), reference=reference, numpy=numpy,
        flops=2, bytes=4 * (3 + 4), loop=False,
    )  # fmt: skip
