"""A server that was moved from FastMCP does for its clients what it did before, over HTTP in both eras.

Both are in docs/examples/moved. What is compared is what clients rely on; the words of errors may differ.
"""

from __future__ import annotations

import base64
import difflib
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.conftest import LEGACY, MODERN
from trio_mcp import (
    AuthorizationError,
    Client,
    ImageContent,
    LogMessage,
    MCPError,
    ProtocolError,
    ToolError,
    open_client,
)

PEER = Path(__file__).parents[1] / "peers" / "bookshop.py"
PROGRAMS = Path(__file__).parents[2] / "docs" / "examples" / "moved"
EMMA, PRIDE, TIME = "9780141439587", "9780141439518", "9780553380163"
ADDRESS = {"street": "Ring 1", "city": "wien", "zip": "1010"}


@attrs.define
class Shop:
    """A bookshop that is running, and what its client has been told."""

    url: str
    protocol: str
    updates: list[Any] = attrs.field(factory=list)
    messages: list[LogMessage] = attrs.field(factory=list)

    @asynccontextmanager
    async def open(self, token: str = "ada-token") -> AsyncIterator[Client]:
        """Connect as a customer, or as Carl, who may also change the stock."""
        async with open_client(
            self.url,
            auth=token,
            protocol=self.protocol,
            progress_handler=lambda *update: self.updates.append(update),
            log_handler=self.messages.append,
        ) as client:
            yield client


def test_what_changes_fits_a_page() -> None:
    before, after = (
        (PROGRAMS / f"{name}.py").read_text().splitlines() for name in ("fastmcp_server", "trio_mcp_server")
    )
    changes = [line[0] for line in difflib.unified_diff(before, after, n=0) if line[:3] not in ("---", "+++")]
    assert max(changes.count("+"), changes.count("-")) <= 60


@pytest.fixture(params=[LEGACY, MODERN])
def protocol(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["fastmcp_server", "trio_mcp_server"])
def shop(
    request: pytest.FixtureRequest,
    protocol: str,
    serve: Callable[..., str],
    environment: Callable[[str], Path],
) -> Shop:
    program = request.param
    python = environment("fastmcp42") / "bin" / "python" if program == "fastmcp_server" else sys.executable
    return Shop(serve(python, PEER, program), protocol)


async def read_json(client: Client, uri: str) -> Any:
    (content,) = (await client.read_resource(uri)).contents
    assert content.mime_type == "application/json"
    return json.loads(content.text or "")


async def test_tools_are_listed_with_their_schemas(shop: Shop) -> None:
    async with shop.open("carl-token") as client:
        tools = {tool.name: tool for tool in await client.list_tools()}
        assert client.instructions == "Search for books before you order them."
    assert list(tools) == ["search_books", "get_book", "order_books", "add_book", "draw_cover"]
    search = tools["search_books"]
    assert search.description == "Search for books."
    assert search.annotations is not None
    assert search.annotations.read_only_hint
    # What a dependency gives is not among the arguments.
    assert search.input_schema["properties"].keys() == {"text", "limit"}
    assert search.input_schema["required"] == ["text"]
    text, limit = (search.input_schema["properties"][name] for name in ("text", "limit"))
    assert (text["minLength"], text["type"]) == (2, "string")
    assert text["description"] == "a part of a title or of an author's name"
    assert (limit["default"], limit["minimum"], limit["maximum"]) == (10, 1, 50)
    order = tools["order_books"]
    assert order.input_schema["properties"].keys() == {"lines", "address"}
    assert order.input_schema["required"] == ["lines"]
    line = order.input_schema["properties"]["lines"]
    assert (line["minItems"], line["items"]["properties"]["copies"]["maximum"]) == (1, 20)
    # Arguments have the alias of a field, and results show what is computed.
    address = json.dumps(order.input_schema["properties"]["address"])
    assert '"zip"' in address
    assert "zip_code" not in address
    assert order.output_schema is not None
    assert "copies" in order.output_schema["required"]
    book = tools["add_book"].input_schema["properties"]["book"]
    assert book["properties"]["genre"]["enum"] == ["novel", "science", "children"]
    assert book["required"] == ["isbn", "title", "authors", "price"]


async def test_books_are_found(shop: Shop) -> None:
    async with shop.open() as client:
        found = (await client.call_tool("search_books", {"text": "austen"})).data
        assert [book["title"] for book in found] == ["Emma", "Pride and Prejudice"]
        one = (await client.call_tool("search_books", {"text": "Austen", "limit": 1})).data
        assert [book["isbn"] for book in one] == [EMMA]
        book = (await client.call_tool("get_book", {"isbn": TIME})).data
        assert (book["title"], book["authors"]) == ("A Brief History of Time", ["Stephen Hawking"])
        assert (book["price"], book["genre"]) == ("12.00", "novel")
        (cover,) = (await client.call_tool("draw_cover", {"isbn": EMMA})).content
        assert isinstance(cover, ImageContent)
        assert (base64.b64decode(cover.data), cover.mime_type) == (b"\x89PNG Emma", "image/png")


