"""Prompts at the client: pages, answers that cannot be read, values that cannot be sent."""

from __future__ import annotations

import datetime
from typing import Any

import msgspec
import pytest

from tests.support.fake_server import DISCOVERED, FakeServer, result
from trio_mcp import PromptReference, RemoteProtocolError, TextContent, open_client

DISCOVERS = {"server/discover": result(DISCOVERED)}
STYLE = {"name": "style", "value": "c"}


async def test_pages_of_prompts_make_one_list() -> None:
    def page(request: Any) -> Any:
        cursor = msgspec.json.decode(request.params).get("cursor", "0")
        more = {} if cursor == "2" else {"nextCursor": str(int(cursor) + 1)}
        return result({"prompts": [{"name": "abc"[int(cursor)]}], **more})(request)

    async with open_client(FakeServer({**DISCOVERS, "prompts/list": page})) as client:
        assert [prompt.name for prompt in await client.list_prompts()] == ["a", "b", "c"]


async def test_a_bad_prompt_in_a_list_does_not_hide_the_others(caplog: Any) -> None:
    page = result({"prompts": [{"name": 5}, {"name": "b", "arguments": None}]})
    async with open_client(FakeServer({**DISCOVERS, "prompts/list": page})) as client:
        assert [prompt.name for prompt in await client.list_prompts()] == ["b"]
    assert "the server's list of prompts" in caplog.text


async def test_messages_are_read_also_if_a_member_is_null() -> None:
    message = {"role": "assistant", "content": {"type": "text", "text": "a", "annotations": None}}
    prompt = result({"messages": [message], "description": None})
    async with open_client(FakeServer({**DISCOVERS, "prompts/get": prompt})) as client:
        (read,) = (await client.get_prompt("any")).messages
    assert (read.role, read.content) == ("assistant", TextContent(text="a"))


@pytest.mark.parametrize(
    "answer",
    [{}, {"messages": 5}, {"messages": [], "resultType": "later"}, []],
    ids=["empty", "no list", "unknown type", "no object"],
)
async def test_a_malformed_prompt_is_the_servers_fault(answer: Any) -> None:
    async with open_client(FakeServer({**DISCOVERS, "prompts/get": result(answer)})) as client:
        with pytest.raises(RemoteProtocolError):
            await client.get_prompt("any")


async def test_a_malformed_completion_is_the_servers_fault() -> None:
    rules = {**DISCOVERS, "completion/complete": result({"completion": {"values": "a"}})}
    async with open_client(FakeServer(rules)) as client:
        with pytest.raises(RemoteProtocolError, match="malformed completion"):
            await client.complete(PromptReference(name="any"), STYLE)


async def test_arguments_are_sent_as_texts() -> None:
    sent: list[Any] = []

    def get(request: Any) -> Any:
        sent.append(msgspec.json.decode(request.params).get("arguments"))
        return result({"messages": []})(request)

    async with open_client(FakeServer({**DISCOVERS, "prompts/get": get})) as client:
        await client.get_prompt("any", {"a": "5", "b": 5, "c": [None], "d": datetime.date(2026, 1, 2)})
        await client.get_prompt("any")
        with pytest.raises(ValueError, match="argument 'a' of prompt 'any' is not JSON"):
            await client.get_prompt("any", {"a": float("nan")})
    assert sent == [{"a": "5", "b": "5", "c": "[null]", "d": "2026-01-02"}, None]
