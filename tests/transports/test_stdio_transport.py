"""The server's side of stdio in real processes: nothing but frames reaches the original stdout."""

import os
import pty
import socket
import subprocess
import sys
import tty
from textwrap import dedent, indent

import pytest
import trio

from tests.support.limits import HANG_SECONDS
from trio_mcp.transports.stdio import open_stdio_transport

FRAME = b'{"jsonrpc":"2.0","method":"hello"}\n'


def program(inside: str = "", *, before: str = "", after: str = "") -> list[str]:
    """Return a command that echoes frames, with code to run before, inside and after the transport."""
    source = dedent(
        """\
        import ctypes, os, subprocess, sys
        import trio
        from trio_mcp.transports.stdio import open_stdio_transport
        from trio_mcp.wire.frames import Notification

        async def main():
        {before}
            async with open_stdio_transport(max_frame_bytes=1 << 20) as transport:
        {inside}
                try:
                    while True:
                        await transport.send_frames(await transport.receive_frames())
                except trio.EndOfChannel:
                    pass
        {after}

        trio.run(main)
        """
    ).format(
        before=indent(dedent(before), "    "),
        inside=indent(dedent(inside), "        "),
        after=indent(dedent(after), "    "),
    )
    return [sys.executable, "-c", source]


async def run(command: list[str], **options) -> subprocess.CompletedProcess[bytes]:
    options = {"stdin": FRAME, "capture_stdout": True, "capture_stderr": True, "check": False} | options
    # Unbuffered, stray output would never wait for the moment when it could do harm.
    options["env"] = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with trio.fail_after(HANG_SECONDS):
        return await trio.run_process(command, **options)


async def test_frames_are_echoed_until_the_end_of_stdin():
    done = await run(program())
    assert (done.stdout, done.stderr, done.returncode) == (FRAME, b"", 0)


@pytest.mark.parametrize(
    "stray",
    [
        "print('stray')",
        "print('stray', flush=True)",
        "sys.stdout.buffer.write(b'stray')",
        "os.write(1, b'stray')",
        "os.system('echo stray')",
        "subprocess.run(['echo', 'stray'])",
        "subprocess.run(['echo', 'stray'], close_fds=False)",
        "ctypes.CDLL(None).puts(b'stray')",
    ],
)
async def test_stray_output_goes_to_stderr(stray):
    done = await run(program(stray))
    assert (done.stdout, done.stderr.strip(), done.returncode) == (FRAME, b"stray", 0)


@pytest.mark.parametrize("stray", ["print('stray')", "ctypes.CDLL(None).puts(b'stray')"])
async def test_output_buffered_before_the_transport_goes_to_stderr(stray):
    done = await run(program(before=stray))
    assert (done.stdout, done.stderr.strip(), done.returncode) == (FRAME, b"stray", 0)


async def test_other_readers_find_stdin_empty():
    done = await run(
        program(
            """
            assert sys.stdin.read() == ""
            assert os.read(0, 1) == b""
            assert subprocess.run(["cat"], stdout=subprocess.PIPE).stdout == b""
            """
        )
    )
    assert (done.stdout, done.stderr, done.returncode) == (FRAME, b"", 0)


async def test_children_do_not_inherit_the_pipes():
    # close_fds=False passes on every inheritable descriptor: only stdin, stdout and stderr are.
    listing = "import os; print([fd for fd in range(3, 100) if os.path.exists(f'/proc/self/fd/{fd}')])"
    done = await run(
        program(
            f"""
            wire = [fd for fd in range(3, 100) if os.path.exists(f"/proc/self/fd/{{fd}}")]
            assert not any(os.get_inheritable(fd) for fd in wire)
            subprocess.run([sys.executable, "-c", {listing!r}], close_fds=False)
            """
        )
    )
    assert (done.stdout, done.stderr.strip(), done.returncode) == (FRAME, b"[]", 0)


async def test_everything_is_restored_on_exit():
    done = await run(
        program(
            before="""
            def look():
                return [(os.fstat(fd), os.get_blocking(fd), os.get_inheritable(fd)) for fd in range(3)]

            def count():
                return sum(os.path.exists(f"/proc/self/fd/{fd}") for fd in range(100))

            state, number = look(), count()
            """,
            after="""
            assert [(s.st_dev, s.st_ino, *rest) for s, *rest in look()] == [
                (s.st_dev, s.st_ino, *rest) for s, *rest in state
            ]
            assert count() == number
            print("printed")
            """,
        )
    )
    assert (done.stdout, done.stderr, done.returncode) == (FRAME + b"printed\n", b"", 0)


