"""The example cluster starts, does what its page says, and leaves no process behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import read_until
from tests.docs.test_examples import ROOT
from tests.support.limits import HANG_SECONDS

PROGRAM = ROOT / "docs" / "examples" / "cluster" / "run.py"

pytest.importorskip("trio_mcp.server.worker", reason="there are no workers yet")
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def programs() -> None:
    """Skip without nginx or Redis, but never in CI."""
    places = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    if not all(shutil.which(name, path=places) for name in ("nginx", "redis-server")):
        reason = "nginx or redis-server is not installed"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


def start(tmp_path: Path, *words: str) -> subprocess.Popen[bytes]:
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, PROGRAM, *words],
        cwd=tmp_path,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def is_listening(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_a_task_survives_the_death_of_a_replica_and_of_its_worker(tmp_path: Path) -> None:
    with start(tmp_path, "--check") as process:
        printed, _ = process.communicate(timeout=2 * HANG_SECONDS)
    lines = printed.decode().splitlines()
    assert process.returncode == 0, printed.decode()
    assert lines[0].startswith("called through nginx: task ")
    assert re.fullmatch(r"watched through replica 2: \d+ of 40", lines[1])
    assert re.fullmatch(r"the other worker has counted to 40, from \d+ on", lines[3])
    assert lines[-2:] == ["nginx answers without replica 1", "everything has ended"]
    assert not list(tmp_path.iterdir()), "its directory is removed"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_everything(tmp_path: Path, number: signal.Signals) -> None:
    with start(tmp_path) as process:
        assert process.stdout is not None
        try:
            told = read_until(process.stdout.fileno(), "Ctrl-C ends everything.")
            process.send_signal(number)
            rest, _ = process.communicate(timeout=HANG_SECONDS)
        finally:
            process.send_signal(signal.SIGTERM)
    assert process.returncode == 0, told + rest.decode()
    assert rest.decode().splitlines()[-1] == "everything has ended"
    ports = {int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", told)}
    assert len(ports) == 5
    assert not any(map(is_listening, ports))
    assert not list(tmp_path.iterdir())
