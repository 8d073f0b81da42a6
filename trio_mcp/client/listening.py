"""Listening for what changes at a server, in both eras (MCP subscriptions; legacy resources/subscribe).

Owns how a server is asked to tell of changes, and that this is asked again if the wire breaks and the
connection goes on. Refuses to know who reads the changes.
"""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
import trio

from trio_mcp.client.changes import ChangeChannel, describe_missing, is_empty
from trio_mcp.client.link import Link
from trio_mcp.client.outcome import read_error
from trio_mcp.client.passing_failure import may_pass
from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.errors import CallTimeout, ConnectionLost, MCPError, RemoteProtocolError, SubscriptionRefused
from trio_mcp.validators import describe_seconds
from trio_mcp.wire.frames import ErrorResponse, Notification
from trio_mcp.wire.messages import ListenParams, Params, SubscribeParams, SubscriptionFilter

logger = logging.getLogger("trio_mcp.client")

RETRY_SECONDS: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 60.0)
"""The pauses before a broken stream is opened again; the failure after the last ends the subscription.

Each is made up to a half longer or shorter, so that the clients of a server do not all come back at once.
"""

LIVELY_SECONDS: Final = 5.0
"""A stream that was open for so long did not fail to open, so that the pauses begin anew."""

UNSUBSCRIBE_SECONDS: Final = 5.0
"""How long the end of a subscription waits for a legacy server to have understood it."""


LISTS: Final = frozenset({"tools", "prompts", "resources"})
"""The lists of whose changes a server may tell, by the names of its capabilities."""


class _Acknowledged(msgspec.Struct):
    notifications: SubscriptionFilter


class ListenStream:
    """A subscription in the modern era: one subscriptions/listen after the other."""

    def __init__(self, link: Link, channel: ChangeChannel) -> None:
        self._link = link
        self._channel = channel
        self._acknowledged: float | None = None  # when the present request was, by Trio's clock
        self._was_open = False
        self._opened = trio.Event()  # or has failed to
        self._failure: MCPError | None = None

    @asynccontextmanager
    async def open(self, nursery: trio.Nursery) -> AsyncIterator[None]:
        """Listen in a task of `nursery`, whose end is the end of the subscription.

        Checkpoints until the server has acknowledged it. Raises ProtocolError, ConnectionLost,
        RemoteProtocolError, SubscriptionRefused and CallTimeout.
        """
        nursery.start_soon(self._run)
        timeout = self._link.session.settings.handshake_timeout
        with trio.move_on_after(timeout):
            await self._opened.wait()
        if not self._opened.is_set():
            raise CallTimeout(f"the subscription was not acknowledged within {describe_seconds(timeout)}")
        if self._failure is not None:
            raise self._failure
        yield

    async def _run(self) -> None:
        failures = 0
        while True:
            error = await self._listen()
            lasted = self._acknowledged is not None and (
                trio.current_time() - self._acknowledged >= LIVELY_SECONDS
            )
            failures = 0 if lasted else failures + 1
            if error is None or not self._may_reopen(error) or failures > len(RETRY_SECONDS):
                self._end(error)
                return
            logger.info("a subscription is opened again: %s", error)
            await trio.sleep(RETRY_SECONDS[max(failures, 1) - 1] * random.uniform(0.5, 1.5))

    async def _listen(self) -> MCPError | None:
        """Listen until the stream ends; return why, or None if the server has ended it well. Checkpoints."""
        session = self._link.session
        params = ListenParams(notifications=self._channel.wanted)
        if self._link.meta:
            params.meta = self._link.meta
        self._acknowledged = None
        call = session.begin("subscriptions/listen", params)
        try:
            with (
                session.routes.subscribed(call.id, self._accept),
                session.routes.listening_for_changes(self._channel.offer, call.id),
            ):
                outcome = await call.wait()
        finally:
            session.end(call)
        if isinstance(outcome, ErrorResponse):
            return read_error(outcome.error)
        return outcome if isinstance(outcome, MCPError) else None

    def _may_reopen(self, error: MCPError) -> bool:
        # What cannot be read says nothing of the subscription.
        is_unread = isinstance(error, RemoteProtocolError) and not self._link.session.is_lost
        return self._was_open and (is_unread or may_pass(error, self._link.session))

    def _accept(self, frame: Notification) -> None:
        if frame.method != "notifications/subscriptions/acknowledged":
            return
        self._acknowledged = trio.current_time()
        self._channel.honoured = _read_acknowledgement(frame)
        refused = check_honoured(self._channel)
        if self._was_open and refused is not None:
            self._channel.end(refused)
        elif self._was_open:
            self._link.cache.clear()
            self._channel.offer_all()  # for what was missed meanwhile
        else:
            self._was_open, self._failure = True, refused
            self._opened.set()

    def _end(self, error: MCPError | None) -> None:
        if not self._was_open:
            self._failure = error or RemoteProtocolError("the server ended a subscription unacknowledged")
            self._opened.set()
        self._channel.end(error)


