"""``python -m benchmarks``: all rows, all peers; ``--quick`` for the cheap ones in under two minutes."""

from __future__ import annotations

import argparse
import gc
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import limits
from benchmarks.compiling import CASES, COMPILERS, compile_times
from benchmarks.peers import PEERS, Cannot, Contender
from benchmarks.report import Cell, Line, print_table, write_json, write_picture
from benchmarks.timing import Disagreement, check, expectations, interleave
from benchmarks.workload import ROTATION, Workload
from benchmarks.workloads import ROWS
from graphc.types import GraphcError

RESULTS = Path(__file__).with_name("results")
TITLES = {"graphc": "graphc", "graphc bind": "graphc bind"} | {
    name: p.title for name, p in PEERS.items() if name != "graphc"
}


def main() -> int:
    options = arguments()
    rounds, seconds = (5, 0.02) if options.quick else (9, 0.06)
    loaded, facts = available(options.peers)
    machine = measure_machine()
    facts |= {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "cpu": cpu_name(),
        "cores": limits.cores(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "load before": load(),
        "settings": {
            "rounds": rounds,
            "seconds per sample": seconds,
            "batches in rotation": ROTATION,
            "quick": options.quick,
        },
    }
    if machine:
        facts["peak flop/s"] = {f"{dtype}, {n} core(s)": rate for (dtype, n), rate in sorted(machine.peak.items())}
        facts["triad byte/s, 256 MB"] = {f"{n} core(s)": rate for n, rate in sorted(machine.memory.items())}
    print_facts(facts)
    facts["round trip between cores, ns, before and after"] = {}

    lines: list[Line] = []
    for key in options.only:
        print(f"  {key} ...", end="", flush=True, file=sys.stderr)
        start, trips = time.perf_counter(), [machine.round_trip()] if machine else []
        if key == "compile":
            lines += compile_lines(loaded, rounds=1 if options.quick else 3)
        else:
            lines += measure_row(ROWS[key].build(), loaded, machine, rounds=rounds, seconds=seconds)
        gc.collect()
        trips += [machine.round_trip()] if machine else []
        facts["round trip between cores, ns, before and after"][key] = trips
        print(f" {time.perf_counter() - start:.0f} s", file=sys.stderr)

    facts["load after"] = load()
    print_table(lines, TITLES)
    trips = [t for pair in facts["round trip between cores, ns, before and after"].values() for t in pair if t]
    if trips and max(trips) > 2 * min(trips):
        print(f"a cache line took {min(trips):.0f} to {max(trips):.0f} ns to another core and back: the host moved the cores")
    print(
        f"load average before {facts['load before']}, after {facts['load after']}: times count only on an idle machine"
    )
    write_json(options.json, facts, lines)
    print(f"wrote {options.json}")
    problem = write_picture(
        options.picture, lines, TITLES, f"{facts['cpu']}, {facts['cores']} cores, {facts['date'][:10]}"
    )
    print(f"no picture ({problem})" if problem else f"wrote {options.picture}")
    wrong = [line.key for line in lines for cell in line.cells.values() if cell.note and cell.note.startswith("WRONG")]
    return 1 if wrong else 0


def arguments() -> argparse.Namespace:
    def names(allowed: Any, what: str) -> Any:
        def parse(text: str) -> list[str]:
            chosen = text.split(",")
            if unknown := [name for name in chosen if name not in allowed]:
                raise argparse.ArgumentTypeError(f"unknown {what} {', '.join(unknown)}; there are {', '.join(allowed)}")
            return [name for name in allowed if name in chosen]

        return parse

    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, allow_abbrev=False)
    keys = [*ROWS, "compile"]
    quick = [name for name, peer in PEERS.items() if peer.quick]
    parser.add_argument("--quick", action="store_true", help=f"fewer and shorter rounds, only {', '.join(quick)}")
    parser.add_argument("--only", type=names(keys, "row"), default=keys, metavar="ROWS", help=f"of {','.join(keys)}")
    parser.add_argument("--peers", type=names(PEERS, "peer"), metavar="PEERS", help=f"of {','.join(PEERS)}")
    parser.add_argument("--json", type=Path, default=RESULTS / "latest.json", metavar="FILE")
    parser.add_argument("--picture", type=Path, default=RESULTS / "latest.png", metavar="FILE")
    options = parser.parse_args()
    options.peers = options.peers or (quick if options.quick else list(PEERS))
    return options


