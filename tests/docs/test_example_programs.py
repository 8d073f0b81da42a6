"""Every program in docs/examples ends by itself and prints what its docstring says.

The expected output is the indented block after "It prints:", which ends the docstring.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.support.limits import HANG_SECONDS

PROGRAMS = sorted((Path(__file__).parents[2] / "docs" / "examples").glob("*.py"))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_a_program_prints_what_its_docstring_says(program: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", program],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout == read_output(program)


def read_output(program: Path) -> str:
    docstring = ast.get_docstring(ast.parse(program.read_text())) or ""
    _, said, output = docstring.partition("It prints:\n\n")
    assert said, f"{program.name} does not say what it prints"
    return f"{textwrap.dedent(output)}\n"


def test_there_are_programs() -> None:
    names = {program.stem for program in PROGRAMS}
    assert names >= {"trio_program", "quart_trio_app", "both_transports", "guest_mode"}
