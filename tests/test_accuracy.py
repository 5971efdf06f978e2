"""docs/accuracy.md: its numbers hold on a sample, and it has all functions. The whole is measured by benchmarks/accuracy.py."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from benchmarks.accuracy import FUNCTIONS, Build, measure

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "accuracy.md").read_text(encoding="utf-8")
ROWS = {name: (float(narrow), float(wide)) for name, narrow, wide in re.findall(r"^\| (\w+) \| ([\d.]+) \| \S+ \| ([\d.]+) \|", TEXT, re.M)}
CPUINFO = Path("/proc/cpuinfo")

build = cache(Build)


def test_the_table_has_every_function_within_two_ulp() -> None:
    assert list(ROWS) == [f.operation for f in FUNCTIONS]
    assert all(error <= 2 for row in ROWS.values() for error in row)


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="long double is no wider than double")
@pytest.mark.skipif(not CPUINFO.exists() or " fma " not in CPUINFO.read_text(), reason="the table is for fused multiply-add")
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.operation)
def test_a_sample_is_within_the_table(function) -> None:
    narrow, at, wide, at_wide = measure(function, build("native"), build("long"), floats=1_000_003, doubles=40_000)
    most = ROWS[function.operation]
    assert 0.4 < narrow <= most[0] + 0.005, f"{function.operation}({at!r}) in float32"
    assert 0.4 < wide <= most[1] + 0.005, f"{function.operation}({at_wide!r}) in float64"
