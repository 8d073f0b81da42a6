"""Calls of tools that are made of a document: what is sent, what comes back, and progress in bytes."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import httpx2
import pytest
import trio

from tests.server.openapi.documents import GITHUB, PETSTORE, answer
from tests.support.web_api import BASE, Pieces, WebApi, document, open_api
from trio_mcp import EmbeddedResource, ImageContent, Lossless, Server, TextContent, ToolError, open_client

GET_IT = {"/it": {"get": {"operationId": "it", "responses": {"200": {"description": "ok"}}}}}
IT = document(GET_IT)


def sends(*pieces: bytes, status: int = 200, stall: bool = False, **headers: str) -> Any:
    """An answer in pieces; its headers are given with underscores."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda request: httpx2.Response(status, headers=names, stream=Pieces(pieces, stall=stall))


async def test_a_call_is_one_request_and_its_json_is_structured_content() -> None:
    api = WebApi(lambda request: httpx2.Response(200, json={"id": 7, "name": "Rex"}))
    async with open_api(PETSTORE, api) as mcp:
        result = await mcp.call_tool("getPet", {"petId": 7})
    assert result.data == {"id": 7, "name": "Rex"}
    assert json.loads(result.text) == result.data
    assert (api.last.method, str(api.last.url)) == ("GET", f"{BASE}/pets/7")
    assert api.last.headers["accept"] == "application/json"
    assert len(api.requests) == 1


async def test_a_list_stands_in_an_object_and_is_the_data() -> None:
    api = WebApi(lambda request: httpx2.Response(200, json=[{"id": 7, "name": "Rex"}]))
    async with open_api(PETSTORE, api) as mcp:
        result = await mcp.call_tool("findPets", {"tags": ["cat", "b&c"], "limit": 5, "X-Trace": "t 1"})
    assert result.data == [{"id": 7, "name": "Rex"}]
    assert result.structured_content == {"result": [{"id": 7, "name": "Rex"}]}
    assert api.target == "/pets?tags=cat&tags=b%26c&limit=5"
    assert api.last.headers["x-trace"] == "t 1"


async def test_a_json_body_is_given_field_by_field() -> None:
    api = WebApi(lambda request: httpx2.Response(201, json={"id": 7, **json.loads(request.content)}))
    async with open_api(PETSTORE, api) as mcp:
        result = await mcp.call_tool("addPet", {"name": "Rex", "tag": None, "owner": {"email": "a@b.c"}})
    assert json.loads(api.last.content) == {"name": "Rex", "tag": None, "owner": {"email": "a@b.c"}}
    assert api.last.headers["content-type"] == "application/json"
    assert api.last.headers["content-length"] == str(len(api.last.content))
    assert "transfer-encoding" not in api.last.headers
    assert result.data["id"] == 7


async def test_one_name_in_path_and_body_makes_two_arguments() -> None:
    api = WebApi(lambda request: httpx2.Response(201, json={"number": 1}))
    async with open_api(GITHUB, api) as mcp:
        arguments = {"owner__path": "octo", "repo": "hello", "owner": "cat", "title": "Found a bug"}
        await mcp.call_tool("issues_create", arguments)
    assert api.target == "/repos/octo/hello/issues"
    assert json.loads(api.last.content) == {"title": "Found a bug", "owner": "cat"}


async def test_arguments_are_checked_before_anything_is_sent() -> None:
    api = WebApi()
    async with open_api(PETSTORE, api) as mcp:
        for arguments, words in (
            ({"limit": 0}, "limit: 0 is less than or equal to the minimum of 0"),
            ({"limit": "5"}, "limit: '5' is not of type 'integer'"),
            ({"limits": 5}, "'limits' was unexpected"),
            ({"X-Trace": "x" * 41}, "is too long"),
        ):
            with pytest.raises(ToolError, match=words):
                await mcp.call_tool("findPets", arguments)
    assert api.requests == []


async def test_without_validation_a_value_goes_out_as_it_is() -> None:
    api = WebApi(lambda request: httpx2.Response(200, json=[]))
    async with open_api(PETSTORE, api, validate=False) as mcp:
        await mcp.call_tool("findPets", {"limit": "five"})
    assert api.target == "/pets?limit=five"


