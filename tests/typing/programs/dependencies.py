"""A dependency has the type of what its function provides, and decorated handlers keep their own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, assert_type

import trio

from trio_mcp import Context, Depends, Server, open_client


class Db:
    def __init__(self) -> None:
        self.rows = [1, 2, 3]


@asynccontextmanager
async def open_library(server: Server) -> AsyncGenerator[dict[str, Db]]:
    yield {"db": Db()}


server = Server("rows", lifespan=open_library)


def get_db(ctx: Context) -> Db:
    db: Db = ctx.lifespan["db"]
    return db


async def count_rows(db: Annotated[Db, Depends(get_db)]) -> int:
    return len(db.rows)


@asynccontextmanager
async def open_change(db: Db = Depends(get_db)) -> AsyncGenerator[list[int]]:
    added: list[int] = []
    yield added
    db.rows.extend(added)


async def lend_text() -> AsyncIterator[str]:  # noqa: ASYNC900  # it yields once, for a dependency
    yield "rows"


def lend_number() -> Iterator[float]:
    yield 0.5


class Clock:
    """A class is a function that provides its instances."""

    def now(self) -> float:
        return 1.0


@server.tool
async def describe(
    ctx: Context,
    more: int = 0,
    count: int = Depends(count_rows),
    text: str = Depends(lend_text),
    number: float = Depends(lend_number, thread=False),
    clock: Clock = Depends(Clock, use_cache=False),
) -> str:
    return f"{count + more} {text} {number + clock.now()}"


@server.tool
def add(row: int, added: Annotated[list[int], Depends(open_change)]) -> int:
    added.append(row)
    return len(added)


@server.resource("rows://all")
def read_rows(db: Db = Depends(get_db)) -> list[int]:
    return db.rows


@server.prompt
async def ask(row: int, db: Db = Depends(get_db)) -> str:
    return f"Is {row} in {db.rows}?"


def make_small_db() -> Db:
    db = Db()
    db.rows = [7]
    return db


async def call_directly() -> None:
    """Who calls a handler itself passes what it depends on."""
    assert_type(add(1, []), int)
    assert_type(read_rows(Db()), list[int])
    assert_type(await ask(1, Db()), str)


async def main() -> None:
    await call_directly()
    async with open_client(server) as client:
        assert (await client.call_tool("describe", {"more": 1}, result_type=str)).data == "4 rows 1.5"
        await client.call_tool("add", {"row": 4})
        assert (await client.call_tool("describe")).data == "4 rows 1.5"
        with server.override_dependency(get_db, make_small_db):
            assert (await client.call_tool("describe")).data == "1 rows 1.5"


if __name__ == "__main__":
    trio.run(main)
