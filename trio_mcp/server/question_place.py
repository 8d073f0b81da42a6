"""Where a handler stands that asks its client, which decides what the keys of its questions begin with."""

from __future__ import annotations

from typing import Protocol

from msgspec import Raw


class Place(Protocol):
    """Where a handler stands that asks: the request's own, or one that it calls (`ChildCalls`).

    `path` are the tools from that of the request down to the handler's own; it is empty for the
    request's own handler. `arguments` are those of a tool that was called by `parent`; `prefix` keeps
    what its keys begin with.
    """

    path: tuple[str, ...]
    arguments: Raw | None
    prefix: str | None

    @property
    def parent(self) -> Place | None:
        """Where the handler stands that has called this one."""
