"""The parts of a request that are decoded once, before it is classified."""

from __future__ import annotations

import pytest

from trio_mcp.wire.codec import encode_value
from trio_mcp.wire.errors import INVALID_PARAMS, ProtocolError
from trio_mcp.wire.frames import Request
from trio_mcp.wire.handshake import ServerHandshake
from trio_mcp.wire.incoming_request import read_request
from trio_mcp.wire.messages import CallToolParams, Params

META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}


def read(method, **params):
    return read_request(Request(1, method, encode_value(params)))


def test_parameters_have_the_type_of_their_method():
    incoming = read("tools/call", name="a", arguments={"b": 1}, _meta=META)
    assert isinstance(incoming.params, CallToolParams)
    assert (incoming.params.name, incoming.meta, incoming.problem) == ("a", META, None)
    assert incoming.names_modern_version


def test_only_the_meta_of_an_unknown_method_is_read():
    incoming = read("no/such", name=5, _meta=META)
    assert type(incoming.params) is Params
    assert (incoming.meta, incoming.problem) == (META, None)


def test_a_request_without_parameters_has_no_meta():
    incoming = read_request(Request(1, "ping"))
    assert (incoming.meta, incoming.problem, incoming.names_modern_version) == ({}, None, False)


def test_the_meta_of_invalid_parameters_is_still_read():
    incoming = read("tools/call", name=5, _meta=META)
    assert incoming.problem.code == INVALID_PARAMS
    assert "$.name" in incoming.problem.message
    assert (incoming.meta, incoming.meta_problem) == (META, None)


@pytest.mark.parametrize("meta", [5, None, [META]])
def test_a_meta_that_is_no_object_is_the_first_error(meta):
    incoming = read("no/such", _meta=meta)
    assert not incoming.names_modern_version
    with pytest.raises(ProtocolError, match="_meta") as caught:
        ServerHandshake().classify(incoming)
    assert caught.value.code == INVALID_PARAMS


def test_missing_parameters_are_a_problem_if_the_method_needs_them():
    incoming = read_request(Request(1, "tools/call"))
    assert "name" in incoming.problem.message
    assert incoming.meta_problem is None
