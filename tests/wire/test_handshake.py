"""Which era a request belongs to, and what is said of its parameters then."""

from __future__ import annotations

import pytest

from trio_mcp.wire.codec import encode_value
from trio_mcp.wire.eras import ERAS, PARAMS
from trio_mcp.wire.errors import METHOD_NOT_FOUND, ProtocolError
from trio_mcp.wire.frames import Request
from trio_mcp.wire.handshake import ServerHandshake
from trio_mcp.wire.incoming_request import read_request
from trio_mcp.wire.messages import META_CLIENT_CAPABILITIES, META_PROTOCOL_VERSION


def test_parameters_of_a_method_are_the_same_in_every_era():
    """They are decoded before it is known which era a request belongs to."""
    for era in ERAS.values():
        for method, params in era.requests.items():
            assert PARAMS[method] is params, (era.version, method)


def test_a_method_that_its_era_does_not_have_is_unknown_whatever_its_parameters_say():
    meta = {META_PROTOCOL_VERSION: "2026-07-28", META_CLIENT_CAPABILITIES: {}}
    for params in ({"_meta": meta}, {"_meta": meta, "taskId": 1}):
        with pytest.raises(ProtocolError) as caught:
            ServerHandshake().classify(read_request(Request(1, "tasks/result", encode_value(params))))
        assert caught.value.code == METHOD_NOT_FOUND
