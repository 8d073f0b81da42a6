"""What a server can say has changed, and the channel in which that waits for a reader.

Owns the types of changes, how a notification becomes one, and the rule by which changes that wait are
conflated. Refuses to know how a server is asked to tell of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

import attrs
import trio
from trio.abc import ReceiveChannel

from trio_mcp.errors import MCPError
from trio_mcp.wire.messages import SubscriptionFilter

MAX_PENDING: Final = 1024
"""How many changes may wait for a reader, beside one for each resource that is listened for.

A server may also tell of resources below these, which nobody can count beforehand.
"""


@attrs.frozen
class ToolsListChanged:
    """The server's list of tools is another one now (notifications/tools/list_changed)."""


@attrs.frozen
class PromptsListChanged:
    """The server's list of prompts is another one now (notifications/prompts/list_changed)."""


@attrs.frozen
class ResourcesListChanged:
    """The server's resources or templates are others now (notifications/resources/list_changed)."""


@attrs.frozen
class ResourceUpdated:
    """A resource has other contents now (notifications/resources/updated).

    `uri` is that of the resource, which may be below the one that is listened for.
    """

    uri: str


Change: TypeAlias = ToolsListChanged | PromptsListChanged | ResourcesListChanged | ResourceUpdated
"""What has changed at a server."""

ChangeHandler: TypeAlias = Callable[[Change], Awaitable[None] | None]
"""Called with each change; sync or async, never twice at once."""

UPDATED: Final = "notifications/resources/updated"

LIST_CHANGES: Final[dict[str, Change]] = {
    "notifications/tools/list_changed": ToolsListChanged(),
    "notifications/prompts/list_changed": PromptsListChanged(),
    "notifications/resources/list_changed": ResourcesListChanged(),
}
CHANGE_METHODS: Final = frozenset({*LIST_CHANGES, UPDATED})


def make_change(method: str, uri: str | None) -> Change | None:
    """Return the change that a notification of `CHANGE_METHODS` tells of; None if it names no resource."""
    if method == UPDATED:
        return None if uri is None else ResourceUpdated(uri)
    return LIST_CHANGES[method]


def is_at_or_below(uri: str, parent: str) -> bool:
    """Whether the resource `uri` is `parent`, or a part of it by its path, query or fragment."""
    if not uri.startswith(parent):
        return False
    return len(uri) == len(parent) or parent.endswith("/") or uri[len(parent)] in "/?#"


