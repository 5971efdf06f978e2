"""The rows of the table, in its order; each also in a small version, for the tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from benchmarks.workload import Workload
from benchmarks.workloads.adam import adam
from benchmarks.workloads.attention import attention
from benchmarks.workloads.chain import chain
from benchmarks.workloads.crossentropy import crossentropy
from benchmarks.workloads.fit import fit
from benchmarks.workloads.layernorm import layernorm
from benchmarks.workloads.linear import linear
from benchmarks.workloads.logreg import logreg
from benchmarks.workloads.mlp import mlp
from benchmarks.workloads.product import product
from benchmarks.workloads.rosenbrock import rosenbrock

__all__ = ["ROWS", "Row"]


class Row(NamedTuple):
    build: Callable[[], Workload]
    small: Callable[[], Workload]


ROWS: dict[str, Row] = {
    "product": Row(product, product),
    "tiny-mlp": Row(lambda: mlp("tiny-mlp", (2, 8, 2), batch=8), lambda: mlp("tiny-mlp", (2, 4, 2), batch=3)),
    "digits-mlp": Row(lambda: mlp("digits-mlp", (64, 32, 10), batch=32), lambda: mlp("digits-mlp", (7, 5, 3), batch=4)),
    "mnist-mlp": Row(
        lambda: mlp("mnist-mlp", (784, 256, 10), batch=128), lambda: mlp("mnist-mlp", (20, 9, 4), batch=6)
    ),
    "wide-mlp": Row(lambda: mlp("wide-mlp", (1024, 1024, 10), batch=256), lambda: mlp("wide-mlp", (8, 8, 3), batch=5)),
    "deep-mlp": Row(
        lambda: mlp("deep-mlp", (784, 512, 512, 10), batch=256, momentum=0.9),
        lambda: mlp("deep-mlp", (9, 6, 6, 3), batch=5, momentum=0.9),
    ),
    "linear-softmax": Row(lambda: linear("softmax", 3073, 10, batch=200), lambda: linear("softmax", 11, 4, batch=6)),
    "linear-svm": Row(lambda: linear("svm", 3073, 10, batch=200), lambda: linear("svm", 11, 4, batch=6)),
    "chain": Row(lambda: chain(10_000_000), lambda: chain(1000)),
    "logreg": Row(lambda: logreg(100_000, 30), lambda: logreg(200, 5)),
    "rosenbrock": Row(lambda: rosenbrock(100), lambda: rosenbrock(10)),
    "fit": Row(lambda: fit(100), lambda: fit(20)),
    "layer-norm": Row(lambda: layernorm(8192, 512), lambda: layernorm(70, 12)),
    "cross-entropy": Row(lambda: crossentropy(8192, 1000), lambda: crossentropy(70, 11)),
    "attention": Row(lambda: attention(8, 256, 64), lambda: attention(2, 6, 4)),
    "adam": Row(lambda: adam(10_000_000), lambda: adam(9000)),
}
