"""The server that the official conformance suite is run against.

Written as any user of trio_mcp would write it: each tool does what the suite's
scenarios ask of a tool of that name.
"""

import base64
from functools import partial
from typing import Annotated, Any, Literal

import attrs
import msgspec
import trio

from trio_mcp import (
    Audio,
    Context,
    EmbeddedResource,
    Image,
    ProtocolError,
    ResourceContents,
    Server,
    TaskConfig,
    ToolError,
    serve_http,
    titles,
)

# One red pixel, and a WAV file of no samples.
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
WAV = base64.b64decode("UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA=")

# The suite expects a task from the first answer on, however fast the tool is.
TASK = TaskConfig(promote_after=0, poll_interval=0.1)
REQUIRED = TaskConfig(mode="required", poll_interval=0.1)

SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


@attrs.frozen
class User:
    username: str
    email: str


@attrs.frozen
class Name:
    name: str


@attrs.frozen
class Color:
    color: str


@attrs.frozen
class Ok:
    ok: bool


@attrs.frozen
class PromptContext:
    context: str


@attrs.frozen
class Confirmation:
    confirm: bool


@attrs.frozen
class Defaults:
    name: str = "John Doe"
    age: int = 30
    score: float = 95.5
    status: Literal["active", "inactive", "pending"] = "active"
    verified: bool = True


Option = Literal["option1", "option2", "option3"]
Titled = Annotated[str, titles(value1="First Option", value2="Second Option", value3="Third Option")]
Named = Annotated[
    Literal["opt1", "opt2", "opt3"],
    msgspec.Meta(extra_json_schema={"enumNames": ["Option One", "Option Two", "Option Three"]}),
]
TitledItem = Annotated[str, titles(value1="First Choice", value2="Second Choice", value3="Third Choice")]


class Enums(msgspec.Struct, rename="camel"):
    untitled_single: Option
    titled_single: Titled
    legacy_enum: Named
    untitled_multi: list[Option]
    titled_multi: list[TitledItem]


def make_server() -> Server:
    server = Server("trio-mcp-conformance", version="1.0")
    add_content_tools(server)
    add_reporting_tools(server)
    add_asking_tools(server)
    add_round_tools(server)
    add_prompts(server)
    add_task_tools(server)
    add_asking_task_tools(server)
    add_resources(server)
    add_lists(server)
    return server


def add_content_tools(server: Server) -> None:
    @server.tool
    async def test_simple_text() -> str:
        """Return text."""
        return "This is a simple text response for testing."

    @server.tool
    async def test_image_content() -> Image:
        """Return an image."""
        return Image(PNG)

    @server.tool
    async def test_audio_content() -> Audio:
        """Return a sound."""
        return Audio(WAV)

    @server.tool
    async def test_embedded_resource() -> EmbeddedResource:
        """Return a resource in place."""
        return EmbeddedResource(
            resource=ResourceContents(
                uri="test://embedded-resource",
                mime_type="text/plain",
                text="This is an embedded resource content.",
            )
        )

    @server.tool
    async def test_multiple_content_types() -> list[str | Image | EmbeddedResource]:
        """Return content of several kinds."""
        resource = ResourceContents(
            uri="test://mixed-content-resource",
            mime_type="application/json",
            text='{"test":"data","value":123}',
        )
        return ["Multiple content types test:", Image(PNG), EmbeddedResource(resource=resource)]

    @server.tool
    async def test_error_handling() -> None:
        """Fail."""
        raise ToolError("This tool intentionally returns an error for testing")

    @server.tool
    async def test_header_parameter(
        region: Annotated[str, msgspec.Meta(extra_json_schema={"x-mcp-header": "Region"})],
    ) -> str:
        """Return an argument that HTTP clients repeat in a header."""
        return region


def add_reporting_tools(server: Server) -> None:
    @server.tool
    async def test_tool_with_progress(ctx: Context) -> str:
        """Report progress three times."""
        await ctx.report_progress(0, 100)
        await trio.sleep(0.05)
        await ctx.report_progress(50, 100)
        await trio.sleep(0.05)
        await ctx.report_progress(100, 100)
        return "Reported 0, 50 and 100 of 100."

    @server.tool
    async def test_tool_with_logging(ctx: Context) -> str:
        """Log three messages."""
        await ctx.info("Tool execution started")
        await trio.sleep(0.05)
        await ctx.info("Tool processing data")
        await trio.sleep(0.05)
        await ctx.info("Tool execution completed")
        return "Logged three messages."

    @server.tool
    async def test_logging_tool(ctx: Context) -> str:
        """Log one message."""
        await ctx.info("This reaches only clients that asked for it")
        return "Logged one message."

    @server.tool
    async def test_streaming_elicitation(ctx: Context) -> str:
        """Report progress on a stream that must carry no request."""
        await ctx.report_progress(1, 1)
        return "Nothing was asked."

    @server.tool
    async def test_reconnection(ctx: Context) -> str:
        """Let the client come back for the answer."""
        await ctx.close_stream(retry=0.5)
        await trio.sleep(0.1)
        return "Reconnection test completed successfully."


