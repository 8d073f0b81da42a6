"""Where the other implementations are, and how their sides of the benchmark are started.

`make peers` makes an environment for each in `.envs`; `TRIO_MCP_PEER_NAME` names another place.
"""

import os
import shutil
import sys
from functools import cache
from pathlib import Path

from contest import OURS

HERE = Path(__file__).parent
BARE = "write at once"
"""No implementation: bare sends of the same bytes on our stack."""

ENVIRONMENTS = {
    "mcp": "mcp2",
    "mcp-legacy": "mcp2",
    "mcp1": "mcp1",
    "fastmcp": "fastmcp4",
    "typescript": "ts2",
}
"""By the first word of a contestant's name."""

Command = list[str | Path]


def find_environment(name: str) -> Path:
    return Path(os.environ.get(f"TRIO_MCP_PEER_{name.upper()}") or HERE.parent / ".envs" / name)


def find_python(rival: str) -> Path:
    """The interpreter of a rival's environment; a variable may name it instead of its directory."""
    path = find_environment(ENVIRONMENTS[rival])
    return path if path.is_file() else path / "bin" / "python"


@cache
def is_here(rival: str) -> bool:
    """Whether it can be started; what cannot is left out, with a message."""
    if rival not in ENVIRONMENTS:
        return True
    if rival == "typescript":
        packages = find_environment(ENVIRONMENTS[rival]) / "node_modules" / "@modelcontextprotocol"
        found = shutil.which("node") is not None and (packages / "server").is_dir()
    else:
        found = find_python(rival).exists()
    if not found:
        print(f"{rival} is left out, for its environment is not there (`make peers`)", file=sys.stderr)
    return found


def worker_command(contestant: str, transport: str) -> Command:
    """The client of a contestant, which starts its server."""
    if contestant == BARE:
        return [sys.executable, HERE / "bare_worker.py", transport]
    rival, _, backend = contestant.partition(" ")
    if rival == OURS:
        return [sys.executable, HERE / "trio_mcp_worker.py", transport, *([backend] if backend else [])]
    if rival == "typescript":
        return ["node", HERE / "typescript_worker.mjs", find_environment("ts2"), transport]
    python = find_python(rival)
    if rival == "mcp-legacy":
        return [python, HERE / "sdk_worker.py", "legacy", backend]
    if rival == "mcp":
        return [python, HERE / "sdk_worker.py", transport, backend]
    return [python, HERE / SCRIPTS[rival].format("worker"), transport]


def server_command(contestant: str) -> Command:
    """The server of a contestant over stdio."""
    rival, _, backend = contestant.partition(" ")
    if rival == OURS:
        return [sys.executable, HERE / "trio_mcp_server.py"]
    if rival == "typescript":
        return ["node", HERE / "typescript_server.mjs", find_environment("ts2")]
    if rival == "mcp":
        return [find_python(rival), HERE / "sdk_server.py", backend]
    return [find_python(rival), HERE / SCRIPTS[rival].format("server")]


SCRIPTS = {"mcp1": "sdk1_{}.py", "fastmcp": "fastmcp_{}.py"}
