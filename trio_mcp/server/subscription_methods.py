"""The methods by which clients subscribe to changes, and what the sessions of legacy clients are told.

Owns the cap on subscribed URIs, and the beginning and the end of each subscription: subscriptions/listen
(MCP subscriptions 2026-07-28), resources/subscribe and resources/unsubscribe (MCP resources 2025-11-25). What
is sent of a task, `TaskMethods` knows. This module is imported when a client first subscribes, or when a list
changes while a legacy client is there.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import trio

from trio_mcp.errors import ProtocolError
from trio_mcp.server.change_feed import ChangeFeed
from trio_mcp.server.changes import LIST_CHANGES, Audience, Change, ListKind, resource_update
from trio_mcp.server.definition import ServerDefinition
from trio_mcp.server.task_choice import find_payer
from trio_mcp.server.task_methods import FollowedTask, TaskMethods
from trio_mcp.session.connection import ServerConnection
from trio_mcp.session.request import ServerRequest
from trio_mcp.tasks.record import Owner
from trio_mcp.wire.codec import encode_value
from trio_mcp.wire.errors import INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND
from trio_mcp.wire.frames import Notification, Response
from trio_mcp.wire.messages import (
    META_SUBSCRIPTION_ID,
    CancelledParams,
    EmptyResult,
    ListenParams,
    Result,
    SubscribeParams,
    SubscriptionFilter,
)

if TYPE_CHECKING:  # a server may have no resources
    from trio_mcp.server.resource import ResourceDefinition

ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"

MAX_URI_CHARACTERS: Final = 8192
"""The longest URI that can be subscribed to, so that the cap on their number bounds the memory as well."""


class SubscriptionMethods:
    """Answers the subscription methods of one running server; `listed` returns the lists that it has."""

    def __init__(
        self,
        definition: ServerDefinition,
        audience: Audience,
        tasks: TaskMethods,
        listed: Callable[[], Sequence[ListKind]],
    ) -> None:
        self._definition = definition
        self._audience = audience
        self._tasks = tasks
        self._listed = listed
        self._quota = _Quota(definition.settings.max_subscribed_uris)
        self._sessions: dict[ServerConnection, _Subscription] = {}

    def __repr__(self) -> str:
        return f"<SubscriptionMethods: {len(self._sessions)} sessions, {self._quota!r}>"

    async def listen(self, request: ServerRequest) -> Result:
        """Answer subscriptions/listen: send changes until the client cancels or the server or token ends.

        What is sent, and how it ends, is in MCP subscriptions 2026-07-28.
        """
        assert isinstance(request.params, ListenParams)
        wanted = request.params.notifications
        found = await self._tasks.find_visible(request, wanted.task_ids or ())
        kinds = [kind for kind in self._listed() if _wants(wanted, kind)]
        wished = dict.fromkeys(wanted.resource_subscriptions or ())
        # First: a message may name so many that looking for them would hold up everybody.
        self._quota.check(len(wished))
        uris = [uri for uri in wished if self._may_see(request, uri)]
        subscription = None
        if kinds or uris:
            subscription = _Subscription(
                self._audience, self._quota, ChangeFeed(request.connection, request.id), find_payer(request)
            )
            subscription.add([LIST_CHANGES[kind] for kind in kinds] + [resource_update(uri) for uri in uris])
        meta = {META_SUBSCRIPTION_ID: request.id}
        honoured: dict[str, Any] = {f"{kind}ListChanged": True for kind in kinds}
        if uris:
            honoured["resourceSubscriptions"] = uris
        if wanted.task_ids:
            honoured["taskIds"] = [record.id for record, _ in found]
        acknowledgement = {"_meta": {**meta, **self._tasks.grant(request)}, "notifications": honoured}
        # No checkpoint since the subscription began, so nothing of it is in front of this.
        request.call_queue.put(Notification(ACKNOWLEDGED, encode_value(acknowledgement)))
        followed: list[FollowedTask] = []
        try:
            for record, live in found:
                followed.append(await self._tasks.follow(request, record, live))
            permit = request.connection.permit
            await trio.sleep_until(math.inf if permit is None else permit.ends_at)
            # Without an answer: a client that loses its stream opens another one, with another token.
            request.withdraw()
            await trio.sleep_forever()
        except trio.Cancelled:
            if not request.withdrawn:
                self._end_listening(request, meta)
            raise
        finally:
            for one in followed:
                one.stop()
            if subscription is not None:
                subscription.end(wanted=not request.withdrawn)
        raise AssertionError("never reached")

    def _end_listening(self, request: ServerRequest, meta: dict[str, Any]) -> None:
        """Tell the client that the server ends the subscription (MCP subscriptions, "Graceful Closure")."""
        result = EmptyResult(meta=dict(meta))
        request.era.stamp(result, self._definition.info)
        request.call_queue.finish(Response(request.id, encode_value(result)))
        if not request.connection.ends_with_answer:
            # Behind the result: clients take a cancellation that comes first for the loss of the stream.
            ended = CancelledParams(request_id=request.id, reason="the server is shutting down")
            request.connection.outbox.put(Notification("notifications/cancelled", encode_value(ended)))

    def subscribe(self, request: ServerRequest) -> Result:
        """Answer resources/subscribe."""
        uri = self._read_uri(request)
        resource = self._find(uri)
        if resource is None:
            raise ProtocolError(request.era.unknown_resource, f"unknown resource {uri!r}", {"uri": uri})
        request.connection.require(resource.scopes)
        self._find_session(request.connection.home, find_payer(request)).add([resource_update(uri)])
        return EmptyResult()

    def unsubscribe(self, request: ServerRequest) -> Result:
        """Answer resources/unsubscribe; it does nothing if the client had not subscribed."""
        uri = self._read_uri(request)
        subscription = self._sessions.get(request.connection.home)
        if subscription is not None:
            subscription.remove(resource_update(uri))
        return EmptyResult()

    def tell_session(self, connection: ServerConnection, change: Change) -> None:
        """Tell the client of a legacy session of a change that it need not subscribe to."""
        self._find_session(connection, None).feed.note(change)

    def forget_session(self, connection: ServerConnection) -> None:
        """End all subscriptions of a legacy session, which is over."""
        subscription = self._sessions.pop(connection, None)
        if subscription is not None:
            connection.on_heard = None
            subscription.end(wanted=False)

    def _find_session(self, connection: ServerConnection, payer: Owner | None) -> _Subscription:
        subscription = self._sessions.get(connection)
        if subscription is None:
            feed = ChangeFeed(connection)
            subscription = self._sessions[connection] = _Subscription(
                self._audience, self._quota, feed, payer
            )
            connection.on_heard = feed.note_heard
        if subscription.payer is None:
            subscription.payer = payer
        return subscription

    def _read_uri(self, request: ServerRequest) -> str:
        assert isinstance(request.params, SubscribeParams)
        if "resources" not in self._listed():
            raise ProtocolError(METHOD_NOT_FOUND, f"{request.method!r} is for servers with resources")
        return request.params.uri

    def _may_see(self, request: ServerRequest, uri: str) -> bool:
        resource = self._find(uri)
        return resource is not None and not request.connection.lacks(resource.scopes)

    def _find(self, uri: str) -> ResourceDefinition | None:
        """What can be subscribed to at `uri`, or None; raises ProtocolError for a URI that is too long."""
        if len(uri) > MAX_URI_CHARACTERS:
            raise ProtocolError(
                INVALID_PARAMS, f"a URI of {len(uri)} characters is too long: {MAX_URI_CHARACTERS} at most"
            )
        resources = self._definition.resources
        found = None if resources is None else resources.find(uri)
        return None if found is None else found[0]


def _wants(wanted: SubscriptionFilter, kind: ListKind) -> bool:
    flags = {
        "tools": wanted.tools_list_changed,
        "prompts": wanted.prompts_list_changed,
        "resources": wanted.resources_list_changed,
    }
    return flags[kind] is True


class _Quota:
    """How many URIs each client is subscribed to, up to `limit`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._uris: Counter[Owner] = Counter()

    def __repr__(self) -> str:
        return f"{self._uris.total()} URIs of {len(self._uris)} clients"

    def check(self, number: int) -> None:
        """Raise ProtocolError if `number` URIs are too many for one client."""
        if number > self._limit:
            raise ProtocolError(
                INTERNAL_ERROR, f"overloaded: max_subscribed_uris is {self._limit} for each client"
            )

    def take(self, payer: Owner, number: int) -> None:
        """Count `number` URIs more; raises ProtocolError if they are too many."""
        self.check(self._uris[payer] + number)
        self._uris[payer] += number

    def give_back(self, payer: Owner, number: int) -> None:
        """Count `number` URIs no longer."""
        self._uris[payer] -= number
        if not self._uris[payer]:
            del self._uris[payer]