# --- one row ----------------------------------------------------------------------------------------------
def measure_row(
    workload: Workload, loaded: dict[str, Any], machine: limits.Machine | None, *, rounds: int, seconds: float
) -> list[Line]:
    """Build every contender, check it, and time those that agree, in turn."""
    lines = {"call": Line(workload.key, "per call", workload.what, {})}
    if workload.loop:
        lines["loop"] = Line(workload.key, "in a loop", workload.what, {})
    for line in lines.values():
        if machine:
            line.limit, line.cores, line.bound = machine.limit(workload)
    expected = expectations(workload)
    contenders: dict[tuple[str, str], Contender] = {}
    for name, module in loaded.items():
        for mode in ("call", "bind", "loop"):
            column = "graphc bind" if mode == "bind" else name
            kind = "loop" if mode == "loop" else "call"
            if kind not in lines or (mode == "bind" and mode not in PEERS[name].modes):
                continue
            cell = lines[kind].cells[column] = Cell()
            if isinstance(module, str):
                cell.note = module
                continue
            try:
                contender = module.build(workload, mode, PEERS[name].option)
                cell.error = check(contender, workload, expected)
                contenders[kind, column] = contender
            except Cannot as reason:
                cell.note = str(reason)
            except Disagreement as reason:
                cell.note = f"WRONG: {reason}"
            except Exception as error:  # whatever a peer raises, the others go on
                cell.note = f"failed: {type(error).__name__}: {' '.join(str(error).split())[:160]}"
    for (kind, column), samples in interleave(contenders, rounds=rounds, seconds=seconds).items():
        lines[kind].cells[column].samples = samples
    if workload.loop:
        for column, cell in lines["loop"].cells.items():
            if not cell.samples and lines["call"].cells[column].samples:  # no loop inside C: Python's has to do
                cell.samples = lines["call"].cells[column].samples
    return list(lines.values())


def compile_lines(loaded: dict[str, Any], *, rounds: int) -> list[Line]:
    lines = {"import": Line("compile", "import, beyond NumPy's", "import", {})}
    for key in CASES:
        for state in ("cold", "warm"):
            lines[f"{key} {state}"] = Line("compile", f"{key}, {state} cache", "from the formula to the first step", {})
    for name, module in loaded.items():
        if name not in COMPILERS:
            continue
        for key in CASES:
            cells = {state: lines[state if state == "import" else f"{key} {state}"].cells.setdefault(name, Cell())
                     for state in ("import", "cold", "warm")}  # fmt: skip
            try:
                if isinstance(module, str):
                    raise RuntimeError(module)
                slow = not PEERS[name].quick
                for state, samples in compile_times(name, key, rounds=1 if slow else rounds).items():
                    cells[state].samples += samples
            except RuntimeError as error:
                for cell in cells.values():
                    cell.note = None if cell.samples else f"failed: {str(error)[:160]}"
    return list(lines.values())


# --- the circumstances ------------------------------------------------------------------------------------
def available(names: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The peers' modules, or the reason why one is missing; and their versions and threads."""
    loaded: dict[str, Any] = {}
    versions: dict[str, str] = {}
    for name in names:
        try:
            module = PEERS[name].load()
            versions[PEERS[name].title] = f"{module.version()}; threads: {module.threads()}"
            loaded[name] = module
        except ImportError as error:
            loaded[name] = f"not installed ({error.name})"
    return loaded, {"versions": versions}


def measure_machine() -> limits.Machine | None:
    try:
        return limits.measure()
    except GraphcError as error:
        print(f"the machine's limits are unknown: {error}")
        return None


def load() -> str:
    return " ".join(f"{x:.2f}" for x in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown"


def cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def print_facts(facts: dict[str, Any]) -> None:
    print(f"{facts['date']}, {facts['cpu']}, {facts['cores']} cores, Python {facts['python']}, {facts['system']}")
    for title, text in facts["versions"].items():
        print(f"  {title} {text}")
    variables = {name: value for name, value in os.environ.items() if name.endswith("_NUM_THREADS")}
    print(f"  thread limits set in the environment: {variables or 'none; all cores for all'}")
    for what in ("peak flop/s", "triad byte/s, 256 MB"):
        for which, rate in facts.get(what, {}).items():
            print(f"  {what} ({which}): {rate / 1e9:.1f} G")
    for dtype in ("float32", "float64") if "peak flop/s" in facts else ():
        one, all_ = (facts["peak flop/s"][f"{dtype}, {n} core(s)"] for n in (1, facts["cores"]))
        if all_ < 0.8 * facts["cores"] * one:
            print(f"  NOT IDLE: all cores reach {all_ / one:.1f} times the {dtype} peak of one; no result counts")
    print("  agreement: loss and gradients within 1e-5 (float64 1e-10), or the change of the parameters within 1e-3")


if __name__ == "__main__":
    sys.exit(main())
