"""The pictures in docs/pictures are what their scripts draw now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
SECONDS = 60
"""What a script may take on a busy machine; each takes about one."""


@pytest.mark.parametrize("name", ["stages", "bars"])
def test_a_picture_is_what_its_script_draws(name: str, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-W", "error", PICTURES / f"{name}.py", tmp_path],
        stdin=subprocess.DEVNULL,
        timeout=SECONDS,
        check=True,
    )
    drawn, committed = (directory / f"{name}.svg" for directory in (tmp_path, PICTURES))
    assert drawn.read_bytes() == committed.read_bytes(), f"run `python docs/pictures/{name}.py`"


def test_every_picture_is_tested() -> None:
    assert {path.name for path in PICTURES.glob("*.svg")} == {"stages.svg", "bars.svg"}
