"""The client's side of stdio: a server process exchanges frames, and never outlives its client."""

import os
import signal
import sys
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from textwrap import dedent

import pytest
import trio
import trio.testing

import trio_mcp
from trio_mcp import StdioServer
from trio_mcp.outgoing.transport import PeerEndedError
from trio_mcp.transports.newline_stream import StreamTransport
from trio_mcp.transports.process import open_process_transport
from trio_mcp.wire.frames import Notification

DEADLINE = 60  # seconds; only a hang or a very busy machine takes so long
PATIENT = 2 * DEADLINE  # a grace that no test waits for
FRAMES = [Notification("hello")]

READY = """
import os, signal, subprocess, sys

def ready():
    os.write(1, b'{"jsonrpc":"2.0","method":"%d"}\\n' % os.getpid())
"""
STUBBORN = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
ready()
while True:
    signal.pause()
"""


class Report:
    """Stderr of a server; it ends when neither the server nor a grandchild holds it open."""

    def __init__(self) -> None:
        receive, self.fd = os.pipe()
        self._stream = trio.lowlevel.FdStream(receive)

    async def wait_ended(self) -> None:
        """Wait for the first word, which says that stdin has ended."""
        with trio.fail_after(DEADLINE):
            assert await self._stream.receive_some() == b"ended"

    async def read(self) -> str:
        os.close(self.fd)
        with trio.fail_after(DEADLINE):
            async with self._stream as stream:
                return b"".join([data async for data in stream]).decode()


def python(source: str) -> list[str]:
    return [sys.executable, "-c", READY + dedent(source)]


@asynccontextmanager
async def open_ready(command: list[str], **options) -> AsyncIterator[tuple[StreamTransport, int]]:
    """Open a transport whose server is ready, and give it with the process id of the server."""
    with trio.fail_after(DEADLINE):
        async with open_process_transport(command, max_frame_bytes=1 << 20, **options) as transport:
            (frame,) = await transport.receive_frames()
            yield transport, int(frame.method)


def is_reaped(pid: int) -> bool:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return True
    return False


async def test_frames_travel_both_ways():
    with trio.fail_after(DEADLINE):
        async with open_process_transport(["cat"], max_frame_bytes=1000) as transport:
            await transport.send_frames(FRAMES)
            assert await transport.receive_frames() == FRAMES


async def test_closing_stdin_lets_the_server_end_by_itself():
    report = Report()
    server = python("ready(); sys.stdin.read(); os.write(2, b'ended')")
    async with open_ready(server, stderr=report.fd, grace=PATIENT) as (_, pid):
        pass
    assert is_reaped(pid)
    assert await report.read() == "ended"


async def test_a_server_that_ignores_the_end_of_stdin_is_terminated():
    report = Report()
    server = python(
        """
        def end(*args):
            os.write(2, b'terminated')
            sys.exit()

        signal.signal(signal.SIGTERM, end)
        ready()
        while True:
            signal.pause()
        """
    )
    # The server has the same grace to handle the signal.
    async with open_ready(server, stderr=report.fd, grace=1.0) as (_, pid):
        pass
    assert is_reaped(pid)
    assert await report.read() == "terminated"


async def test_a_server_that_ignores_sigterm_is_killed():
    report = Report()
    async with open_ready(python(STUBBORN), stderr=report.fd, grace=0.1) as (_, pid):
        pass
    assert is_reaped(pid)
    assert await report.read() == ""


@pytest.mark.parametrize("closed", [False, True])
async def test_a_server_may_write_a_lot_while_it_shuts_down(closed):
    report = Report()
    server = python(
        """
        ready()
        sys.stdin.read()
        sys.stdout.write('x' * 1_000_000)
        sys.stdout.close()
        os.write(2, b'ended')
        """
    )
    async with open_ready(server, stderr=report.fd, grace=PATIENT) as (transport, _):
        if closed:  # a session closes it before the process transport ends
            await transport.aclose()
    assert await report.read() == "ended"


async def test_a_server_that_never_stops_writing_is_ended():
    report = Report()
    server = python("ready()\nwhile True: os.write(1, b'x' * 1000)")
    async with open_ready(server, stderr=report.fd, grace=0.1) as (_, pid):
        pass
    assert is_reaped(pid)
    assert await report.read() == ""


@pytest.mark.parametrize("grandchild", ["exec sleep 1000", "trap '' TERM; sleep 1000"])
@pytest.mark.parametrize("output", ["None", "subprocess.DEVNULL"])
async def test_grandchildren_end_with_the_server(grandchild, output):
    report = Report()
    server = python(
        f"""
        subprocess.Popen(["sh", "-c", {grandchild!r}], stdin=subprocess.DEVNULL, stdout={output})
        ready()
        sys.stdin.read()
        """
    )
    async with open_ready(server, stderr=report.fd, grace=0.1) as (_, pid):
        pass
    assert is_reaped(pid)
    assert await report.read() == ""


async def test_an_error_in_the_body_comes_out_alone_after_the_server_has_ended():
    report = Report()
    server = python("ready(); sys.stdin.read(); os.write(2, b'ended')")
    with pytest.raises(KeyError, match="alone"):
        async with open_ready(server, stderr=report.fd, grace=PATIENT):
            raise KeyError("alone")
    assert await report.read() == "ended"


async def test_a_cancelled_client_still_ends_the_server():
    report = Report()
    server = python("ready(); sys.stdin.read(); os.write(2, b'ended')")
    with trio.CancelScope() as scope:
        async with open_ready(server, stderr=report.fd, grace=PATIENT) as (_, pid):
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert is_reaped(pid)
    assert await report.read() == "ended"


async def test_a_server_that_has_already_ended_is_no_error():
    # A process that ends closes both pipes in any order.
    async with open_ready(python("ready(); os.close(0); os.close(1)"), grace=PATIENT) as (transport, _):
        with pytest.raises(trio.EndOfChannel):
            await transport.receive_frames()
        with pytest.raises(trio.BrokenResourceError):
            await transport.send_frames(FRAMES)


async def test_a_server_killed_by_another_is_no_error():
    async with open_ready(python(STUBBORN), grace=PATIENT) as (transport, pid):
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(trio.EndOfChannel):
            await transport.receive_frames()
    assert is_reaped(pid)


async def test_the_server_has_a_session_of_its_own():
    async with open_ready(python("ready(); sys.stdin.read()"), grace=PATIENT) as (_, pid):
        assert os.getsid(pid) == pid != os.getsid(0)


async def test_the_server_gets_the_environment_and_directory_asked_for(tmp_path):
    report = Report()
    server = python(
        "ready(); print(os.environ['COLOUR'], 'HOME' in os.environ, os.getcwd(), file=sys.stderr)"
    )
    async with open_ready(server, stderr=report.fd, env={"COLOUR": "blue"}, cwd=tmp_path, grace=PATIENT):
        pass
    assert await report.read() == f"blue False {tmp_path}\n"


async def test_a_closed_transport_refuses_both_directions():
    async with open_ready(python(STUBBORN), grace=0.1) as (transport, _):
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def receive():
                with pytest.raises(trio.ClosedResourceError):
                    await transport.receive_frames()

            await trio.testing.wait_all_tasks_blocked()
            await transport.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await transport.receive_frames()
        with pytest.raises(trio.ClosedResourceError):
            await transport.send_frames(FRAMES)


async def test_a_receiver_outside_the_block_does_not_disturb_the_end():
    with trio.fail_after(DEADLINE):
        async with (
            trio.open_nursery() as nursery,
            open_process_transport(["cat"], max_frame_bytes=1000, grace=PATIENT) as transport,
        ):

            @nursery.start_soon
            async def receive():
                # The end of the server races with ours.
                with pytest.raises((trio.EndOfChannel, trio.ClosedResourceError)):
                    await transport.receive_frames()

            await trio.testing.wait_all_tasks_blocked()


@pytest.mark.parametrize(
    ("name", "mode", "error"), [("absent", None, FileNotFoundError), ("data", 0o600, PermissionError)]
)
async def test_a_command_that_cannot_start_is_named(tmp_path, name, mode, error):
    path = tmp_path / name
    if mode is not None:
        path.write_text("no program")
        path.chmod(mode)
    with pytest.raises(error, match=f"cannot start the server '{path}'"):
        async with open_process_transport([str(path)], max_frame_bytes=1000):
            pass


async def test_a_directory_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        async with open_process_transport(["cat"], max_frame_bytes=1000, cwd=tmp_path / "absent"):
            pass


async def test_an_empty_command_is_refused():
    with pytest.raises(ValueError, match="must name a program"):
        async with open_process_transport([], max_frame_bytes=1000):
            pass


SERVER = """
import trio
from trio_mcp.transports.stdio import open_stdio_transport

