"""The era to which a request belongs, and the errors about its parameters."""

from __future__ import annotations

import pytest

from trio_mcp.wire.codec import encode_value
from trio_mcp.wire.eras import ERAS, PARAMS
from trio_mcp.wire.errors import METHOD_NOT_FOUND, ProtocolError
from trio_mcp.wire.frames import Request
from trio_mcp.wire.handshake import MOVES, Handshake, ServerHandshake
from trio_mcp.wire.incoming_request import read_request
from trio_mcp.wire.messages import (
    META_CLIENT_CAPABILITIES,
    META_PROTOCOL_VERSION,
    Implementation,
    InitializeParams,
)


def test_parameters_of_a_method_are_the_same_in_every_era():
    """They are decoded before it is known which era a request belongs to."""
    for era in ERAS.values():
        for method, params in era.requests.items():
            assert PARAMS[method] is params, (era.version, method)


def test_a_method_missing_from_its_era_is_unknown_whatever_its_parameters():
    meta = {META_PROTOCOL_VERSION: "2026-07-28", META_CLIENT_CAPABILITIES: {}}
    for params in ({"_meta": meta}, {"_meta": meta, "taskId": 1}):
        with pytest.raises(ProtocolError) as caught:
            ServerHandshake().classify(read_request(Request(1, "tasks/result", encode_value(params))))
        assert caught.value.code == METHOD_NOT_FOUND


INITIALIZE = InitializeParams(
    protocol_version="2025-11-25", capabilities={}, client_info=Implementation(name="c", version="1")
)
REACHED_BY = {
    Handshake.AWAITED: (),
    Handshake.ANSWERED: ("initialize",),
    Handshake.READY: ("initialize", "notifications/initialized"),
}


def follow(handshake: ServerHandshake, method: str) -> None:
    if method == "initialize":
        handshake.initialize(INITIALIZE)
    else:
        handshake.notified(method)


@pytest.mark.parametrize("state", Handshake)
@pytest.mark.parametrize("method", ["initialize", "notifications/initialized", "notifications/other"])
def test_every_message_in_every_state_follows_the_table(state, method):
    handshake = ServerHandshake()
    for step in REACHED_BY[state]:
        follow(handshake, step)
    assert handshake.state is state
    follow(handshake, method)
    assert handshake.state is MOVES.get((state, method), state)


def test_the_table_has_the_moves_of_the_handshake():
    assert MOVES == {
        (Handshake.AWAITED, "initialize"): Handshake.ANSWERED,
        (Handshake.ANSWERED, "notifications/initialized"): Handshake.READY,
        (Handshake.ANSWERED, "initialize"): Handshake.ANSWERED,
        (Handshake.READY, "initialize"): Handshake.ANSWERED,
    }
