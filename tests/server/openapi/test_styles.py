"""Every style of parameters, with the examples of the specification (OpenAPI, "Style Examples")."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from tests.support.web_api import BASE, WebApi, document, open_api
from trio_mcp import DefinitionError, Server, ToolError

COLOR = "blue"
COLORS = ["blue", "black", "brown"]
RGB = {"R": 100, "G": 200, "B": 150}


def spec_of(parameter: dict[str, Any], version: str = "3.1.0") -> dict[str, Any]:
    path = "/x/{color}/y" if parameter.get("in") == "path" else "/x"
    return document({path: {"get": {"operationId": "it", "parameters": [parameter]}}}, version=version)


async def send(parameter: dict[str, Any], value: Any, **options: Any) -> WebApi:
    api = WebApi()
    async with open_api(spec_of({"name": "color", "schema": {}, **parameter}), api, **options) as mcp:
        await mcp.call_tool("it", {"color": value})
    return api


@pytest.mark.parametrize(
    ("style", "explode", "value", "sent"),
    [
        ("simple", False, COLOR, "blue"),
        ("simple", False, COLORS, "blue,black,brown"),
        ("simple", False, RGB, "R,100,G,200,B,150"),
        ("simple", True, COLORS, "blue,black,brown"),
        ("simple", True, RGB, "R=100,G=200,B=150"),
        ("label", False, COLOR, ".blue"),
        ("label", False, COLORS, ".blue,black,brown"),
        ("label", False, RGB, ".R,100,G,200,B,150"),
        ("label", True, COLORS, ".blue.black.brown"),
        ("label", True, RGB, ".R=100.G=200.B=150"),
        ("matrix", False, COLOR, ";color=blue"),
        ("matrix", False, COLORS, ";color=blue,black,brown"),
        ("matrix", False, RGB, ";color=R,100,G,200,B,150"),
        ("matrix", True, COLORS, ";color=blue;color=black;color=brown"),
        ("matrix", True, RGB, ";R=100;G=200;B=150"),
        ("simple", False, "a b,c;d?e#f%2e&g=ü", "a%20b%2Cc%3Bd%3Fe%23f%252e%26g%3D%C3%BC"),
        ("simple", False, True, "true"),
        ("simple", False, 1.5, "1.5"),
    ],
)
async def test_values_in_a_path(style: str, explode: bool, value: Any, sent: str) -> None:
    api = await send({"in": "path", "required": True, "style": style, "explode": explode}, value)
    assert api.target == f"/x/{sent}/y"


@pytest.mark.parametrize(
    ("style", "explode", "value", "sent"),
    [
        ("form", True, COLOR, "color=blue"),
        ("form", True, "", "color="),
        ("form", True, COLORS, "color=blue&color=black&color=brown"),
        ("form", True, RGB, "R=100&G=200&B=150"),
        ("form", False, COLORS, "color=blue,black,brown"),
        ("form", False, ["a,b", "c"], "color=a%2Cb,c"),
        ("form", False, RGB, "color=R,100,G,200,B,150"),
        ("spaceDelimited", False, COLORS, "color=blue%20black%20brown"),
        ("spaceDelimited", False, RGB, "color=R%20100%20G%20200%20B%20150"),
        ("pipeDelimited", False, COLORS, "color=blue%7Cblack%7Cbrown"),
        ("pipeDelimited", False, RGB, "color=R%7C100%7CG%7C200%7CB%7C150"),
        ("deepObject", True, RGB, "color%5BR%5D=100&color%5BG%5D=200&color%5BB%5D=150"),
        (
            "deepObject",
            True,
            {"a": {"b": 1}, "c": [1, 2]},
            "color%5Ba%5D%5Bb%5D=1&color%5Bc%5D=1&color%5Bc%5D=2",
        ),
        ("form", True, "a&admin=1#x\r\n+", "color=a%26admin%3D1%23x%0D%0A%2B"),
        ("form", True, {"a": None, "b": 1}, "b=1"),
        ("form", True, [], ""),
    ],
)
async def test_values_in_a_query(style: str, explode: bool, value: Any, sent: str) -> None:
    api = await send({"in": "query", "style": style, "explode": explode}, value)
    assert api.target == (f"/x?{sent}" if sent else "/x")


async def test_the_defaults_of_styles() -> None:
    assert (await send({"in": "query"}, COLORS)).target == "/x?color=blue&color=black&color=brown"
    assert (await send({"in": "path"}, COLORS)).target == "/x/blue,black,brown/y"
    assert (await send({"in": "query", "style": "pipeDelimited"}, COLORS)).target == (
        "/x?color=blue%7Cblack%7Cbrown"
    )


async def test_reserved_characters_that_are_allowed_stay_but_cannot_begin_another_parameter() -> None:
    api = await send({"in": "query", "allowReserved": True}, "a/b:c,d&e=f#g+h")
    assert api.target == "/x?color=a/b:c,d%26e%3Df%23g%2Bh"


async def test_a_parameter_with_a_media_type_is_json() -> None:
    content = {"application/json": {"schema": {"type": "object"}}}
    parameter = {"name": "color", "in": "query", "content": content}
    api = WebApi()
    async with open_api(spec_of(parameter), api) as mcp:
        await mcp.call_tool("it", {"color": {"R": [1]}})
    assert api.last.url.params["color"] == '{"R":[1]}'


async def test_a_whole_query_is_one_argument() -> None:
    parameter = {
        "name": "q",
        "in": "querystring",
        "content": {"application/x-www-form-urlencoded": {"schema": {"type": "object"}}},
    }
    api = WebApi()
    async with open_api(spec_of(parameter, "3.2.0"), api) as mcp:
        await mcp.call_tool("it", {"q": {"a": "1 2", "b": [3, 4]}})
    assert api.target == "/x?a=1%202&b=3&b=4"


@pytest.mark.parametrize(
    ("explode", "value", "sent"),
    [
        (False, COLOR, "blue"),
        (False, COLORS, "blue,black,brown"),
        (False, RGB, "R,100,G,200,B,150"),
        (True, RGB, "R=100,G=200,B=150"),
        (False, 5, "5"),
    ],
)
async def test_values_in_a_header(explode: bool, value: Any, sent: str) -> None:
    api = await send({"in": "header", "explode": explode}, value)
    assert api.last.headers["color"] == sent


@pytest.mark.parametrize(
    ("value", "sent"), [(COLOR, "blue"), (COLORS, "blue,black,brown"), ("a; b=c", "a%3B%20b%3Dc")]
)
async def test_values_in_a_cookie_stand_beside_those_of_the_client(value: Any, sent: str) -> None:
    api = await send({"in": "cookie"}, value, client={"cookies": {"session": "1"}})
    assert set(api.last.headers["cookie"].split("; ")) == {f"color={sent}", "session=1"}


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "ä", "a\x00b", ["a", "b\r"]])
async def test_a_header_cannot_begin_another_one(value: Any) -> None:
    with pytest.raises(ToolError, match="color: a header has visible characters of ASCII only"):
        await send({"in": "header"}, value)


@pytest.mark.parametrize("value", ["a;b=c", "a b", 'a"', "a\r\nb"])
async def test_a_cookie_that_is_written_as_it_is_cannot_begin_another_one(value: str) -> None:
    with pytest.raises(ToolError, match="color: a cookie cannot have these characters"):
        await send({"in": "cookie", "style": "cookie"}, value)
    assert (await send({"in": "cookie", "style": "cookie"}, "a=b")).last.headers["cookie"] == "color=a=b"


@pytest.mark.parametrize(
    "value",
    ["..", ".", "../admin", "a/../../b", "..\\b", "a/b", "a\\b", "", "\r\n", "a\x00", ["..", ".."], " .. "],
)
@pytest.mark.parametrize("style", ["simple", "label", "matrix"])
async def test_no_value_leads_to_another_path(style: str, value: Any) -> None:
    parameter = {"in": "path", "style": style}
    if value == "" and style == "matrix":
        assert (await send(parameter, value)).target == "/x/;color=/y"
        return
    with pytest.raises(ToolError, match=r"color: it|color: a path|the arguments make a path"):
        await send(parameter, value)


@pytest.mark.parametrize(
    "value", ["%2e%2e", "%2F..%2F", "..;", "...", "//evil.example", "@evil", "?a=1", "#x"]
)
async def test_a_value_that_looks_like_another_place_stays_a_part_of_the_path(value: str) -> None:
    api = await send({"in": "path"}, value, slashes="encode")
    url = api.last.url
    assert (url.scheme, url.host) == ("https", "api.example.com")
    raw = url.raw_path.decode()
    assert raw.count("/") == 4
    assert httpx2.URL(f"{BASE}/x/{raw.split('/')[3]}/y").path == f"/v1/x/{value}/y"


async def test_slashes_in_a_path_are_a_choice() -> None:
    assert (await send({"in": "path"}, "group/project", slashes="encode")).target == "/x/group%2Fproject/y"
    assert (await send({"in": "path", "x-multi-segment": True}, "docs/a b.md")).target == "/x/docs/a%20b.md/y"
    for parameter, options in (
        ({"in": "path"}, {"slashes": "encode"}),
        ({"in": "path", "x-multi-segment": True}, {}),
    ):
        with pytest.raises(ToolError, match="color: it would lead to another path"):
            await send(parameter, "docs/../../admin", **options)


async def test_parts_of_a_path_that_make_dots_together_are_refused() -> None:
    parameters = [{"name": name, "in": "path", "schema": {"type": "string"}} for name in ("a", "b")]
    spec = document({"/x/.{a}{b}/y": {"get": {"operationId": "it", "parameters": parameters}}})
    api = WebApi()
    async with open_api(spec, api) as mcp:
        await mcp.call_tool("it", {"a": "c", "b": "d"})
        with pytest.raises(ToolError):
            await mcp.call_tool("it", {"a": ".", "b": ""})
    assert api.target == "/x/.cd/y"


@pytest.mark.parametrize(
    ("parameter", "words"),
    [
        ({"name": "color", "in": "query", "style": "matrix"}, "in query cannot have the style 'matrix'"),
        ({"name": "color", "in": "body"}, "is in 'body', which OpenAPI 3 does not have"),
        ({"name": "a b", "in": "header"}, "'a b' is no name of a header"),
        ({"name": "a;b", "in": "cookie"}, "'a;b' is no name of a cookie"),
        ({"in": "query"}, "needs a name"),
        ({"name": "other", "in": "path"}, "no parameter of that name"),
    ],
)
async def test_a_parameter_that_cannot_be_sent_is_refused_at_registration(
    parameter: dict[str, Any], words: str
) -> None:
    async with WebApi().client() as http:
        with pytest.raises(DefinitionError, match=words) as refused:
            Server.from_openapi(spec_of(parameter), http)
    assert str(refused.value).startswith("GET /x")


async def test_headers_that_belong_to_the_connection_are_no_arguments() -> None:
    names = [
        "Authorization",
        "Content-Type",
        "Accept",
        "Host",
        "content-length",
        "Transfer-Encoding",
        "Cookie",
    ]
    parameters = [{"name": name, "in": "header", "required": True} for name in [*names, "X-Mine"]]
    spec = document({"/x": {"get": {"operationId": "it", "parameters": parameters}}})
    async with open_api(spec, WebApi()) as mcp:
        (tool,) = await mcp.list_tools()
    assert list(tool.input_schema["properties"]) == ["X-Mine"]