class LegacyStream:
    """A subscription in the legacy eras: resources/subscribe, and the notifications of the session."""

    def __init__(self, link: Link, channel: ChangeChannel) -> None:
        self._link = link
        self._channel = channel
        self._subscribed: list[str] = []

    @asynccontextmanager
    async def open(self, nursery: trio.Nursery) -> AsyncIterator[None]:
        """Be subscribed while the block lasts, and listen in a task of `nursery`; checkpoints.

        Raises as `ListenStream`. A block that ends well waits until the server has understood the end.
        """
        await nursery.start(self._run)
        nursery.start_soon(self._warn_if_silent)
        subscriptions = self._link.subscriptions
        try:
            for uri in self._channel.wanted.resource_subscriptions or ():
                await subscriptions.add(uri)
                self._subscribed.append(uri)
            self._note_honoured()
            yield
        except BaseException:
            subscriptions.abandon(self._subscribed)
            raise
        with trio.move_on_after(UNSUBSCRIBE_SECONDS):
            await subscriptions.remove(self._subscribed)

    async def _warn_if_silent(self) -> None:
        reason = await self._link.session.life.wait_silent()
        logger.warning("the server may not tell of any change: %s", reason)

    def _note_honoured(self) -> None:
        wanted, declared = self._channel.wanted, declared_lists(self._link.agreement.capabilities)
        self._channel.honoured = SubscriptionFilter(
            tools_list_changed=(wanted.tools_list_changed and "tools" in declared) or None,
            prompts_list_changed=(wanted.prompts_list_changed and "prompts" in declared) or None,
            resources_list_changed=(wanted.resources_list_changed and "resources" in declared) or None,
            resource_subscriptions=self._subscribed or None,
        )
        # What a server does not declare it may tell of all the same, for nobody has to ask.
        warn_of_missing(self._channel)

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        life = self._link.session.life
        generation = life.generation
        with self._link.session.routes.listening_for_changes(self._channel.offer, None):
            task_status.started()
            while True:
                await life.wait_changed(generation)
                if life.generation == generation and life.lost is None:
                    await self._find_session()
                if life.lost is not None:
                    self._channel.end(ConnectionLost(str(life.lost)))
                    return
                if life.generation == generation:
                    self._channel.end(ConnectionLost(str(life.unheard)))
                    return
                generation = life.generation
                error = await self._subscribe_again()
                if error is not None:
                    self._channel.end(error)
                    return
                self._channel.offer_all()  # for what was missed meanwhile

    async def _find_session(self) -> None:
        """Ask for anything, so that a session that has ended is followed by another; checkpoints."""
        try:
            await self._link.request("ping", Params())
        except MCPError as error:
            logger.debug("the server does not answer a ping: %s", error)

    async def _subscribe_again(self) -> MCPError | None:
        try:
            for uri in self._subscribed:
                await self._link.request("resources/subscribe", SubscribeParams(uri=uri))
        except MCPError as error:
            return error
        return None


@asynccontextmanager
async def open_listening(link: Link, wanted: SubscriptionFilter) -> AsyncIterator[ChangeChannel]:
    """See `Client.listen`."""
    channel = ChangeChannel(wanted)
    stream = ListenStream(link, channel) if link.era.modern else LegacyStream(link, channel)
    async with open_unwrapping_nursery() as nursery:
        try:
            async with stream.open(nursery):
                yield channel
        finally:
            channel.close()
            nursery.cancel_scope.cancel()


def check_honoured(channel: ChangeChannel) -> SubscriptionRefused | None:
    """Log what the server does not tell of; return the error if that is everything."""
    if is_empty(channel.honoured):
        missing = describe_missing(channel.wanted, channel.honoured)
        return SubscriptionRefused(f"the server does not tell of changes of {', '.join(missing)}")
    warn_of_missing(channel)
    return None


def warn_of_missing(channel: ChangeChannel) -> None:
    """Log what the server does not promise to tell of."""
    missing = describe_missing(channel.wanted, channel.honoured)
    if missing:
        logger.warning("the server does not tell of changes of %s", ", ".join(missing))


def declared_lists(capabilities: Mapping[str, Any]) -> frozenset[str]:
    """The lists of whose changes a server tells, by its own account."""
    kinds = {kind: capabilities.get(kind) for kind in LISTS}
    return frozenset(
        kind for kind, one in kinds.items() if isinstance(one, Mapping) and one.get("listChanged") is True
    )


def _read_acknowledgement(frame: Notification) -> SubscriptionFilter:
    """Read notifications/subscriptions/acknowledged; a malformed one promises nothing."""
    try:
        raw = b"" if isinstance(frame.params, msgspec.UnsetType) else frame.params
        return msgspec.json.decode(raw, type=_Acknowledged).notifications
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        logger.warning("the acknowledgement of a subscription cannot be read: %s", error)
        return SubscriptionFilter()
