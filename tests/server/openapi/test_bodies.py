"""Bodies of requests in each of their media types."""

from __future__ import annotations

import base64
import json
from email import message_from_bytes
from email.message import Message
from typing import Any
from urllib.parse import parse_qsl

import httpx2
import pytest

from tests.server.openapi.documents import PETSTORE
from tests.support.web_api import WebApi, document, open_api
from trio_mcp import ToolError
from trio_mcp.server.openapi.bodies import FILE_SCHEMA


def spec_of(content: dict[str, Any], version: str = "3.1.0") -> dict[str, Any]:
    body = {"required": True, "content": content}
    return document({"/x": {"post": {"operationId": "it", "requestBody": body}}}, version=version)


async def send(content: dict[str, Any], arguments: dict[str, Any], **options: Any) -> httpx2.Request:
    api = WebApi()
    async with open_api(spec_of(content), api, **options) as mcp:
        await mcp.call_tool("it", arguments)
    return api.last


def parts(request: httpx2.Request) -> list[Message]:
    """The parts of a multipart body, read by the library of Python."""
    head = f"content-type: {request.headers['content-type']}\r\n\r\n".encode()
    found = message_from_bytes(head + request.content).get_payload()
    assert isinstance(found, list)
    return found


def show(part: Message) -> tuple[Any, Any, Any, Any]:
    kind = part.get_content_type() if "content-type" in part else None
    name = part.get_param("name", header="content-disposition")
    return name, part.get_filename(), kind, part.get_payload(decode=True)


async def test_a_form_has_its_fields_in_their_styles() -> None:
    properties = {"a": {}, "b": {"type": "array"}, "c": {"type": "object"}, "d": {"type": "object"}, "e": {}}
    encoding = {"d": {"style": "deepObject"}, "e": {"style": "form", "explode": False}}
    media = {"schema": {"type": "object", "properties": properties}, "encoding": encoding}
    request = await send(
        {"application/x-www-form-urlencoded": media},
        {"a": "x&y=1 ü", "b": [1, 2], "c": {"k": [1]}, "d": {"k": True}, "e": ["1", "2"]},
    )
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert parse_qsl(request.content.decode()) == [
        ("a", "x&y=1 ü"),
        ("b", "1"),
        ("b", "2"),
        ("c", '{"k":[1]}'),
        ("d[k]", "true"),
        ("e", "1,2"),
    ]


async def test_a_multipart_form_has_files_values_and_objects() -> None:
    api = WebApi(lambda request: httpx2.Response(200, json={"size": 3}))
    photo = {
        "base64": base64.b64encode(b"\x00\xff\r\n--").decode(),
        "filename": "a.png",
        "content_type": "image/png",
    }
    async with open_api(PETSTORE, api) as mcp:
        tools = {tool.name: tool for tool in await mcp.list_tools()}
        await mcp.call_tool(
            "addPhoto", {"petId": 1, "file": photo, "caption": "ü", "place": {"lat": 1.5, "lon": 2}}
        )
        first = api.last
        await mcp.call_tool("addPhoto", {"petId": 1, "file": "plain text"})
    properties = tools["addPhoto"].input_schema["properties"]
    assert properties["file"]["anyOf"] == FILE_SCHEMA["anyOf"]
    assert properties["file"]["description"].startswith("The photo (A file: ")
    assert [show(part) for part in parts(first)] == [
        ("file", "a.png", "image/png", b"\x00\xff\r\n--"),
        ("caption", None, None, "ü".encode()),
        ("place", None, "application/json", b'{"lat":1.5,"lon":2}'),
    ]
    assert int(first.headers["content-length"]) == len(first.content)
    assert [show(part) for part in parts(api.last)] == [
        ("file", "file", "application/octet-stream", b"plain text")
    ]


