"""The messages of a burst as ready bytes, which bare transports carry and trio_mcp's must match.

Owns how a notification, its event and its frame look on the wire. Needs only the standard library.
"""

import json
import re
import struct
from collections.abc import Iterable, Sequence
from typing import Any

from tally import MESSAGE

VERSION = "2026-07-28"
LEGACY_VERSION = "2025-11-25"
PROGRESS = b'"notifications/progress"'
_VALUES = re.compile(rb'"progress":(\d+)')


def encode(message: Any) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


def notifications(n: int, token: int | str = 1) -> list[bytes]:
    """The `n` updates of a burst, each as one message without its newline."""
    token_text = json.dumps(token).encode()
    head = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%b' % token_text
    tail = b',"total":%d,"message":"%b"}}' % (n, MESSAGE.encode())
    return [b'%b,"progress":%d%b' % (head, i + 1, tail) for i in range(n)]


def call(n: int, ident: int, tool: str = "burst", *, is_modern: bool = True) -> bytes:
    """A request for a burst of `n` updates."""
    meta: dict[str, Any] = {"progressToken": ident}
    if is_modern:
        meta["io.modelcontextprotocol/protocolVersion"] = VERSION
        meta["io.modelcontextprotocol/clientCapabilities"] = {}
    params = {"name": tool, "arguments": {"n": n}, "_meta": meta}
    return encode({"jsonrpc": "2.0", "id": ident, "method": "tools/call", "params": params})


INITIALIZE = encode(
    {
        "jsonrpc": "2.0",
        "id": 0,
        "method": "initialize",
        "params": {
            "protocolVersion": LEGACY_VERSION,
            "capabilities": {},
            "clientInfo": {"name": "benchmark", "version": "1.0"},
        },
    }
)
INITIALIZED = encode({"jsonrpc": "2.0", "method": "notifications/initialized"})


def answer(ident: Any, result: dict[str, Any]) -> bytes:
    return encode({"jsonrpc": "2.0", "id": ident, "result": {"resultType": "complete", **result}})


def discovered(ident: Any) -> bytes:
    """The answer to server/discover."""
    lasting = {"ttlMs": 0, "cacheScope": "private"}
    return answer(ident, {"supportedVersions": [VERSION], "capabilities": {"tools": {}}, **lasting})


def done(ident: Any, text: str) -> bytes:
    """The answer to the call of a tool."""
    return answer(ident, {"content": [{"type": "text", "text": text}]})


def event(message: bytes) -> bytes:
    return b"data: %b\n\n" % message


def chunk(data: bytes) -> bytes:
    """A chunk of a body of unknown length (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"


def frame(message: bytes) -> bytes:
    """A text message in one unmasked frame, as a server sends it (RFC 6455, 5.2)."""
    length = len(message)
    if length < 126:
        return bytes((0x81, length)) + message
    if length < 65_536:
        return struct.pack("!BBH", 0x81, 126, length) + message
    return struct.pack("!BBQ", 0x81, 127, length) + message


def masked_frame(message: bytes) -> bytes:
    """The same frame as a client sends it; a mask of zeros leaves the message as it is."""
    unmasked = frame(message)
    head = unmasked[: len(unmasked) - len(message)]
    return bytes((head[0], head[1] | 0x80)) + head[2:] + bytes(4) + message


def in_groups(messages: Sequence[bytes], size: int) -> Iterable[bytes]:
    """The messages joined, `size` at a time."""
    return (b"".join(messages[i : i + size]) for i in range(0, len(messages), size))


def is_burst(received: bytes, n: int) -> bool:
    """Whether `received` holds the updates of a burst of `n`, each once and in its order."""
    values = _VALUES.findall(received)
    whole = received.count(b'"total":%d,"message":"%b"' % (n, MESSAGE.encode()))
    return len(values) == whole == n and values == [b"%d" % (i + 1) for i in range(n)]
