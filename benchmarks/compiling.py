"""The row of import and compile times, each in a fresh process.

import: beyond NumPy's. Cold: from the Python formula to the end of the first step, with an empty cache; warm: the same
in another process with the cache that the cold one has filled. One: ``python -m benchmarks.compiling PEER KEY``.
"""

from __future__ import annotations

import compileall
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.peers import PEERS
from benchmarks.workloads import ROWS

__all__ = ["CASES", "COMPILERS", "compile_times"]

ROOT = Path(__file__).resolve().parents[1]
CASES = ("digits-mlp", "deep-mlp")
COMPILERS = ("graphc", "jax", "torch.compile", "pytensor-c", "pytensor-numba")


def _environment(directory: str) -> dict[str, str]:
    """Every library's cache in one directory."""
    return os.environ | {
        "GRAPHC_BUILD_DIR": f"{directory}/graphc",
        "JAX_COMPILATION_CACHE_DIR": f"{directory}/jax",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "TORCHINDUCTOR_CACHE_DIR": f"{directory}/torch",
        "PYTENSOR_FLAGS": f"compiledir={directory}/pytensor",
        "NUMBA_CACHE_DIR": f"{directory}/numba",
    }


def compile_times(peer: str, key: str, *, rounds: int) -> dict[str, list[float]]:
    """Seconds by name (import, cold, warm). Raises RuntimeError with the last line that the process said."""
    times: dict[str, list[float]] = {"import": [], "cold": [], "warm": []}
    for package in ("graphc", "benchmarks"):  # as pip does when it installs: all peers have been installed
        compileall.compile_dir(ROOT / package, quiet=2)
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="graphc-benchmark-") as directory:
            for state in ("cold", "warm"):
                command = [sys.executable, "-W", "ignore", "-m", "benchmarks.compiling", peer, key]
                ran = subprocess.run(command, env=_environment(directory), capture_output=True, text=True, check=False)
                if ran.returncode != 0:
                    said = [line for line in ran.stderr.splitlines() if line.strip()] or ["it said nothing"]
                    raise RuntimeError(said[-1])
                seconds = json.loads(ran.stdout.splitlines()[-1])
                times[state].append(seconds["compile"])
                times["import"].append(seconds["import"])
    return times


def main(peer: str, key: str) -> None:
    workload = ROWS[key].build()
    workload = replace(workload, inputs={name: array[:1] for name, array in workload.inputs.items()})
    module, start = PEERS[peer].load(), time.perf_counter()
    importlib.import_module(module.LIBRARY)
    imported = time.perf_counter()
    contender = module.build(workload, "call", PEERS[peer].option)
    contender.reset()
    contender.run(1)
    print(json.dumps({"import": imported - start, "compile": time.perf_counter() - imported}))


if __name__ == "__main__":
    main(*sys.argv[1:])
