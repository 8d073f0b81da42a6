"""MCP in WebSocket messages: the names and numbers of it, and the decoding of a burst.

Owns the subprotocol, the close codes (RFC 6455, 7.4.1) and what each kind of message
holds. Knows no connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from trio_mcp.wire.codec import decode_lines, decode_message
from trio_mcp.wire.errors import PARSE_ERROR
from trio_mcp.wire.frames import InFrame, Malformed

SUBPROTOCOL: Final = "mcp"
"""What a client offers and a server chooses; neither insists on it."""

NORMAL_CLOSURE: Final = 1000
GOING_AWAY: Final = 1001
NO_STATUS: Final = 1005
MESSAGE_TOO_BIG: Final = 1009

NORMAL_ENDS: Final = frozenset({NORMAL_CLOSURE, GOING_AWAY, NO_STATUS})
"""The close codes of a peer that had nothing more to say."""


def decode_texts(messages: Sequence[str | bytes]) -> list[InFrame]:
    """The frames of WebSocket messages, in order; never raises.

    A binary message is `Malformed`; runs of text are decoded in one pass.
    """
    frames: list[InFrame] = []
    run: list[str] = []
    for message in messages:
        if isinstance(message, str) and "\n" not in message and message and not message.isspace():
            run.append(message)
            continue
        frames.extend(_decode_run(run))
        run = []
        # Neither an empty message nor one with a newline inside is to be taken for lines.
        if isinstance(message, str):
            frames.append(decode_message(message.encode()))
        else:
            frames.append(Malformed(PARSE_ERROR, "a binary message: MCP is sent in text messages"))
    frames.extend(_decode_run(run))
    return frames


def _decode_run(run: list[str]) -> list[InFrame]:
    return decode_lines("\n".join(run).encode()) if run else []
