"""A server run as a subprocess, as a transport (MCP stdio, the client's side).

Owns the subprocess and what that starts in turn, from launch to end. Refuses to
know what the frames say.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import IO, Final

import trio

from trio_mcp.outgoing.transport import PeerEndedError
from trio_mcp.transports.newline_stream import StreamTransport, is_pipe, read_pipe
from trio_mcp.transports.server_stderr import ServerStderr, can_pass_on, close_writing, open_server_stderr
from trio_mcp.wire.frames import InFrame, OutFrame
from trio_mcp.wire.value_count import MAX_ANSWER_VALUES

REAP_SECONDS: Final = 5.0
"""What a killed process may need to be gone: long for a busy machine, short for a dead disk."""

EXIT_SECONDS: Final = 1.0
"""How long a server that has closed its stdout gets to exit, so that an error can say how it did."""

LAST_WORDS_SECONDS: Final = 0.2
"""How long the stderr of a server that has exited may stay open before an error quotes it."""

POLL_SECONDS: Final = 0.02
"""How often to look whether a process group has become empty."""

_KILL: Final = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows knows only one way to end


@asynccontextmanager
async def open_process_transport(
    command: Sequence[str],
    *,
    max_frame_bytes: int,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    stderr: int | IO[bytes] | IO[str] | None = None,
    grace: float = 2.0,
) -> AsyncIterator[StreamTransport]:
    """Run `command` as a server and talk to it over its stdin and stdout; checkpoints.

    `env` replaces the whole environment, `cwd` the working directory, `stderr` (a
    descriptor or file, not PIPE) where the server's messages go; all three are ours
    by default. What goes to our stderr passes through a pipe, and the error of a server
    that ends quotes its last lines. The server runs in a session of its own: Ctrl-C does not reach it.

    On exit the server's stdin closes; what is left of it and of what it started gets
    SIGTERM after `grace` seconds and SIGKILL after as many again (MCP stdio,
    "Shutdown"; Windows ends it at once after the first `grace`). Cancellation does
    not cut this short, and the exit raises nothing of its own. Raises OSError, mostly
    FileNotFoundError or PermissionError, if `command` cannot be started.
    """
    async with AsyncExitStack() as stack:
        kept: ServerStderr | None = None
        if stderr is None and can_pass_on():
            kept = await stack.enter_async_context(open_server_stderr())
        process = await _start(command, env=env, cwd=cwd, stderr=stderr if kept is None else kept.writing)
        if kept is not None:
            close_writing(kept)
        try:
            yield ProcessTransport(process, kept, max_frame_bytes=max_frame_bytes)
        finally:
            assert process.stdout is not None
            # Shielded because a cancelled client too must leave no process behind. The deadline only
            # matters for a process that the system cannot kill.
            with trio.move_on_after(2 * grace + REAP_SECONDS, shield=True):
                async with process.stdout:
                    await _shut_down(process, grace)


_CLOSED: Final = "the stdout of the server was already closed"


class ProcessTransport(StreamTransport):
    """Frames over the stdin and stdout of a process; if it ends, it raises PeerEndedError that says how."""

    def __init__(self, process: trio.Process, stderr: ServerStderr | None, *, max_frame_bytes: int) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        super().__init__(
            process.stdin,
            _Output(process.stdout),
            max_frame_bytes=max_frame_bytes,
            max_values=MAX_ANSWER_VALUES,
        )
        self._process = process
        self._stderr = stderr
        self._failed_to_send = False

    async def send_frames(self, frames: Sequence[OutFrame]) -> None:
        """Write `frames` in one write; checkpoints if it has to wait."""
        try:
            await super().send_frames(frames)
        except trio.BrokenResourceError as error:
            self._failed_to_send = True
            raise await self._explain(error) from error

    async def receive_frames(self) -> Sequence[InFrame]:
        """Read until at least one frame is complete; checkpoints."""
        try:
            return await super().receive_frames()
        except (trio.EndOfChannel, trio.BrokenResourceError) as error:
            raise await self._explain(error) from error

    async def _explain(self, error: Exception) -> Exception:
        """How the process has ended; `error` itself if it goes on."""
        with trio.move_on_after(EXIT_SECONDS):
            await self._process.wait()
        status = self._process.returncode
        if status is None:
            return error
        words = ""
        if self._stderr is not None:
            with trio.move_on_after(LAST_WORDS_SECONDS):
                await self._stderr.ended.wait()
            words = self._stderr.last_lines
        reason = f"the server closed the connection: its process {_describe_status(status)}"
        if words:
            reason += f"; it wrote last:\n{words}"
        return PeerEndedError(reason, left_unread=self._left_unread())

    def _left_unread(self) -> bool:
        """Whether something did not reach the process or is still in its stdin; False if that is unknown."""
        if self._failed_to_send:
            return True
        if sys.platform != "linux" or self._pipe is None:
            return False
        # Imported here: only the error of a server that has ended needs them.
        import fcntl
        import termios

        unread = bytearray(4)
        with suppress(OSError, ValueError):  # the pipe was closed
            fcntl.ioctl(self._pipe.fileno(), termios.FIONREAD, unread)
        return any(unread)


def _describe_status(status: int) -> str:
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


class _Output(trio.abc.ReceiveStream):
    """A server's stdout, of which `aclose` closes only the session's view.

    The pipe stays open: a server that still has to write would otherwise die of SIGPIPE, or
    complain on stderr, instead of cleaning up.
    """

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._pipe = stream if is_pipe(stream) else None
        self._open = trio.CancelScope()
        self._closed = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self._closed:
            raise trio.ClosedResourceError(_CLOSED)
        if self._pipe is not None:
            return await read_pipe(self._pipe)
        with trio.CancelScope() as self._open:
            return await self._stream.receive_some(max_bytes)
        raise trio.ClosedResourceError(_CLOSED)

    async def aclose(self) -> None:
        self._closed = True
        self._open.cancel()
        if self._pipe is not None and self._pipe.fileno() != -1:
            # Whoever waits for the pipe meets ClosedResourceError, though the pipe stays open.
            trio.lowlevel.notify_closing(self._pipe.fileno())
        await trio.lowlevel.checkpoint()


async def _start(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None,
    cwd: str | os.PathLike[str] | None,
    stderr: int | IO[bytes] | IO[str] | None,
) -> trio.Process:
    if not command:
        raise ValueError("the command of a server must name a program")
    try:
        return await trio.lowlevel.open_process(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )
    except OSError as error:
        message = f"cannot start the server {command[0]!r}: {error.strerror}"
        # OSError chooses its subclass by errno; the filename tells a bad command from a bad cwd.
        raise OSError(error.errno, message, error.filename) from error


async def _shut_down(process: trio.Process, grace: float) -> None:
    assert process.stdin is not None
    try:
        await process.stdin.aclose()
        if await _has_ended(process, grace):
            return
        _signal(process, signal.SIGTERM)
        if await _has_ended(process, grace):
            return
    except KeyboardInterrupt:
        _signal(process, _KILL)
        raise
    _signal(process, _KILL)
    await process.wait()


async def _has_ended(process: trio.Process, seconds: float) -> bool:
    """Wait until nothing is left of the server and what it started, at most `seconds`."""
    with trio.move_on_after(seconds) as scope:
        # Reading on lets a server end that still has to write; whoever holds its stdout, such as
        # the server behind a wrapper script, counts as the server.
        await _discard(process.stdout)
        await process.wait()
        while _signal(process, 0):  # noqa: ASYNC110  # nothing tells when a group becomes empty
            await trio.sleep(POLL_SECONDS)
    return not scope.cancelled_caught


async def _discard(stream: trio.abc.ReceiveStream | None) -> None:
    assert stream is not None
    with suppress(trio.BrokenResourceError, trio.BusyResourceError):  # busy: another task reads it
        while await stream.receive_some():
            pass


def _signal(process: trio.Process, number: int) -> bool:
    """Send `number` to the server and what it started; False if there is nothing to send it to."""
    if sys.platform == "win32":
        if number:
            process.terminate()
        return process.poll() is None
    try:
        # The number stays theirs until the last of them is gone, also when the server is not.
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):  # macOS refuses if only zombies are left
        return False
    return True