class ChangeChannel(ReceiveChannel[Change]):
    """The changes that a reader has not seen; yielded by `Client.listen` and `Client.subscribe`.

    It never waits for its reader: a change that is still pending is told once, in the place of the first.
    If very many resources below those that are listened for wait, they are told as changes of the latter.
    `honoured` is what the server has promised to tell of.
    """

    def __init__(self, wanted: SubscriptionFilter) -> None:
        self.wanted = wanted
        self.honoured = SubscriptionFilter()
        self._uris = list(wanted.resource_subscriptions or ())
        self._limit = MAX_PENDING + len(self._uris)
        self._pending: dict[Change, None] = {}
        self._arrival = trio.lowlevel.ParkingLot()
        self._error: MCPError | None = None
        self._has_ended = False
        self._is_closed = False

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "ended" if self._has_ended else "open"
        return f"<ChangeChannel: {state}, {len(self._pending)} changes pending>"

    def offer(self, change: Change, *, is_addressed: bool) -> None:
        """Tell the reader of `change`, if it is wanted; never waits.

        One that `is_addressed` to this listener may be of any resource: the server knows which it means.
        """
        if self._is_closed or self._has_ended or not self._is_wanted(change, is_addressed=is_addressed):
            return
        self._pending.setdefault(change)
        if len(self._pending) > self._limit:
            lists = [one for one in self._pending if not isinstance(one, ResourceUpdated)]
            self._pending = dict.fromkeys([*lists, *map(ResourceUpdated, self._uris)])
        self._arrival.unpark_all()

    def offer_all(self) -> None:
        """Tell the reader of all that is honoured, because changes may have been missed."""
        lists = zip(_flags(self.honoured), LIST_CHANGES.values(), strict=True)
        for change in [change for flag, change in lists if flag]:
            self.offer(change, is_addressed=True)
        for uri in self.honoured.resource_subscriptions or ():
            self.offer(ResourceUpdated(uri), is_addressed=True)

    def end(self, error: MCPError | None) -> None:
        """End the channel behind what is pending: well, or with an error. Only the first end counts."""
        if not self._has_ended:
            self._has_ended, self._error = True, error
            self._arrival.unpark_all()

    def receive_nowait(self) -> Change:
        """Return the first change that is pending; raises as `receive`, and trio.WouldBlock."""
        if self._is_closed:
            raise trio.ClosedResourceError
        for change in self._pending:
            del self._pending[change]
            return change
        if self._error is not None:
            raise self._error
        raise trio.EndOfChannel if self._has_ended else trio.WouldBlock

    async def receive(self) -> Change:
        """Wait for a change; checkpoints.

        Raises trio.EndOfChannel when the server has ended the subscription, trio.ClosedResourceError
        after the end of the block; ConnectionLost, and ProtocolError or RemoteProtocolError if the
        subscription could not be kept.
        """
        await trio.lowlevel.checkpoint()
        while True:  # noqa: ASYNC913  # each turn parks, returns or raises
            try:
                return self.receive_nowait()
            except trio.WouldBlock:
                await self._arrival.park()

    def close(self) -> None:
        """Drop what is pending; whoever receives gets trio.ClosedResourceError."""
        self._is_closed = True
        self._pending.clear()
        self._arrival.unpark_all()

    async def aclose(self) -> None:
        """Close the reader's end; the subscription ends with its block. Checkpoints."""
        self.close()
        await trio.lowlevel.checkpoint()

    def _is_wanted(self, change: Change, *, is_addressed: bool) -> bool:
        match change:
            case ResourceUpdated(uri):
                return bool(self._uris) and (
                    is_addressed or any(is_at_or_below(uri, parent) for parent in self._uris)
                )
            case ToolsListChanged():
                return self.wanted.tools_list_changed is True
            case PromptsListChanged():
                return self.wanted.prompts_list_changed is True
            case ResourcesListChanged():
                return self.wanted.resources_list_changed is True


def _flags(wanted: SubscriptionFilter) -> tuple[bool | None, ...]:
    return wanted.tools_list_changed, wanted.prompts_list_changed, wanted.resources_list_changed


def make_filter(
    *, tools: bool = False, prompts: bool = False, resources: bool = False, uris: Sequence[str] = ()
) -> SubscriptionFilter:
    """Return the filter for what a listener wants; raises ValueError if that is nothing, or no URIs."""
    if isinstance(uris, str) or not all(isinstance(uri, str) for uri in uris):
        raise TypeError(f"uris is a sequence of URIs, not {uris!r}")
    if not (tools or prompts or resources or uris):
        raise ValueError("listen for lists (tools=True, prompts=True, resources=True) or resources (uris=)")
    return SubscriptionFilter(
        tools_list_changed=tools or None,
        prompts_list_changed=prompts or None,
        resources_list_changed=resources or None,
        resource_subscriptions=list(dict.fromkeys(uris)) or None,
    )


def describe_missing(wanted: SubscriptionFilter, honoured: SubscriptionFilter) -> list[str]:
    """Name what is wanted and not honoured."""
    names = ("the list of tools", "the list of prompts", "the list of resources")
    flags = zip(names, _flags(wanted), _flags(honoured), strict=True)
    missing = [name for name, want, has in flags if want and not has]
    promised = honoured.resource_subscriptions or ()
    return missing + [uri for uri in wanted.resource_subscriptions or () if uri not in promised]


def is_empty(honoured: SubscriptionFilter) -> bool:
    """Whether a filter lets nothing pass."""
    return not any(_flags(honoured)) and not honoured.resource_subscriptions
