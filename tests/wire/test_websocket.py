"""The frames of a server's messages, read by wsproto."""

from __future__ import annotations

import pytest
import wsproto.connection
from hypothesis import given
from hypothesis import strategies as st
from wsproto.events import TextMessage

from trio_mcp.wire.websocket import encode_texts


def read(frames: bytes) -> list[str]:
    """Return the messages that a client reads; each is whole and in one frame."""
    connection = wsproto.connection.Connection(wsproto.connection.ConnectionType.CLIENT)
    connection.receive_data(frames)
    events = list(connection.events())
    assert all(isinstance(event, TextMessage) and event.message_finished for event in events)
    return [event.data for event in events]


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 255, 256, 65_535, 65_536, 70_000])
def test_every_encoding_of_a_length_is_readable(length):
    assert read(encode_texts([b"x" * length, b"next"])) == ["x" * length, "next"]


@given(st.lists(st.text(max_size=300)))
def test_messages_stay_whole_and_in_order(texts):
    assert read(encode_texts([text.encode() for text in texts])) == texts