async def main():
    async with open_stdio_transport(max_frame_bytes=1000) as transport:
        try:
            while True:
                await transport.send_frames(await transport.receive_frames())
        except trio.EndOfChannel:
            pass

trio.run(main)
"""
CLIENT = """
import os, signal, sys, trio
from trio_mcp.transports.process import open_process_transport
from trio_mcp.wire.frames import Notification

async def main():
    async with open_process_transport(sys.argv[1:], max_frame_bytes=1000, grace=1000) as transport:
        await transport.send_frames([Notification("hello")])
        await transport.receive_frames()
        os.write(1, b"ready\\n")
        try:
            await trio.sleep_forever()
        finally:
            os.write(1, b"ending\\n")

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts with it ignored
trio.run(main)
"""


@asynccontextmanager
async def open_client(server: list[str], report: Report) -> AsyncIterator[trio.Process]:
    """Run a client of `server` in a process of its own and wait until it is ready."""
    command = [sys.executable, "-c", CLIENT, *server]
    with trio.fail_after(DEADLINE):
        client = await trio.lowlevel.open_process(command, stdout=-1, stderr=report.fd)
        async with client.stdout:
            assert await client.stdout.receive_some() == b"ready\n"
            yield client
        await client.wait()


async def test_a_killed_client_leaves_no_server_behind():
    report = Report()
    async with open_client([sys.executable, "-c", SERVER], report) as client:
        client.kill()
    assert await report.read() == ""


async def test_a_second_interrupt_does_not_wait_for_the_server():
    report = Report()
    server = python("ready(); sys.stdin.read(); os.write(2, b'ended')" + STUBBORN)
    async with open_client(server, report) as client:
        client.send_signal(signal.SIGINT)
        await report.wait_ended()
        client.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in await report.read()


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("sys.exit(3)", "its process exited with status 3"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "its process was ended by SIGKILL"),
    ],
)
async def test_the_error_of_a_server_that_ends_says_how_and_quotes_its_stderr(capfd, end, words):
    server = python(
        f"""
        ready()
        sys.stdin.readline()
        for number in range(2000):
            print("line", number, file=sys.stderr)
        print("no \\x1b[31mconfig\\x07", file=sys.stderr, flush=True)
        {end}
        """
    )
    async with open_ready(server) as (transport, _):
        await transport.send_frames(FRAMES)
        with pytest.raises(PeerEndedError) as caught:
            await transport.receive_frames()
    text = str(caught.value)
    assert text.startswith(f"the server closed the connection: {words}; it wrote last:\nline 1991\n")
    assert text.endswith("line 1999\nno \\x1b[31mconfig\\x07")
    lines = capfd.readouterr().err.splitlines()  # and the user has seen all of it
    assert lines[:2000] == [f"line {number}" for number in range(2000)]


async def test_a_write_to_a_server_that_has_ended_says_how_too():
    async with open_ready(python("ready(); sys.exit(4)")) as (transport, _):
        with pytest.raises(PeerEndedError, match=r"exited with status 4$"):  # noqa: PT012  # any of the writes
            while True:
                await transport.send_frames(FRAMES * 100)


def open_full_pipe() -> tuple[int, int]:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with pytest.raises(BlockingIOError):  # noqa: PT012  # any of the writes
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    return reader, writer


async def test_a_stderr_that_nobody_reads_never_blocks_the_server():
    """The server writes more than all buffers hold; what does not fit is dropped."""
    reader, full = open_full_pipe()
    saved = os.dup(2)
    server = python(
        """
        ready()
        sys.stdin.readline()
        os.write(2, b"e" * 3_000_000)
        ready()
        sys.stdin.read()
        """
    )
    os.dup2(full, 2)
    try:
        async with open_ready(server) as (transport, pid):
            await transport.send_frames(FRAMES)
            (frame,) = await transport.receive_frames()
            assert int(frame.method) == pid
    finally:
        os.dup2(saved, 2)
        for fd in (saved, full, reader):
            os.close(fd)


OLD_SERVER = """
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    open(sys.argv[1], "a").write(message["method"] + "\\n")
    if message["method"] == "server/discover":
        sys.exit("what is that?")
    if message["method"] == "initialize":
        info = {"name": "old", "version": "1"}
        result = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": info}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
