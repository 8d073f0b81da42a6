"""What `result_type` makes of a result, for a type checker and when the program runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict, assert_type

import trio

from trio_mcp import CallHandle, CallResult, Client, ClientGroup, Context, Server, open_client, open_group

server = Server("photos")


@dataclass
class Photo:
    title: str
    width: int


class Size(TypedDict):
    width: int
    height: int


@server.tool
async def take(title: str) -> Photo:
    return Photo(title, 640)


@server.tool
def measure() -> Size:
    return {"width": 640, "height": 480}


@server.tool
def find(prefix: str) -> list[Photo]:
    return [Photo(f"{prefix} {number}", 640) for number in range(2)]


@server.tool
async def copy(ctx: Context, title: str) -> Photo:
    original = await ctx.call_tool("take", {"title": title}, result_type=Photo)
    assert_type(original, CallResult[Photo])
    untyped = await ctx.call_tool("take", {"title": title}, raise_on_error=False)
    assert_type(untyped.data, Any)
    return original.data


async def call(client: Client) -> None:
    taken = await client.call_tool("take", {"title": "sea"}, result_type=Photo)
    assert_type(taken, CallResult[Photo])
    assert_type(taken.data.title, str)
    assert taken.data == Photo("sea", 640)

    copied = await client.call_tool("copy", {"title": "sea"}, result_type=Photo, idle_timeout=30)
    assert isinstance(copied.data, Photo)

    found = await client.call_tool("find", {"prefix": "sea"}, result_type=list[Photo], task=False)
    assert_type(found.data, list[Photo])
    assert [photo.title for photo in found.data] == ["sea 0", "sea 1"]

    size = await client.call_tool("measure", result_type=Size)
    assert_type(size.data["width"], int)

    # Without a type, and with a hint that is no class, the data may be anything.
    plain = await client.call_tool("take", {"title": "sea"})
    assert_type(plain, CallResult[Any])
    assert plain.data["width"] == 640
    maybe = await client.call_tool("take", {"title": "sea"}, result_type=Photo | None)
    assert_type(maybe.data, Any)
    assert isinstance(maybe.data, Photo)


async def start(client: Client) -> None:
    async with client.start_call("take", {"title": "sea"}, result_type=Photo, max_timeout=30) as handle:
        assert_type(handle, CallHandle[Photo])
        async for update in handle.updates:
            assert_type(update.progress, float)
        assert_type((await handle.result()).data, Photo)
    async with client.start_call("take", {"title": "sea"}) as untyped:
        assert_type(untyped, CallHandle[Any])
        assert (await untyped.result()).data["width"] == 640


async def call_group(group: ClientGroup) -> None:
    taken = await group.call_tool("photos_take", {"title": "sea"}, result_type=Photo, raise_on_error=True)
    assert_type(taken, CallResult[Photo])
    assert taken.data.width == 640
    async with group.start_call("photos_find", {"prefix": "sea"}, result_type=list[Photo]) as handle:
        assert_type((await handle.result()).data, list[Photo])


# A signature that was written before results had a type goes on to be complete.
def first_text(result: CallResult) -> str:
    return result.text


async def main() -> None:
    async with open_client(server) as client:
        await call(client)
        await start(client)
        assert first_text(await client.call_tool("take", {"title": "sea"}))
    async with open_group({"photos": server}) as group:
        await call_group(group)


if __name__ == "__main__":
    trio.run(main)
