"""A server that has its bursts ready as bytes: `python limits_prerendered.py stdio|http|websocket`.

It costs next to nothing, so it shows how fast a client is. It answers server/discover, and tools/call with
`n` updates under the token of the request, or for the tool `pid` with its process id. Over a network it
prints its URL, and serves until its standard input ends.
"""

import base64
import hashlib
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any

import trio
from limits_messages import LAST_CHUNK, chunk, discovered, done, event, frame, in_groups, notifications

READ_BYTES = 65_536
MARK = 9 * 10**8
"""Stands for the token in ready messages; all numbers of a burst are smaller."""

GROUP = 256
"""The number of messages in one write or chunk: about as many as trio_mcp's server joins."""

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
ACCEPTED = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"
REFUSED = b"HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n"
UPGRADED = (
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
    b"sec-websocket-accept: %b\r\nsec-websocket-protocol: mcp\r\n\r\n"
)
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3


def wrap_line(message: bytes) -> bytes:
    return message + b"\n"


@lru_cache(64)
def rendered(n: int, wrap: Callable[[bytes], bytes], digits: int) -> list[bytes]:
    """The writes of a burst whose token has so many digits, on which the length in a frame's head depends."""
    token = str(MARK)[:1] + "0" * (digits - 1)
    marked = str(MARK).encode()
    messages = []
    for message in notifications(n, MARK):
        sized = wrap(message.replace(marked, token.encode(), 1))
        messages.append(sized.replace(b'"progressToken":' + token.encode(), b'"progressToken":' + marked, 1))
    return list(in_groups(messages, GROUP))


def burst(n: int, token: int, wrap: Callable[[bytes], bytes]) -> list[bytes]:
    mine = str(token).encode()
    marked = str(MARK).encode()
    return [group.replace(marked, mine) for group in rendered(n, wrap, len(mine))]


def answers(message: bytes, wrap: Callable[[bytes], bytes]) -> list[bytes]:
    """All writes that answer a message."""
    request = json.loads(message)
    if "id" not in request:
        return []
    if request["method"] != "tools/call":
        return [wrap(discovered(request["id"]))]
    params: dict[str, Any] = request["params"]
    if params["name"] == "pid":
        return [wrap(done(request["id"], str(os.getpid())))]
    updates = burst(params["arguments"]["n"], params["_meta"]["progressToken"], wrap)
    return [*updates, wrap(done(request["id"], "done"))]


async def serve_stdio() -> None:
    stdin, stdout = trio.lowlevel.FdStream(0), trio.lowlevel.FdStream(1)
    unread = b""
    while data := await stdin.receive_some(READ_BYTES):
        *lines, unread = (unread + data).split(b"\n")
        for line in lines:
            for piece in answers(line, wrap_line):
                await stdout.send_all(piece)


async def serve_http(stream: trio.SocketStream) -> None:
    unread = b""
    while True:
        while b"\r\n\r\n" not in unread:
            data = await stream.receive_some(READ_BYTES)
            if not data:
                return
            unread += data
        head, _, unread = unread.partition(b"\r\n\r\n")
        lowered = head.lower()
        if b"upgrade: websocket" in lowered:
            await serve_websocket(stream, head)
            return
        length = int(lowered.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        while len(unread) < length:
            unread += await stream.receive_some(READ_BYTES)
        body, unread = unread[:length], unread[length:]
        await answer_http(stream, body if head.startswith(b"POST") else None)


async def answer_http(stream: trio.SocketStream, body: bytes | None) -> None:
    pieces = [] if body is None else answers(body, event)
    if body is None:
        await stream.send_all(REFUSED)
    elif not pieces:
        await stream.send_all(ACCEPTED)
    elif len(pieces) == 1:
        message = pieces[0].removeprefix(b"data: ").strip()
        await stream.send_all(WHOLE % (len(message), message))
    else:
        await stream.send_all(STREAM)
        for piece in pieces:
            await stream.send_all(chunk(piece))
        await stream.send_all(LAST_CHUNK)


async def serve_websocket(stream: trio.SocketStream, head: bytes) -> None:
    key = head.lower().index(b"sec-websocket-key:") + len(b"sec-websocket-key:")
    digest = hashlib.sha1(head[key:].partition(b"\r\n")[0].strip() + GUID).digest()
    await stream.send_all(UPGRADED % base64.b64encode(digest))
    unread = b""
    while data := await stream.receive_some(READ_BYTES):
        unread += data
        while (taken := take_frame(unread)) is not None:
            opcode, payload, unread = taken
            if opcode == 8:
                await stream.send_all(b"\x88\x02\x03\xe8")
                return
            if opcode == 9:  # a client without an answer to its pings gives up
                await stream.send_all(bytes((0x8A, len(payload))) + payload)
            for piece in answers(payload, frame) if opcode == 1 else ():
                await stream.send_all(piece)


def take_frame(data: bytes) -> tuple[int, bytes, bytes] | None:
    """The first masked frame in `data` and the bytes after it; None if the frame is not complete."""
    if len(data) < 6:
        return None
    length, at = data[1] & 0x7F, 2
    if length == 126:
        length, at = int.from_bytes(data[2:4], "big"), 4
    end = at + 4 + length
    if len(data) < end:
        return None
    mask = data[at : at + 4]
    payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data[at + 4 : end]))
    return data[0] & 0x0F, payload, data[end:]


async def serve_network(scheme: str) -> None:
    async def handle(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            await serve_http(stream)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
        print(f"{scheme}://127.0.0.1:{listeners[0].socket.getsockname()[1]}/mcp", flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        trio.run(serve_stdio)
    else:
        trio.run(serve_network, {"http": "http", "websocket": "ws"}[sys.argv[1]])
