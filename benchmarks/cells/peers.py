"""Where the other implementations are, and how their sides of the benchmark are started.

`make peers` makes an environment for each in `.envs`; `TRIO_MCP_PEER_NAME` names another place.
"""

import os
import shutil
import sys
from functools import cache
from pathlib import Path

from cells.cell import OURS
from cells.checkout import THIS, Checkout, Command

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


def find_environment(name: str) -> Path:
    named = os.environ.get(f"TRIO_MCP_PEER_{name.upper()}")
    return Path(named).absolute() if named else THIS.root / ".envs" / name


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


def run_script(python: str | Path, script: str, *arguments: str | Path) -> Command:
    """Start a script of a rival, or a bare one, with an interpreter of its own."""
    return Command((python, THIS.find_script(script), *arguments))


def worker_command(contestant: str, transport: str, checkout: Checkout = THIS) -> Command:
    """The client of a contestant, which starts its server; `checkout` is where ours comes from."""
    if contestant == BARE:
        return run_script(sys.executable, "bare_worker.py", transport)
    rival, _, backend = contestant.partition(" ")
    if rival == OURS:
        return checkout.run_script("trio_mcp_worker.py", transport, *([backend] if backend else []))
    if rival == "typescript":
        return run_script("node", "typescript_worker.mjs", find_environment("ts2"), transport)
    python = find_python(rival)
    if rival == "mcp-legacy":
        return run_script(python, "sdk_worker.py", "legacy", backend)
    if rival == "mcp":
        return run_script(python, "sdk_worker.py", transport, backend)
    return run_script(python, SCRIPTS[rival].format("worker"), transport)


def server_command(contestant: str, checkout: Checkout = THIS) -> Command:
    """The server of a contestant over stdio."""
    rival, _, backend = contestant.partition(" ")
    if rival == OURS:
        return checkout.run_script("trio_mcp_server.py")
    if rival == "typescript":
        return run_script("node", "typescript_server.mjs", find_environment("ts2"))
    if rival == "mcp":
        return run_script(find_python(rival), "sdk_server.py", backend)
    return run_script(find_python(rival), SCRIPTS[rival].format("server"))


SCRIPTS = {"mcp1": "sdk1_{}.py", "fastmcp": "fastmcp_{}.py"}
