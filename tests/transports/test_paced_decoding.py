"""A long message that comes whole is counted in portions, between which other tasks have their turns."""

from __future__ import annotations

import msgspec
import pytest
import trio

from tests.support.raw_peer import call
from trio_mcp.transports.paced_decoding import decode_messages
from trio_mcp.wire.frames import InFrame, Malformed, Request
from trio_mcp.wire.value_count import PORTION

SHORT = msgspec.json.encode(call(1, "echo", text="x")).decode()


async def decode_and_count_turns(*messages: str | bytes) -> tuple[list[InFrame], int]:
    """The frames of `messages`, and how many turns another task had meanwhile."""
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_turns)
        frames = await decode_messages(messages, 1000)
        had = turns
        nursery.cancel_scope.cancel()
    return frames, had


@pytest.mark.parametrize("text", ["x", "a,b", '"', "é"])
async def test_others_run_while_a_long_message_is_counted(text: str) -> None:
    message = msgspec.json.encode(call(7, "echo", text=text * (20 * PORTION // len(text)))).decode()
    frames, turns = await decode_and_count_turns(SHORT, message, SHORT)
    assert [frame.id for frame in frames if isinstance(frame, Request)] == [1, 7, 1]
    assert turns >= 20


async def test_the_count_ends_beyond_the_cap() -> None:
    message = SHORT[:-1] + ',"x":[' + "1," * (20 * PORTION) + "1]}"
    frames, turns = await decode_and_count_turns(message)
    assert isinstance(frames[0], Malformed)
    assert "1000 values" in frames[0].reason
    assert turns <= 3


async def test_short_messages_are_decoded_at_once() -> None:
    frames, turns = await decode_and_count_turns(SHORT, SHORT)
    assert len(frames) == 2
    assert turns == 0