async def test_lists_of_files_and_of_values_are_several_parts_of_one_name() -> None:
    schema = {
        "type": "object",
        "properties": {
            "files": {
                "type": "array",
                "items": {"type": "string", "contentMediaType": "application/octet-stream"},
            },
            "tags": {"type": "array", "items": {"type": "string"}},
            "logo": {"type": "string"},
        },
    }
    media = {"schema": schema, "encoding": {"logo": {"contentType": "image/svg+xml"}}}
    request = await send(
        {"multipart/form-data": media}, {"files": ["a", "b"], "tags": ["x", "y"], "logo": "<svg/>"}
    )
    assert [show(part)[0] for part in parts(request)] == ["files", "files", "tags", "tags", "logo"]
    assert show(parts(request)[-1]) == ("logo", "logo", "image/svg+xml", b"<svg/>")


async def test_a_file_name_cannot_end_its_header() -> None:
    schema = {"type": "object", "properties": {"f": {"type": "string", "format": "binary"}}}
    file = {"text": "x", "filename": 'a"\r\nX-Evil: 1\r\n\r\n.txt'}
    request = await send({"multipart/form-data": {"schema": schema}}, {"f": file})
    assert "X-Evil" not in parts(request)[0]
    with pytest.raises(ToolError, match=r"f\.content_type: .* is no media type"):
        await send(
            {"multipart/form-data": {"schema": schema}},
            {"f": {"text": "x", "content_type": "text/plain\r\nX-Evil: 1"}},
        )


@pytest.mark.parametrize(
    ("value", "kind", "data"),
    [
        ({"base64": "AP8=", "content_type": "image/png"}, "image/png", b"\x00\xff"),
        ({"base64": "AP\n8="}, "application/octet-stream", b"\x00\xff"),
        ("text", "application/octet-stream", b"text"),
        ({"text": "t"}, "application/octet-stream", b"t"),
    ],
)
async def test_bytes_are_given_in_base64_or_as_text(value: Any, kind: str, data: bytes) -> None:
    request = await send({"application/octet-stream": {"schema": {}}}, {"body": value})
    assert (request.headers["content-type"], request.content) == (kind, data)


@pytest.mark.parametrize("value", [{"base64": "%%"}, {"base64": "A"}, {"base64": "ü"}])
async def test_what_is_no_base64_is_an_error(value: Any) -> None:
    with pytest.raises(ToolError, match=r"body\.base64: it is no base64"):
        await send({"application/octet-stream": {"schema": {}}}, {"body": value})


@pytest.mark.parametrize("value", [{}, {"text": "a", "base64": "AA=="}, 5, {"text": 5}])
async def test_what_is_no_file_is_refused(value: Any) -> None:
    with pytest.raises(ToolError, match="body: "):
        await send({"application/octet-stream": {"schema": {}}}, {"body": value})


async def test_xml_is_a_text() -> None:
    request = await send({"application/xml": {"schema": {"type": "object"}}}, {"body": "<a>ü</a>"})
    assert request.headers["content-type"] == "application/xml; charset=utf-8"
    assert request.content == "<a>ü</a>".encode()


@pytest.mark.parametrize(
    ("kinds", "chosen"),
    [
        (["application/xml", "application/json"], "application/json"),
        (["multipart/form-data", "application/vnd.x+json"], "application/vnd.x+json"),
        (["application/x-www-form-urlencoded", "multipart/form-data"], "multipart/form-data"),
        (["*/*"], "application/json"),
        (["text/plain", "application/octet-stream"], "text/plain; charset=utf-8"),
    ],
)
async def test_of_several_media_types_the_one_that_says_most_is_used(kinds: list[str], chosen: str) -> None:
    schema = {"type": "object", "properties": {"a": {}}}
    texts = kinds[0].startswith("text")
    request = await send({kind: {"schema": schema} for kind in kinds}, {"body": "x"} if texts else {"a": "1"})
    assert request.headers["content-type"].startswith(chosen)


async def test_json_of_any_shape_is_a_body() -> None:
    schema = {"type": "array", "items": {"type": "integer"}}
    request = await send({"application/json": {"schema": schema}}, {"body": [1, 2]})
    assert json.loads(request.content) == [1, 2]


async def test_an_empty_multipart_form_is_an_error() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    with pytest.raises(ToolError, match="a multipart form needs at least one field"):
        await send({"multipart/form-data": {"schema": schema}}, {})
