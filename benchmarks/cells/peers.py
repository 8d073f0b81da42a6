"""Where the other implementations are installed, and the commands that start each contestant.

`make peers` makes an environment for each in `.envs`; a variable such as `TRIO_MCP_PEER_MCP2` names another
directory, or an interpreter.
"""

import os
import shutil
import sys
from functools import cache
from pathlib import Path

from cells.cell import OURS
from cells.checkout import THIS, Checkout, Command

BARE = "write at once"
"""Not an implementation: it sends the same bytes with nothing but trio and hypercorn."""

ENVIRONMENTS = {
    "mcp": "mcp2",
    "mcp-legacy": "mcp2",
    "mcp1": "mcp1",
    "fastmcp": "fastmcp4",
    "streaq": "streaq",
    "typescript": "ts2",
}
"""The environment of a contestant, by the first word of its name."""


def find_environment(name: str) -> Path:
    named = os.environ.get(f"TRIO_MCP_PEER_{name.upper()}")
    return Path(named).absolute() if named else THIS.root / ".envs" / name


def find_python(rival: str) -> Path:
    """The interpreter of a rival's environment, which the variable may name instead of the directory."""
    path = find_environment(ENVIRONMENTS[rival])
    return path if path.is_file() else path / "bin" / "python"


@cache
def is_here(rival: str) -> bool:
    """Whether the rival can be started; if not, say once that it is left out."""
    if rival not in ENVIRONMENTS:
        return True
    if rival == "typescript":
        packages = find_environment(ENVIRONMENTS[rival]) / "node_modules" / "@modelcontextprotocol"
        found = shutil.which("node") is not None and (packages / "server").is_dir()
    else:
        found = find_python(rival).exists()
    if not found:
        print(f"{rival} is left out: its environment is missing (`make peers`)", file=sys.stderr)
    return found


def run_script(python: str | Path, script: str, *arguments: str | Path) -> Command:
    """A script that needs no trio_mcp, run by the given interpreter."""
    return Command((python, THIS.find_script(script), *arguments))


def worker_command(contestant: str, transport: str, checkout: Checkout = THIS) -> Command:
    """The command of a contestant's client, which starts its server; ours comes from `checkout`."""
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
    """The command of a contestant's server over stdio; ours comes from `checkout`."""
    rival, _, backend = contestant.partition(" ")
    if rival == OURS:
        return checkout.run_script("trio_mcp_server.py")
    if rival == "typescript":
        return run_script("node", "typescript_server.mjs", find_environment("ts2"))
    if rival == "mcp":
        return run_script(find_python(rival), "sdk_server.py", backend)
    return run_script(find_python(rival), SCRIPTS[rival].format("server"))


SCRIPTS = {"mcp1": "sdk1_{}.py", "fastmcp": "fastmcp_{}.py"}
