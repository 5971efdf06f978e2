"""What comes out of a run: a table for people, a JSON for comparisons, a picture for the README."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

__all__ = ["Cell", "Line", "pretty", "print_table", "show", "write_json", "write_picture"]


@dataclass
class Cell:
    """One contender on one line: its samples, or why there are none."""

    samples: list[float] = field(default_factory=list)  # seconds per step, one per round
    error: float | None = None
    note: str | None = None

    @property
    def seconds(self) -> float | None:
        return median(self.samples) if self.samples else None


@dataclass
class Line:
    """One row measured in one way."""

    key: str
    how: str
    what: str
    cells: dict[str, Cell]  # by column: a peer, or "graphc bind"
    limit: float | None = None  # seconds
    cores: int | None = None  # that the limit supposes
    bound: str | None = None  # "flops" or "bytes"

    @property
    def best_peer(self) -> tuple[str, float] | None:
        times = [
            (cell.seconds, name) for name, cell in self.cells.items() if not name.startswith("graphc") and cell.seconds
        ]
        return min(times)[::-1] if times else None

    @property
    def ours(self) -> float | None:
        return self.cells["graphc"].seconds if "graphc" in self.cells else None

    @property
    def ratio(self) -> float | None:
        """How many times faster than the best peer graphc is."""
        return self.best_peer[1] / self.ours if self.best_peer and self.ours else None

    @property
    def of_limit(self) -> float | None:
        """The per cent of the machine's limit that graphc reaches."""
        return 100 * self.limit / self.ours if self.limit and self.ours else None


def pretty(seconds: float | None) -> str:
    if seconds is None:
        return ""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9)):
        if seconds >= scale or unit == "ns":
            return f"{seconds / scale:#.3g}".rstrip(".") + f" {unit}"
    raise AssertionError


# --- the table ------------------------------------------------------------------------------------------
def print_table(lines: list[Line], titles: dict[str, str]) -> None:
    """Times, ratio and limit; then the errors; then every reason for an empty cell."""
    columns = [name for name in titles if any(name in line.cells for line in lines)]
    notes: dict[str, list[str]] = {}
    for line in lines:
        for name, cell in line.cells.items():
            if cell.note:
                keys = notes.setdefault(f"{titles[name]}: {cell.note}", [])
                keys += [line.key] if line.key not in keys else []
    numbers = {text: str(i) for i, text in enumerate(notes, start=1)}

    rows = []
    for line in lines:
        cells = []
        for name in columns:
            cell = line.cells.get(name, Cell())
            mark = f"[{numbers[f'{titles[name]}: {cell.note}']}]" if cell.note else ""
            cells.append(f"{pretty(cell.seconds)} {mark}".strip())
        ratio = f"{line.ratio:.2f} x" if line.ratio else ""
        best = f"{titles[line.best_peer[0]]}" if line.best_peer else ""
        share = "" if line.of_limit is None else "< 1 %" if line.of_limit < 1 else f"{line.of_limit:.0f} %"
        rows.append([line.key, line.how, *cells, best, ratio, pretty(line.limit), share])
    heads = ["row", "measured", *(titles[name] for name in columns), "best peer", "faster by", "limit", "of limit"]
    title = "time per step, median of interleaved rounds; `faster by` and `of limit` are graphc's, called plainly"
    show(title, heads, rows)

    checked = [line for line in lines if any(cell.error is not None for cell in line.cells.values())]
    errors = [
        [
            line.key,
            line.how,
            *(f"{c.error:.0e}" if (c := line.cells.get(n)) and c.error is not None else "" for n in columns),
        ]
        for line in checked
    ]
    if errors:
        title = "agreement with float64: largest error relative to the largest element"
        show(title, ["row", "measured", *(titles[name] for name in columns)], errors)
    for text, number in numbers.items():
        print(f"[{number}] {text} ({', '.join(notes[text])})")


def show(title: str, heads: list[str], rows: list[list[str]]) -> None:
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
        print(f"\n{title}")
        for row in [heads, *rows]:
            print(
                "  ".join(
                    text.ljust(w) if i < 2 else text.rjust(w)
                    for i, (text, w) in enumerate(zip(row, widths, strict=True))
                )
            )
        return
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for i, head in enumerate(heads):
        table.add_column(Text(head), justify="left" if i < 2 else "right", no_wrap=i == 0)
    for row in rows:
        table.add_row(*(Text(text) for text in row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=220)
    console.print(Text(title), table, sep="\n")


# --- for comparisons ------------------------------------------------------------------------------------
def write_json(path: Path, facts: dict[str, Any], lines: list[Line]) -> None:
    records = []
    for line in lines:
        record = asdict(line)
        for name, cell in line.cells.items():
            record["cells"][name]["seconds"] = cell.seconds
        records.append(record | {"ratio": line.ratio, "per_cent_of_limit": line.of_limit})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"facts": facts, "lines": records}, indent=1) + "\n")


# --- for the README ---------------------------------------------------------------------------------------
def write_picture(path: Path, lines: list[Line], titles: dict[str, str], subtitle: str) -> str | None:
    """One bar per line: how many times faster than the best peer. Says why if there is nothing to draw."""
    drawn = [line for line in lines if line.ratio]
    if not drawn:
        return "nothing to draw: no line has both graphc and a peer"
    try:
        import matplotlib
    except ImportError:
        return "matplotlib is not installed: pip install 'graphc[bench]'"
    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 0.9 + 0.34 * len(drawn)), layout="constrained")
    ratios = [line.ratio or 1.0 for line in drawn]
    low, high = min(0.5, *ratios) / 1.2, max(2.0, *ratios) * 12  # room for the text
    colours = ["#2a7f62" if ratio >= 1 else "#b5483a" for ratio in ratios]
    axes.barh(range(len(drawn)), [ratio - 1 for ratio in ratios], left=1, color=colours, height=0.64)
    for place, (line, ratio) in enumerate(zip(drawn, ratios, strict=True)):
        peer = titles[line.best_peer[0]] if line.best_peer else ""
        text = f"{ratio:.2g}x  {pretty(line.ours)}, {peer} {pretty(line.best_peer[1] if line.best_peer else None)}"
        axes.text(max(ratio, 1) * 1.06, place, text, va="center", fontsize=8, color="#333333")
    axes.set_yticks(range(len(drawn)), [f"{line.key}, {line.how}" for line in drawn], fontsize=9)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.margins(y=0.01)
    axes.axvline(1, color="#333333", linewidth=0.8)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}x")
    axes.set_xlabel(f"times faster than the best peer (log scale); {subtitle}", fontsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=160)
    plt.close(figure)
    return None
