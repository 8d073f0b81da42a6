"""Subscribing at a legacy server, whose requests may overtake each other over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from trio_mcp.client.resource_subscriptions import ResourceSubscriptions
from trio_mcp.errors import ProtocolError
from trio_mcp.wire.messages import Params


class Server:
    """Notes each request when it is answered, which happens when the test says so."""

    def __init__(self) -> None:
        self.answered: list[str] = []
        self.sent: list[str] = []
        self.may_answer = trio.Event()
        self.error: ProtocolError | None = None

    async def request(self, method: str, params: Params) -> Any:
        self.sent.append(method)
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        self.answered.append(method)

    def send(self, method: str, params: Params) -> None:
        self.sent.append(method)


@pytest.fixture
def server() -> Server:
    return Server()


async def test_two_listeners_at_once_subscribe_once(server: Server) -> None:
    subscriptions = ResourceSubscriptions(server.request, server.send)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(subscriptions.add, "a:")
        nursery.start_soon(subscriptions.add, "a:")
        await trio.testing.wait_all_tasks_blocked()
        server.may_answer.set()
    await subscriptions.remove(["a:"])
    assert server.answered == ["resources/subscribe"]
    await subscriptions.remove(["a:"])
    assert server.answered == ["resources/subscribe", "resources/unsubscribe"]


async def test_who_comes_while_the_last_leaves_is_subscribed(server: Server) -> None:
    subscriptions = ResourceSubscriptions(server.request, server.send)
    server.may_answer.set()
    await subscriptions.add("a:")
    server.may_answer = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(subscriptions.remove, ["a:"])
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(subscriptions.add, "a:")
        await trio.testing.wait_all_tasks_blocked()
        assert server.sent == ["resources/subscribe", "resources/unsubscribe"], "one at a time"
        server.may_answer.set()
    assert server.answered == ["resources/subscribe", "resources/unsubscribe", "resources/subscribe"]


async def test_a_listener_that_is_cancelled_while_it_leaves_is_unsubscribed(server: Server) -> None:
    subscriptions = ResourceSubscriptions(server.request, server.send)
    server.may_answer.set()
    for uri in ("a:", "b:"):
        await subscriptions.add(uri)
    server.may_answer, server.sent = trio.Event(), []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(subscriptions.remove, ["a:", "b:"])
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert server.sent == ["resources/unsubscribe"] * 3, "the first was asked for, and is sent once more"
    server.may_answer.set()
    await subscriptions.add("a:")
    assert server.sent[-1] == "resources/subscribe"


async def test_a_listener_that_is_cancelled_while_it_comes_is_unsubscribed(server: Server) -> None:
    subscriptions = ResourceSubscriptions(server.request, server.send)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(subscriptions.add, "a:")
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert server.sent == ["resources/subscribe", "resources/unsubscribe"]
    server.may_answer.set()
    await subscriptions.add("a:")
    assert server.answered == ["resources/subscribe"]


async def test_a_refusal_is_raised_and_the_next_listener_asks_again(server: Server) -> None:
    subscriptions = ResourceSubscriptions(server.request, server.send)
    server.may_answer.set()
    server.error = ProtocolError(-32601, "no")
    with pytest.raises(ProtocolError):
        await subscriptions.add("a:")
    server.error = None
    await subscriptions.add("a:")
    assert server.answered == ["resources/subscribe"]
