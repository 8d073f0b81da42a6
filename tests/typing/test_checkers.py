"""Type checkers find nothing in programs that are right, and each mistake of those that are wrong."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.limits import HANG_SECONDS

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
WRONG_USES = HERE / "wrong_uses.py"
PROGRAMS = sorted(path for path in (HERE / "programs").glob("*.py") if path.stem != "__init__")
EXAMPLES = sorted(
    path
    for path in (REPOSITORY / "docs" / "examples").rglob("*.py")
    if not path.stem.startswith("fastmcp")  # which is not installed here
)

Found = dict[Path, dict[int, set[str]]]


def run_checker(*command: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert done.returncode == 1, f"it finds mistakes, and does not fail: {done.stdout}\n{done.stderr}"
    return done.stdout


def check_by_mypy() -> Found:
    """What mypy, strict, finds: its codes by file and line."""
    found: Found = defaultdict(lambda: defaultdict(set))
    options = ["--strict", "--output=json", "--follow-imports=silent", "--cache-dir=.mypy_cache/programs"]
    for line in run_checker("mypy", *options, *PROGRAMS, *EXAMPLES, WRONG_USES).splitlines():
        flaw = json.loads(line)
        if flaw["severity"] == "error":
            found[REPOSITORY / flaw["file"]][flaw["line"]].add(flaw["code"])
    return found


def check_by_pyright() -> Found:
    """What pyright finds, which is strict but in the examples: its rules by file and line."""
    found: Found = defaultdict(lambda: defaultdict(set))
    config = HERE / "pyrightconfig.json"
    options = ["--outputjson", "--pythonpath", sys.executable, "-p"]
    report: Any = json.loads(run_checker("pyright", *options, config))
    for flaw in report["generalDiagnostics"]:
        found[Path(flaw["file"])][flaw["range"]["start"]["line"] + 1].add(flaw["rule"])
    return found


def read_mistakes(checker: str) -> dict[int, set[str]]:
    """What the comments of `wrong_uses.py` say that `checker` finds: its rules by line."""
    mistakes: dict[int, set[str]] = {}
    for number, line in enumerate(WRONG_USES.read_text().splitlines(), start=1):
        marked = re.search(rf"  # .*\b{checker}\[([^]]+)\]", line)
        if marked:
            mistakes[number] = set(marked[1].split(","))
    return mistakes


@pytest.mark.parametrize(("checker", "check"), [("mypy", check_by_mypy), ("pyright", check_by_pyright)])
def test_each_mistake_is_found_and_nothing_else(checker: str, check: Callable[[], Found]) -> None:
    """One test, and one run, for all files: most of it is reading the package."""
    found, mistakes = check(), read_mistakes(checker)
    in_programs = {path.name: found[path] for path in (*PROGRAMS, *EXAMPLES) if path in found}
    assert in_programs == {}
    assert len(mistakes) > 40
    assert sorted(found[WRONG_USES]) == sorted(mistakes)
    missed = {line: rules - found[WRONG_USES][line] for line, rules in mistakes.items()}
    assert not any(missed.values()), missed


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
async def test_a_program_runs_as_its_types_say(program: Path) -> None:
    module = importlib.import_module(f"tests.typing.programs.{program.stem}")
    await module.main()
