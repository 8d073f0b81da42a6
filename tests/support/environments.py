"""Where the environments of other implementations are, which `make peers` makes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def find_environment(name: str) -> Path:
    """The directory of an environment: that in the variable TRIO_MCP_PEER_<NAME>, or .envs/<name>."""
    variable = f"TRIO_MCP_PEER_{name.upper()}"
    path = Path(os.environ.get(variable) or ROOT / ".envs" / name)
    if not path.is_dir():
        pytest.fail(f"{path} does not exist: run `make peers` first, or set {variable}")
    return path
