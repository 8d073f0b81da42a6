"""The cap of a batch."""

import pytest

from trio_mcp.wire import codec
from trio_mcp.wire.batch_members import MAX_MEMBERS
from trio_mcp.wire.codec import decode_message
from trio_mcp.wire.errors import INVALID_REQUEST
from trio_mcp.wire.frames import Batch, Malformed


def test_a_batch_beyond_the_cap_is_refused_before_its_members_are_decoded(monkeypatch):
    decoded = []
    monkeypatch.setattr(codec, "_read_envelope", lambda envelope: decoded.append(envelope))
    frame = decode_message(b"[" + b"1," * 1_000_000 + b"1]")
    assert frame == Malformed(INVALID_REQUEST, f"a batch must not hold more than {MAX_MEMBERS} messages")
    assert not decoded


@pytest.mark.parametrize("count", [1, 2, MAX_MEMBERS])
def test_a_batch_within_the_cap_is_decoded(count):
    ping = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
    frame = decode_message(b" [" + b",".join([ping] * count) + b"]")
    assert isinstance(frame, Batch)
    assert len(frame.frames) == count
