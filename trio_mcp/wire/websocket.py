"""MCP in WebSocket messages: names, close codes, and the coding of a burst in one pass.

Owns the subprotocol, the close codes (RFC 6455, 7.4.1), the content of each kind of
message, and the WebSocket frames of a server's messages. Knows no connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from trio_mcp.wire.codec import decode_lines, decode_message, refuse_message
from trio_mcp.wire.frames import InFrame
from trio_mcp.wire.value_count import MAX_VALUES

SUBPROTOCOL: Final = "mcp"
"""The subprotocol that a client offers and a server chooses; neither requires it."""

NORMAL_CLOSURE: Final = 1000
GOING_AWAY: Final = 1001
NO_STATUS: Final = 1005
POLICY_VIOLATION: Final = 1008
MESSAGE_TOO_BIG: Final = 1009
TRY_AGAIN_LATER: Final = 1013

NORMAL_ENDS: Final = frozenset({NORMAL_CLOSURE, GOING_AWAY, NO_STATUS})
"""The close codes of a peer that ended the connection in order."""


_TEXT: Final = 0x81
"""The first byte of a frame that is a whole text message."""


def encode_texts(messages: Iterable[bytes]) -> bytes:
    """The frames of a server's text messages, each UTF-8: whole and not masked (RFC 6455, 5.2)."""
    parts: list[bytes] = []
    for message in messages:
        length = len(message)
        if length < 126:
            parts.append(bytes((_TEXT, length)))
        elif length < 65_536:
            parts.append(bytes((_TEXT, 126, length >> 8, length & 0xFF)))
        else:
            parts.append(bytes((_TEXT, 127)) + length.to_bytes(8, "big"))
        parts.append(message)
    return b"".join(parts)


def decode_texts(messages: Sequence[str | bytes], max_values: int = MAX_VALUES) -> list[InFrame]:
    """The frames of WebSocket messages, in order; never raises.

    A binary message is `Malformed`, and so is one that holds more than `max_values` values. Runs of
    text are decoded in one pass.
    """
    frames: list[InFrame] = []
    run: list[str] = []
    for message in messages:
        if isinstance(message, str) and "\n" not in message and message and not message.isspace():
            run.append(message)
            continue
        frames.extend(_decode_run(run, max_values))
        run = []
        # An empty message, or one with a newline inside, must not be decoded as lines.
        if isinstance(message, str):
            frames.append(decode_message(message.encode(errors="surrogatepass"), max_values))
        else:
            frames.append(refuse_message(message, "a binary message: MCP is sent in text messages"))
    frames.extend(_decode_run(run, max_values))
    return frames


def _decode_run(run: list[str], max_values: int) -> list[InFrame]:
    return decode_lines("\n".join(run).encode(errors="surrogatepass"), max_values) if run else []