async def test_progress_counts_the_bytes_of_the_upload_and_then_those_of_the_download() -> None:
    seen: list[Any] = []
    api = WebApi(sends(b'{"size"', b":1}", content_type="application/json", content_length="10"))
    async with open_api(PETSTORE, api, progress=Lossless()) as mcp:
        data = base64.b64encode(bytes(150_000)).decode()
        arguments = {"petId": 1, "file": {"base64": data, "filename": "a.bin"}}
        await mcp.call_tool("addPhoto", arguments, progress_handler=lambda *values: seen.append(values))
    whole = len(api.last.content)
    assert seen == [
        (65_536, whole, "upload"),
        (131_072, whole, "upload"),
        (whole, whole, "upload"),
        (whole + 7, whole + 10, "download"),
        (whole + 10, whole + 10, "download"),
    ]


async def test_of_an_answer_of_unknown_length_the_bytes_are_counted_without_a_total() -> None:
    seen: list[Any] = []
    async with open_api(
        IT, WebApi(sends(b"abc", b"de", content_type="text/plain")), progress=Lossless()
    ) as mcp:
        result = await mcp.call_tool("it", progress_handler=lambda *values: seen.append(values))
    assert result.text == "abcde"
    assert seen == [(3, None, "download"), (5, None, "download")]


async def test_a_compressed_answer_counts_as_it_travels() -> None:
    body = gzip.compress(b"a" * 50_000)
    headers = {"content_type": "text/plain", "content_encoding": "gzip", "content_length": str(len(body))}
    seen: list[Any] = []
    async with open_api(IT, WebApi(sends(body[:20], body[20:], **headers)), progress=Lossless()) as mcp:
        result = await mcp.call_tool("it", progress_handler=lambda *values: seen.append(values))
    assert result.text == "a" * 50_000
    assert seen == [(20, len(body), "download"), (len(body), len(body), "download")]


async def test_an_answer_in_a_coding_that_was_not_asked_for_is_an_error() -> None:
    api = WebApi(sends(b"abc", content_encoding="br"))
    async with open_api(IT, api) as mcp:
        with pytest.raises(ToolError, match="in the coding 'br'"):
            await mcp.call_tool("it")
    assert api.last.headers["accept-encoding"] == "gzip, deflate"


async def test_a_broken_compression_is_an_error_and_no_crash() -> None:
    api = WebApi(sends(b"no gzip at all", content_encoding="gzip"))
    async with open_api(IT, api) as mcp:
        with pytest.raises(ToolError, match=r"GET /it: no answer from the API \(error\)"):
            await mcp.call_tool("it")


@pytest.mark.parametrize("headers", [{}, {"content_length": "5000"}], ids=["counted", "announced"])
async def test_too_large_an_answer_is_given_up_and_closed(headers: dict[str, str]) -> None:
    stream = Pieces([b"x" * 400] * 1000)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    api = WebApi(lambda request: httpx2.Response(200, headers=names, stream=stream))
    async with open_api(IT, api, max_bytes=1000) as mcp:
        with pytest.raises(ToolError, match="GET /it answered with more than 1,000 bytes"):
            await mcp.call_tool("it")
    assert stream.taken <= 3
    assert stream.closed.is_set()


async def test_a_compressed_bomb_is_given_up_before_it_is_decoded_whole() -> None:
    bomb = gzip.compress(bytes(20_000_000))
    stream = Pieces([bomb[start : start + 1000] for start in range(0, len(bomb), 1000)])
    api = WebApi(lambda request: httpx2.Response(200, headers={"content-encoding": "gzip"}, stream=stream))
    async with open_api(IT, api, max_bytes=100_000) as mcp:
        with pytest.raises(ToolError, match="more than 100,000 bytes"):
            await mcp.call_tool("it")
    assert stream.taken <= 2


async def test_a_cancelled_call_closes_its_request() -> None:
    stream = Pieces([b"abc"], stall=True)
    api = WebApi(lambda request: httpx2.Response(200, stream=stream))
    async with open_api(IT, api) as mcp, trio.open_nursery() as nursery:
        nursery.start_soon(mcp.call_tool, "it")
        await stream.exhausted.wait()
        assert not stream.closed.is_set()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await stream.closed.wait()


