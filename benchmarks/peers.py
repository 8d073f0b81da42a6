"""Where the other implementations are, and how their sides of the benchmark are started.

`make peers` makes an environment for each in `.envs`; `TRIO_MCP_PEER_NAME` names another place.
"""

import os
import shutil
import sys
from pathlib import Path

from contest import OURS

HERE = Path(__file__).parent

ENVIRONMENTS = {
    "mcp": "mcp2",
    "mcp-legacy": "mcp2",
    "mcp1": "mcp1",
    "fastmcp": "fastmcp4",
    "typescript": "ts2",
}
"""By the first word of a contestant's name."""

Command = list[str | Path]

_missing: set[str] = set()


def find_environment(name: str) -> Path:
    return Path(os.environ.get(f"TRIO_MCP_PEER_{name.upper()}") or HERE.parent / ".envs" / name)


def find_python(rival: str) -> Path:
    """The interpreter of a rival's environment; a variable may name it instead of its directory."""
    path = find_environment(ENVIRONMENTS[rival])
    return path / "bin" / "python" if path.is_dir() else path


def is_here(contestant: str) -> bool:
    """Whether it can be started; what cannot is left out, with a message."""
    rival = contestant.split()[0]
    if rival == OURS:
        return True
    if rival == "typescript":
        packages = find_environment(ENVIRONMENTS[rival]) / "node_modules" / "@modelcontextprotocol"
        found = shutil.which("node") is not None and (packages / "server").is_dir()
    else:
        found = find_python(rival).exists()
    if not found and rival not in _missing:
        _missing.add(rival)
        print(f"{rival} is left out: its environment is not there (`make peers`)", file=sys.stderr)
    return found
