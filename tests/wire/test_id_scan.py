"""The search for the id of a message that cannot be decoded."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from trio_mcp.wire.codec import decode_message
from trio_mcp.wire.frames import Batch, Malformed, Request
from trio_mcp.wire.framing import LineDecoder
from trio_mcp.wire.id_scan import SCAN_BYTES, SCAN_STEPS, scan_message
from trio_mcp.wire.sse import EventDecoder
from trio_mcp.wire.websocket import decode_texts


@pytest.mark.parametrize(
    ("data", "ident", "kind"),
    [
        (b'{"id":1,"result":NaN}', 1, "answer"),
        (b'{"result":{"id":2,"a":NaN},"id":1}', 1, "answer"),
        (b'{"params":{"a":"\\"id\\":7,"},"id":"a","method":NaN}', "a", "request"),
        (b'{"params":[{"id":2}]', UNSET, "request"),
        (b'{"method":"x","params":"\\"id\\":5', UNSET, "request"),
        (b' \t{ "id" : "\xc3\xa4" , "error" : oops', "ä", "answer"),
        (b'{"id":1.0,"result":', 1, "answer"),
        (b'{"id":1.5,"result":', UNSET, "answer"),
        (b'{"id":12', UNSET, "unknown"),
        (b'{"id":"\\ud800","result":1}', UNSET, "answer"),
        (b'{"id":null,"error":NaN}', UNSET, "answer"),
        (b'{"id":1,"id":2,"result":NaN}', 1, "answer"),
        (b'{"a":1} {"id":3,"method":"x"}', UNSET, "unknown"),
        (b'hello {"id":3,"method":"x"}', UNSET, "unknown"),
        (b'"id":3', UNSET, "unknown"),
        (b"", UNSET, "unknown"),
        (b'{"x":"\\', UNSET, "unknown"),
    ],
)
def test_only_the_id_of_the_message_itself_is_found(data, ident, kind):
    scan = scan_message(data)
    assert (scan.id, scan.kind, scan.gave_up) == (ident, kind, False)


@given(st.binary(max_size=200))
def test_any_bytes_are_scanned_without_an_exception(data):
    scan_message(data)
    scan_message(b'{"id":' + data)
    decode_message(b'[{"id":1},' + data)


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.recursive(st.none() | st.text(max_size=5), lambda inner: st.dictionaries(st.text(), inner)),
    )
)
def test_the_id_behind_any_parameters_is_found(params):
    data = json.dumps({"params": params, "id": 7, "method": "x"}).encode()
    assert scan_message(data).id == 7
    assert isinstance(decode_message(data.replace(b'"method"', b'"a":NaN,"method"')), Malformed)


@pytest.mark.parametrize(
    "filling", [b"[" * (SCAN_STEPS + 1), b'"",' * SCAN_STEPS, b" " * SCAN_BYTES, b"[]," * SCAN_STEPS]
)
def test_a_scan_gives_up_in_the_end_and_says_so(filling):
    assert scan_message(b'{"x":' + filling + b',"id":1}').gave_up
    frame = decode_message(b'{"x":NaN' + filling + b',"id":1}')
    assert isinstance(frame, Malformed)
    assert frame.lost, "it may have been the answer to any request"


def test_the_members_of_an_unreadable_batch_are_read_one_by_one():
    good = b'{"jsonrpc":"2.0","id":1,"method":"x"}'
    batch = decode_message(b"[" + good + b',{"jsonrpc":"2.0","id":2,"method":"x","params":NaN},7,' + good)
    assert isinstance(batch, Batch)
    first, second, last = batch.frames
    assert isinstance(first, Request)
    assert isinstance(second, Malformed)
    assert second.id == 2
    assert isinstance(last, Request)


def test_a_message_that_is_too_long_keeps_the_id_at_its_beginning():
    line = b'{"jsonrpc":"2.0","id":5,"result":{"x":"' + b"x" * 200 + b'"}}'
    for portion in (1, 30, 90, 1000):
        parts = [line[i : i + portion] for i in range(0, len(line), portion)]
        lines, events = LineDecoder(100), EventDecoder(100)
        framed = [frame for part in parts for frame in lines.feed(part)] + lines.feed(b"\n")
        events.feed(b"data: ")
        evented = [frame for part in parts for frame in events.feed(part)] + events.feed(b"\n\n")
        for (frame,) in (framed, evented):
            assert isinstance(frame, Malformed)
            assert (frame.id, frame.kind, frame.lost) == (5, "answer", False)


def test_a_binary_websocket_message_keeps_its_id():
    (frame,) = decode_texts([b'{"jsonrpc":"2.0","id":5,"result":{}}'])
    assert isinstance(frame, Malformed)
    assert frame.id == 5


def test_text_with_a_lone_surrogate_is_malformed():
    (frame,) = decode_texts(['{"jsonrpc":"2.0","id":5,"method":"\ud83d"}'])
    assert isinstance(frame, Malformed)
    assert frame.id == 5
