"""What one connection was given first leaves before what another one is given afterwards."""

from __future__ import annotations

import trio

from tests.transports.hypercorn.test_hypercorn import (
    application,
    body,
    connect,
    read_until,
    request,
    serving,
    start,
)
from trio_mcp.transports import write_now as module
from trio_mcp.transports.hypercorn import connection, guarded_stream


async def test_a_response_is_not_overtaken_by_what_follows_on_another_stream(monkeypatch):
    """A client must know a task, which a response names, before the task asks on the session's stream."""
    written: list[bytes] = []

    def record(descriptor, data):
        written.append(bytes(data))
        return module.write_now(descriptor, data)

    for writer in (connection, guarded_stream):
        monkeypatch.setattr(writer, "write_now", record)
    asked = trio.Event()

    async def stream(scope, receive, send):
        nonlocal asked
        await start(send)
        await body(send, b"open", more=True)
        while True:
            await asked.wait()
            asked = trio.Event()
            await body(send, b"question", more=True)

    async def response(scope, receive, send):
        await start(send)
        asked.set()
        await body(send, b"response")

    async with (
        serving(application(stream=stream, response=response)) as (address,),
        await connect(address) as events,
        await connect(address) as calls,
    ):
        await events.send_all(request("/stream"))
        await read_until(events, b"open")
        for _ in range(40):
            await calls.send_all(request("/response"))
            await read_until(calls, b"response")
            await read_until(events, b"question")
    order = [word for data in written for word in (b"response", b"question") if word in data]
    assert order == 40 * [b"response", b"question"]
