"""The type to which the result of a task is converted: named with the call, or when it is waited for."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.conftest import MODERN
from trio_mcp import RemoteProtocolError, Server, ToolError, open_client


@dataclass
class Film:
    title: str
    seconds: int


def make_server() -> Server:
    server = Server("films")

    @server.tool(task=True)
    async def render(title: str) -> Film:
        if not title:
            raise ToolError("a film has a title")
        return Film(title, 90)

    @server.tool
    async def look(title: str) -> Film:
        return Film(title, 45)

    return server


async def test_a_task_gives_its_result_in_the_type_that_its_call_named(wire):
    async with wire.open(make_server()) as client:
        task = await client.call_tool("render", {"title": "sea"}, task=True, result_type=Film)
        assert (await task.result()).data == Film("sea", 90)
        assert (await client.await_task(task)).data == Film("sea", 90)
        opened = await client.open_task(task.reference(), result_type=Film)
        assert (await opened.result()).data == Film("sea", 90)


async def test_a_wait_names_another_type(wire):
    async with wire.open(make_server()) as client:
        task = await client.call_tool("render", {"title": "sea"}, task=True, result_type=Film)
        assert (await task.result(result_type=dict)).data == {"title": "sea", "seconds": 90}
        with pytest.raises(RemoteProtocolError, match="no <class 'int'>"):
            await task.result(result_type=int)
        untyped = await client.call_tool("render", {"title": "sea"}, task=True)
        assert (await untyped.result()).data == {"title": "sea", "seconds": 90}
        assert untyped.id is not None
        assert (await client.await_task(untyped.id, result_type=Film)).data == Film("sea", 90)


async def test_the_data_of_an_error_is_not_converted(wire):
    async with wire.open(make_server()) as client:
        task = await client.call_tool("render", {"title": ""}, task=True, result_type=Film)
        result = await task.result(raise_on_error=False)
        assert (result.is_error, result.data) == (True, "a film has a title")


async def test_a_task_raises_for_an_error_as_its_call_said(wire):
    async with wire.open(make_server()) as client:
        task = await client.call_tool("render", {"title": ""}, task=True, raise_on_error=False)
        assert (await task.result()).is_error
        assert (await client.await_task(task)).is_error
        with pytest.raises(ToolError, match="a film has a title"):
            await task.result(raise_on_error=True)


async def test_what_was_answered_at_once_has_the_type_as_well():
    async with open_client(make_server(), protocol=MODERN) as client:
        handle = await client.call_tool("look", {"title": "sea"}, task=True, result_type=Film)
        assert handle.id is None
        assert (await handle.result()).data == Film("sea", 45)
