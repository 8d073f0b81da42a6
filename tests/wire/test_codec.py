"""Frames are encoded to bytes and decoded, without an event loop."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw

from trio_mcp.wire.codec import decode_lines, decode_message, encode_lines, encode_messages
from trio_mcp.wire.errors import PARSE_ERROR
from trio_mcp.wire.frames import (
    Batch,
    ErrorObject,
    ErrorResponse,
    Malformed,
    Notification,
    ProgressRun,
    Request,
    Response,
)
from trio_mcp.wire.framing import LineDecoder

FRAMES = [
    Request(1, "tools/call", Raw(b'{"name":"x"}')),
    Request("a", "ping"),
    Notification("notifications/initialized"),
    Notification("notifications/cancelled", Raw(b'{"requestId":1}')),
    Response(1, Raw(b'{"ok":true}')),
    ErrorResponse(ErrorObject(-32600, "no", Raw(b"[1]")), "a"),
    ErrorResponse(ErrorObject(-32700, "no")),
    ErrorResponse(ErrorObject(-32700, "no"), None),
    ProgressRun(0, [(1, 2, "half ä", None), (2, 2, None, None)]),
    ProgressRun("0", [(1.5, None, None, None)]),
    ProgressRun("", [(math.nextafter(3, 4), None, "nudged", 3)]),
]


def plain(frame: object) -> object:
    """Return a text to compare: frames compare by value, their Raw members do not."""
    return repr(encode_messages([frame]))


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_a_frame_survives_encoding_and_decoding(frame):
    (decoded,) = decode_lines(encode_lines([frame]))
    assert type(decoded) is type(frame)
    assert plain(decoded) == plain(frame)


def test_frames_may_be_split_at_every_byte():
    data = encode_lines(FRAMES)
    whole = [plain(frame) for frame in decode_lines(data)]
    assert whole == [plain(frame) for frame in FRAMES]
    for cut in range(len(data) + 1):
        decoder = LineDecoder(1_000_000)
        frames = [*decoder.feed(data[:cut]), *decoder.feed(data[cut:]), *decoder.finish()]
        assert [m for frame in frames for m in encode_messages([frame])] == [
            m for frame in FRAMES for m in encode_messages([frame])
        ]


def test_bytes_may_arrive_singly_and_without_a_last_newline():
    data = encode_lines(FRAMES)[:-1]
    decoder = LineDecoder(1_000_000)
    frames = [frame for index in range(len(data)) for frame in decoder.feed(data[index : index + 1])]
    frames += decoder.finish()
    assert b"".join(m for f in frames for m in encode_messages([f])) == data.replace(b"\n", b"")


@given(st.lists(st.binary(max_size=30), max_size=20), st.integers(min_value=1, max_value=40))
@example([b"\0" * 17, b"\xc2", b"", b""], 3)
def test_any_bytes_in_any_portions_never_raise_and_agree(lines, portion):
    """Any input gives the same frames, however it is split."""
    data = b"\n".join(lines)
    decoder = LineDecoder(25)
    frames = [f for i in range(0, len(data), portion) for f in decoder.feed(data[i : i + portion])]
    frames += decoder.finish()
    at_once = LineDecoder(25)
    assert [repr(f) for f in frames] == [repr(f) for f in (*at_once.feed(data), *at_once.finish())]


@pytest.mark.parametrize("portion", [1, 7, 50, 100, 1000])
def test_an_over_long_line_is_refused_once_and_skipped(portion):
    short = b'{"jsonrpc":"2.0","method":"x"}'
    data = b"\n".join([short, b"x" * 300, short, b"y" * 101, short]) + b"\n"
    decoder = LineDecoder(100)
    frames = [f for i in range(0, len(data), portion) for f in decoder.feed(data[i : i + portion])]
    assert [type(f).__name__ for f in frames] == ["Notification", "Malformed"] * 2 + ["Notification"]
    assert all(f.lost and f.code == PARSE_ERROR for f in frames if isinstance(f, Malformed))


def test_a_line_of_exactly_the_limit_passes():
    line = b'{"jsonrpc":"2.0","method":"x"}'
    for cut in range(len(line)):
        decoder = LineDecoder(len(line))
        frames = [*decoder.feed(line[:cut]), *decoder.feed(line[cut:] + b"\n")]
        assert [type(f) for f in frames] == [Notification]
    decoder = LineDecoder(len(line) - 1)
    assert [type(f) for f in decoder.feed(line + b"\n")] == [Malformed]


def test_crlf_is_accepted_and_blank_lines_are_skipped():
    assert decode_lines(b'\r\n\n  \n{"jsonrpc":"2.0","method":"x"}\r\n') == [Notification("x")]


def test_a_mixed_block_keeps_its_order_and_groups_progress():
    frames = [
        ProgressRun(1, [(1, None, None, None), (2, None, None, None)]),
        ProgressRun(2, [(1, None, None, None)]),
        ProgressRun("1", [(1, None, None, None)]),
        Response(1, Raw(b"{}")),
        ProgressRun(1, [(3, None, None, None)]),
    ]
    decoded = decode_lines(encode_lines(frames))
    assert [plain(f) for f in decoded] == [plain(f) for f in frames]


@pytest.mark.parametrize("blank", [b"", b" \r\n", b"\n\n"])
@pytest.mark.parametrize(
    "last",
    [
        b'{"jsonrpc":"2.0","id":1,"result":{}}',
        b'{"jsonrpc":"2.0","id":1,"result":{"text":"\xc3\xa4 \\"notifications/progress\\""}}',
        b'{"jsonrpc":"2.0","id":1,"result":{"text":"\xff"}}',
        b'{"jsonrpc":"2.0","id":1,"result":{',
        b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":4,"total":"?"}}',
        b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":null}}',
        b"x",
    ],
)
@pytest.mark.parametrize("length", [1, 2, 5])
def test_what_comes_behind_a_burst_in_one_read_is_decoded_as_it_is_alone(last, length, blank):
    burst = encode_lines([ProgressRun(1, [(n, 5, "half ä", None) for n in range(length)])])
    together = decode_lines(burst + blank + last + b"\n" + blank)
    apart = [*decode_lines(burst), decode_message(last)]
    assert [m for f in together for m in shown(f)] == [m for f in apart for m in shown(f)]
    kinds = [type(frame) for frame in together]
    assert kinds[0] is ProgressRun
    assert len(kinds) == (1 if apart[-1].__class__ is ProgressRun else 2)


def test_a_message_that_only_holds_the_name_of_progress_is_no_burst():
    lines = [
        b'{"jsonrpc":"2.0","id":1,"result":{"text":"\\"notifications/progress\\"","x":"notifications/progress"}}',
        b'{"jsonrpc":"2.0","id":2,"result":{}}',
    ]
    assert [shown(f) for f in decode_lines(b"\n".join(lines))] == [
        shown(decode_message(line)) for line in lines
    ]


def shown(frame: object) -> list[str]:
    """The messages of a frame, or the frame itself if it stands for none."""
    return [repr(frame)] if isinstance(frame, Malformed) else [repr(m) for m in encode_messages([frame])]


@pytest.mark.parametrize("value", [True, "1", None, [1], {}])
def test_progress_of_a_wrong_type_stays_a_notification(value):
    line = json.dumps(
        {
            "jsonrpc": "2.0",
            "method": "notifications/progress",
            "params": {"progressToken": 1, "progress": value},
        }
    )
    assert isinstance(decode_message(line.encode()), Notification)


def test_a_batch_is_decoded_member_by_member():
    batch = decode_message(b'[{"jsonrpc":"2.0","id":1,"method":"a"},{"jsonrpc":"2.0","method":"b"},7,[]]')
    assert isinstance(batch, Batch)
    assert [type(f) for f in batch.frames] == [Request, Notification, Malformed, Malformed]


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_json_is_decoded_without_an_exception(value):
    decode_message(json.dumps(value).encode())
    decode_message(json.dumps({"jsonrpc": "2.0", "id": value, "method": value, "params": value}).encode())
    decode_message(json.dumps({"jsonrpc": "2.0", "id": 1, "result": value, "error": value}).encode())
