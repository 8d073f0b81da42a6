"""What changes at a server while it runs: its lists, and what its resources hold.

Owns which running servers are told, in which thread, and which of their subscribers want to know of which
change. Knows neither connections nor messages: what a subscriber does with a change is its own business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from threading import Lock, get_ident
from typing import Final, Literal, Protocol, TypeAlias

import trio

ListKind: TypeAlias = Literal["tools", "prompts", "resources"]
"""A list that clients can ask for; that of resources includes the templates."""

Change: TypeAlias = tuple[str, str | None]
"""The method of the notification that tells of a change, and the URI of the resource; None for a list."""

LIST_CHANGES: Final[Mapping[ListKind, Change]] = {
    "tools": ("notifications/tools/list_changed", None),
    "prompts": ("notifications/prompts/list_changed", None),
    "resources": ("notifications/resources/list_changed", None),
}
"""The change of each list."""


def resource_update(uri: str) -> Change:
    """The change of what the resource at `uri` holds."""
    return "notifications/resources/updated", uri


class Subscriber(Protocol):
    """Somebody who wants to know of changes."""

    def note(self, change: Change) -> None:
        """Note that `change` has happened; must neither wait nor raise."""


class Listener(Protocol):
    """Who is told of all changes."""

    def tell(self, change: Change) -> None:
        """Pass on that `change` has happened; must neither wait nor raise. Called in any thread."""


class ListChanges:
    """Where a definition tells what changes, from any thread; costs next to nothing if nobody listens."""

    __slots__ = ("_audiences", "_lock", "_mounts", "make_audience")

    def __init__(self) -> None:
        self.make_audience: Callable[[], Audience] = Audience
        """Makes the audience of each server that runs."""
        # A tuple, which is replaced and never changed, because other threads go through it.
        self._audiences: tuple[Audience, ...] = ()
        self._mounts: tuple[Listener, ...] = ()
        self._lock = Lock()  # one server may run in several threads at once

    def tell(self, kind: ListKind) -> None:
        """Tell that the list of `kind` has changed; never waits."""
        self.tell_change(LIST_CHANGES[kind])

    def tell_updated(self, uri: str) -> None:
        """Tell that what the resource at `uri` holds has changed; never waits."""
        self.tell_change(resource_update(uri))

    def tell_change(self, change: Change) -> None:
        """Tell of `change` those who run the server, and the servers in which it is mounted; never waits."""
        for audience in self._audiences:
            audience.tell(change)
        for mount in self._mounts:
            mount.tell(change)

    def pass_to(self, mount: Listener) -> None:
        """Tell `mount` of all changes from now on."""
        with self._lock:
            self._mounts = (*self._mounts, mount)

    def stop_passing(self, mount: Listener) -> None:
        """Tell `mount` nothing more."""
        with self._lock:
            self._mounts = tuple(one for one in self._mounts if one is not mount)

    @property
    def is_heard(self) -> bool:
        """Whether a server runs that is told."""
        return bool(self._audiences)

    def attach(self, audience: Audience) -> None:
        """Tell `audience` from now on."""
        with self._lock:
            self._audiences = (*self._audiences, audience)

    def detach(self, audience: Audience) -> None:
        """Tell `audience` nothing more."""
        with self._lock:
            self._audiences = tuple(one for one in self._audiences if one is not audience)


class Audience:
    """The subscribers of one running server. Only `tell` may be called in other threads than Trio's."""

    __slots__ = ("_subscribers", "_thread", "_token")

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._thread = get_ident()
        self._subscribers: dict[Change, dict[Subscriber, None]] = {}

    def __repr__(self) -> str:
        return f"<Audience: {len(self)} subscriptions to {len(self._subscribers)} changes>"

    def __len__(self) -> int:
        """How many subscriptions there are."""
        return sum(map(len, self._subscribers.values()))

    @property
    def subscribers(self) -> set[Subscriber]:
        """Everybody who has subscribed to something."""
        return {subscriber for subscribers in self._subscribers.values() for subscriber in subscribers}

    def has_subscribers(self, change: Change) -> bool:
        """Whether somebody has subscribed to `change`."""
        return change in self._subscribers

    def subscribe(self, subscriber: Subscriber, change: Change) -> None:
        """Have `subscriber` note each `change`; once is enough."""
        self._subscribers.setdefault(change, {})[subscriber] = None

    def unsubscribe(self, subscriber: Subscriber, change: Change) -> None:
        """Undo `subscribe`; does nothing if the subscriber had not subscribed."""
        subscribers = self._subscribers.get(change)
        if subscribers is None:
            return
        subscribers.pop(subscriber, None)
        if not subscribers:
            del self._subscribers[change]

    def tell(self, change: Change) -> None:
        """Have the subscribers of `change` note it: at once, or soon if the caller is in another thread."""
        if change not in self._subscribers:
            return
        if get_ident() == self._thread:
            self._note(change)
            return
        with suppress(trio.RunFinishedError):
            # Idempotent, so that a thread which tells the same over and over fills no queue.
            self._token.run_sync_soon(self._note, change, idempotent=True)

    def _note(self, change: Change) -> None:
        for subscriber in tuple(self._subscribers.get(change, ())):
            subscriber.note(change)