async def test_books_are_ordered_with_progress(shop: Shop) -> None:
    async with shop.open() as client:
        await client.set_log_level("info")
        before = (await client.call_tool("get_book", {"isbn": EMMA})).data["copies"]
        lines = [{"isbn": EMMA}, {"isbn": TIME, "copies": 1}]
        order = (await client.call_tool("order_books", {"lines": lines, "address": ADDRESS})).data
        assert shop.updates == [(1, 2, "1 x Emma"), (2, 2, "1 x A Brief History of Time")]
        assert (order["customer"], order["copies"], order["total"]) == ("ada", 2, "20.50")
        assert order["lines"] == [{"isbn": EMMA, "copies": 1}, {"isbn": TIME, "copies": 1}]
        # The validator of a model has changed the city.
        assert order["address"] == {"street": "Ring 1", "city": "Wien", "zip_code": "1010"}
        after = (await client.call_tool("get_book", {"isbn": EMMA})).data["copies"]
        assert after == before - 1
        fetched = (await client.call_tool("order_books", {"lines": [{"isbn": PRIDE}]})).data
        assert (fetched["number"], fetched["address"]) == (order["number"] + 1, None)
    said = [message for message in shop.messages if f"order {order['number']} of ada" in str(message.data)]
    assert [message.level for message in said] == ["info"]


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("get_book", {"isbn": "9780000000000"}, "there is no book 9780000000000"),
        ("order_books", {"lines": [{"isbn": EMMA, "copies": 20}]}, "copies of Emma are left"),
        ("search_books", {"text": "a"}, "text"),
        ("search_books", {"text": "austen", "limit": 51}, "limit"),
        ("search_books", {"text": "austen", "shop": {}}, "shop"),
        ("get_book", {"isbn": "12"}, "isbn"),
        ("order_books", {"lines": []}, "lines"),
        ("order_books", {"lines": [{"isbn": EMMA, "copies": 21}]}, "copies"),
        ("order_books", {"lines": [{"isbn": EMMA}], "address": {**ADDRESS, "zip": "a"}}, "zip"),
        (
            "order_books",
            {"lines": [{"isbn": EMMA}], "address": {**ADDRESS, "city": "Atlantis"}},
            "below the sea",
        ),
    ],
)
async def test_what_cannot_be_done_is_said(
    shop: Shop, tool: str, arguments: dict[str, Any], said: str
) -> None:
    async with shop.open() as client:
        with pytest.raises(ToolError, match=said):
            await client.call_tool(tool, arguments)


async def test_middleware_sees_each_call_and_changes_its_arguments(shop: Shop) -> None:
    async with shop.open() as client:
        before = (await read_json(client, "shop://journal"))["calls"]
        book = (await client.call_tool("get_book", {"isbn": "978-0-14-143958-7"})).data
        assert book["isbn"] == EMMA
        for isbn in ("9780000000000", "12"):
            with pytest.raises(ToolError):
                await client.call_tool("get_book", {"isbn": isbn})
        after = (await read_json(client, "shop://journal"))["calls"]
    assert after["get_book"] == before.get("get_book", 0) + 3
    assert after["get_book failed"] == before.get("get_book failed", 0) + 2


async def test_a_dependency_is_cleaned_up_as_the_call_has_ended(shop: Shop) -> None:
    async with shop.open() as client:
        before = (await read_json(client, "shop://journal"))["changes"]
        await client.call_tool("order_books", {"lines": [{"isbn": PRIDE}]})
        with pytest.raises(ToolError):
            await client.call_tool("order_books", {"lines": [{"isbn": PRIDE, "copies": 20}]})
        after = (await read_json(client, "shop://journal"))["changes"]
    assert after[len(before) :] == [f"ada: -1 {PRIDE}", "ada: nothing"]


async def test_scopes_are_asked_for(shop: Shop) -> None:
    book = {"isbn": "9780000000017", "title": "New", "authors": [], "price": "3.50", "copies": 2}
    async with shop.open() as client:
        assert "add_book" not in {tool.name for tool in await client.list_tools()}
        with pytest.raises(MCPError):
            await client.call_tool("add_book", {"book": book})
        with pytest.raises(ToolError, match="there is no book"):
            await client.call_tool("get_book", {"isbn": book["isbn"]})
    async with shop.open("carl-token") as client:
        added = await client.call_tool("add_book", {"book": {**book, "isbn": EMMA, "title": "Emma"}})
        assert added.text.endswith(" copies of Emma")
    with pytest.raises((ProtocolError, AuthorizationError)):
        async with shop.open("nobody-token") as client:
            await client.list_tools()


async def test_resources_are_read(shop: Shop) -> None:
    async with shop.open() as client:
        resources = {resource.uri: resource for resource in await client.list_resources()}
        assert resources.keys() == {"shop://rules", "shop://journal"}
        assert resources["shop://rules"].description == "The rules of the shop."
        (template,) = await client.list_resource_templates()
        assert (template.uri_template, template.name) == ("shop://books/{isbn}", "read_book")
        (rules,) = (await client.read_resource("shop://rules")).contents
        assert (rules.text, rules.mime_type) == ("Books are returned within 14 days.", "text/plain")
        assert (await read_json(client, f"shop://books/{PRIDE}"))["title"] == "Pride and Prejudice"
        with pytest.raises(ProtocolError, match="there is no book 1"):
            await client.read_resource("shop://books/1")


async def test_prompts_are_rendered(shop: Shop) -> None:
    async with shop.open() as client:
        prompts = {prompt.name: prompt for prompt in await client.list_prompts()}
        assert list(prompts) == ["recommend", "review"]
        arguments = [(one.name, bool(one.required)) for one in prompts["recommend"].arguments or ()]
        assert arguments == [("genre", True), ("count", False)]
        assert [one.name for one in prompts["review"].arguments or ()] == ["isbn"]
        (asked,) = (await client.get_prompt("recommend", {"genre": "novel", "count": 2})).messages
        assert (asked.role, asked.content.text) == ("user", "Recommend 2 books of the genre novel.")
        talk = (await client.get_prompt("review", {"isbn": EMMA})).messages
        assert [(message.role, message.content.text) for message in talk] == [
            ("user", "I have read Emma."),
            ("assistant", "How did you like it?"),
        ]
        with pytest.raises(ProtocolError):
            await client.get_prompt("recommend", {})
