"""Decoding of messages that come whole, however long, without holding up the event loop.

Owns the turns: what is counted in a long message is counted in portions, between which others run.
Refuses to know where messages come from.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

from trio_mcp.wire.codec import decode_counted, refuse_values
from trio_mcp.wire.frames import InFrame
from trio_mcp.wire.value_count import PORTION, ValueCounter
from trio_mcp.wire.websocket import decode_texts


async def decode_messages(messages: Sequence[str | bytes], max_values: int) -> list[InFrame]:
    """The frames of WebSocket messages, in order; checkpoints if one is long enough to be counted."""
    if not any(len(message) > max_values for message in messages):
        return decode_texts(messages, max_values)
    frames: list[InFrame] = []
    for message in messages:
        if isinstance(message, str) and len(message) > max_values:
            frames.append(await _decode_long(message.encode(errors="surrogatepass"), max_values))
        else:
            frames.extend(decode_texts([message], max_values))
    return frames


async def count_in_turns(counter: ValueCounter, data: bytes) -> None:
    """Let `counter` count `data`; checkpoints behind each portion but the last."""
    for start in range(0, len(data), PORTION):
        if start:
            # Cancelled, its caller would lose messages that it has taken; what is left takes bounded time.
            await trio.lowlevel.cancel_shielded_checkpoint()
        counter.feed(data[start : start + PORTION])
        if counter.is_beyond:
            return


async def _decode_long(data: bytes, max_values: int) -> InFrame:
    counter = ValueCounter(max_values)
    await count_in_turns(counter, data)
    await trio.lowlevel.cancel_shielded_checkpoint()
    return refuse_values(data, max_values) if counter.is_beyond else decode_counted(data)