"""


async def test_a_server_that_exits_at_the_probe_is_started_again_in_the_legacy_way(tmp_path):
    log = tmp_path / "log"
    with trio.fail_after(DEADLINE):
        async with trio_mcp.open_client([sys.executable, "-c", OLD_SERVER, str(log)]) as client:
            assert client.protocol_version == "2025-11-25"
    assert log.read_text().split() == ["server/discover", "initialize", "notifications/initialized"]


@pytest.mark.parametrize(
    ("source", "starts"),
    [
        ("sys.exit('no module named config')", 1),  # broken: it never reads what it is asked
        ("sys.stdin.readline(); sys.exit('no module named config')", 2),  # it may be legacy
    ],
)
async def test_a_broken_server_is_started_again_only_if_it_has_read_the_probe(tmp_path, source, starts):
    if sys.platform != "linux" and starts == 1:
        pytest.skip("only Linux tells what is unread in a pipe")
    log = tmp_path / "log"
    source = f"import sys; open(sys.argv[1], 'a').write('started\\n'); {source}"
    with trio.fail_after(DEADLINE), pytest.raises(trio_mcp.ConnectionLost) as caught:
        async with trio_mcp.open_client([sys.executable, "-c", source, str(log)]):
            raise AssertionError("never reached")
    assert log.read_text().split() == ["started"] * starts
    assert "exited with status 1" in str(caught.value)
    assert str(caught.value).endswith("no module named config")
    shown = "".join(traceback.format_exception(caught.value))
    assert shown.count("ConnectionLost: ") == 1, "the same failure is not shown twice"
    assert ("connected to twice" in shown) == (starts == 2)


async def test_if_the_second_start_fails_otherwise_both_errors_are_shown(tmp_path):
    log = tmp_path / "log"
    source = """