async def test_a_picture_is_a_picture_and_other_bytes_are_a_resource() -> None:
    api = WebApi(sends(b"\x89PNG", content_type="image/png"))
    async with open_api(PETSTORE, api) as mcp:
        (picture,) = (await mcp.call_tool("getPhoto", {"petId": 1})).content
        api.answer = sends(b"\x00\xff", content_type="application/zip")
        (resource,) = (await mcp.call_tool("getPhoto", {"petId": 1})).content
        api.answer = sends("häuser".encode("latin-1"), content_type='text/csv; charset="latin-1"')
        (text,) = (await mcp.call_tool("getPhoto", {"petId": 1})).content
    assert isinstance(picture, ImageContent)
    assert (picture.mime_type, base64.b64decode(picture.data)) == ("image/png", b"\x89PNG")
    assert isinstance(resource, EmbeddedResource)
    assert resource.resource.uri == f"{BASE}/pets/1/photo"
    assert base64.b64decode(resource.resource.blob or "") == b"\x00\xff"
    assert isinstance(text, TextContent)
    assert text.text == "häuser"


async def test_an_answer_without_a_body_is_its_status() -> None:
    async with open_api(PETSTORE, WebApi()) as mcp:
        result = await mcp.call_tool("deletePet", {"petId": 1, "X-Reason": "moved"})
    assert (result.text, result.structured_content) == ("204 No Content", None)


async def test_an_answer_that_is_not_what_the_document_says_is_an_error() -> None:
    api = WebApi(lambda request: httpx2.Response(200, json={"name": "Rex"}))
    async with open_api(PETSTORE, api) as mcp:
        with pytest.raises(ToolError, match="'id' is a required property"):
            await mcp.call_tool("getPet", {"petId": 1})
        api.answer = sends(b"<html>", content_type="text/html")
        with pytest.raises(ToolError, match=r"GET /pets/{petId} answered 200 with text/html"):
            await mcp.call_tool("getPet", {"petId": 1})
        api.answer = sends(b"{", content_type="application/json")
        with pytest.raises(ToolError, match="answered with malformed JSON"):
            await mcp.call_tool("getPet", {"petId": 1})


async def test_without_the_check_of_output_any_json_is_a_result() -> None:
    api = WebApi(lambda request: httpx2.Response(200, json={"name": "Rex"}))
    async with open_api(PETSTORE, api, validate_output=False) as mcp:
        assert all(tool.output_schema is None for tool in await mcp.list_tools())
        result = await mcp.call_tool("getPet", {"petId": 1})
        api.answer = lambda request: httpx2.Response(200, json=[1])
        assert (await mcp.call_tool("getPet", {"petId": 1})).text == "[1]"
    assert result.structured_content == {"name": "Rex"}


async def test_an_error_of_the_api_has_its_status_and_the_beginning_of_its_body() -> None:
    problem = {"title": "No such pet", "detail": "x" * 2000}
    headers = {"content-type": "application/problem+json"}
    api = WebApi(lambda request: httpx2.Response(404, headers=headers, content=json.dumps(problem)))
    async with open_api(PETSTORE, api) as mcp:
        with pytest.raises(ToolError) as failed:
            await mcp.call_tool("getPet", {"petId": 1})
        api.answer = lambda request: httpx2.Response(429, headers={"retry-after": "30"})
        with pytest.raises(ToolError, match="answered 429 Too Many Requests; try again after 30 seconds"):
            await mcp.call_tool("getPet", {"petId": 1})
        api.answer = lambda request: httpx2.Response(302, headers={"location": "https://other.example"})
        with pytest.raises(ToolError, match=r"GET /pets/{petId} answered 302 Found$"):
            await mcp.call_tool("getPet", {"petId": 1})
    text = str(failed.value)
    assert text.startswith(
        'GET /pets/{petId} answered 404 Not Found: {"title": "No such pet", "detail": "xxx'
    )
    assert len(text) < 600
    assert len(api.requests) == 3


async def test_an_error_that_repeats_the_keys_of_the_request_does_not_show_them() -> None:
    def echo(request: httpx2.Request) -> httpx2.Response:
        told = f"{dict(request.headers)} {request.url}"
        return httpx2.Response(401, headers={"content-type": "text/plain"}, content=told)

    options = {
        "headers": {"X-Api-Key": "key-123456"},
        "params": {"token": "token-123456"},
        "cookies": {"session": "cookie-123456"},
        "auth": ("user", "password-123456"),
    }
    async with open_api(PETSTORE, WebApi(echo), client=options) as mcp:
        with pytest.raises(ToolError) as failed:
            await mcp.call_tool("findPets", {"X-Trace": "my-trace-1"})
    text = str(failed.value)
    assert "'x-api-key': '***'" in text
    assert "'authorization': '***'" in text
    assert "123456" not in text
    assert "my-trace-1" in text


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (httpx2.ConnectTimeout("t"), "GET /it: the API did not answer in time"),
        (httpx2.ConnectError("at 10.0.0.1"), r"GET /it: no answer from the API \(ConnectError\)$"),
    ],
    ids=["timeout", "unreachable"],
)
async def test_an_api_that_does_not_answer_is_an_error_without_its_address(error: Any, words: str) -> None:
    def fail(request: httpx2.Request) -> httpx2.Response:
        raise error

    async with open_api(IT, WebApi(fail)) as mcp:
        with pytest.raises(ToolError, match=words):
            await mcp.call_tool("it")


