"""The example of CONTRIBUTING.md is a test that runs over every transport, as the page says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import WIRES
from tests.support.limits import HANG_SECONDS

ROOT = Path(__file__).parents[2]


def test_the_example_of_a_tool_test_runs_over_every_transport(tmp_path: Path) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(), re.M | re.S)
    file = tmp_path / "test_example.py"
    file.write_text(code)
    options = ["-q", "-p", "no:cacheprovider", "-p", "tests.conftest", "-c", str(ROOT / "pyproject.toml")]
    command = [sys.executable, "-m", "pytest", *options, "--rootdir", str(ROOT), str(file)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=HANG_SECONDS, check=False
    )
    assert f"{len(WIRES)} passed" in done.stdout, done.stdout + done.stderr
