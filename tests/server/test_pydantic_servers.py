"""A server whose tools, prompts, resources and questions have models of pydantic, and its client."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy
import pydantic
import pytest
from pydantic import BaseModel, Field

from trio_mcp import Context, Server, TaskConfig, ToolError, open_client
from trio_mcp.errors import ProtocolError


class Photo(BaseModel):
    name: str
    stars: int = Field(0, ge=0, le=5, alias="rating")

    @pydantic.computed_field
    @property
    def good(self) -> bool:
        return self.stars > 3


class Order(BaseModel):
    size: Literal["s", "l"]
    count: int = Field(1, ge=1)


PHOTO = Photo(name="sea", rating=4)
DUMPED = {"name": "sea", "rating": 4, "good": True}


async def test_a_tool_takes_and_returns_models() -> None:
    server = Server("photos")

    @server.tool
    async def rate(photo: Photo, stars: Annotated[int, Field(alias="rating")] = 4) -> Photo:
        """Rate it."""
        return photo.model_copy(update={"stars": stars})

    @server.tool
    def every(photos: dict[str, list[Photo]]) -> list[Photo]:
        return [photo for some in photos.values() for photo in some]

    @server.tool(task=TaskConfig())
    async def best(photos: list[Photo] | None = None) -> Photo | None:
        return max(photos or (), key=lambda photo: photo.stars, default=None)

    async with open_client(server) as client:
        tools = {tool.name: tool for tool in await client.list_tools()}
        assert tools["rate"].input_schema["properties"]["photo"]["properties"]["rating"]["maximum"] == 5
        assert "rating" in tools["rate"].input_schema["properties"]
        assert tools["rate"].output_schema["properties"]["good"] == {
            "readOnly": True,
            "title": "Good",
            "type": "boolean",
        }
        result = await client.call_tool("rate", {"photo": {"name": "sea"}})
        assert result.structured_content == result.data == DUMPED
        result = await client.call_tool("rate", {"photo": PHOTO, "rating": 1}, result_type=Photo)
        assert result.data == Photo(name="sea", rating=1)
        result = await client.call_tool("every", {"photos": {"a": [PHOTO]}}, result_type=list[Photo])
        assert result.data == [PHOTO]
        assert (await client.call_tool("best", result_type=Photo | None)).data is None
        task = await client.call_tool("best", {"photos": [PHOTO]}, task=True)
        assert (await task.result(result_type=Photo)).data == PHOTO
        with pytest.raises(ToolError) as caught:
            await client.call_tool("rate", {"photo": {"rating": 9}, "stars": 1})
        assert str(caught.value) == (
            "photo: missing required field 'name'; photo.rating: input should be less than or equal to 5; "
            "unexpected argument 'stars'"
        )


async def test_a_person_is_asked_for_a_model() -> None:
    server = Server("orders")

    @server.tool
    async def order(ctx: Context) -> Order:
        answer = await ctx.elicit("What?", Order)
        return answer.data

    async def answer(request: Any) -> dict[str, Any]:
        assert request.schema["properties"]["size"]["enum"] == ["s", "l"]
        return {"size": "l", "count": 2}

    async with open_client(server, elicitation_handler=answer) as client:
        assert (await client.call_tool("order", result_type=Order)).data == Order(size="l", count=2)


async def test_a_child_call_and_what_is_remembered_may_be_models() -> None:
    server = Server("children")

    @server.tool
    async def inner(photo: Photo) -> Photo:
        return photo

    @server.tool
    async def outer(ctx: Context) -> list[Photo]:
        kept = await ctx.once("photo", lambda: PHOTO, result_type=Photo)
        found = await ctx.call_tool("inner", {"photo": kept}, result_type=Photo)
        return [kept, found.data]

    @server.tool
    async def forgetful(ctx: Context, is_array: bool) -> None:
        await ctx.once("photo", lambda: numpy.ones(3) if is_array else PHOTO)

    @server.tool
    async def array(ctx: Context) -> float:
        ones = await ctx.once("ones", lambda: numpy.ones(3), result_type=numpy.ndarray)
        return ones.sum()

    async with open_client(server) as client:
        assert (await client.call_tool("outer")).data == [DUMPED, DUMPED]
        assert (await client.call_tool("array")).data == 3.0
        for is_array in (True, False):
            with pytest.raises(ToolError, match="annotate what the function returns, or pass result_type="):
                await client.call_tool("forgetful", {"is_array": is_array})


async def test_prompts_and_resources_have_models() -> None:
    server = Server("others")

    @server.prompt
    def describe(photo: Photo, count: Annotated[int, Field(alias="how-many")] = 1) -> str:
        return f"{photo.name} {count}"

    @server.resource("prices://{price}")
    def price(price: Decimal) -> str:
        return str(price * 2)

    @server.resource("photos://{name}/{rating}")
    def read(name: str, stars: Annotated[int, Field(alias="rating", le=5)]) -> Photo:
        return Photo(name=name, rating=stars)

    async with open_client(server) as client:
        (prompt,) = await client.list_prompts()
        assert [argument.name for argument in prompt.arguments or ()] == ["photo", "how-many"]
        texts = {"photo": '{"name": "sea"}', "how-many": "3"}
        (message,) = (await client.get_prompt("describe", texts)).messages
        assert message.content.text == "sea 3"
        (contents,) = (await client.read_resource("photos://sea/4")).contents
        assert Photo.model_validate_json(contents.text, extra="ignore") == PHOTO
        (contents,) = (await client.read_resource("prices://1.50")).contents
        assert contents.text == "3.00"
        with pytest.raises(ProtocolError, match="rating: expected int <= 5"):
            await client.read_resource("photos://sea/9")


async def test_an_argument_may_be_any_value_that_has_a_json_form() -> None:
    server = Server("values")

    @server.tool
    async def echo(value: Any) -> Any:
        return {"value": value}

    async with open_client(server) as client:
        for value, expected in [
            (PHOTO, DUMPED),
            ([numpy.int64(3), numpy.eye(1)], [3, [[1.0]]]),
            ({"a": Path("b")}, {"a": "b"}),
        ]:
            assert (await client.call_tool("echo", {"value": value})).data == {"value": expected}
        with pytest.raises(ValueError, match="object"):
            await client.call_tool("echo", {"value": object()})
