"""Completion of a prompt's arguments: who is asked, what is answered, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Wire
from trio_mcp import (
    Completion,
    Context,
    PromptDefinitionError,
    PromptReference,
    ProtocolError,
    ResourceTemplateReference,
    Server,
    ToolError,
    open_client,
)
from trio_mcp.wire.errors import INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND

PAINT = PromptReference(name="paint")
STYLES = ["cubism", "classicism", "baroque"]


def make_server() -> Server:
    server = Server("completing")

    @server.prompt
    def paint(style: str, painter: str, size: int = 1) -> str:
        return f"{style} {painter} {size}"

    @paint.complete("style")
    def complete_style(value: str) -> list[str]:
        return [style for style in STYLES if style.startswith(value)]

    @paint.complete("painter")
    async def complete_painter(value: str, arguments: dict[str, str]) -> list[str]:
        return [f"{arguments.get('style', 'any')} painter {value}"]

    return server


async def complete(client: Any, name: str, value: str = "", known: Any = None) -> Completion:
    completion: Completion = await client.complete(PAINT, {"name": name, "value": value}, known)
    return completion


async def test_an_argument_is_completed_by_its_function(wire: Wire) -> None:
    async with wire.open(make_server()) as client:
        assert client.server_capabilities["completions"] == {}
        assert await complete(client, "style", "c") == Completion(["cubism", "classicism"], 2, False)
        assert await complete(client, "style", "x") == Completion([], 0, False)


async def test_a_function_gets_the_arguments_so_far_if_it_has_a_parameter_for_them(wire: Wire) -> None:
    async with wire.open(make_server()) as client:
        completion = await complete(client, "painter", "P", {"style": "cubism", "size": 3})
        assert completion.values == ["cubism painter P"]
        assert (await complete(client, "painter", "P")).values == ["any painter P"]


async def test_an_argument_without_a_function_has_no_values(wire: Wire) -> None:
    async with wire.open(make_server()) as client:
        assert await complete(client, "size", "1") == Completion([], 0, False)


@pytest.mark.parametrize(
    ("ref", "argument", "words"),
    [
        (PromptReference(name="sing"), "style", "Unknown prompt: sing"),
        (PAINT, "colour", "prompt 'paint' has no argument 'colour'"),
        (ResourceTemplateReference("users://{id}"), "id", "Unknown resource template: users://{id}"),
    ],
    ids=["prompt", "argument", "template"],
)
async def test_what_the_server_does_not_know_is_invalid_params(
    wire: Wire, ref: Any, argument: str, words: str
) -> None:
    async with wire.open(make_server()) as client:
        with pytest.raises(ProtocolError) as refused:
            await client.complete(ref, {"name": argument, "value": ""})
    assert (refused.value.code, refused.value.message) == (INVALID_PARAMS, words)


async def test_no_more_than_a_hundred_values_travel_and_the_client_hears_how_many_there_are(
    wire: Wire,
) -> None:
    server = Server("many")

    @server.prompt
    def pick(number: str, exact: str, open_end: str, late: str) -> str:
        return number

    pick.complete("number")(lambda value: [str(n) for n in range(101)])
    pick.complete("exact")(lambda value: [str(n) for n in range(100)])
    pick.complete("open_end")(lambda value: Completion(["a"], has_more=True))
    pick.complete("late")(lambda value: Completion([str(n) for n in range(150)], total=9000))

    async with wire.open(server) as client:
        ref = PromptReference(name="pick")
        found = {
            name: await client.complete(ref, {"name": name, "value": ""})
            for name in ("number", "exact", "open_end", "late")
        }
    assert found["number"] == Completion([str(n) for n in range(100)], 101, True)
    assert found["exact"] == Completion([str(n) for n in range(100)], 100, False)
    assert found["open_end"] == Completion(["a"], None, True)
    assert found["late"] == Completion([str(n) for n in range(100)], 9000, True)


async def test_progress_of_a_completion_arrives_before_its_values(wire: Wire) -> None:
    server = Server("progress")

    @server.prompt
    def paint(style: str) -> str:
        return style

    @paint.complete("style")
    async def slow(ctx: Context, value: str) -> list[str]:
        for step in (1, 2):
            await ctx.report_progress(step, 2)
        return [value]

    seen: list[float] = []
    async with wire.open(server) as client:
        completion = await client.complete(
            PAINT,
            {"name": "style", "value": "c"},
            progress_handler=lambda progress, total, message: seen.append(progress),
        )
    assert seen == [1, 2]
    assert completion.values == ["c"]


async def test_a_server_whose_prompts_complete_nothing_does_not_say_that_it_completes(wire: Wire) -> None:
    server = Server("plain")

    @server.prompt
    def paint(style: str) -> str:
        return style

    async with wire.open(server) as client:
        assert "completions" not in client.server_capabilities
        assert (await complete(client, "style")).values == []


async def test_a_server_without_prompts_has_no_such_method(wire: Wire) -> None:
    async with wire.open(Server("tools only")) as client:
        assert "completions" not in client.server_capabilities
        with pytest.raises(ProtocolError) as refused:
            await complete(client, "style")
    assert refused.value.code == METHOD_NOT_FOUND


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (OSError("/etc/secret"), "Error in the completion of 'style'"),
        (ToolError("the catalogue is closed"), "the catalogue is closed"),
    ],
    ids=["any", "told"],
)
async def test_a_completion_that_fails_does_not_leak(failure: Exception, words: str) -> None:
    server = Server("failing")

    @server.prompt
    def paint(style: str) -> str:
        return style

    @paint.complete("style")
    async def fail(value: str) -> list[str]:
        raise failure

    async with open_client(server) as client:
        with pytest.raises(ProtocolError) as failed:
            await complete(client, "style")
    assert (failed.value.code, failed.value.message) == (INTERNAL_ERROR, words)


@pytest.mark.parametrize(
    ("value", "words"), [("text", "list of texts, not str"), ([1], "int is none"), (5, "not int")]
)
async def test_what_is_no_list_of_texts_is_an_error(value: Any, words: str) -> None:
    server = Server("wrong")

    @server.prompt
    def paint(style: str) -> str:
        return style

    paint.complete("style")(lambda typed: value)
    async with open_client(server) as client:
        with pytest.raises(ProtocolError, match=words) as failed:
            await complete(client, "style")
    assert failed.value.code == INTERNAL_ERROR


def nothing() -> list[str]:
    return []


def generator(value: str) -> Any:
    yield value


@pytest.mark.parametrize(
    ("argument", "function", "words"),
    [
        (
            "colour",
            lambda value: [],
            "argument 'colour': there is no such argument; there are: style, painter",
        ),
        ("style", lambda value: [], "a function completes it already"),
        ("size", nothing, "has the parameters: none"),
        ("size", lambda a, b, c: [], "has the parameters: a, b, c"),
        ("size", lambda *values: [], "parameter 'values'"),
        ("size", generator, "is a generator"),
        ("size", 5, "is no function"),
    ],
    ids=["unknown", "twice", "none", "three", "star", "generator", "no function"],
)
def test_a_function_that_cannot_complete_is_refused_at_registration(
    argument: str, function: Any, words: str
) -> None:
    prompt = make_server().prompts["paint"]
    with pytest.raises(PromptDefinitionError, match=words):
        prompt.add_completer(argument, function)


async def test_an_argument_that_is_none_is_refused_before_it_is_sent() -> None:
    async with open_client(make_server()) as client:
        with pytest.raises(ValueError, match="an argument to complete is"):
            await client.complete(PAINT, {"style": "c"})
