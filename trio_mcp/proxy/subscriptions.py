"""The resources to which clients of a proxy are subscribed, which the proxy listens for at their servers.

Owns the count of subscribers, over all servers that run of one definition, and that the upstream servers are
asked for exactly what somebody wants. What they tell is told to the proxy's own subscribers.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence

import trio

from trio_mcp.client.changes import ResourceUpdated, make_filter
from trio_mcp.client.link import Link
from trio_mcp.client.listening import open_listening
from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.errors import MCPError
from trio_mcp.printable import one_line
from trio_mcp.server.changes import Audience, Change, Subscriber
from trio_mcp.server.definition import ServerDefinition

logger = logging.getLogger("trio_mcp.proxy")


class WantedResources:
    """The URIs that somebody is subscribed to."""

    def __init__(self) -> None:
        self._uris: Counter[str] = Counter()
        self._changed = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        return f"<WantedResources: {len(self._uris)}>"

    @property
    def uris(self) -> Sequence[str]:
        """What is wanted now, in order."""
        return sorted(self._uris)

    async def wait_changed(self) -> None:
        """Wait until others are wanted; checkpoints."""
        await self._changed.park()

    def add(self, uri: str) -> None:
        """Note that the subscribers of one server want to know of `uri`."""
        self._uris[uri] += 1
        self._changed.unpark_all()

    def remove(self, uri: str) -> None:
        """Note that none of them wants to any more."""
        self._uris[uri] -= 1
        if not self._uris[uri]:
            del self._uris[uri]
        self._changed.unpark_all()


class WatchedAudience(Audience):
    """An audience that tells which resources its subscribers want to know of."""

    __slots__ = ("_wanted",)

    def __init__(self, wanted: WantedResources) -> None:
        super().__init__()
        self._wanted = wanted

    def subscribe(self, subscriber: Subscriber, change: Change) -> None:
        """Have `subscriber` note each `change`; once is enough."""
        is_first = not self.has_subscribers(change)
        super().subscribe(subscriber, change)
        if is_first and change[1] is not None:
            self._wanted.add(change[1])

    def unsubscribe(self, subscriber: Subscriber, change: Change) -> None:
        """Undo `subscribe`; does nothing if the subscriber had not subscribed."""
        had_some = self.has_subscribers(change)
        super().unsubscribe(subscriber, change)
        if had_some and not self.has_subscribers(change) and change[1] is not None:
            self._wanted.remove(change[1])


class RelayedSubscriptions:
    """Listens to the server `name` for the resources that are `wanted` of it, of which `is_own` is true."""

    def __init__(
        self,
        name: str,
        definition: ServerDefinition,
        wanted: WantedResources,
        is_own: Callable[[str], bool],
    ) -> None:
        self._name = name
        self._definition = definition
        self._wanted = wanted
        self._is_own = is_own
        self._was_connected = False

    def __repr__(self) -> str:
        return f"<RelayedSubscriptions to {self._name!r}>"

    async def follow(self, link: Link) -> None:
        """Listen by a connection until this is cancelled; checkpoints."""
        declared = link.agreement.capabilities.get("resources")
        if not isinstance(declared, dict) or declared.get("subscribe") is not True:
            return
        if self._was_connected:
            for uri in filter(self._is_own, self._wanted.uris):  # they may have changed meanwhile
                self._definition.changes.tell_updated(uri)
        self._was_connected = True
        listening: dict[tuple[str, ...], trio.CancelScope] = {}
        async with open_unwrapping_nursery() as nursery:
            while True:  # noqa: ASYNC913  # each turn starts something or waits
                uris = [uri for uri in self._wanted.uris if self._is_own(uri)]
                # A modern server is asked once for all, a legacy one for each.
                groups = {tuple(uris)} if link.era.modern else {(uri,) for uri in uris}
                if groups - {()} == listening.keys():
                    await self._wanted.wait_changed()
                    continue
                for group in groups - listening.keys() - {()}:
                    scope = listening[group] = trio.CancelScope()
                    # The new one is there before the old one goes, so that no change is missed.
                    await nursery.start(self._listen, link, group, scope)
                for group in listening.keys() - groups:
                    listening.pop(group).cancel()

    async def _listen(
        self,
        link: Link,
        uris: Sequence[str],
        scope: trio.CancelScope,
        *,
        task_status: trio.TaskStatus[None],
    ) -> None:
        has_started = False
        with scope:
            try:
                async with open_listening(link, make_filter(uris=uris)) as changes:
                    has_started = True
                    task_status.started()
                    async for change in changes:
                        if isinstance(change, ResourceUpdated):
                            self._definition.changes.tell_updated(change.uri)
            except MCPError as error:
                logger.warning(
                    "%s does not tell of changes of resources: %s", one_line(repr(self._name)), error
                )
        if not has_started:
            task_status.started()
