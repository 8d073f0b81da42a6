"""Models of pydantic are the types of arguments and results, also of those that a client asks for."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Generic, Literal, TypeVar, assert_type

import trio
from pydantic import BaseModel, Field, RootModel

from trio_mcp import Client, Context, Elicited, ElicitRequest, Server, TaskHandle, open_client

T = TypeVar("T")

server = Server("books")


class Book(BaseModel):
    title: str = Field(min_length=1)
    price: Decimal
    genre: Literal["novel", "science"] = "novel"


class Books(RootModel[list[Book]]):
    pass


class Page(BaseModel, Generic[T]):
    items: list[T]
    more: bool = False


@server.tool
async def add(book: Book, copies: Annotated[int, Field(ge=1, le=9)] = 1) -> Book:
    return book.model_copy(update={"price": book.price * copies})


@server.tool(task=True)
def find(text: str) -> Page[Book]:
    return Page(items=[Book(title=text, price=Decimal("8.50"))])


@server.tool
def shelve(books: Books) -> Books:
    return books


@server.tool
async def ask(ctx: Context) -> str:
    answer = await ctx.elicit("Which?", Wish)
    assert_type(answer, Elicited[Wish])
    return "none" if answer.data is None else answer.data.title


class Wish(BaseModel):
    title: str


async def call(client: Client) -> None:
    added = await client.call_tool("add", {"book": {"title": "Emma", "price": "8.50"}}, result_type=Book)
    assert_type(added.data, Book)
    assert added.data == Book(title="Emma", price=Decimal("8.50"))

    handle = await client.call_tool("find", {"text": "Emma"}, result_type=Page[Book], task=True)
    assert_type(handle, TaskHandle[Page[Book]])
    page = (await handle.result()).data
    assert_type(page.items, list[Book])
    assert page.items[0].price == Decimal("8.50")

    shelved = await client.call_tool(
        "shelve", {"books": [{"title": "Emma", "price": "1"}]}, result_type=Books
    )
    assert_type(shelved.data.root, list[Book])
    several = await client.call_tool(
        "shelve", {"books": [{"title": "Emma", "price": "1"}]}, result_type=list[Book]
    )
    assert_type(several.data, list[Book])
    assert several.data == shelved.data.root


def fill_in(request: ElicitRequest) -> dict[str, str]:
    return {"title": "Emma"}


async def call_directly() -> None:
    assert_type(await add(Book(title="Emma", price=Decimal(1)), 2), Book)
    assert_type(find("Emma"), Page[Book])


async def main() -> None:
    await call_directly()
    async with open_client(server, elicitation_handler=fill_in) as client:
        await call(client)
        assert (await client.call_tool("ask", result_type=str)).data == "Emma"


if __name__ == "__main__":
    trio.run(main)
