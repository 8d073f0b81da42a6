"""The listening sockets of a server: how they are named, opened, and removed.

Owns addresses and the files of Unix sockets. Knows nothing of what comes in by them.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterable
from contextlib import suppress

import trio


async def open_listeners(binds: Iterable[str], backlog: int) -> list[trio.SocketListener]:
    """Listen on all of `binds`, or on none of them; checkpoints.

    Raises ValueError for one that is no address, and OSError for one that cannot be had.
    """
    listeners: list[trio.SocketListener] = []
    try:
        for bind in binds:
            if bind.startswith("unix:"):
                listeners.append(_listen_unix(bind.removeprefix("unix:"), backlog))
                continue
            host, colon, port = bind.rpartition(":")
            if not (colon and port.isdecimal() and int(port) < 2**16):
                raise ValueError(f"cannot listen on {bind!r}: want host:port, [ipv6]:port or unix:/path")
            host = host.removeprefix("[").removesuffix("]")
            listeners += await trio.open_tcp_listeners(int(port), host=host or None, backlog=backlog)
    except BaseException:
        close_listeners(listeners)
        raise
    return listeners


def _listen_unix(path: str, backlog: int) -> trio.SocketListener:
    listening = socket.socket(socket.AF_UNIX)
    try:
        _remove_stale(path)
        listening.bind(path)
        listening.listen(backlog)
        return trio.SocketListener(trio.socket.from_stdlib_socket(listening))
    except BaseException:
        listening.close()
        raise


def _remove_stale(path: str) -> None:
    """Remove the socket of a server that has ended. Raises OSError if a server still listens on it."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return  # bind says that it exists
        with socket.socket(socket.AF_UNIX) as probe:
            probe.setblocking(False)
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
            else:
                raise OSError(errno.EADDRINUSE, "another server listens there", path)


def close_listeners(listeners: Iterable[trio.SocketListener]) -> None:
    """Close the sockets, without waiting."""
    for listener in listeners:
        listener.socket.close()


def remove_paths(binds: Iterable[str]) -> None:
    """Remove the files of the Unix sockets among `binds`."""
    for bind in binds:
        if bind.startswith("unix:"):
            with suppress(OSError):
                os.unlink(bind.removeprefix("unix:"))


def name_address(listener: trio.SocketListener, scheme: str) -> str:
    """The URL at which a listener is reached."""
    listening = listener.socket
    name = listening.getsockname()
    if listening.family == socket.AF_UNIX:
        return f"unix:{name}"
    host = f"[{name[0]}]" if listening.family == socket.AF_INET6 else name[0]
    return f"{scheme}://{host}:{name[1]}"
