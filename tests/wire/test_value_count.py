"""A message with too many values is refused before it is decoded, under its id; long texts are not."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from trio_mcp.wire.codec import decode_lines, decode_message
from trio_mcp.wire.errors import INVALID_REQUEST, PARSE_ERROR
from trio_mcp.wire.frames import ErrorResponse, Malformed, ProgressRun, Request, Response
from trio_mcp.wire.framing import LineDecoder
from trio_mcp.wire.sse import EventDecoder
from trio_mcp.wire.value_count import MAX_ANSWER_VALUES, MAX_VALUES, ValueCounter, has_too_many_values
from trio_mcp.wire.websocket import decode_texts

HEAD = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":'
ODD_TEXTS = st.text(st.sampled_from(['"', "\\", ",", "[", "{", "a", "é", "\n"]), max_size=20)
VALUES = st.recursive(
    st.none() | st.integers() | ODD_TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ODD_TEXTS, inner, max_size=4),
    max_leaves=20,
)


def feed_in_portions(data: bytes, size: int, decoder: LineDecoder | EventDecoder) -> list[object]:
    """The frames of a line that comes `size` bytes at a time."""
    frames: list[object] = []
    for start in range(0, len(data), size):
        frames += decoder.feed(data[start : start + size])
    return frames


@pytest.mark.parametrize("value", [b"1", b"[]", b"{}", b'""', b'","', b'"\\\\"', b'"\\""'])
def test_a_message_with_too_many_values_is_refused_under_its_id(value: bytes) -> None:
    data = HEAD + b'{"_meta":{"a":[' + b",".join([value] * (MAX_VALUES + 1)) + b"]}}}"
    for frame in (
        decode_message(data),
        decode_lines(data + b"\n")[0],
        feed_in_portions(data + b"\n", 65_536, LineDecoder(1 << 26))[0],
        decode_texts([data.decode()])[0],
    ):
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
    data = HEAD + params + b"}"
    for frame in (decode_message(data), feed_in_portions(data + b"\n", 65_537, LineDecoder(1 << 26))[0]):
        assert isinstance(frame, Request)
        assert bytes(frame.params) == params  # type: ignore[arg-type]  # it is there


def test_as_many_values_as_the_cap_are_read() -> None:
    assert not has_too_many_values(b"[" + b"1," * (MAX_VALUES - 1) + b"1]", MAX_VALUES)
    assert has_too_many_values(b"[" + b"1," * MAX_VALUES + b"1]", MAX_VALUES)


def count_marks(value: object) -> int:
    """The commas and opening brackets of a value as JSON, outside of texts."""
    if isinstance(value, list):
        return 1 + max(0, len(value) - 1) + sum(count_marks(one) for one in value)
    if isinstance(value, dict):
        return 1 + max(0, len(value) - 1) + sum(count_marks(one) for one in value.values())
    return 0


@given(value=VALUES, size=st.integers(1, 50))
def test_the_count_is_the_same_in_whatever_portions_a_message_comes(value: object, size: int) -> None:
    data, marks = msgspec.json.encode(value), count_marks(value)
    for cap, is_beyond in ((marks, False), (marks - 1, True)):
        counter = ValueCounter(cap)
        for start in range(0, len(data), size):
            counter.feed(data[start : start + size])
        assert counter.is_beyond is is_beyond


@pytest.mark.parametrize(
    "data",
    [
        b"[" + b",".join([HEAD + b'{"a":[' + b"1," * (MAX_VALUES // 2) + b"1]}}"] * 3) + b"]",
        b"[" + b",".join([HEAD + b'{"a":[' + b"1," * MAX_VALUES + b"1]}}"] * 128) + b"]",
    ],
)
def test_a_batch_with_too_many_values_in_all_is_refused(data: bytes) -> None:
    frame = decode_message(data)
    assert isinstance(frame, Malformed)
    assert str(MAX_VALUES) in frame.reason


def test_a_batch_of_very_many_members_is_refused_for_their_number() -> None:
    frame = decode_message(b"[" + b"1," * (2 * MAX_VALUES) + b"1]")
    assert isinstance(frame, Malformed)
    assert frame.code == INVALID_REQUEST
    assert "128 messages" in frame.reason


def test_the_stages_of_a_progress_notification_are_counted() -> None:
    stage = b'{"path":["s"],"progress":1,"total":2}'
    data = (
        b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1,"_meta":'
        b'{"io.github.trio-mcp/stages":[' + b",".join([stage] * 1000) + b"]}}}\n"
    )
    small = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}\n'
    burst = small * 50
    assert isinstance(decode_lines(burst, 1000)[0], ProgressRun)
    for frames in (
        decode_lines(small + data, 1000),
        LineDecoder(1 << 26, 1000).feed(small + data),
        decode_texts([small.decode().strip(), data.decode().strip()], 1000),
    ):
        assert isinstance(frames[0], ProgressRun)
        assert isinstance(frames[1], Malformed)
        assert "1000 values" in frames[1].reason


def test_a_burst_that_is_longer_than_the_cap_is_still_one_run() -> None:
    small = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}\n'
    frames = decode_lines(small * 1000, 500)
    assert len(frames) == 1
    assert isinstance(frames[0], ProgressRun)
    assert len(frames[0].updates) == 1000


@pytest.mark.parametrize("size", [1000, 65_536, 1 << 22])
def test_an_answer_may_hold_more_values_than_a_request(size: int) -> None:
    fits = b'{"jsonrpc":"2.0","id":7,"result":{"content":[' + b"1," * (2 * MAX_VALUES) + b"1]}}"
    data = b'{"jsonrpc":"2.0","id":7,"result":{"content":[' + b"1," * MAX_ANSWER_VALUES + b"1]}}"
    assert isinstance(feed_in_portions(b"data: " + fits + b"\n\n", size, EventDecoder(1 << 26))[0], Response)
    (frame,) = feed_in_portions(b"data: " + data + b"\n\n", size, EventDecoder(1 << 26))
    assert isinstance(frame, Malformed)
    assert (frame.id, frame.kind) == (7, "answer")
    assert str(MAX_ANSWER_VALUES) in frame.reason


@pytest.mark.parametrize("ident", [7, "seven", "a,b"])
def test_an_id_behind_long_parameters_is_found(ident: int | str) -> None:
    tail = b',"jsonrpc":"2.0","id":' + msgspec.json.encode(ident) + b"}"
    data = b'{"method":"tools/call","params":{"id":1,"a":[{"id":2}' + b",1" * (1 << 20) + b"]}" + tail
    frame = decode_message(data)
    assert isinstance(frame, Malformed)
    assert (frame.id, frame.kind, frame.lost) == (ident, "request", False)


@pytest.mark.parametrize("tail", [b',"id":5}}', b',"a\\",\\"id\\":5}', b',"id":[5]}', b',"id":"a'])
def test_no_id_is_made_up_behind_long_parameters(tail: bytes) -> None:
    data = b'{"method":"tools/call","params":{"a":[1' + b",1" * (1 << 20) + b"]" + tail
    frame = decode_message(data)
    assert not isinstance(frame, (Request, Response, ErrorResponse))
    assert isinstance(frame, Malformed)
    assert frame.id is UNSET


def test_a_line_of_blanks_that_is_longer_than_the_cap_is_no_message() -> None:
    assert LineDecoder(1 << 26, 10).feed(b" " * 50) == []
    decoder = LineDecoder(1 << 26, 10)
    assert decoder.feed(b" " * 50) == []
    assert decoder.feed(b" \n" + HEAD + b"{}}\n") == decode_lines(HEAD + b"{}}", 100)


def test_the_counter_forgets_a_line_at_its_end() -> None:
    decoder = LineDecoder(1 << 26, 100)
    line = HEAD + b'{"a":[' + b"1," * 60 + b"1]}}"
    frames = feed_in_portions((line + b"\n") * 3, 20, decoder)
    assert [type(frame) for frame in frames] == [Request] * 3
