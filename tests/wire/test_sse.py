"""Server-sent events are decoded to frames and encoded, however they are split."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from trio_mcp.wire.codec import decode_lines, encode_lines, encode_messages
from trio_mcp.wire.errors import PARSE_ERROR
from trio_mcp.wire.frames import Malformed, Notification, ProgressRun, Request, Response
from trio_mcp.wire.sse import KEEP_ALIVE, EventDecoder, encode_event, encode_events

BURST = ProgressRun(7, [(n, 100, f"step {n}", None) for n in range(1, 20)])
FRAMES = [BURST, Notification("notifications/message", Raw(b'{"level":"info","data":"\xc3\xa4"}')), BURST]
ANSWER = Response(1, Raw(b'{"content":[]}'))
PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
LIMIT = 1_000_000


def plain(frames):
    """Return texts to compare: frames in any grouping of their progress, with their Raw members."""
    said = []
    for frame in frames:
        said += [repr(frame)] if isinstance(frame, Malformed) else encode_messages([frame])
    return said


def decode(data, portion=None, limit=LIMIT):
    decoder = EventDecoder(limit)
    portion = portion or len(data) or 1
    frames = [f for i in range(0, len(data), portion) for f in decoder.feed(data[i : i + portion])]
    return decoder, frames


def test_events_are_encoded_as_in_the_standard():
    assert encode_events([Request(1, "ping")]) == b"data: " + PING + b"\n\n"
    assert encode_events([]) == b""
    assert encode_events([BURST, ANSWER]).count(b"data: ") == 20
    assert encode_event(b"", event_id="7/0", retry=1500) == b"id: 7/0\nretry: 1500\ndata: \n\n"
    assert encode_event(PING) == b"data: " + PING + b"\n\n"


@pytest.mark.parametrize("event_id", ["a\nb", "a\rb", "a\0b"])
def test_an_id_of_several_lines_is_refused(event_id):
    with pytest.raises(ValueError, match="one line"):
        encode_event(b"", event_id=event_id)


def test_a_burst_is_one_frame():
    _, frames = decode(encode_events([BURST]))
    assert frames == [BURST]


@pytest.mark.parametrize("newline", [b"\n", b"\r", b"\r\n"])
@pytest.mark.parametrize("head", [b"", b"\xef\xbb\xbf"])
def test_events_may_be_split_at_every_byte(newline, head):
    data = head + encode_event(b"", event_id="1", retry=20) + KEEP_ALIVE + encode_events(FRAMES)
    data += b"event: message\nid: 2\n" + encode_events([ANSWER]) + b"data: {unfinished"
    data = data.replace(b"\n", newline)
    expected = plain([*FRAMES, ANSWER])
    for cut in range(len(data) + 1):
        decoder = EventDecoder(LIMIT)
        frames = [*decoder.feed(data[:cut]), *decoder.feed(data[cut:])]
        assert plain(frames) == expected
        assert (decoder.last_event_id, decoder.retry) == ("2", 20)
    assert plain(decode(data, 1)[1]) == expected


def test_data_of_many_lines_is_one_message():
    text = b'data: {"jsonrpc":"2.0",\ndata:"id":1,\ndata: "method":"ping"}\n\n'
    for portion in (1, 3, len(text)):
        _, frames = decode(text + encode_events([ANSWER]), portion)
        assert plain(frames) == plain([Request(1, "ping"), ANSWER])


@pytest.mark.parametrize(
    "event",
    [
        b": comment\n\n",
        b"event: endpoint\ndata: /messages\n\n",
        b"data\n\n",
        b"data:\n\n",
        b"data: \n\n",
        b"other: 1\nwhat\n\n",
        b"\n\n\n",
    ],
)
def test_an_event_without_a_message_gives_no_frame(event):
    data = encode_events([BURST]) + event + encode_events([ANSWER])
    assert plain(decode(data)[1]) == plain([BURST, ANSWER])
    assert plain(decode(event + data)[1]) == plain([BURST, ANSWER])


def test_the_last_event_id_is_kept():
    decoder = EventDecoder(LIMIT)
    assert decoder.last_event_id is None
    decoder.feed(b"id: a\n")
    assert decoder.last_event_id is None, "the event is not complete"
    decoder.feed(b"\n")
    assert decoder.last_event_id == "a"
    decoder.feed(encode_events([ANSWER]))
    assert decoder.last_event_id == "a", "an id stays in force"
    decoder.feed(b"id: b\0c\n\n")
    assert decoder.last_event_id == "a", "an id with NUL is ignored"
    decoder.feed(b"id: other\nevent: endpoint\ndata: x\n\n")
    assert decoder.last_event_id == "other"
    decoder.feed(b"id\n\n")
    assert decoder.last_event_id == ""


@pytest.mark.parametrize(
    ("field", "retry"), [(b"15", 15), (b"-1", None), (b"1.5", None), (b"9" * 5000, None)]
)
def test_retry_is_read(field, retry):
    assert decode(b"retry: " + field + b"\n\n")[0].retry == retry


def test_malformed_data_is_answered_in_its_place():
    data = encode_events([BURST]) + b"data: {\n\n" + encode_events([ANSWER])
    first, wrong, last = decode(data)[1]
    assert plain([first, last]) == plain([BURST, ANSWER])
    assert isinstance(wrong, Malformed)
    assert wrong.code == PARSE_ERROR


@pytest.mark.parametrize(
    "long",
    [
        b"data: " + b"x" * 60 + b"\n\n",
        b"data:" + b"x" * 51 + b"\nid: 9\ndata: more\n\n",
        b": " + b"x" * 60 + b"\n\n",
        b"data: " + b"x" * 25 + b"\ndata: " + b"x" * 25 + b"\n\n",
    ],
)
@pytest.mark.parametrize("portion", [1, 2, 7, 1000])
def test_an_over_long_event_is_answered_once_and_skipped(long, portion):
    data = b"data: " + PING + b"\n\n"
    decoder, (before, refused, after) = decode(data + long + data, portion, limit=50)
    assert plain([before, after]) == plain([Request(1, "ping")] * 2)
    assert refused == Malformed(PARSE_ERROR, "message longer than 50 bytes", lost=True)
    assert decoder.last_event_id is None


def test_an_endless_event_is_not_stored():
    decoder = EventDecoder(1000)
    decoder.feed(b"data: ")
    frames = [f for _ in range(100) for f in decoder.feed(b"x" * 500)]
    assert len(frames) == 1
    assert decoder._tail == []


LINES = st.sampled_from(
    [
        b"",
        b"data: " + PING,
        b"data:" + PING,
        b"data: " + b"z" * 70,
        b"data: {",
        b'data: "id":1}',
        b"data",
        b"id: 1",
        b"id:\xff",
        b"event: x",
        b"event: message",
        b": hello",
        b"\xef\xbb\xbfdata: 1",
        b"retry: 5",
        b"x" * 90,
        encode_events([BURST])[:-2],
    ]
)


@given(
    st.lists(
        st.tuples(LINES, st.sampled_from([b"\n", b"\n\n", b"\r", b"\r\n", b"\r\n\r\n", b""])), max_size=15
    ),
    st.integers(min_value=1, max_value=40),
)
def test_any_events_in_any_portions_agree(lines, portion):
    data = b"".join(line + end for line, end in lines)
    whole, frames = decode(data, limit=80)
    parts, same = decode(data, portion, limit=80)
    assert plain(same) == plain(frames)
    assert (whole.last_event_id, whole.retry) == (parts.last_event_id, parts.retry)


@given(st.binary(max_size=200), st.integers(min_value=1, max_value=40))
def test_any_bytes_never_raise(data, portion):
    assert plain(decode(data, portion)[1]) == plain(decode(data)[1])


@given(st.lists(st.sampled_from([BURST, ANSWER, Request("a", "ping")]), max_size=8), st.integers(1, 300))
def test_what_is_encoded_comes_back(frames, portion):
    assert plain(decode(encode_events(frames), portion)[1]) == plain(decode_lines(encode_lines(frames)))
