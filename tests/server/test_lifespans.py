"""Several lifespans of one server: their order, and what handlers find of them."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from trio_mcp import Context, DefinitionError, Server, open_client, open_server


def make_lifespan(log: list[str], name: str, value: Any) -> Callable[[Server], AsyncIterator[Any]]:
    async def lifespan(server: Server) -> AsyncIterator[Any]:  # noqa: ASYNC900  # what a lifespan may be
        log.append(f"enter {name} of {server.name}")
        try:
            yield value
        finally:
            log.append(f"leave {name}")

    return lifespan


def make_server(log: list[str], *values: Any) -> Server:
    server = Server("several")
    for number, value in enumerate(values, 1):
        server.lifespan(make_lifespan(log, str(number), value))

    @server.tool
    def find(ctx: Context) -> Any:
        return ctx.lifespan

    return server


async def test_lifespans_are_entered_in_order_and_left_in_reverse() -> None:
    log: list[str] = []
    async with open_client(make_server(log, {"db": "main"}, None, {"cache": 5})) as client:
        assert log == ["enter 1 of several", "enter 2 of several", "enter 3 of several"]
        assert (await client.call_tool("find")).data == {"db": "main", "cache": 5}
    assert log[3:] == ["leave 3", "leave 2", "leave 1"]


@pytest.mark.parametrize(
    ("values", "found"),
    [((), None), (("db",), "db"), ((None, "db", None), "db"), ((None, None), None), (({}, {}), {})],
)
async def test_one_lifespan_that_yields_keeps_its_value(values: Any, found: Any) -> None:
    async with make_server([], *values).open_lifespan() as value:
        assert value == found


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (({"db": 1}, "cache"), "one is a str: each must be a mapping"),
        (({"db": 1, "x": 2}, {"db": 1, "x": 3, "y": 1}), "yield the same key: 'db', 'x'"),
    ],
)
async def test_values_that_cannot_be_one_keep_the_server_from_starting(values: Any, message: str) -> None:
    log: list[str] = []
    with pytest.raises(DefinitionError, match=message):
        async with open_server(make_server(log, *values)):
            pytest.fail("it has started")
    assert log[2:] == ["leave 2", "leave 1"]


async def test_the_first_lifespan_may_be_given_to_the_constructor() -> None:
    log: list[str] = []

    @asynccontextmanager
    async def first(server: Server) -> AsyncIterator[dict[str, str]]:
        yield {"name": server.name}

    server = Server("given", lifespan=first)
    async with server.open_lifespan() as value:
        assert value == {"name": "given"}
    server.lifespan(make_lifespan(log, "second", {"db": 1}))
    async with server.open_lifespan() as value:
        assert value == {"name": "given", "db": 1}
    with pytest.raises(TypeError, match="a lifespan must be a function"):
        Server("given", lifespan=5)  # type: ignore[arg-type]
