"""The one function that turns the outcome of a request into a result or an exception."""

from __future__ import annotations

import msgspec
import pytest

from trio_mcp import ConnectionLost, ProtocolError
from trio_mcp.client.outcome import unwrap
from trio_mcp.wire.frames import ErrorObject, ErrorResponse, Response


def test_a_response_gives_its_result():
    assert bytes(unwrap(Response(1, msgspec.Raw(b'{"a":1}')))) == b'{"a":1}'


def test_an_error_response_is_raised_with_its_data():
    for raw, data in ((msgspec.UNSET, None), (msgspec.Raw(b'{"status":502}'), {"status": 502})):
        with pytest.raises(ProtocolError) as caught:
            unwrap(ErrorResponse(ErrorObject(-32603, "no", raw), 1))
        assert (caught.value.code, caught.value.message, caught.value.data) == (-32603, "no", data)


def test_an_error_in_place_of_an_answer_is_raised_as_it_is():
    lost = ConnectionLost("gone")
    with pytest.raises(ConnectionLost) as caught:
        unwrap(lost)
    assert caught.value is lost