def add_asking_tools(server: Server) -> None:
    @server.tool
    async def test_sampling(prompt: str, ctx: Context) -> str:
        """Ask the client's model."""
        answer = await ctx.sample(prompt, max_tokens=100)
        return f"LLM response: {answer.text}"

    @server.tool
    async def test_missing_capability(ctx: Context) -> str:
        """Ask the model of a client that has none."""
        return (await ctx.sample("Hello", max_tokens=100)).text

    @server.tool
    async def test_elicitation(message: str, ctx: Context) -> str:
        """Ask the client's user who they are."""
        answer = await ctx.elicit(message, User)
        return f"User response: action={answer.action}, content={shown(answer.data)}"

    @server.tool
    async def test_elicitation_sep1034_defaults(ctx: Context) -> str:
        """Ask for values that have defaults."""
        answer = await ctx.elicit("Please review the values", Defaults)
        return f"Elicitation completed: action={answer.action}, content={shown(answer.data)}"

    @server.tool
    async def test_elicitation_sep1330_enums(ctx: Context) -> str:
        """Ask for choices of every kind."""
        answer = await ctx.elicit("Please choose", Enums)
        return f"Elicitation completed: action={answer.action}, content={shown(answer.data)}"


def add_round_tools(server: Server) -> None:
    """Tools that ask within a call of the modern wire."""

    @server.tool
    async def test_input_required_result_elicitation(ctx: Context) -> str:
        """Ask for a name."""
        return f"Hello, {await ask_name(ctx)}!"

    @server.tool
    async def test_input_required_result_sampling(ctx: Context) -> str:
        """Ask a model."""
        answer = await ctx.sample("What is the capital of France?", max_tokens=100, key="capital_question")
        return answer.text

    @server.tool
    async def test_input_required_result_list_roots(ctx: Context) -> str:
        """Ask for the client's roots."""
        roots = await ctx.list_roots(key="client_roots")
        return ", ".join(str(root.uri) for root in roots)

    @server.tool
    async def test_input_required_result_request_state(ctx: Context) -> str:
        """Ask for a confirmation."""
        answer = await ctx.elicit("Please confirm", Ok, key="confirm")
        return f"state-ok: {answer.action}"

    @server.tool
    async def test_input_required_result_tampered_state(ctx: Context) -> str:
        """Ask for a confirmation, whose state must come back as it was."""
        return (await ctx.elicit("Please confirm", Ok, key="confirm")).action

    @server.tool
    async def test_input_required_result_multiple_inputs(ctx: Context) -> str:
        """Ask a person, a model and the client at the same time."""
        found: dict[str, str] = {}

        async def ask_person() -> None:
            found["name"] = await ask_name(ctx)

        async def ask_model() -> None:
            found["greeting"] = (await ctx.sample("Generate a greeting", max_tokens=50, key="greeting")).text

        async def ask_client() -> None:
            found["roots"] = str(len(await ctx.list_roots(key="client_roots")))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask_person)
            nursery.start_soon(ask_model)
            nursery.start_soon(ask_client)
        return f"{found['greeting']} {found['name']}, who has {found['roots']} roots"

    @server.tool
    async def test_input_required_result_multi_round(ctx: Context) -> str:
        """Ask twice, one after the other."""
        name = await ctx.elicit("Step 1: What is your name?", Name, key="step1")
        color = await ctx.elicit("Step 2: What is your favorite color?", Color, key="step2")
        return f"{shown(name.data)} {shown(color.data)}"

    @server.tool
    async def test_input_required_result_capabilities(ctx: Context) -> str:
        """Ask only what the client has declared."""
        if "elicitation" in ctx.client_capabilities:
            await ask_name(ctx)
        if "sampling" in ctx.client_capabilities:
            await ctx.sample("Say hello", max_tokens=50, key="hello")
        return "Asked what could be asked."

    @server.prompt
    async def test_input_required_result_prompt(ctx: Context) -> str:
        """Ask for a context."""
        answer = await ctx.elicit("What context should the prompt use?", PromptContext, key="user_context")
        return f"Use this context: {'none' if answer.data is None else answer.data.context}"


async def ask_name(ctx: Context) -> str:
    answer = await ctx.elicit("What is your name?", Name, key="user_name")
    return answer.action if answer.data is None else answer.data.name


def shown(data: Any) -> str:
    return msgspec.json.encode(data).decode()