async def test_a_request_may_be_sent_again_with_its_body_to_authenticate() -> None:
    class Twice(httpx2.Auth):
        def auth_flow(self, request: httpx2.Request) -> Any:
            response = yield request
            if response.status_code == 401:
                request.headers["x-proof"] = "yes"
                yield request

    def decide(request: httpx2.Request) -> httpx2.Response:
        proven = "x-proof" in request.headers
        return httpx2.Response(201, json={"id": 1, "name": "Rex"}) if proven else httpx2.Response(401)

    api = WebApi(decide)
    async with open_api(PETSTORE, api, client={"auth": Twice()}) as mcp:
        await mcp.call_tool("addPet", {"name": "Rex"})
    assert [json.loads(request.content) for request in api.requests] == [{"name": "Rex"}] * 2


async def test_an_operation_may_be_a_background_task() -> None:
    api = WebApi(lambda request: httpx2.Response(200, json={"id": 1, "name": "Rex"}))
    async with open_api(PETSTORE, api, task=True) as mcp:
        task = await mcp.call_tool("getPet", {"petId": 1}, task=True)
        assert (await task.result()).data == {"id": 1, "name": "Rex"}


async def test_operations_are_added_to_a_server_that_has_tools() -> None:
    server = Server("mine")

    @server.tool
    def getPet() -> str:  # noqa: N802
        return "my own"

    async with WebApi(lambda request: httpx2.Response(200, json={"id": 1, "name": "R"})).client() as http:
        server.add_openapi(PETSTORE, http, include=["getPet"])
        async with open_client(server) as mcp:
            assert [tool.name for tool in await mcp.list_tools()] == ["getPet", "getPet_2"]
            assert (await mcp.call_tool("getPet")).text == "my own"
            assert (await mcp.call_tool("getPet_2", {"petId": 1})).data == {"id": 1, "name": "R"}


async def test_the_server_of_the_document_is_asked_if_the_client_names_none() -> None:
    api = WebApi(lambda request: httpx2.Response(200, json=[]))
    async with open_api(PETSTORE, api, client={"base_url": ""}) as mcp:
        await mcp.call_tool("findPets")
    assert str(api.last.url) == "https://eu.pets.example/v3/pets"


async def test_a_password_in_the_base_url_is_used_and_never_shown() -> None:
    api = WebApi(sends(b"\x00\xff", content_type="application/zip"))
    async with open_api(PETSTORE, api, client={"base_url": "https://me:hidden-1@api.example.com/v1/"}) as mcp:
        (resource,) = (await mcp.call_tool("getPhoto", {"petId": 1})).content
        api.answer = lambda request: httpx2.Response(
            400, headers={"content-type": "text/plain"}, content=request.headers["authorization"]
        )
        failed = await mcp.call_tool("getPhoto", {"petId": 1}, raise_on_error=False)
    assert isinstance(resource, EmbeddedResource)
    assert resource.resource.uri == f"{BASE}/pets/1/photo"
    assert failed.text == "GET /pets/{petId}/photo answered 400 Bad Request: ***"


async def test_a_query_in_a_path_of_the_document_stays() -> None:
    parameters = [{"name": "q", "in": "query", "schema": {"type": "string"}}]
    spec = document({"/search?kind=a": {"get": {"operationId": "it", "parameters": parameters}}})
    api = WebApi()
    async with open_api(spec, api) as mcp:
        await mcp.call_tool("it", {"q": "x"})
    assert api.target == "/search?kind=a&q=x"


async def test_results_of_one_of_several_statuses_have_no_schema() -> None:
    responses = {**answer({"type": "object"}), "202": {"description": "later"}}
    spec = document({"/it": {"get": {"operationId": "it", "responses": responses}}})
    spec["components"]["responses"] = PETSTORE["components"]["responses"]
    api = WebApi(lambda request: httpx2.Response(202))
    async with open_api(spec, api) as mcp:
        (tool,) = await mcp.list_tools()
        assert tool.output_schema is None
        assert (await mcp.call_tool("it")).text == "202 Accepted"
