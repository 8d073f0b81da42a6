"""Runs the benchmarks: all cells of all modules, interleaved in one run.

Each round takes one sample of every cell from every contestant, so whatever else the machine does affects
all of them. Only like work is compared, and every update is counted and checked. A measurement ends when
the call has returned and every handler has ended.

The run prints a table of ratios. With `--lines` it writes a JSON object for each sample, after a first one
with the facts: machine, versions, options, cells. `write_report.py` makes tables and plots of these lines.
With `--beside` it compares this version of trio_mcp with the one in another checkout, without the rivals.

The driver (this file and `cells/`) needs only the standard library. Everything that is measured is a script
in `contestants/`, started in a process of its own, often by the interpreter of another environment. So
contestants import only what is installed there and what stands beside them, and `sdk_worker.py`,
`sdk1_worker.py` and `fastmcp_worker.py` repeat some lines: each is written against another SDK. `--beside`
finds scripts by name, so a script that is renamed can no longer be compared with an older version.
"""

import argparse
import importlib
import json
import os
import platform
import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from cells.beside import NOTES as BESIDE_NOTES
from cells.beside import Contest, beside_table, lowest, take_rounds_beside
from cells.cell import Cell, Keep, take_rounds
from cells.checkout import THIS, Checkout
from cells.selection import Selection
from cells.worker import Worker, report_faults
from report.scores import print_table, tables

# The modules with cells. Each has make_cells(selection), which starts only the workers that those cells need.
SHORT = ("notifications", "report_cost", "starts", "tasks", "stores")
FULL = (*SHORT, "protected", "limits", "ceiling", "sessions")

LOCAL = ("lines", "beside")
"""Options that name places on this machine."""

NOTES = """
Median (min-max) of the rounds. `ratio` compares the medians, and `round by round` is the median (min-max) of
the ratios within a round. A ratio says how many times as fast trio_mcp is as the other, or how many times
less it takes."""


def describe(
    cells: list[Cell], workers: dict[str, Worker], options: argparse.Namespace, load: float
) -> dict[str, Any]:
    hellos = {name: worker.hello for name, worker in workers.items()}
    versions: dict[str, set[str]] = {}
    for hello in hellos.values():
        for name, number in hello["versions"].items():
            versions.setdefault(name, set()).add(number)
    return {
        "machine": {
            "system": f"{platform.system()} {platform.release()}",
            "processor": processor(),
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "load_before": load,
        },
        # The official SDK takes part in two versions.
        "versions": {name: " and ".join(sorted(versions[name])) for name in sorted(versions)},
        "protocols": {name: hello["protocol"] for name, hello in hellos.items() if hello.get("protocol")},
        "options": {name: value for name, value in vars(options).items() if name not in LOCAL},
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cells": [cell.describe() for cell in cells],
    }


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", choices=["short", "full"], default="short", help="which cells")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the cells whose name contains it")
    parser.add_argument("--rounds", type=int, help="samples of each cell (5)")
    parser.add_argument("--updates", type=int, help="updates in one burst (10,000)")
    parser.add_argument(
        "--lines", type=Path, metavar="FILE", help="write each sample to this file, as a line of JSON"
    )
    parser.add_argument("--quick", action="store_true", help="a smoke test, too short to compare anything")
    parser.add_argument(
        "--beside",
        type=Path,
        metavar="CHECKOUT",
        help="compare with another version of trio_mcp, not with rivals",
    )
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.updates = options.updates or (500 if options.quick else 10_000)
    return options


def collect(options: argparse.Namespace, checkout: Checkout, stack: ExitStack) -> Contest:
    """Make the cells and start their workers, which the stack stops when it closes."""
    selection = Selection(
        only=options.only,
        updates=options.updates,
        is_full=options.set == "full",
        is_quick=options.quick,
        checkout=checkout,
        has_rivals=options.beside is None,
        at_end=stack,
    )
    cells: list[Cell] = []
    workers: dict[str, Worker] = {}
    for name in FULL if selection.is_full else SHORT:
        more, needed = importlib.import_module(f"cells.{name}").make_cells(selection)
        cells += more
        for label, worker in needed.items():
            stack.callback(worker.close)
            workers[f"{name}: {label}"] = worker
    if not cells:
        raise SystemExit("no cell has such a name")
    return cells, workers


def open_lines(path: Path | None, stack: ExitStack) -> Keep:
    """A function that writes each object to the file as a line; without a path it writes nothing."""
    if path is None:
        return lambda line: None
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = stack.enter_context(path.open("w"))
    return lambda line: print(json.dumps(line), file=lines, flush=True)


def run_beside_rivals(options: argparse.Namespace) -> int:
    load = round(os.getloadavg()[0], 2)
    with ExitStack() as stack:
        cells, workers = collect(options, THIS, stack)
        for worker in workers.values():
            worker.wait_ready()
        facts = describe(cells, workers, options, load)
        keep = open_lines(options.lines, stack)
        keep(facts)
        take_rounds(cells, options.rounds, keep)

    for name in ("machine", "versions"):
        print(f"{name}: {', '.join(f'{key} {value}' for key, value in facts[name].items())}")
    for table in tables(cells):
        print()
        print_table(table)
    print(NOTES)
    return report_faults(workers.values())


def run_beside_checkout(options: argparse.Namespace) -> int:
    with ExitStack() as stack:
        keep = open_lines(options.lines, stack)
        other = Checkout(options.beside.resolve())
        for checkout in (THIS, other):
            checkout.compile()
        cells, workers = take_rounds_beside(partial(collect, options), THIS, other, options.rounds, keep)
    print(f"this: {THIS.root}, other: {other.root}")
    print_table(beside_table(cells))
    print(BESIDE_NOTES)
    print(lowest(cells))
    return report_faults(workers)


if __name__ == "__main__":
    chosen = parse()
    sys.exit(run_beside_rivals(chosen) if chosen.beside is None else run_beside_checkout(chosen))
