"""A program: sends one modern tools/call through an endpoint and prints what was decoded for it."""

from __future__ import annotations

import sys
from typing import Annotated

import msgspec
import trio

from tests.support.decode_log import DecodeLog

log = DecodeLog()
log.install()

from tests.support.asgi_host import finish, open_host  # noqa: E402
from trio_mcp import Server, asgi_app  # noqa: E402

server = Server("counted", version="1")


@server.tool
async def echo(text: str, size: int = 0) -> str:
    return text


@server.tool
async def mirrored(
    text: str, region: Annotated[str, msgspec.Meta(extra_json_schema={"x-mcp-header": "Region"})]
) -> str:
    return text


async def main(name: str) -> None:
    arguments = {"text": "some text"} if name == "echo" else {"text": "some text", "region": "here"}
    async with open_host(asgi_app(server)) as host:
        before = len(log.entries)
        params = {"name": name, "arguments": arguments}
        answer = await finish(host.modern("tools/call", params, headers={"mcp-param-region": "here"}))
        entries = log.entries[before:]
    assert answer.status == 200, answer.body
    print(msgspec.json.encode(entries).decode())


trio.run(main, sys.argv[1])
