"""What a tool returns becomes content: also pictures inside of containers that may hold anything."""

import inspect
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from tests.conftest import Wire
from trio_mcp import (
    Audio,
    Context,
    Image,
    ImageContent,
    RemoteProtocolError,
    Server,
    TextContent,
    ToolError,
    ToolResult,
    open_client,
)

PICTURE = ImageContent(data="YWJj", mime_type="image/png")
MISSING = inspect.Signature.empty


def make_server(annotation: Any, value: Any) -> Server:
    server = Server("results")

    async def tool(ctx: Context) -> Any:
        return value

    if annotation is MISSING:
        del tool.__annotations__["return"]
    else:
        tool.__annotations__["return"] = annotation
    server.add_tool(tool)
    return server


def text(value: Any) -> TextContent:
    return TextContent(text=value if isinstance(value, str) else msgspec.json.encode(value).decode())


LISTS = [MISSING, list, list[Any], tuple, list[Any] | None, Any, object]
DICTS = [MISSING, dict, dict[str, Any], dict[str, list[Any] | str] | dict[str, Any], Any]


@pytest.mark.parametrize("annotation", LISTS, ids=str)
async def test_content_in_a_list_of_anything_becomes_blocks(annotation: Any, wire: Wire) -> None:
    value = ["a", Image(b"abc", "png"), {"n": 1}, 7, [Image(b"abc", "png"), "b"]]
    server = make_server(annotation, value)
    schema = server.tools["tool"].listing.output_schema
    async with wire.open(server) as client:
        result = await client.call_tool("tool")
    assert result.content == [text("a"), PICTURE, text({"n": 1}), text(7), PICTURE, text("b")]
    if schema is None:
        assert result.structured_content is None
    else:  # the result must have what the schema promises
        Draft202012Validator(schema).validate(result.structured_content)
        assert result.structured_content == {"result": ["a", None, {"n": 1}, 7, [None, "b"]]}


@pytest.mark.parametrize("annotation", DICTS, ids=str)
async def test_content_in_a_dict_of_anything_becomes_blocks(annotation: Any, wire: Wire) -> None:
    server = make_server(annotation, {"title": "x", "picture": Image(b"abc", "png"), "more": [PICTURE]})
    schema = server.tools["tool"].listing.output_schema
    async with wire.open(server) as client:
        result = await client.call_tool("tool")
    rest = {"title": "x", "picture": None, "more": [None]}
    assert result.content == [text(rest), PICTURE, PICTURE]
    assert result.data == rest
    if schema is not None:
        Draft202012Validator(schema).validate(result.structured_content)


async def test_a_dict_of_pictures_has_no_schema_of_what_is_inside_of_them() -> None:
    server = make_server(dict[str, Image], {"a": Image(b"abc", "png")})
    assert server.tools["tool"].listing.output_schema is None
    async with open_client(server) as client:
        assert (await client.call_tool("tool")).content == [text({"a": None}), PICTURE]


async def test_a_picture_in_a_file_is_read_in_a_thread_however_deep_it_lies(
    tmp_path: Path, monkeypatch
) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(b"abc")
    read = Path.read_bytes
    threads = []

    def note(self: Path) -> bytes:

        threads.append(threading.current_thread() is threading.main_thread())
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", note)
    async with open_client(make_server(list, [{"deep": [Image(path)]}])) as client:
        assert PICTURE in (await client.call_tool("tool")).content
    assert threads == [False]


@pytest.mark.parametrize("annotation", [list, dict])
async def test_a_container_with_content_that_contains_itself_is_refused(annotation: type) -> None:
    inside: list[Any] = [Audio(b"abc", "wav")]
    inside.append(inside)
    value = {"a": inside} if annotation is dict else inside
    async with open_client(make_server(annotation, value)) as client:
        with pytest.raises(ToolError, match="contains itself"):
            await client.call_tool("tool")


async def test_a_whole_result_inside_of_a_list_is_refused() -> None:
    async with open_client(make_server(list, [ToolResult()])) as client:
        with pytest.raises(ToolError, match=r"structured_content|content must be"):
            await client.call_tool("tool")


async def test_a_typed_container_is_searched_for_nothing() -> None:
    async with open_client(make_server(list[int], [1, 2])) as client:
        result = await client.call_tool("tool")
    assert result.content == [text([1, 2])]
    assert result.structured_content == {"result": [1, 2]}


class Count(msgspec.Struct):
    n: int
    share: float


async def test_a_whole_number_with_a_point_is_an_integer_of_the_result_type(wire: Wire) -> None:
    async with wire.open(make_server(dict[str, Any], {"n": 3.0, "share": 2.0})) as client:
        assert (await client.call_tool("tool", result_type=Count)).data == Count(3, 2.0)
    async with wire.open(make_server(dict[str, Any], {"n": 3.5, "share": 2.0})) as client:
        with pytest.raises(RemoteProtocolError, match=r"no <class .*Count'>: n: expected int, got float"):
            await client.call_tool("tool", result_type=Count)


@pytest.mark.parametrize("make", [Image, Audio])
def test_a_picture_or_a_sound_is_made_of_bytes_or_a_path(make: type[Image] | type[Audio]) -> None:
    assert make(b"abc", "webp") == make(data=b"abc", format="webp")
    assert (make(b"abc").source, make(b"abc").format) == (b"abc", "")
    path = Path("a/b.webp")
    for of_path in (make("a/b.webp"), make(path), make(path="a/b.webp"), make(path=path)):
        assert (of_path.source, of_path.format) == (path, "webp")
    assert make(path="a/b", format="webp").format == "webp"


@pytest.mark.parametrize("make", [Image, Audio])
@pytest.mark.parametrize(
    "wrong", [{}, {"source": 7}, {"data": "a.png"}, {"path": b"abc"}, {"source": b"abc", "path": "a.png"}]
)
def test_what_is_neither_bytes_nor_a_path_makes_no_picture(make: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="bytes or a path"):
        make(**wrong)
