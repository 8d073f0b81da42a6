"""The headers that mirror a message (MCP 2026-07-28 transports, "Request Metadata")."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from trio_mcp.errors import ProtocolError
from trio_mcp.wire.codec import encode_value
from trio_mcp.wire.errors import HEADER_MISMATCH
from trio_mcp.wire.frames import Request
from trio_mcp.wire.http import (
    check_headers,
    check_parameter_headers,
    decode_header_value,
    encode_header_value,
    parameter_headers,
    read_mirrored_arguments,
    read_parameter_headers,
    standard_headers,
)
from trio_mcp.wire.incoming_request import read_request

META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}


def request(method, **params):
    return Request(1, method, encode_value({**params, "_meta": META}))


CALL = request("tools/call", name="get_weather", arguments={"name": "not this one"})
HEADERS = {
    "mcp-protocol-version": "2026-07-28",
    "mcp-method": "tools/call",
    "mcp-name": "get_weather",
}


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        ("us-west1", "us-west1"),
        ("in the middle", "in the middle"),
        ("", ""),
        ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
        (" padded ", "=?base64?IHBhZGRlZCA=?="),
        ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
        ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
        ("=?BASE64?literal?=", "=?BASE64?literal?="),
        ("=?base64?=", "=?base64?="),
    ],
)
def test_values_are_encoded_and_decoded(value, encoded):
    assert encode_header_value(value) == encoded
    assert decode_header_value(encoded) == value


@given(st.text())
def test_every_text_survives_the_encoding(value):
    encoded = encode_header_value(value)
    assert decode_header_value(encoded) == value
    assert encoded.isascii()
    assert encoded == encoded.strip()


@pytest.mark.parametrize(
    "value",
    [
        "=?base64?SGk?=",
        "=?base64?S Gk=?=",
        "=?base64?SGl=?=",
        "=?base64?_-8=?=",
        "=?base64?/w==?=",
        "ä",
        "a\0b",
        "a\nb",
    ],
)
def test_a_malformed_value_is_refused(value):
    with pytest.raises(ValueError, match="it "):
        decode_header_value(value)


@pytest.mark.parametrize(
    ("method", "params", "name"),
    [
        ("tools/call", {"name": "a"}, "a"),
        ("prompts/get", {"name": "ä"}, "=?base64?w6Q=?="),
        ("resources/read", {"uri": "file:///a b"}, "file:///a b"),
        ("tasks/get", {"taskId": "t"}, "t"),
        ("tasks/update", {"taskId": "t"}, "t"),
        ("tasks/cancel", {"taskId": "t"}, "t"),
        ("tools/list", {"name": "a"}, None),
        ("tools/call", {"name": 5}, None),
    ],
)
def test_standard_headers_mirror_the_request(method, params, name):
    frame = request(method, **params)
    headers = standard_headers(frame)
    expected = {"mcp-protocol-version": "2026-07-28", "mcp-method": method}
    assert headers == (expected if name is None else {**expected, "mcp-name": name})
    check_headers(headers, read_request(frame))


def test_a_request_without_parameters_mirrors_its_method():
    assert standard_headers(Request(1, "ping")) == {"mcp-method": "ping"}
    check_headers({"mcp-method": "ping"}, read_request(Request(1, "ping")))


@pytest.mark.parametrize("header", HEADERS)
def test_a_missing_header_is_a_mismatch(header):
    headers = {name: value for name, value in HEADERS.items() if name != header}
    with pytest.raises(ProtocolError, match=f"(?i){header} header is missing") as raised:
        check_headers(headers, read_request(CALL))
    assert raised.value.code == HEADER_MISMATCH


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("mcp-protocol-version", "2025-11-25"),
        ("mcp-method", "Tools/Call"),
        ("mcp-name", "Get_weather"),
        ("mcp-name", "=?base64?Z2V0?="),
    ],
)
def test_a_different_header_is_a_mismatch_that_names_both(header, value):
    with pytest.raises(ProtocolError, match="does not match body value") as raised:
        check_headers({**HEADERS, header: value}, read_request(CALL))
    assert raised.value.code == HEADER_MISMATCH
    assert HEADERS[header] in raised.value.message


def test_an_encoded_name_is_decoded_before_it_is_compared():
    check_headers({**HEADERS, "mcp-name": "=?base64?Z2V0X3dlYXRoZXI=?="}, read_request(CALL))
    with pytest.raises(ProtocolError, match="malformed"):
        check_headers({**HEADERS, "mcp-name": "=?base64?Z2V0X3dlYXRoZXI?="}, read_request(CALL))


def schema(**properties):
    return {"type": "object", "properties": properties}


REGION = {"type": "string", "x-mcp-header": "Region"}
SCHEMA = schema(
    region=REGION,
    count={"type": "integer", "x-mcp-header": "Count"},
    place=schema(deep={"type": "boolean", "x-mcp-header": "Deep"}),
    plain={"type": "string", "default": {"x-mcp-header": "a value, no annotation"}},
)
PATHS = {"Region": ("region",), "Count": ("count",), "Deep": ("place", "deep")}


def test_annotated_parameters_are_mirrored():
    assert read_parameter_headers(SCHEMA) == PATHS
    assert read_parameter_headers(schema(**{"x-mcp-header": {"type": "string"}})) == {}


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (schema(a={"type": "string", "x-mcp-header": ""}), "no HTTP field name"),
        (schema(a={"type": "string", "x-mcp-header": "a b"}), "no HTTP field name"),
        (schema(a={"type": "string", "x-mcp-header": "a\r\nb"}), "no HTTP field name"),
        (schema(a={"type": "string", "x-mcp-header": "ä"}), "no HTTP field name"),
        (schema(a={"type": "string", "x-mcp-header": 5}), "no HTTP field name"),
        (schema(a={"type": "number", "x-mcp-header": "A"}), "type must be one of .*'number'"),
        (schema(a={"type": ["string"], "x-mcp-header": "A"}), "type must be one of"),
        (schema(a={"x-mcp-header": "A"}), "not None"),
        (schema(a=REGION, b={"type": "string", "x-mcp-header": "rEGION"}), "twice"),
        ({"x-mcp-header": "Root", **schema()}, "not reachable"),
        (schema(a={"type": "array", "items": REGION}), "not reachable"),
        (schema(a={"type": "array", "prefixItems": [REGION]}), "not reachable"),
        (schema(a={"anyOf": [REGION, {"type": "null"}]}), "not reachable"),
        (schema(a={"oneOf": [schema(b=REGION)]}), "not reachable"),
        (schema(a={"allOf": [REGION]}), "not reachable"),
        (schema(a={"not": REGION}), "not reachable"),
        ({"if": schema(a=REGION)}, "not reachable"),
        ({"then": schema(a=REGION)}, "not reachable"),
        ({"else": schema(a=REGION)}, "not reachable"),
        ({"$defs": {"a": REGION}}, "not reachable"),
        ({"patternProperties": {"a": REGION}}, "not reachable"),
        ({"additionalProperties": REGION}, "not reachable"),
    ],
)
def test_an_annotation_that_breaks_a_rule_is_named(wrong, why):
    with pytest.raises(ValueError, match=why):
        read_parameter_headers(wrong)


def test_arguments_become_headers():
    arguments = {"region": "süd", "count": -7, "place": {"deep": True}, "plain": "x"}
    headers = parameter_headers(PATHS, arguments)
    assert headers == {
        "mcp-param-region": "=?base64?c8O8ZA==?=",
        "mcp-param-count": "-7",
        "mcp-param-deep": "true",
    }
    check_parameter_headers(PATHS, headers, arguments)


@pytest.mark.parametrize("arguments", [{}, {"region": None, "place": {}}, {"place": None}, {"place": 5}])
def test_a_null_or_absent_argument_has_no_header(arguments):
    assert parameter_headers(PATHS, arguments) == {}
    check_parameter_headers(PATHS, {}, arguments)


def test_an_integer_beyond_the_safe_range_is_refused():
    with pytest.raises(ValueError, match="count"):
        parameter_headers(PATHS, {"count": 2**53})
    assert parameter_headers(PATHS, {"count": 2**53 - 1}) == {"mcp-param-count": "9007199254740991"}
    with pytest.raises(ProtocolError, match="safe range"):
        check_parameter_headers(PATHS, {"mcp-param-count": str(2**53)}, {"count": 2**53})


@pytest.mark.parametrize(("header", "value"), [("42.0", 42), ("42", 42.0), ("4.2e1", 42), ("-7", -7)])
def test_integers_are_compared_as_numbers(header, value):
    check_parameter_headers(PATHS, {"mcp-param-count": header}, {"count": value})


@pytest.mark.parametrize(
    ("headers", "arguments", "why"),
    [
        ({}, {"region": "a"}, "Mcp-Param-Region header is missing"),
        ({"mcp-param-region": "a"}, {}, "has no value in the body"),
        ({"mcp-param-region": "a"}, {"region": None}, "has no value in the body"),
        ({"mcp-param-region": "a"}, {"region": "A"}, "'a' does not match body value 'A'"),
        ({"mcp-param-region": "=?base64?x?="}, {"region": "A"}, "malformed"),
        ({"mcp-param-region": "\x01"}, {"region": "\x01"}, "invalid characters"),
        ({"mcp-param-count": "43"}, {"count": 42}, "does not match"),
        ({"mcp-param-count": "4_2"}, {"count": 42}, "does not match"),
        ({"mcp-param-count": "nan"}, {"count": 42}, "does not match"),
        ({"mcp-param-deep": "True"}, {"place": {"deep": True}}, "does not match"),
        ({"mcp-param-deep": "1"}, {"place": {"deep": True}}, "does not match"),
        ({"mcp-param-region": "42.0"}, {"region": "42"}, "does not match"),
    ],
)
def test_a_parameter_header_that_differs_is_a_mismatch(headers, arguments, why):
    with pytest.raises(ProtocolError, match=why) as raised:
        check_parameter_headers(PATHS, headers, arguments)
    assert raised.value.code == HEADER_MISMATCH


@pytest.mark.parametrize(
    ("text", "mirrored"),
    [
        (b'{"region": "a", "plain": [1, 2], "place": {"deep": true, "other": 1}}', ["place", "region"]),
        (b'{"plain": "x"}', []),
        (b"[1]", []),
        (b"null", []),
        (UNSET, []),
    ],
)
def test_only_the_arguments_that_headers_mirror_are_decoded(text, mirrored):
    arguments = read_mirrored_arguments(PATHS, text if text is UNSET else Raw(text))
    assert sorted(arguments) == mirrored


def test_undecodable_mirrored_arguments_are_left_to_the_validation():
    nested = b"[" * 100_000 + b"]" * 100_000
    assert read_mirrored_arguments(PATHS, Raw(b'{"place": ' + nested + b"}")) is None
    assert read_mirrored_arguments(PATHS, Raw(b'{"region": "\\ud800"}')) is None


@pytest.mark.parametrize(
    "params", [{"name": 5}, {"arguments": {}}, {"name": "a", "task_id": 1, "requestState": 5}]
)
def test_the_headers_of_invalid_parameters_are_still_compared(params):
    incoming = read_request(request("tools/call", **params))
    assert incoming.problem is not None
    with pytest.raises(ProtocolError, match="MCP-Protocol-Version header is missing"):
        check_headers({"mcp-method": "tools/call"}, incoming)
