"""This process's stdin and stdout as a transport (MCP stdio, the server's side).

Owns file descriptors 0 and 1 while it is open, so that nothing but frames is
written to the peer. Refuses to know what the frames say.
"""

from __future__ import annotations

import ctypes
import os
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final

import trio

from trio_mcp.transports.newline_stream import StreamTransport
from trio_mcp.wire.value_count import MAX_VALUES

STDIN: Final = 0
STDOUT: Final = 1
STDERR: Final = 2


@asynccontextmanager
async def open_stdio_transport(
    *, max_frame_bytes: int, max_values: int = MAX_VALUES
) -> AsyncIterator[StreamTransport]:
    """Talk to the peer over stdin and stdout, and keep everything else away from them.

    While it is open, descriptor 0 reads nothing and what is written to descriptor 1
    goes to stderr: a tool's `print`, a C library and child processes can neither
    corrupt what is sent nor take what is received. On exit both are as before.
    Checkpoints on entry. Raises RuntimeError on Windows, and if the process was
    started with stdin or stdout closed. (MCP stdio: "The server MUST NOT write
    anything to its stdout that is not a valid MCP message.")
    """
    if sys.platform == "win32":
        raise RuntimeError("serving over stdio needs POSIX file descriptors, which Windows does not have")
    _require_open_streams()
    await trio.lowlevel.checkpoint()
    # If both are one open file description, each stream must restore its blocking flag in the
    # opposite order; StreamTransport.aclose does so too.
    with _input_stream() as receive, _output_stream() as send:
        yield StreamTransport(send, receive, max_frame_bytes=max_frame_bytes, max_values=max_values)


def _require_open_streams() -> None:
    for name, stream in (("stdin", sys.__stdin__), ("stdout", sys.__stdout__)):
        # Python has None for what was closed when it started; the descriptor itself may by now
        # belong to any other file.
        if stream is None:
            raise RuntimeError(f"{name} was closed when this process started; serving over stdio needs it")


@contextmanager
def _input_stream() -> Iterator[trio.lowlevel.FdStream]:
    with _open_null() as null, _taken(STDIN, os.O_RDONLY, null) as stream:
        yield stream


@contextmanager
def _output_stream() -> Iterator[trio.lowlevel.FdStream]:
    with (
        _open_null() as null,
        _taken(STDOUT, os.O_WRONLY, null if sys.__stderr__ is None else STDERR) as stream,
    ):
        # What was printed before and is still buffered must not be written once 1 is the wire again,
        # and no more what is printed meanwhile.
        _flush_python()
        try:
            yield stream
        finally:
            _flush_python()
            _flush_c()


@contextmanager
def _open_null() -> Iterator[int]:
    fd = os.open(os.devnull, os.O_RDWR)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _taken(fd: int, mode: int, substitute: int) -> Iterator[trio.lowlevel.FdStream]:
    """Make a stream of what `fd` is open on; meanwhile `fd` is open on what `substitute` is."""
    saved = os.dup(fd)
    try:
        stream = trio.lowlevel.FdStream(_duplicate(saved, mode))
        try:
            os.dup2(substitute, fd)
            yield stream
        finally:
            stream.close()
            os.dup2(saved, fd)
    finally:
        os.close(saved)


def _duplicate(fd: int, mode: int) -> int:
    """Return a descriptor for what `fd` is open on, with a blocking flag of its own if possible."""
    # The flag belongs to the open file description, which stderr, the terminal and the parent may
    # share: none of them expects that a write fails with EAGAIN. Sockets cannot be opened again, and
    # regular files, which never block, would start over at their beginning.
    if stat.S_ISFIFO(os.fstat(fd).st_mode) or os.isatty(fd):
        with suppress(OSError):  # no /proc, or not ours since the process changed its user
            return os.open(f"/proc/self/fd/{fd}", mode | os.O_NONBLOCK | os.O_NOCTTY)
    return os.dup(fd)


def _flush_python() -> None:
    for stream in (sys.stdout, sys.__stdout__):
        if stream is not None:
            with suppress(OSError, ValueError):  # nobody reads stderr, or the stream was closed
                stream.flush()


def _flush_c() -> None:
    # C libraries print into a buffer of their own, which is otherwise written when the process ends.
    libc = ctypes.CDLL(None)
    with suppress(ValueError):  # this libc calls it differently
        libc.fflush(ctypes.c_void_p.in_dll(libc, "__stdoutp" if sys.platform == "darwin" else "stdout"))
