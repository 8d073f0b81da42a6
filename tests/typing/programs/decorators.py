"""Functions that were registered are still the functions that they were."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal, assert_type

import trio

from trio_mcp import (
    Bearer,
    Completion,
    Context,
    Image,
    Lossless,
    Message,
    Server,
    StaticTokens,
    ToolAnnotations,
    open_client,
)


@dataclass
class Library:
    books: dict[str, int]


server = Server("library", default_task=False)


@server.lifespan
@asynccontextmanager
async def open_library(server: Server) -> AsyncGenerator[Library]:
    yield Library({"Emma": 1815})


@server.tool
async def find_year(ctx: Context, title: str, default: int = 0) -> int:
    """Find the year of a book."""
    library: Library = ctx.lifespan
    return library.books.get(title, default)


@server.tool("count", annotations=ToolAnnotations(read_only_hint=True), progress=Lossless(), task=True)
def count_letters(title: str) -> int:
    return len(title)


@server.tool(name="cover", scopes=["read"])
def draw_cover() -> Image:
    return Image(data=b"", format="png")


@server.prompt
def review(title: str, style: str = "short") -> str:
    return f"Review {title}, {style}."


@server.prompt("talk", description="Talk about a book.")
async def talk_about(title: str) -> list[Message]:
    return [Message(f"Do you know {title}?"), Message("Yes.", role="assistant")]


@review.complete("style")
def complete_style(typed: str) -> list[str]:
    return [style for style in ("long", "short") if style.startswith(typed)]


@talk_about.complete("title")
async def complete_title(typed: str, others: dict[str, str]) -> Completion:
    return Completion(values=["Emma"])


@server.resource("library://books/{title}")
async def read_book(title: str) -> dict[str, str]:
    return {"title": title}


@server.resource("library://rules", mime_type="text/plain")
def read_rules() -> str:
    return "Be quiet."


class Desk:
    def __init__(self, name: str) -> None:
        self.name = name

    async def greet(self, who: str) -> str:
        """Greet somebody."""
        return f"{self.name} greets {who}"


desk = Desk("Ann")
server.add_tool(desk.greet)


async def call_directly() -> None:
    assert_type(count_letters("Emma"), int)
    assert_type(draw_cover(), Image)
    assert_type(review("Emma", style="long"), str)
    assert_type(await talk_about("Emma"), list[Message])
    assert_type(complete_style("s"), list[str])
    assert_type(await complete_title("E", {}), Completion)
    assert_type(await read_book("Emma"), dict[str, str])
    assert_type(read_rules(), str)
    async with open_library(server) as library:
        assert_type(library, Library)


def serve(transport: Literal["stdio", "http"]) -> None:
    server.run(transport)
    server.run()
    server.run("http", bind=["127.0.0.1:0", "[::1]:0"], auth=Bearer(StaticTokens({"token": "ada"})), sse=True)


async def main() -> None:
    await call_directly()
    async with open_client(server) as client:
        year = await client.call_tool("find_year", {"title": "Emma"}, result_type=int)
        assert year.data == 1815
        assert (await client.call_tool("greet", {"who": "Ben"})).data == "Ann greets Ben"
        contents = (await client.read_resource("library://rules")).contents
        assert [content.uri for content in contents] == ["library://rules"]
        messages = (await client.get_prompt("talk", {"title": "Emma"})).messages
        assert len(messages) == 2


if __name__ == "__main__":
    trio.run(main)
