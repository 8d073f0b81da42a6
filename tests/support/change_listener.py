"""A client that subscribes to changes by raw requests, and keeps every message of the server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import attrs
import msgspec
import trio

from tests.conftest import MODERN, Wire
from tests.support.limits import HANG_SECONDS
from trio_mcp import Client, open_client
from trio_mcp.client.pending_call import PendingCall
from trio_mcp.client.settings import ClientSettings
from trio_mcp.client.target import open_target
from trio_mcp.outgoing.transport import FrameTransport
from trio_mcp.wire.codec import encode_messages
from trio_mcp.wire.frames import InFrame, OutFrame
from trio_mcp.wire.messages import ListenParams, SubscribeParams, SubscriptionFilter

ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
ALL_LISTS = {"tools_list_changed": True, "prompts_list_changed": True, "resources_list_changed": True}
SUBSCRIPTION_ID = "io.modelcontextprotocol/subscriptionId"


@attrs.define
class _Listening:
    """Hands every message that is read to the listener as well, until it stops reading."""

    _inner: FrameTransport
    _listener: ChangeListener

    async def send_frames(self, frames: Sequence[OutFrame]) -> None:
        await self._inner.send_frames(frames)

    async def receive_frames(self) -> Sequence[InFrame]:
        if self._listener.has_stopped:
            await trio.sleep_forever()
        frames = await self._inner.receive_frames()
        for data in encode_messages(frames):
            self._listener.hear(msgspec.json.decode(data))
        return frames

    async def aclose(self) -> None:
        await self._inner.aclose()


@attrs.define
class _Connector:
    _target: Any
    _listener: ChangeListener

    @asynccontextmanager
    async def open_transport(self, settings: ClientSettings) -> AsyncIterator[FrameTransport]:
        async with open_target(self._target, settings) as transport:
            yield _Listening(transport, self._listener)


class ChangeListener:
    """`client` is the client; `messages` is all that it was sent. `has_stopped` stops it from reading on."""

    client: Client

    def __init__(self, modern: bool) -> None:
        self._modern = modern
        self._unread: list[Any] = []
        self._heard = trio.lowlevel.ParkingLot()
        self.messages: list[Any] = []
        self.has_stopped = False

    def hear(self, message: Any) -> None:
        self.messages.append(message)
        self._unread.append(message)
        self._heard.unpark_all()

    async def receive(self, *, method: str | None = None, ident: Any = None) -> Any:
        """The first message of that method, or answer of that id, that was not returned yet."""
        with trio.fail_after(HANG_SECONDS):
            while True:
                for index, message in enumerate(self._unread):
                    key = message.get("method") if method is not None else message.get("id")
                    if ("method" in message) == (method is not None) and key == (method or ident):
                        return self._unread.pop(index)
                await self._heard.park()

    async def listen(self, **wanted: Any) -> tuple[PendingCall, Any]:
        """Begin a subscription of the modern era; returns the request and its acknowledgement."""
        link = self.client._link
        params = ListenParams(notifications=SubscriptionFilter(**wanted))
        params.meta = link.meta
        call = link.session.begin("subscriptions/listen", params)
        acknowledged = await self.receive(method=ACKNOWLEDGED)
        assert acknowledged["params"]["_meta"][SUBSCRIPTION_ID] == call.id
        return call, acknowledged["params"]["notifications"]

    async def subscribe(self, uri: str) -> None:
        """Subscribe to a resource in the way of the era."""
        if self._modern:
            await self.listen(resource_subscriptions=[uri])
        else:
            await self.client._link.request("resources/subscribe", SubscribeParams(uri=uri))

    async def watch_lists(self) -> None:
        """Subscribe to all lists; legacy clients need not."""
        if self._modern:
            await self.listen(**ALL_LISTS)


@asynccontextmanager
async def connect_listener(target: Any, protocol: str) -> AsyncIterator[ChangeListener]:
    """Connect a listener to whatever `open_client` connects to."""
    listener = ChangeListener(protocol == MODERN)
    async with open_client(_Connector(target, listener), protocol=protocol) as listener.client:
        yield listener


def open_listener(wire: Wire, server: Any) -> AbstractAsyncContextManager[ChangeListener]:
    """Connect a listener to `server`, which may be running already, over this transport and in this era."""
    return connect_listener(wire.target(server), wire.protocol)
