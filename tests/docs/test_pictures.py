"""The pictures in docs/pictures equal what their scripts draw now."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support.limits import HANG_SECONDS

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
RICH = "15"
"""The major version of rich that drew bars.svg. Other versions put the same words at other columns."""


def read_words(picture: Path) -> list[str | None]:
    return [element.text for element in ElementTree.parse(picture).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("name", ["stages", "bars"])
def test_a_picture_is_what_its_script_draws(name: str, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-W", "error", PICTURES / f"{name}.py", tmp_path],
        stdin=subprocess.DEVNULL,
        timeout=HANG_SECONDS,
        check=True,
    )
    drawn, committed = (directory / f"{name}.svg" for directory in (tmp_path, PICTURES))
    cure = f"run `python docs/pictures/{name}.py`"
    assert read_words(drawn) == read_words(committed) != [], cure
    if name != "bars" or version("rich").split(".")[0] == RICH:
        assert drawn.read_bytes() == committed.read_bytes(), cure


def test_every_picture_is_tested() -> None:
    assert {path.name for path in PICTURES.glob("*.svg")} == {"stages.svg", "bars.svg"}
