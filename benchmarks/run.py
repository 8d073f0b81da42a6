"""The driver of the benchmarks: all cells of all modules, interleaved in one run.

Each round takes one sample of every cell from every contestant, so that whatever the machine does
meanwhile happens to all of them. Only like work is compared, every update is counted and checked, and
a measurement is over when the call has returned and every handler has ended.

It prints the table of ratios, and with `--lines` writes a JSON object for each sample, behind a first
one with the facts: machine, versions, options, cells. `report.py` makes tables and plots of them.

This file needs only the standard library; trio_mcp and its rivals run in processes of their own.
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

# Each has make_cells(selection), which starts only the workers that its selected cells need.
SHORT = ("notifications", "report_cost", "starts", "tasks")
FULL = (*SHORT, "limits", "ceiling", "sessions")

LOCAL = ("lines", "beside")
"""Options that name places on this machine."""

NOTES = """
Median (min-max); `ratio` is that of the medians, `round by round` the median ratio in a round (min-max):
how many times as fast, or how many times less of it, as the other."""


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
        # The official SDK takes part in two.
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
    parser.add_argument("--only", default="", metavar="TEXT", help="only the cells with this in their name")
    parser.add_argument("--rounds", type=int, help="samples of each cell (5)")
    parser.add_argument("--updates", type=int, help="updates in one burst (10,000)")
    parser.add_argument("--lines", type=Path, metavar="FILE", help="write every sample there, a line each")
    parser.add_argument("--quick", action="store_true", help="a smoke test: too little to compare by")
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
    """The cells, and their workers, which end with the stack."""
    selection = Selection(
        only=options.only,
        updates=options.updates,
        is_full=options.set == "full",
        is_quick=options.quick,
        checkout=checkout,
        has_rivals=options.beside is None,
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
    """What writes each object that it is given as a line; nothing, if there is no path."""
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
        cells, workers = take_rounds_beside(partial(collect, options), other, options.rounds, keep)
    print(f"this: {THIS.root}, other: {other.root}")
    print_table(beside_table(cells))
    print(BESIDE_NOTES)
    print(lowest(cells))
    return report_faults(workers)


if __name__ == "__main__":
    chosen = parse()
    sys.exit(run_beside_rivals(chosen) if chosen.beside is None else run_beside_checkout(chosen))