class _Subscription:
    """What one subscriber is told by its feed; the URIs count for `payer`."""

    __slots__ = ("_audience", "_changes", "_quota", "feed", "payer")

    def __init__(self, audience: Audience, quota: _Quota, feed: ChangeFeed, payer: Owner | None) -> None:
        self._audience = audience
        self._quota = quota
        self._changes: dict[Change, None] = {}
        self.feed = feed
        self.payer = payer

    def add(self, changes: Iterable[Change]) -> None:
        """Tell of these changes too; raises ProtocolError, and adds none, if they name too many URIs."""
        new = [change for change in changes if change not in self._changes]
        self._count(new, self._quota.take)
        for change in new:
            self._changes[change] = None
            self._audience.subscribe(self.feed, change)

    def remove(self, change: Change) -> None:
        """Do not tell of `change` any more, nor if it is pending."""
        if change in self._changes:
            self._drop([change])
            self.feed.forget(change)

    def end(self, *, wanted: bool) -> None:
        """Tell of nothing more, but of what is pending if that is `wanted`."""
        self._drop(list(self._changes))
        if not wanted:
            self.feed.stop()

    def _drop(self, changes: Sequence[Change]) -> None:
        self._count(changes, self._quota.give_back)
        for change in changes:
            del self._changes[change]
            self._audience.unsubscribe(self.feed, change)

    def _count(self, changes: Sequence[Change], count: Callable[[Owner, int], None]) -> None:
        uris = sum(uri is not None for _, uri in changes)
        if uris:
            assert self.payer is not None, "only whoever pays may subscribe to a URI"
            count(self.payer, uris)
