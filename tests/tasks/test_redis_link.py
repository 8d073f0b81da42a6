"""How long the connection to a Redis server waits for an answer, with a server that a test plays."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_mcp.tasks import redis_link
from trio_mcp.tasks.redis_address import read_address
from trio_mcp.tasks.redis_link import RedisLink, ServerAwayError


class Request:
    """A command that was sent."""

    def __init__(self) -> None:
        self._answered = trio.Event()

    def __await__(self) -> Generator[Any, None, bytes]:
        return self._wait().__await__()

    async def _wait(self) -> bytes:
        await self._answered.wait()
        return b"answer"

    def answer(self) -> None:
        self._answered.set()


class Connection:
    """A connection with what a link uses of it."""

    def __init__(self) -> None:
        self.statistics = SimpleNamespace(requests_pending=0, requests_resolved=0)
        self.requests: list[Request] = []
        self.is_given_up = False

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await trio.sleep_forever()

    def create_request(self, *command: Any, **options: Any) -> Request:
        self.requests.append(Request())
        return self.requests[-1]

    def answer_next(self) -> None:
        """Answer the oldest command that has no answer."""
        self.requests[self.statistics.requests_resolved].answer()
        self.statistics.requests_resolved += 1

    def invalidate(self, reason: str) -> None:
        self.is_given_up = True


@asynccontextmanager
async def open_link(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[RedisLink, Connection]]:
    """A link that waits 5 seconds for an answer."""
    connection = Connection()

    async def connect(*arguments: Any) -> Connection:
        await trio.lowlevel.checkpoint()
        return connection

    async def greet(connection: Any) -> None:
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(redis_link, "open_connection", connect)
    async with trio.open_nursery() as nursery:
        link = RedisLink(read_address("redis://localhost"), 5, greet)
        await nursery.start(link.run)
        yield link, connection
        nursery.cancel_scope.cancel()


async def test_the_time_in_which_this_process_stands_still_is_not_that_of_the_server(
    mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Any] = []

    async def ask() -> None:
        answers.append(await link.ask(b"GET", b"key"))

    async with open_link(monkeypatch) as (link, connection), trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        mock_clock.jump(60)
        await wait_all_tasks_blocked()
        connection.answer_next()
    assert answers == [b"answer"]


async def test_a_server_that_answers_others_is_there(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer comes behind those before it, however many these are."""
    answers: list[Any] = []

    async def ask() -> None:
        answers.append(await link.ask(b"GET", b"key"))

    async with open_link(monkeypatch) as (link, connection), trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        for _ in range(10):
            await trio.sleep(3)
            connection.answer_next()
    assert answers == [b"answer"] * 10


async def test_a_server_that_answers_nothing_is_given_up_in_time(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_link(monkeypatch) as (link, connection):
        begun = trio.current_time()
        with pytest.raises(ServerAwayError, match="gave no answer within 5 s") as away:
            await link.ask(b"GET", b"key")
        assert away.value.was_sent
        assert trio.current_time() - begun == pytest.approx(5)
        assert connection.is_given_up
