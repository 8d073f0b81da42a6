"""Operations that are read by URI."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from tests.server.openapi.documents import PETSTORE
from tests.support.web_api import Pieces, WebApi, document, open_api
from trio_mcp import Lossless, ProtocolError, Server, open_client

ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
READ = {"as_resources": ["get*", "find*"]}


async def test_chosen_get_operations_are_templates_and_no_tools() -> None:
    async with open_api(PETSTORE, WebApi(), **READ) as mcp:
        tools = await mcp.list_tools()
        templates = await mcp.list_resource_templates()
    assert [tool.name for tool in tools] == ["addPet", "replacePet", "deletePet", "addPhoto"]
    shown = {template.name: (template.uri_template, template.mime_type) for template in templates}
    # A list and a header that are not needed are left out.
    assert shown["findPets"] == ("resource://findPets{?limit}", "application/json")
    assert shown["getPet"] == ("resource://getPet/{petId}", "application/json")
    assert shown["getPhoto"] == ("resource://getPhoto/{petId}", "image/png")


async def test_operations_are_disabled_by_their_tags() -> None:
    paths = {
        "/notes": {"get": {"operationId": "notes", "tags": ["reading", ""]}},
        "/notes/{id}": {"delete": {"operationId": "erase", "tags": ["admin"], "parameters": [ID]}},
        "/secrets": {"get": {"operationId": "secrets", "tags": ["admin"]}},
    }
    async with httpx2.AsyncClient(base_url="https://notes.example", timeout=None) as http:
        server = Server.from_openapi(document(paths), http, as_resources=["secrets"])
        server.disable(tags="admin")
        async with open_client(server) as mcp:
            assert [tool.name for tool in await mcp.list_tools()] == ["notes"]
            assert await mcp.list_resources() == []
            server.enable(tags="admin")
            assert [tool.name for tool in await mcp.list_tools(refresh=True)] == ["notes", "erase"]
            assert [resource.name for resource in await mcp.list_resources(refresh=True)] == ["secrets"]


async def test_a_resource_is_read_by_a_request() -> None:
    api = WebApi(lambda request: httpx2.Response(200, json={"id": 7}))
    async with open_api(PETSTORE, api, **READ) as mcp:
        (pet,) = (await mcp.read_resource("resource://getPet/7")).contents
        api.answer = lambda request: httpx2.Response(
            200, headers={"content-type": "image/png"}, content=b"\x89"
        )
        (photo,) = (await mcp.read_resource("resource://getPhoto/7")).contents
    assert (pet.uri, pet.mime_type, json.loads(pet.text or "")) == (
        "resource://getPet/7",
        "application/json",
        {"id": 7},
    )
    assert (photo.uri, photo.mime_type, photo.blob) == ("resource://getPhoto/7", "image/png", "iQ==")
    assert api.target == "/pets/7/photo"


def search(**more: Any) -> dict[str, Any]:
    parameters = [
        {"name": "q", "in": "query", "required": True, "schema": {"type": "string"}},
        {"name": "page-size", "in": "query", "schema": {"type": "integer"}},
        {"name": "X-Trace", "in": "header", "schema": {"type": "string"}},
    ]
    return document({"/search": {"get": {"operationId": "search", "parameters": parameters, **more}}})


async def test_a_query_is_a_part_of_the_uri() -> None:
    api = WebApi(
        lambda request: httpx2.Response(200, headers={"content-type": "text/plain"}, content=b"found")
    )
    async with open_api(search(), api, as_resources=["*"]) as mcp:
        (template,) = await mcp.list_resource_templates()
        assert template.uri_template == "resource://search{?q,page_size}"
        (found,) = (await mcp.read_resource("resource://search?q=a%26b&page_size=5")).contents
        assert api.target == "/search?q=a%26b&page-size=5"
        await mcp.read_resource("resource://search?q=5")
    assert found.text == "found"
    assert api.target == "/search?q=5"


async def test_an_operation_without_parameters_is_a_single_resource() -> None:
    api = WebApi(lambda request: httpx2.Response(200, json=[1]))
    spec = document({"/all": {"get": {"operationId": "all", "summary": "All of it"}}})
    async with open_api(spec, api, as_resources=lambda operation: operation.method == "GET") as mcp:
        (resource,) = await mcp.list_resources()
        assert (resource.uri, resource.name, resource.description) == ("resource://all", "all", "All of it")
        (contents,) = (await mcp.read_resource("resource://all")).contents
    assert contents.text == "[1]"


async def test_what_needs_more_than_a_uri_stays_a_tool() -> None:
    parameters = [{"name": "X-Key", "in": "header", "required": True, "schema": {"type": "string"}}]
    paths = {
        "/a": {"get": {"operationId": "a", "parameters": parameters}},
        "/b": {"post": {"operationId": "b"}},
    }
    async with open_api(document(paths), WebApi(), as_resources=["*"]) as mcp:
        assert [tool.name for tool in await mcp.list_tools()] == ["a", "b"]
        assert mcp.server_capabilities.get("resources") is None


async def test_a_resource_that_the_api_does_not_have_is_unknown() -> None:
    async with open_api(PETSTORE, WebApi(lambda request: httpx2.Response(404)), **READ) as mcp:
        with pytest.raises(ProtocolError, match=r"GET /pets/{petId} answered 404 Not Found") as missing:
            await mcp.read_resource("resource://getPet/7")
        with pytest.raises(ProtocolError, match="petId") as wrong:
            await mcp.read_resource("resource://getPet/seven")
    assert missing.value.code == wrong.value.code == -32602


async def test_another_error_of_the_api_is_told() -> None:
    async with open_api(PETSTORE, WebApi(lambda request: httpx2.Response(503)), **READ) as mcp:
        with pytest.raises(ProtocolError, match="answered 503 Service Unavailable"):
            await mcp.read_resource("resource://getPet/7")


async def test_a_read_reports_its_bytes() -> None:
    seen: list[Any] = []
    headers = {"content-type": "text/plain", "content-length": "5"}
    api = WebApi(lambda request: httpx2.Response(200, headers=headers, stream=Pieces([b"abc", b"de"])))
    async with open_api(PETSTORE, api, progress=Lossless(), **READ) as mcp:
        await mcp.read_resource("resource://getPet/7", progress_handler=lambda *values: seen.append(values))
    assert seen == [(3, 5, "download"), (5, 5, "download")]
