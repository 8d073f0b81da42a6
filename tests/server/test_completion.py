"""Completion of arguments of prompts and of variables of resource templates: what is answered and refused."""

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
    ResourceDefinitionError,
    ResourceTemplateReference,
    Server,
    ServerSettings,
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


CITY = ResourceTemplateReference("weather://{country}/{city}{?unit}")


def make_weather() -> Server:
    server = Server("weather")

    @server.resource("weather://{country}/{city}{?unit}")
    def weather(country: str, city: str, unit: str = "C") -> str:
        return f"{city}, {country}: 20 {unit}"

    @weather.complete("country")
    def complete_country(value: str) -> list[str]:
        return [country for country in ("France", "Finland", "Italy") if country.startswith(value)]

    @weather.complete("city")
    async def complete_city(value: str, known: dict[str, str], ctx: Context) -> list[str]:
        await ctx.report_progress(1)
        return [f"{known.get('country', 'any')} {value}"]

    assert weather("Italy", "Rome") == "Rome, Italy: 20 C"
    return server


async def test_a_variable_of_a_template_is_completed_on_a_server_without_prompts(wire: Wire) -> None:
    async with wire.open(make_weather()) as client:
        assert "completions" in client.server_capabilities
        assert "prompts" not in client.server_capabilities
        completion = await client.complete(CITY, {"name": "country", "value": "F"})
        assert completion == Completion(["France", "Finland"], 2, False)
        seen: list[float] = []
        completion = await client.complete(
            CITY,
            {"name": "city", "value": "Ro"},
            {"country": "Italy"},
            progress_handler=lambda progress, total, message: seen.append(progress),
        )
        assert (completion.values, seen) == (["Italy Ro"], [1])
        assert (await client.complete(CITY, {"name": "unit", "value": ""})).values == []
        assert (await client.read_resource("weather://Italy/Rome")).text == "Rome, Italy: 20 C"


@pytest.mark.parametrize(
    ("ref", "variable", "words"),
    [
        (CITY, "planet", f"resource template '{CITY.uri}' has no variable 'planet'"),
        (
            ResourceTemplateReference("weather://{city}"),
            "city",
            "Unknown resource template: weather://{city}",
        ),
        (ResourceTemplateReference("weather://now"), "city", "Unknown resource template: weather://now"),
        (PAINT, "style", "Unknown prompt: paint"),
    ],
    ids=["variable", "template", "resource", "prompt"],
)
async def test_what_a_server_of_templates_does_not_know_is_invalid_params(
    wire: Wire, ref: Any, variable: str, words: str
) -> None:
    server = make_weather()
    server.add_resource("weather://now", lambda: "", name="now")
    async with wire.open(server) as client:
        with pytest.raises(ProtocolError) as refused:
            await client.complete(ref, {"name": variable, "value": ""})
    assert (refused.value.code, refused.value.message) == (INVALID_PARAMS, words)


async def test_a_template_that_is_disabled_completes_nothing_until_it_is_enabled(
    wire: Wire,
) -> None:
    server = make_weather()
    server.disable(resources=CITY.uri)
    async with wire.open(server) as client:
        assert "completions" in client.server_capabilities
        with pytest.raises(ProtocolError, match="Unknown resource template"):
            await client.complete(CITY, {"name": "country", "value": "I"})
        server.enable(resources=CITY.uri)
        assert (await client.complete(CITY, {"name": "country", "value": "I"})).values == ["Italy"]


async def test_completions_that_come_later_may_be_offered_from_the_start(wire: Wire) -> None:
    server = Server("later", settings=ServerSettings(offers=("completions",)))
    async with wire.open(server) as client:
        assert set(client.server_capabilities) >= {"completions"}
        with pytest.raises(ProtocolError, match="Unknown prompt: paint"):
            await complete(client, "style")
        server.add_prompt(lambda style: "", name="paint").complete("style")(lambda value: ["late"])
        assert (await complete(client, "style")).values == ["late"]


@pytest.mark.parametrize(
    ("variable", "function", "words"),
    [
        (
            "planet",
            lambda value: [],
            "there is no such variable; there are: country, city",
        ),
        ("city", lambda value: [], "variable 'city': a function completes it already"),
        ("unit", nothing, "variable 'unit': its function has the parameters: none"),
        ("unit", 5, "is no function"),
    ],
    ids=["unknown", "twice", "none", "no function"],
)
def test_what_cannot_complete_a_variable_is_refused(variable: str, function: Any, words: str) -> None:
    table = make_weather().definition.resources
    assert table is not None
    with pytest.raises(ResourceDefinitionError, match=words):
        table.templates[CITY.uri].add_completer(variable, function)


def test_a_single_resource_has_nothing_to_complete() -> None:
    config = Server("x").add_resource("config://app", lambda: "", name="config")
    with pytest.raises(ResourceDefinitionError, match="there is no such variable; there are: none"):
        config.complete("city")(lambda value: [])


async def test_one_function_may_be_a_tool_a_prompt_and_several_resources(wire: Wire) -> None:
    server = Server("all")

    @server.tool
    @server.prompt
    @server.resource("x://{name}")
    @server.resource("y://{name}")
    async def greet(ctx: Context, name: str) -> str:
        """Greet somebody."""
        return f"Hello, {name}!"

    greet.complete("name")(lambda value: ["Ada"])
    async with wire.open(server) as client:
        assert (await client.call_tool("greet", {"name": "Ada"})).data == "Hello, Ada!"
        prompt = await client.get_prompt("greet", {"name": "Ada"})
        assert prompt.messages[0].content.text == "Hello, Ada!"
        for scheme in ("x", "y"):
            assert (await client.read_resource(f"{scheme}://Ada")).text == "Hello, Ada!"
        listed = [*await client.list_tools(), *await client.list_prompts()]
        listed += await client.list_resource_templates()
        assert {one.description for one in listed} == {"Greet somebody."}
        completion = await client.complete(PromptReference(name="greet"), {"name": "name", "value": ""})
        assert completion.values == ["Ada"]
    assert all(isinstance(tool.function, type(make_server)) for tool in server.tools.values())