async def test_everything_is_restored_when_the_body_raises():
    done = await run(
        program(
            before="""
            try:
                async with open_stdio_transport(max_frame_bytes=100):
                    raise KeyError("alone")
            except KeyError:
                print("caught", flush=True)
            """
        )
    )
    assert (done.stdout, done.stderr, done.returncode) == (b"caught\n" + FRAME, b"", 0)


async def test_stdin_may_be_a_regular_file_read_from_its_position(tmp_path):
    path = tmp_path / "input"
    path.write_bytes(b"nonsense\n" + FRAME)
    with path.open("rb", buffering=0) as file:
        file.seek(len(b"nonsense\n"))
        done = await run(program(), stdin=file)
        assert os.get_blocking(file.fileno())
    assert (done.stdout, done.stderr, done.returncode) == (FRAME, b"", 0)


async def test_stdout_may_be_a_regular_file_to_append_to(tmp_path):
    path = tmp_path / "output"
    path.write_bytes(b"kept\n")
    with path.open("ab", buffering=0) as file:
        done = await run(program(), stdout=file, capture_stdout=False)
        assert os.get_blocking(file.fileno())
    assert path.read_bytes() == b"kept\n" + FRAME
    assert done.stderr == b""


async def test_an_empty_stdin_ends_at_once():
    done = await run(program(), stdin=subprocess.DEVNULL)
    assert (done.stdout, done.stderr, done.returncode) == (b"", b"", 0)


async def test_stderr_on_the_same_pipe_stays_blocking():
    done = await run(
        program("await transport.send_frames([Notification(str(os.get_blocking(2)))])"),
        capture_stderr=False,
        stderr=subprocess.STDOUT,
    )
    assert done.stdout == FRAME.replace(b"hello", b"True") + FRAME


async def test_a_terminal_stays_blocking_for_everyone_else():
    terminal, ours = pty.openpty()
    try:
        tty.setraw(ours)
        async with trio.lowlevel.FdStream(terminal) as stream:
            with trio.fail_after(HANG_SECONDS):
                process = await trio.lowlevel.open_process(program(), stdin=ours, stdout=ours, stderr=ours)
                await stream.send_all(FRAME)
                answer = b""
                while not answer.endswith(b"\n"):
                    answer += await stream.receive_some()
                blocking = os.get_blocking(ours)
                process.kill()
                await process.wait()
        assert answer == FRAME
        assert blocking
    finally:
        os.close(ours)


async def test_a_socket_for_both_directions_works_and_is_restored():
    # Node and inetd give a socket to a server: it cannot be opened again.
    ours, theirs = socket.socketpair()
    with theirs:
        async with trio.SocketStream(trio.socket.from_stdlib_socket(ours)) as stream:
            with trio.fail_after(HANG_SECONDS):
                command = program(after="assert os.get_blocking(0) and os.get_blocking(1)")
                process = await trio.lowlevel.open_process(command, stdin=theirs, stdout=theirs)
                await stream.send_all(FRAME)
                assert await stream.receive_some() == FRAME
                await stream.send_eof()
                assert await process.wait() == 0
        assert os.get_blocking(theirs.fileno())


@pytest.mark.parametrize(("redirection", "name"), [("<&-", b"stdin"), (">&-", b"stdout")])
async def test_a_closed_stream_raises_a_clear_error(redirection, name):
    done = await run(["sh", "-c", f'exec "$@" {redirection}', "sh", *program()])
    assert done.returncode == 1
    assert b"RuntimeError: " + name + b" was closed when this process started" in done.stderr


async def test_a_closed_stderr_loses_only_the_stray_output():
    done = await run(["sh", "-c", 'exec "$@" 2>&-', "sh", *program("print('stray')")])
    assert (done.stdout, done.returncode) == (FRAME, 0)


async def test_a_peer_that_stops_reading_is_broken():
    report = """
    try:
        while True:
            await transport.send_frames([Notification("x" * 1000)])
    except trio.BrokenResourceError:
        os.write(2, b"broken")
    """
    with trio.fail_after(HANG_SECONDS):
        process = await trio.lowlevel.open_process(
            program(report), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        async with process.stderr:
            async with process.stdout:
                assert await process.stdout.receive_some(1)
            assert b"".join([data async for data in process.stderr]) == b"broken"
        assert await process.wait() == 0


async def test_windows_is_refused(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "win32")
        with pytest.raises(RuntimeError, match="POSIX"):
            async with open_stdio_transport(max_frame_bytes=100):
                pass
