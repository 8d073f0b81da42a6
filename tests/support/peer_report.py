"""Programs of other implementations that run once and print what they saw as JSON."""

import json
import subprocess
from typing import Any

from tests.support.limits import HANG_SECONDS


def run_to_report(*command: Any) -> tuple[dict[str, Any], str]:
    """Run a program to its end; returns the JSON object that it printed, and what it wrote to stderr."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report, done.stderr
