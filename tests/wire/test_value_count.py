"""A message with too many values is refused before it is decoded, under its id; long texts are not."""

from __future__ import annotations

import msgspec
import pytest

from trio_mcp.wire.codec import decode_lines, decode_message
from trio_mcp.wire.errors import PARSE_ERROR
from trio_mcp.wire.frames import Malformed, Request
from trio_mcp.wire.value_count import MAX_VALUES, has_too_many_values

HEAD = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":'


@pytest.mark.parametrize("value", [b"1", b"[]", b"{}", b'""', b'","', b'"\\\\"', b'"\\""'])
def test_a_message_with_too_many_values_is_refused_under_its_id(value: bytes) -> None:
    data = HEAD + b'{"_meta":{"a":[' + b",".join([value] * (MAX_VALUES + 1)) + b"]}}}"
    for frame in (decode_message(data), decode_lines(data + b"\n")[0]):
        assert isinstance(frame, Malformed)
        assert (frame.code, frame.id, frame.kind) == (PARSE_ERROR, 7, "request")
        assert str(MAX_VALUES) in frame.reason


def test_values_in_the_place_of_an_id_are_not_decoded() -> None:
    frame = decode_message(b'{"jsonrpc":"2.0","id":[' + b"1," * MAX_VALUES + b'1],"method":"ping"}')
    assert isinstance(frame, Malformed)
    assert str(MAX_VALUES) in frame.reason


@pytest.mark.parametrize("text", ["a,b;[{", 'say "a, b", [c]', "a\\,b\\\\,", 'end\\",'])
def test_a_long_text_is_one_value_whatever_is_in_it(text: str) -> None:
    params = msgspec.json.encode({"name": "t", "arguments": {"text": text * MAX_VALUES, "more": [1, 2]}})
    frame = decode_message(HEAD + params + b"}")
    assert isinstance(frame, Request)
    assert bytes(frame.params) == params  # type: ignore[arg-type]  # it is there


def test_as_many_values_as_the_cap_are_read() -> None:
    assert not has_too_many_values(b"[" + b"1," * (MAX_VALUES - 1) + b"1]")
    assert has_too_many_values(b"[" + b"1," * MAX_VALUES + b"1]")


def test_a_batch_with_too_many_values_in_all_is_refused() -> None:
    member = HEAD + b'{"a":[' + b"1," * (MAX_VALUES // 2) + b"1]}}"
    frame = decode_message(b"[" + b",".join([member] * 3) + b"]")
    assert isinstance(frame, Malformed)
    assert str(MAX_VALUES) in frame.reason
