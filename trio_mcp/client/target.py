"""What a client can connect to, and the transport for it.

Owns the reading of `open_client`'s first argument.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol, TypeAlias, runtime_checkable

import trio

from trio_mcp.client.settings import ClientSettings
from trio_mcp.runtime.lone import open_lone_nursery
from trio_mcp.runtime.transport import FrameTransport
from trio_mcp.transports.memory import memory_pair


@runtime_checkable
class Servable(Protocol):
    """What can be served in memory, such as a `Server`."""

    async def serve(self, transport: FrameTransport) -> None:
        """Serve one connection until the peer closes it."""


Target: TypeAlias = Servable | str | os.PathLike[str] | Sequence[str]
"""A server in this process, the path of a Python file, or a command and its arguments."""


@asynccontextmanager
async def open_target(target: Target, settings: ClientSettings) -> AsyncIterator[FrameTransport]:
    """Connect to `target`; checkpoints. Raises TypeError or ValueError for what is no target."""
    if isinstance(target, Servable):
        async with _open_memory(target) as transport:
            yield transport
        return
    # Imported here: only clients of a subprocess need it.
    from trio_mcp.transports.process import open_process_transport

    async with open_process_transport(
        read_command(target), max_frame_bytes=settings.max_frame_bytes, grace=settings.shutdown_grace
    ) as process:
        yield process


def read_command(target: str | os.PathLike[str] | Sequence[str]) -> list[str]:
    """The command that starts `target` as a stdio server."""
    if isinstance(target, (str, os.PathLike)):
        path = os.fspath(target)
        if not path.endswith(".py"):
            raise ValueError(f"{path!r} is no path of a .py file; pass a command as a list")
        if not os.path.isfile(path):
            raise FileNotFoundError(f"there is no file {path!r}")
        return [sys.executable, path]
    if isinstance(target, Sequence) and target and all(isinstance(part, str) for part in target):
        return list(target)
    raise TypeError(f"a target is a Server, the path of a .py file or a command list, not {target!r}")


@asynccontextmanager
async def _open_memory(server: Servable) -> AsyncIterator[FrameTransport]:
    ours, theirs = memory_pair()
    async with open_lone_nursery() as nursery:
        nursery.start_soon(server.serve, theirs)
        try:
            yield ours
        finally:
            # Shielded: closing cannot block, and the server ends by it.
            with trio.CancelScope(shield=True):
                await ours.aclose()
