"""`trio-mcp run --http --ws`: a server on real sockets, and addresses where it cannot listen."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import environment, read_until, run, start
from tests.support.limits import HANG_SECONDS

BARRED = """
import sys
for name in {modules!r}:
    sys.modules[name] = None  # importing it fails
from trio_mcp.cli.main import main
main()
"""


def run_without(modules: list[str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command as if `modules` were not installed."""
    return subprocess.run(
        [sys.executable, "-c", BARRED.format(modules=modules), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        env=environment(120),
        check=False,
    )


IMPORTED = "printed while it is imported\n"
"""What the file itself prints; it must not be on stdout."""


@pytest.fixture
def taken() -> Iterator[str]:
    """An address that is in use."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_http_and_websocket_are_served_together_until_ctrl_c(server_file: Path) -> None:
    with start("run", server_file, "--http", ":0", "--ws", ":0") as process:
        assert process.stderr is not None
        try:
            told = read_until(process.stderr.fileno(), "Ctrl-C")
            if " ws://" not in told:
                told += read_until(process.stderr.fileno(), " ws://")
            urls = re.findall(r" at (\S+);", told)
            called = [run("call", url, "add", "a=2", "b=3") for url in urls]
            listed = run("tasks", "list", urls[0], "--protocol", "2025-11-25")
            process.send_signal(signal.SIGINT)
            printed, errors = process.communicate(timeout=HANG_SECONDS)
        finally:
            process.kill()
    assert [url.partition(":")[0] for url in urls] == ["http", "ws"]
    assert [(call.stdout, call.returncode) for call in called] == [("5\n", 0)] * 2
    assert listed.returncode == 0, listed.stderr
    *accesses, farewell = errors.decode().splitlines()
    assert (printed, farewell, process.returncode) == (b"", "Stopped.", 130)
    assert accesses, "each HTTP request is logged"
    place = r" ((POST|GET|DELETE) /mcp|WEBSOCKET /) \d+ \d+ ms 127\.0\.0\.1$"
    assert all(re.search(place, line) for line in accesses)
    assert sum(" WEBSOCKET / 101 " in line for line in accesses) == 1


def test_the_older_transport_is_served_as_well(server_file: Path) -> None:
    with start("run", server_file, "--http", ":0", "--sse") as process:
        assert process.stderr is not None
        try:
            told = read_until(process.stderr.fileno(), "/sse; ")
            urls = re.findall(r" at (\S+);", told)
            called = [run("call", url, "add", "a=2", "b=3") for url in urls]
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=HANG_SECONDS)
        finally:
            process.kill()
    assert [url.rpartition("/")[2] for url in urls] == ["mcp", "sse"]
    assert [(call.stdout, call.returncode) for call in called] == [("5\n", 0)] * 2


def test_the_older_transport_needs_an_address(server_file: Path) -> None:
    done = run("run", server_file, "--sse")
    assert done.returncode != 0
    assert "--sse needs --http" in done.stderr


def test_the_access_log_can_be_switched_off(server_file: Path) -> None:
    with start("run", server_file, "--http", ":0", "--no-access-log") as process:
        assert process.stderr is not None
        try:
            (url,) = re.findall(r" at (\S+);", read_until(process.stderr.fileno(), "Ctrl-C"))
            called = run("call", url, "add", "a=2", "b=3")
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=HANG_SECONDS)
        finally:
            process.kill()
    assert called.returncode == 0
    assert errors == b"Stopped.\n"


@pytest.mark.parametrize("scheme", ["http", "ws"])
def test_ctrl_c_at_the_server_fails_the_call(server_file: Path, scheme: str) -> None:
    with start("run", server_file, f"--{scheme}", ":0") as process:
        assert process.stderr is not None
        try:
            (url,) = re.findall(r" at (\S+);", read_until(process.stderr.fileno(), "Ctrl-C"))
            with start("call", url, "work", "count=1000000000") as caller:
                assert caller.stderr is not None
                read_until(caller.stderr.fileno(), "step")
                process.send_signal(signal.SIGINT)
                _, shown = caller.communicate(timeout=HANG_SECONDS)
            _, errors = process.communicate(timeout=HANG_SECONDS)
        finally:
            process.kill()
    assert (caller.returncode, process.returncode) == (2, 130)
    assert shown.decode().splitlines()[-1].startswith("trio-mcp: ")
    assert b"Traceback" not in shown
    assert errors.endswith(b"Stopped.\n")
    assert b"Traceback" not in errors


@pytest.mark.parametrize("option", ["--http", "--ws"])
def test_an_address_in_use_is_named(server_file: Path, taken: str, option: str) -> None:
    done = run("run", server_file, option, taken)
    assert done.returncode == 2
    assert done.stderr == f"{IMPORTED}trio-mcp: cannot listen at {taken}: Address already in use\n"


@pytest.mark.parametrize("address", ["8000", ":99999", ":", "localhost:http", ":-1"])
def test_an_invalid_address_is_refused(server_file: Path, address: str) -> None:
    done = run("run", server_file, f"--http={address}")
    assert done.returncode == 2
    assert done.stderr == f"{IMPORTED}trio-mcp: {address!r} is no address: say :PORT or HOST:PORT\n"


@pytest.mark.parametrize(
    "url", ["http:///mcp", "ws://", "http://[::1/mcp", "http://h:99999/mcp", "http://a b/"]
)
def test_an_invalid_url_is_refused(url: str) -> None:
    done = run("list", url)
    assert done.returncode == 2
    assert done.stderr.startswith(f"trio-mcp: {url!r} is no URL")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("scheme", ["http", "HTTP", "ws"])
def test_an_address_where_nobody_listens_is_one_line_and_status_2(scheme: str) -> None:
    with socket.socket() as bound:  # bound and not listening: connections are refused
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        done = run("list", f"{scheme}://127.0.0.1:{port}/mcp")
    assert done.returncode == 2
    assert f"{scheme.lower()}://127.0.0.1:{port}/mcp" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("module", "arguments", "extra"),
    [
        ("hypercorn", ["run", "{file}", "--http", ":0"], "http"),
        ("trio_websocket", ["run", "{file}", "--ws", ":0"], "websocket"),
        ("h11", ["list", "http://127.0.0.1:1/mcp"], "http"),
        ("httpx2", ["list", "http://me:secret@127.0.0.1:1/mcp"], "http"),
        ("trio_websocket", ["list", "ws://127.0.0.1:1"], "websocket"),
    ],
    ids=["serve-http", "serve-ws", "connect-http", "connect-httpx2", "connect-ws"],
)
def test_a_missing_extra_is_named(server_file: Path, module: str, arguments: list[str], extra: str) -> None:
    done = run_without([module], *(argument.format(file=server_file) for argument in arguments))
    assert done.returncode == 2
    (line,) = done.stderr.removeprefix(IMPORTED).splitlines()
    assert line.startswith("trio-mcp: ")
    assert line.endswith(f"pip install 'trio-mcp[{extra}]'")
