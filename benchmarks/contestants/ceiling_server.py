"""The sending ends of bare transports: `python ceiling_server.py pipe|sse|websocket|hypercorn`.

Owns the sending of ready messages with nothing but the libraries beneath trio_mcp. Over a network it prints
its address and serves until its standard input ends; each line of that asks how much memory it holds. Over
the pipe each line (`messages-per-write n`) asks for one burst.
"""

import sys
from collections.abc import Awaitable, Callable
from functools import lru_cache, partial
from typing import Any

import hypercorn
import hypercorn.trio
import trio
import trio_websocket
from limits_messages import event, in_groups, notifications
from sessions_footprint import answer_questions

READ_BYTES = 65_536
QUEUE_MESSAGES = 256
"""Both as in trio_mcp. With its defaults, a page and one message, trio-websocket would be slower."""


Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


@lru_cache(8)
def lines(n: int, size: int) -> list[bytes]:
    return list(in_groups([message + b"\n" for message in notifications(n)], size))


@lru_cache(8)
def events(n: int, size: int) -> list[bytes]:
    return list(in_groups([event(message) for message in notifications(n)], size))


@lru_cache(8)
def texts(n: int) -> list[str]:
    return [message.decode() for message in notifications(n)]


async def write_pipe() -> None:
    stdin, stdout = trio.lowlevel.FdStream(0), trio.lowlevel.FdStream(1)
    async with stdin, stdout:
        while request := await stdin.receive_some():  # the next burst is requested after the last has arrived
            size, n = map(int, request.split())
            for data in lines(n, size):
                await stdout.send_all(data)


async def serve_websocket(started: Callable[[str], None]) -> None:
    async def handle(request: trio_websocket.WebSocketRequest) -> None:
        connection = await request.accept()
        try:
            while True:
                for text in texts(int(await connection.get_message())):
                    await connection.send_message(text)
        except trio_websocket.ConnectionClosed:
            pass

    async with trio.open_nursery() as nursery:
        serve = partial(
            trio_websocket.serve_websocket,
            message_queue_size=QUEUE_MESSAGES,
            receive_buffer_size=READ_BYTES,
        )
        server = await nursery.start(serve, handle, "127.0.0.1", 0, None)
        started(f"ws://127.0.0.1:{server.port}/")


async def app(scope: Any, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            for text in texts(int(message["text"])):
                await send({"type": "websocket.send", "text": text})
    elif scope["type"] == "http":
        size, n = map(int, scope["path"].strip("/").split("/"))
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for data in events(n, size):
            await send({"type": "http.response.body", "body": data, "more_body": True})
        if not n:  # a silent stream, whose memory is measured
            await send({"type": "http.response.body", "body": b":\n\n", "more_body": True})
            while (await receive())["type"] != "http.disconnect":
                pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    else:
        raise NotImplementedError(f"this application has no {scope['type']}")


async def serve_hypercorn(started: Callable[[str], None]) -> None:
    config = hypercorn.Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = None
    config.keep_alive_timeout = 600  # longer than the other cells take in a round
    async with trio.open_nursery() as nursery:
        binds = await nursery.start(hypercorn.trio.serve, app, config)
        started(binds[0])


async def main(serve: Callable[[Callable[[str], None]], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, partial(print, flush=True))
        await answer_questions(lambda: 0)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    if sys.argv[1] == "pipe":
        trio.run(write_pipe)
    else:
        trio.run(main, {"websocket": serve_websocket, "hypercorn": serve_hypercorn}[sys.argv[1]])
