"""What asks its client, of the server that the official conformance suite is run against."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import attrs
import msgspec
import trio

from trio_mcp import Context, Server, TaskConfig, titles

# The suite expects a task from the first answer on, however fast the tool is.
TASK = TaskConfig(promote_after=0, poll_interval=0.1)
REQUIRED = TaskConfig(mode="required", poll_interval=0.1)


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