def add_prompts(server: Server) -> None:
    @server.prompt
    async def test_simple_prompt() -> str:
        """Say one thing."""
        return "This is a simple prompt for testing."

    @server.prompt
    async def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
        """Say what the arguments are."""
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @test_prompt_with_arguments.complete("arg1")
    async def complete_arg1(value: str) -> list[str]:
        return [word for word in ("paris", "park", "party") if word.startswith(value)]

    @server.prompt
    async def test_prompt_with_embedded_resource(resourceUri: str) -> list[str | EmbeddedResource]:  # noqa: N803
        """Show a resource."""
        contents = ResourceContents(
            uri=resourceUri, mime_type="text/plain", text="Embedded resource content for testing."
        )
        return [EmbeddedResource(resource=contents), "Please process the embedded resource above."]

    @server.prompt
    async def test_prompt_with_image() -> list[str | Image]:
        """Show a picture."""
        return [Image(PNG, "png"), "Please analyze the image above."]


def add_task_tools(server: Server) -> None:
    @server.tool
    async def greet(name: str) -> str:
        """Greet somebody, at once."""
        return f"Hello, {name}!"

    @server.tool(task=TASK)
    async def slow_compute(seconds: float, label: str = "") -> str:
        """Compute for some seconds."""
        await trio.sleep(seconds)
        return f"Computed {label!r} in {seconds:g} seconds."

    @server.tool(task=REQUIRED)
    async def failing_job() -> None:
        """Fail after a second."""
        await trio.sleep(1)
        raise ToolError("This job always fails")

    @server.tool(task=REQUIRED)
    async def protocol_error_job() -> None:
        """End with an error of the protocol."""
        raise ProtocolError(-32603, "This job ends with a protocol error")


def add_asking_task_tools(server: Server) -> None:
    @server.tool(task=TASK)
    async def confirm_delete(filename: str, ctx: Context) -> str:
        """Ask before a file is deleted."""
        answer = await ctx.elicit(f"Delete {filename}?", Confirmation)
        deleted = answer.data is not None and answer.data.confirm
        return f"{'Deleted' if deleted else 'Kept'} {filename}."

    @server.tool(task=TASK)
    async def multi_input(ctx: Context) -> str:
        """Ask two questions at once."""
        answers: dict[str, str] = {}

        async def ask(question: str) -> None:
            answer = await ctx.elicit(question, Name)
            answers[question] = answer.action if answer.data is None else answer.data.name

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, "What is your first name?")
            nursery.start_soon(ask, "What is your last name?")
        return ", ".join(f"{question} {answer}" for question, answer in sorted(answers.items()))

    async def gather_name(ctx: Context, arguments: dict[str, Any]) -> str:
        return await ask_name(ctx)

    @server.tool(task=TaskConfig(mode="required", poll_interval=0.1, gather=gather_name))
    async def test_tool_with_task(ctx: Context) -> str:
        """Ask before the task begins, then work."""
        return f"Hello, {ctx.gathered}!"


def add_resources(server: Server) -> None:
    @server.resource("test://static-text", name="Static text")
    async def static_text() -> str:
        """Text that never changes."""
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", name="Static binary", mime_type="image/png")
    async def static_binary() -> bytes:
        """A picture that never changes."""
        return PNG

    @server.resource("test://watched-resource", name="Watched")
    async def watched() -> str:
        """What clients subscribe to."""
        return "Watched resource content"

    @server.resource("test://template/{key}/data", name="Template")
    async def template(key: str) -> dict[str, Any]:
        """Data of one key."""
        return {"id": key, "templateTest": True, "data": f"Data for ID: {key}"}


def add_lists(server: Server) -> None:
    """What the suite asks of lists: that they change, and that a schema is listed as it is given."""

    @server.tool
    async def test_trigger_tool_change(ctx: Context) -> str:
        """Change the list of tools."""
        ctx.server.add_tool(lambda: "never called", name="test_triggered_tool")
        ctx.server.remove_tool("test_triggered_tool")
        return "the list of tools has changed"

    @server.tool
    async def test_trigger_prompt_change(ctx: Context) -> str:
        """Change the list of prompts."""
        ctx.server.add_prompt(lambda: "never asked for", name="test_triggered_prompt")
        ctx.server.remove_prompt("test_triggered_prompt")
        return "the list of prompts has changed"

    @server.tool(input_schema=SCHEMA)
    async def json_schema_2020_12_tool(arguments: dict[str, Any]) -> dict[str, Any]:
        """Tool with JSON Schema 2020-12 features"""
        return arguments


async def main() -> None:
    server = make_server()
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(partial(serve_http, server, bind="127.0.0.1:0"))
        print(url, flush=True)


if __name__ == "__main__":
    trio.run(main)
