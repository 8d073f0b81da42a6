"""Two versions of trio_mcp beside each other: whose package runs, who comes first, what a ratio says."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from cells.beside import beside_table, lowest, take_rounds_beside
from cells.cell import OURS, Cell
from cells.checkout import Checkout
from cells.worker import Worker

SCRIPT = """\
import subprocess, sys
print(__import__("trio_mcp").__file__, flush=True)
if len(sys.argv) > 1:
    subprocess.run([sys.executable, "-c", "import trio_mcp; print(trio_mcp.__file__)"], cwd="/", check=True)
"""


def make_checkout(root: Path) -> Checkout:
    (root / "trio_mcp").mkdir(parents=True)
    (root / "trio_mcp" / "__init__.py").touch()
    (root / "benchmarks" / "somewhere").mkdir(parents=True)
    (root / "benchmarks" / "somewhere" / "worker.py").write_text(SCRIPT)
    return Checkout(root)


def test_a_script_and_its_children_import_the_package_of_their_checkout(tmp_path: Path) -> None:
    for name in ("one", "two"):
        checkout = make_checkout(tmp_path / name)
        checkout.compile()
        expected = str(tmp_path / name / "trio_mcp" / "__init__.py")
        assert checkout.run_script("worker.py", "child").run().split() == [expected, expected]
        assert checkout.run_python("-c", "import trio_mcp; print(trio_mcp.__file__)").run().split() == [
            expected
        ]


def test_a_checkout_without_the_package_is_refused(tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path)
    (tmp_path / "trio_mcp" / "__init__.py").unlink()
    (tmp_path / "trio_mcp").rmdir()
    with pytest.raises((SystemExit, subprocess.CalledProcessError)):
        checkout.compile()


def test_a_script_has_one_place(tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path)
    (tmp_path / "benchmarks" / "worker.py").touch()
    for name, count in {"worker.py": 2, "server.py": 0}.items():
        with pytest.raises(SystemExit, match=f"^{count} files below .* are named {name}, not one$"):
            checkout.find_script(name)


THIS, OTHER = Checkout(Path("/this")), Checkout(Path("/other"))
SECONDS = {THIS.root: 0.5, OTHER.root: 1.0}


def collect(events: list[str], checkout: Checkout, stack: ExitStack) -> tuple[list[Cell], dict[str, Worker]]:
    name = checkout.root.name
    events.append(f"start {name}")
    stack.callback(events.append, f"stop {name}")

    def sample(cell: str) -> float:
        events.append(f"{cell} {name}")
        return SECONDS[checkout.root]

    samplers = {name: partial(sample, name) for name in ("rate", "time")}
    return [
        Cell("rate", {OURS: samplers["rate"], "rival": lambda: 1.0}, {"rival": 2.0}, count=100),
        Cell("a fact", {OURS: lambda: 1.0}, {}, is_fact=True),
        Cell("time", {OURS: samplers["time"]}, {}),
    ], {}


def test_the_versions_take_turns_and_start_anew_in_each_round() -> None:
    events: list[str] = []
    lines: list[dict[str, object]] = []
    cells, _ = take_rounds_beside(partial(collect, events), THIS, OTHER, 2, lines.append)
    first = ["start this", "start other", "rate this", "rate other", "time this", "time other"]
    second = ["start other", "start this", "rate other", "rate this", "time other", "time this"]
    assert events == [*first, "stop other", "stop this", *second, "stop this", "stop other"]
    assert [cell.samples for cell in cells] == 2 * [{"this": [0.5, 0.5], "other": [1.0, 1.0]}]
    assert [(line["round"], line["contestant"]) for line in lines[::2]] == [
        (0, "this"),
        (0, "this"),
        (1, "other"),
        (1, "other"),
    ]


def test_one_or_more_is_good_whether_more_or_less_is_better() -> None:
    cells, _ = take_rounds_beside(partial(collect, []), THIS, OTHER, 3, lambda line: None)
    _, *rows = beside_table(cells)
    assert rows == [
        ["rate", "200/s (200-200)", "100/s (100-100)", "more", "2.000x (2.00-2.00)"],
        ["time", "500.0 ms (500.0-500.0)", "1,000.0 ms (1,000.0-1,000.0)", "less", "2.000x (2.00-2.00)"],
    ]
    assert lowest(cells) == "The lowest of 2 ratios is 2.000x: rate."


def test_a_ratio_is_the_median_over_the_pairs_of_the_rounds() -> None:
    samples = {"this": [1.0, 2.0, 4.0], "other": [2.0, 2.0, 2.0]}
    cell = Cell("time", {}, {}, samples=samples)
    lost = Cell("lost", {}, {}, samples={"this": [1.0], "other": []})
    assert beside_table([cell, lost])[1][-1] == "1.000x (0.50-2.00)"
    assert lowest([cell, lost]) == "The lowest of 1 ratios is 1.000x: time. A sample is missing in: lost."