import json, sys
method = json.loads(sys.stdin.readline())["method"]
sys.exit("what is that?" if method == "server/discover" else "no licence")
"""
    with trio.fail_after(DEADLINE), pytest.raises(trio_mcp.ConnectionLost, match="no licence") as caught:
        async with trio_mcp.open_client([sys.executable, "-c", source, str(log)]):
            raise AssertionError("never reached")
    assert str(caught.value).endswith("no licence")
    assert str(caught.value.__context__).endswith("what is that?")


WHERE_SERVER = """
import os
from trio_mcp import Server
server = Server("where")

@server.tool
def where() -> list[str]:
    return [os.getcwd(), os.environ["INHERITED"], os.environ["ADDED"]]

server.run()
"""


async def test_env_and_cwd_of_a_stdio_server(tmp_path, monkeypatch):
    monkeypatch.setenv("INHERITED", "yes")
    (tmp_path / "server.py").write_text(WHERE_SERVER)
    target = StdioServer(sys.executable, ["server.py"], env={"ADDED": "1"}, cwd=tmp_path)
    with trio.fail_after(DEADLINE):
        async with trio_mcp.open_client(target) as client:
            assert (await client.call_tool("where")).data == [str(tmp_path), "yes", "1"]


@pytest.mark.parametrize(
    ("arguments", "options", "kind"),
    [
        ([""], {}, TypeError),
        ([["python"]], {}, TypeError),
        (["python", "server.py"], {}, TypeError),
        (["python"], {"env": {"A": 1}}, TypeError),
        (["python"], {"env": {"A=B": "secret"}}, ValueError),
    ],
)
def test_what_is_no_stdio_server_is_refused(arguments, options, kind):
    with pytest.raises(kind) as caught:
        StdioServer(*arguments, **options)
    assert "secret" not in str(caught.value)
