"""What a handler can ask its client, in a call that is answered directly and in tasks of both eras."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any, Literal

import attrs
import pytest
import trio

from tests.conftest import LEGACY, MODERN, Wire
from trio_mcp import (
    Client,
    Context,
    ElicitAnswer,
    ElicitRequest,
    ElicitUrlRequest,
    ModelPreferences,
    ProtocolError,
    Root,
    SampleAnswer,
    SampleRequest,
    SamplingMessage,
    Server,
    TextContent,
    Tool,
    ToolResultContent,
    ToolUseContent,
    UrlElicitation,
    UrlElicitationRequiredError,
    open_client,
    titles,
)


class Color(enum.Enum):
    RED = "#f00"
    BLUE = "#00f"


@attrs.frozen
class Order:
    what: str
    size: Annotated[Literal["s", "l"], titles(s="Small", l="Large")]
    extras: list[Color]
    gift: bool = True


WEATHER = Tool(
    name="weather",
    description="The weather of a city",
    input_schema={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)


async def call(client: Client, name: str, as_task: bool) -> Any:
    """Call a tool: directly in the legacy era, or else as a task."""
    if not as_task:
        return (await client.call_tool(name)).data
    task = await client.call_tool(name, task=True)
    return (await task.result()).data


as_tasks = pytest.mark.parametrize("as_task", [False, True], ids=["call", "task"])


@as_tasks
async def test_a_form_becomes_a_typed_value(wire: Wire, as_task: bool) -> None:
    server = Server("shop")
    found: list[Any] = []

    @server.tool(task=True)
    async def order(ctx: Context) -> str:
        for kind in (Order, str, Color, list[Color], Literal["a", "b"], None):
            answer = await ctx.elicit("What?", kind)
            found.append((answer.action, answer.data))
        return "ordered"

    answers: list[Any] = [
        {"what": "tea", "size": "l", "extras": ["#00f"]},
        {"value": "text"},
        {"value": "#f00"},
        ElicitAnswer("accept", {"value": ["#f00", "#00f"]}),
        None,
        {},
    ]
    async with wire.open(server, elicitation_handler=lambda request: answers.pop(0)) as client:
        assert await call(client, "order", as_task) == "ordered"
    assert found == [
        ("accept", Order("tea", "l", [Color.BLUE])),
        ("accept", "text"),
        ("accept", Color.RED),
        ("accept", [Color.RED, Color.BLUE]),
        ("decline", None),
        ("accept", None),
    ]


async def test_a_client_fills_in_the_defaults_that_a_handler_leaves_out(wire: Wire) -> None:
    server = Server("shop")
    sent: list[Any] = []

    @server.tool(task=True)
    async def order(ctx: Context) -> str:
        return str((await ctx.elicit("What?", Order)).data)

    def answer(request: ElicitRequest) -> Any:
        sent.append(request.defaults)
        return {"what": "tea", "size": "s", "extras": []}

    recorder = wire.recorder(server)
    async with wire.open(recorder, elicitation_handler=answer) as client:
        await client.call_tool("order")
    assert sent == [{"gift": True}]
    assert "'content': {'gift': True, 'what': 'tea', 'size': 's', 'extras': []}" in repr(
        recorder.sent_messages()
    )


@as_tasks
async def test_a_person_is_asked_to_open_a_page(wire: Wire, as_task: bool) -> None:
    server = Server("pages")
    seen: list[Any] = []

    @server.tool(task=True)
    async def connect(ctx: Context) -> str:
        answer = await ctx.elicit_url("Please log in", "https://example.com/login")
        if answer.elicitation_id is not None:
            await ctx.complete_elicitation(answer.elicitation_id)
        refused = await ctx.elicit_url("Please pay", "https://example.com/pay", elicitation_id="pay-1")
        return f"{answer.action} {refused.action}"

    def open_page(request: ElicitUrlRequest) -> bool:
        seen.append(request)
        return "login" in request.url

    async with wire.open(server, elicitation_url_handler=open_page) as client:
        assert await call(client, "connect", as_task) == "accept decline"
        first, second = seen
        assert (first.message, first.url, first.host) == (
            "Please log in",
            "https://example.com/login",
            "example.com",
        )
        if wire.protocol == LEGACY:
            assert first.elicitation_id
            assert second.elicitation_id == "pay-1"
            await client.wait_elicitation(first.elicitation_id)
        else:
            assert first.elicitation_id is None
            assert second.elicitation_id is None


@as_tasks
async def test_a_model_uses_tools(wire: Wire, as_task: bool) -> None:
    server = Server("agent")

    @server.tool(task=True)
    async def ask_about(ctx: Context) -> str:
        messages = [SamplingMessage("user", "The weather in Paris?")]
        options: Any = {"max_tokens": 100, "tools": [WEATHER], "model_preferences": ["small", "large"]}
        answer = await ctx.sample(messages, **options, tool_choice="required")
        assert answer.stop_reason == "toolUse"
        (use,) = answer.tool_uses
        text = TextContent(text=f"rain in {use.input['city']}")
        result = ToolResultContent(tool_use_id=use.id, content=[text])
        messages += [answer.message, SamplingMessage("user", [result])]
        return (await ctx.sample(messages, **options, system_prompt="Be short", temperature=0.5)).text

    requests: list[SampleRequest] = []

    async def answer(request: SampleRequest) -> SampleAnswer:
        requests.append(request)
        if len(requests) == 1:
            use = ToolUseContent(id="use-1", name="weather", input={"city": "Paris"})
            return SampleAnswer("I look", "model-1", content=[use])
        result = request.messages[-1]["content"]
        return SampleAnswer(result["content"][0]["text"], "model-1")

    async with wire.open(server, sampling_handler=answer, sampling_tools=True) as client:
        assert await call(client, "ask_about", as_task) == "rain in Paris"
    first, second = requests
    assert [tool["name"] for tool in first.tools] == ["weather"]
    assert first.tool_choice == "required"
    assert first.params["modelPreferences"] == {"hints": [{"name": "small"}, {"name": "large"}]}
    assert [message["role"] for message in second.messages] == ["user", "assistant", "user"]
    assert second.messages[1]["content"][1] == {
        "type": "tool_use",
        "id": "use-1",
        "name": "weather",
        "input": {"city": "Paris"},
    }
    assert second.system_prompt == "Be short"
    assert second.params["temperature"] == 0.5
    assert second.tool_choice == "auto"


@as_tasks
async def test_roots(wire: Wire, as_task: bool, tmp_path: Path) -> None:
    server = Server("roots")

    @server.tool(task=True)
    async def look(ctx: Context) -> list[Any]:
        return [[root.uri, root.name, str(root.path)] for root in await ctx.list_roots()]

    roots = [Root(tmp_path.as_uri(), "Work"), tmp_path / "a b"]
    async with wire.open(server, roots=roots) as client:
        assert await call(client, "look", as_task) == [
            [tmp_path.as_uri(), "Work", str(tmp_path)],
            [(tmp_path / "a b").as_uri(), None, str(tmp_path / "a b")],
        ]
        await client.set_roots([])
        assert await call(client, "look", as_task) == []


async def test_roots_may_be_a_function_and_change(wire: Wire, tmp_path: Path) -> None:
    server = Server("roots")

    @server.tool(task=True)
    async def look(ctx: Context) -> list[str]:
        return [root.uri for root in await ctx.list_roots()]

    shown = ["file:///one"]

    async def list_roots() -> list[str]:
        await trio.lowlevel.checkpoint()
        return shown

    recorder = wire.recorder(server)
    async with wire.open(recorder, roots=list_roots) as client:
        assert (await client.call_tool("look")).data == ["file:///one"]
        shown.append("file:///two")
        await client.set_roots(list_roots)
        assert (await client.call_tool("look")).data == ["file:///one", "file:///two"]
    changes = recorder.sent_messages("notifications/roots/list_changed")
    assert len(changes) == (1 if wire.protocol == LEGACY else 0)


@pytest.mark.parametrize(
    ("roots", "error"), [(["https://example.com"], ValueError), ("file:///x", TypeError), ([3], TypeError)]
)
async def test_what_is_no_root(roots: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="root"):
        async with open_client(Server("none"), roots=roots):
            pass


async def test_roots_that_were_not_declared_cannot_change() -> None:
    async with open_client(Server("none")) as client:
        with pytest.raises(ValueError, match="not given any roots"):
            await client.set_roots([])


def count_questions(recorder: Any) -> int:
    methods = ("elicitation/create", "sampling/createMessage", "roots/list")
    return sum(method in repr(recorder.received_messages()) for method in methods)


@pytest.mark.parametrize(
    ("verb", "options", "required"),
    [
        ("form", {}, {"elicitation": {}}),
        ("form", {"elicitation_url_handler": bool}, {"elicitation": {"form": {}}}),
        ("url", {"elicitation_handler": lambda request: {}}, {"elicitation": {"url": {}}}),
        ("sample", {}, {"sampling": {}}),
        ("tools", {"sampling_handler": lambda request: ""}, {"sampling": {"tools": {}}}),
        ("context", {"sampling_handler": lambda request: ""}, {"sampling": {"context": {}}}),
        ("roots", {}, {"roots": {}}),
    ],
)
async def test_what_a_client_has_not_declared_is_not_asked(
    wire: Wire, verb: str, options: Any, required: Any
) -> None:
    """MCP elicitation and sampling, "Capabilities"; nothing is sent."""
    server = Server("asks")

    @server.tool(task=True)
    async def ask(ctx: Context) -> str:
        verbs: dict[str, Any] = {
            "form": lambda: ctx.elicit("Who?", str),
            "url": lambda: ctx.elicit_url("Open", "https://example.com"),
            "sample": lambda: ctx.sample("Why?", max_tokens=5),
            "tools": lambda: ctx.sample("Why?", max_tokens=5, tools=[WEATHER]),
            "context": lambda: ctx.sample("Why?", max_tokens=5, include_context="thisServer"),
            "roots": ctx.list_roots,
        }
        await verbs[verb]()
        return "asked"

    recorder = wire.recorder(server)
    async with wire.open(recorder, **options) as client:
        with pytest.raises(ProtocolError) as refused:
            await client.call_tool("ask")
    assert refused.value.code == -32021
    assert refused.value.data == {"requiredCapabilities": required}
    assert not count_questions(recorder)


async def test_what_cannot_be_asked_is_refused_before_it_is_sent(wire: Wire) -> None:
    server = Server("asks")
    problems: list[str] = []

    @server.tool(task=True)
    async def ask(ctx: Context) -> str:
        result = ToolResultContent(tool_use_id="x", content=[])
        use = ToolUseContent(id="x", name="weather", input={})
        wrong: list[Any] = [
            lambda: ctx.elicit("Who?", dict[str, str]),
            lambda: ctx.elicit_url("Open", "no url"),
            lambda: ctx.sample([SamplingMessage("user", [result, "text"])], max_tokens=5),
            lambda: ctx.sample([SamplingMessage("user", [result])], max_tokens=5),
            lambda: ctx.sample([SamplingMessage("assistant", [use])], max_tokens=5),
        ]
        for make in wrong:
            try:
                await make()
            except (TypeError, ValueError) as error:
                problems.append(str(error))
        return "refused"

    recorder = wire.recorder(server)
    async with wire.open(
        recorder,
        elicitation_handler=lambda request: {},
        elicitation_url_handler=bool,
        sampling_handler=lambda request: "",
        sampling_tools=True,
    ) as client:
        assert (await client.call_tool("ask")).data == "refused"
    assert [words for words in problems if "cannot be asked for" in words]
    assert len(problems) == 5
    assert "mixed with other content" in problems[2]
    assert "without its use" in problems[3]
    assert "missing" in problems[4]
    assert not count_questions(recorder)


async def test_a_page_that_must_be_opened_first(wire: Wire) -> None:
    """2025-11-25 has an error for it (-32042); other revisions get an error result that names the page."""
    server = Server("pages")

    @server.tool
    async def files() -> str:
        raise UrlElicitationRequiredError([UrlElicitation("Log in", "https://example.com/login", "login-1")])

    async with wire.open(server) as client:
        if wire.protocol == MODERN:
            result = await client.call_tool("files", raise_on_error=False)
            assert result.is_error
            assert "Log in: https://example.com/login" in result.text
            return
        with pytest.raises(UrlElicitationRequiredError) as needed:
            await client.call_tool("files")
    assert needed.value.code == -32042
    assert needed.value.elicitations == [UrlElicitation("Log in", "https://example.com/login", "login-1")]


async def test_old_revisions_have_no_pages_and_no_tools_for_models() -> None:
    server = Server("asks")
    words: list[str] = []

    @server.tool
    async def ask(ctx: Context) -> str:
        for make in (
            lambda: ctx.elicit_url("Open", "https://example.com"),
            lambda: ctx.sample("Why?", max_tokens=5, tools=[WEATHER]),
            lambda: ctx.sample([SamplingMessage("user", ["one", "two"])], max_tokens=5),
        ):
            try:
                await make()
            except Exception as error:
                words.append(f"{type(error).__name__}: {error}")
        return (await ctx.sample([SamplingMessage("user", ["one"])], max_tokens=5)).text

    async with open_client(
        server,
        protocol="2025-06-18",
        elicitation_url_handler=bool,
        sampling_handler=lambda request: str(request.messages[0]["content"]["text"]),
        sampling_tools=True,
    ) as client:
        assert (await client.call_tool("ask")).data == "one"
    assert [line.split(":")[0] for line in words] == ["NotSupportedByEra"] * 3


async def test_a_client_refuses_what_it_has_not_declared() -> None:
    """MCP elicitation 2025-11-25, "Error Handling": invalid parameters."""
    preferences = ModelPreferences.for_models("a")
    assert preferences.hints == [{"name": "a"}]
    from trio_mcp.client.server_requests import Answering

    forms = Answering(elicitation=lambda request: {}, sampling=lambda request: "")
    assert forms.capabilities(modern=True) == {"elicitation": {}, "sampling": {}}
    for method, params in (
        ("elicitation/create", {"mode": "url", "message": "Open", "url": "https://example.com"}),
        ("elicitation/create", {"mode": "voice", "message": "Speak"}),
        ("elicitation/create", {"message": "No schema"}),
        ("sampling/createMessage", {"messages": [], "maxTokens": 5, "tools": []}),
    ):
        with pytest.raises(ProtocolError) as refused:
            await forms.answer(method, params)
        assert refused.value.code == -32602
    both = Answering(elicitation=lambda request: {}, url=lambda request: True, takes_tools=True)
    assert both.capabilities(modern=False) == {"elicitation": {"form": {}, "url": {}}}


async def test_of_a_completion_that_nobody_knows_nothing_is_made(autojump_clock: Any) -> None:
    """MCP elicitation 2025-11-25: clients ignore notifications with unknown ids."""
    server = Server("pages")

    @server.tool
    async def tell(ctx: Context) -> str:
        for number in range(300):
            await ctx.complete_elicitation(f"unknown-{number}")
        return "told"

    async with open_client(server, protocol=LEGACY) as client:
        assert (await client.call_tool("tell")).data == "told"
        await client.wait_elicitation("unknown-299")
        with trio.move_on_after(0.01) as scope:
            await client.wait_elicitation("unknown-0")
        assert scope.cancelled_caught, "only so many are remembered"
