"""The conformance fixture does over every wire what the official suite asserts of it over HTTP.

The same client code is run in both eras, and all messages of both sides are validated.
`test_fixture_messages.py` looks at the messages themselves.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

import msgspec
import pytest

from tests.conformance.conftest import OpenClient
from tests.conformance.expected import ACCEPTED, CONTENT, FORMS, PROMPTS, ROUNDS, text
from tests.conformance.server import PNG, SCHEMA, make_server
from tests.conftest import MODERN, Wire
from trio_mcp import (
    Client,
    ElicitAnswer,
    ElicitRequest,
    LogMessage,
    PromptReference,
    PromptsListChanged,
    ProtocolError,
    ResourceUpdated,
    SampleRequest,
    Server,
    TaskCancelled,
    ToolError,
    ToolsListChanged,
)

WATCHED = "test://watched-resource"


def builtins(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


def fill_in(request: ElicitRequest) -> dict[str, Any]:
    return {
        name: True if field["type"] == "boolean" else "Ada"
        for name, field in request.schema["properties"].items()
    }


Opened: TypeAlias = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture
def opened(open_recorded: OpenClient) -> Opened:
    """Opens a client that answers everything it is asked."""

    @asynccontextmanager
    async def opened(server: Server | None = None, **options: Any) -> AsyncIterator[Client]:
        answers: dict[str, Any] = {
            "elicitation_handler": fill_in,
            "sampling_handler": lambda request: "Paris",
            "roots": ["/project"],
        }
        async with open_recorded(server, **(answers | options)) as (client, _):
            yield client

    return opened


async def test_every_kind_that_the_fixture_has_is_declared(opened: Opened, wire: Wire) -> None:
    async with opened() as client:
        declared = client.server_capabilities
    assert declared["tools"] == {"listChanged": True}
    assert declared["prompts"] == {"listChanged": True}
    assert declared["resources"] == {"subscribe": True, "listChanged": True}
    assert declared["completions"] == {}
    assert declared["logging"] == {}
    if wire.protocol == MODERN:
        assert "io.modelcontextprotocol/tasks" in declared["extensions"]
        assert "tasks" not in declared


async def test_every_tool_and_prompt_is_listed_with_a_description(opened: Opened) -> None:
    async with opened() as client:
        tools = {tool.name: tool for tool in await client.list_tools()}
        prompts = {prompt.name: prompt for prompt in await client.list_prompts()}
    assert {*CONTENT, *FORMS, *(f"test_input_required_result_{name}" for name in ROUNDS)} <= tools.keys()
    assert {*PROMPTS, "test_input_required_result_prompt"} == prompts.keys()
    assert all(item.description for item in (*tools.values(), *prompts.values()))
    arguments = prompts["test_prompt_with_arguments"].arguments or ()
    assert [(argument.name, argument.required) for argument in arguments] == [("arg1", True), ("arg2", True)]


async def test_each_tool_gives_its_content(opened: Opened) -> None:
    async with opened() as client:
        results = {name: await client.call_tool(name, raise_on_error=False) for name in CONTENT}
    assert {name: builtins(result.content) for name, result in results.items()} == CONTENT
    assert [name for name, result in results.items() if result.is_error] == ["test_error_handling"]


async def test_a_schema_is_kept_as_it_was_given(opened: Opened) -> None:
    async with opened() as client:
        tools = {tool.name: tool for tool in await client.list_tools()}
        arguments = {"name": "Ada", "contactMethod": "email", "email": "ada@example.com"}
        result = await client.call_tool("json_schema_2020_12_tool", arguments)
        with pytest.raises(ToolError, match="email"):
            await client.call_tool("json_schema_2020_12_tool", {"name": "Ada", "contactMethod": "email"})
    assert tools["json_schema_2020_12_tool"].input_schema == SCHEMA
    assert result.structured_content == arguments


async def test_all_progress_arrives_before_the_result(opened: Opened, autojump_clock: Any) -> None:
    seen: list[tuple[float, float | None]] = []
    async with opened() as client:
        result = await client.call_tool(
            "test_tool_with_progress",
            progress_handler=lambda progress, total, _: seen.append((progress, total)),
        )
    assert seen == [(0, 100), (50, 100), (100, 100)]
    assert result.content


async def test_log_messages_arrive_in_order(opened: Opened, autojump_clock: Any) -> None:
    seen: list[LogMessage] = []
    async with opened(log_handler=seen.append, log_level="info") as client:
        await client.call_tool("test_tool_with_logging")
    assert [(message.level, message.data) for message in seen] == [
        ("info", "Tool execution started"),
        ("info", "Tool processing data"),
        ("info", "Tool execution completed"),
    ]


async def test_nothing_is_logged_for_a_modern_request_without_a_level(
    open_recorded: OpenClient, wire: Wire
) -> None:
    async with open_recorded() as (client, recorder):
        await client.call_tool("test_logging_tool")
        assert recorder.received_messages("notifications/message") == [] or wire.protocol != MODERN
        await client.set_log_level("info")
        await client.call_tool("test_logging_tool")
    assert recorder.received_messages("notifications/message") != []


async def test_a_stream_carries_no_request_of_a_modern_server(open_recorded: OpenClient, wire: Wire) -> None:
    async with open_recorded(elicitation_handler=fill_in) as (client, recorder):
        await client.call_tool("test_streaming_elicitation", progress_handler=lambda *_: None)
        await client.call_tool("test_input_required_result_elicitation")
    asked = [message for message in recorder.received_messages() if {"id", "method"} <= message.keys()]
    assert len(asked) == (0 if wire.protocol == MODERN else 1)


async def test_a_model_is_asked_with_the_prompt(opened: Opened) -> None:
    asked: list[SampleRequest] = []

    def sample(request: SampleRequest) -> str:
        asked.append(request)
        return "Hi"

    async with opened(sampling_handler=sample) as client:
        result = await client.call_tool("test_sampling", {"prompt": "Say hi"})
    assert result.text == "LLM response: Hi"
    (request,) = asked
    assert request.max_tokens == 100
    assert request.params["messages"] == [{"role": "user", "content": text("Say hi")}]


async def test_each_form_is_asked_and_its_answer_told(opened: Opened) -> None:
    forms: list[ElicitRequest] = []

    def answer(request: ElicitRequest) -> ElicitAnswer:
        forms.append(request)
        return ElicitAnswer("accept", ACCEPTED[list(FORMS)[len(forms) - 1]])

    arguments = {"test_elicitation": {"message": "Who are you?"}}
    async with opened(elicitation_handler=answer) as client:
        told = [(await client.call_tool(name, arguments.get(name))).text for name in FORMS]
    assert [form.schema["properties"] for form in forms] == list(FORMS.values())
    assert [form.schema["type"] for form in forms] == ["object"] * len(FORMS)
    assert forms[0].message == "Who are you?"
    assert sorted(forms[0].schema["required"]) == ["email", "username"]
    assert all("action=accept" in answer for answer in told)
    contents = [msgspec.json.decode(answer.partition("content=")[2]) for answer in told]
    assert contents == list(ACCEPTED.values())


async def test_a_person_may_decline_or_cancel(opened: Opened) -> None:
    answers = [ElicitAnswer("cancel"), ElicitAnswer("decline")]
    async with opened(elicitation_handler=lambda request: answers.pop()) as client:
        told = [(await client.call_tool("test_elicitation", {"message": "Who?"})).text for _ in range(2)]
    assert told == [f"User response: action={action}, content=null" for action in ("decline", "cancel")]


async def test_each_tool_that_asks_in_rounds_ends_with_its_answers(opened: Opened) -> None:
    async with opened() as client:
        told = {name: (await client.call_tool(f"test_input_required_result_{name}")).text for name in ROUNDS}
    assert told == ROUNDS


async def test_only_what_the_client_declared_is_asked(open_recorded: OpenClient) -> None:
    asked: list[Any] = []

    def sample(request: SampleRequest) -> str:
        asked.append(request)
        return "Hi"

    async with open_recorded(sampling_handler=sample) as (client, _):
        result = await client.call_tool("test_input_required_result_capabilities")
        assert result.text == "Asked what could be asked."
        with pytest.raises((ProtocolError, ToolError), match="elicitation"):
            await client.call_tool("test_input_required_result_elicitation")
    assert len(asked) == 1


async def test_each_prompt_gives_its_messages(opened: Opened) -> None:
    async with opened() as client:
        for name, (arguments, contents) in PROMPTS.items():
            prompt = await client.get_prompt(name, arguments)
            messages = builtins(prompt.messages)
            assert messages == [{"role": "user", "content": content} for content in contents]
        asking = await client.get_prompt("test_input_required_result_prompt")
    assert builtins(asking.messages) == [{"role": "user", "content": text("Use this context: Ada")}]


async def test_each_resource_is_listed_and_read(opened: Opened) -> None:
    async with opened() as client:
        listed = {item.uri: item for item in await client.list_resources()}
        (template,) = await client.list_resource_templates()
        read = {uri: (await client.read_resource(uri)).contents for uri in listed}
        from_template = await client.read_resource("test://template/123/data")
    assert listed.keys() == {"test://static-text", "test://static-binary", WATCHED}
    assert all(item.name for item in listed.values())
    assert template.name
    assert builtins(read["test://static-text"]) == [
        {
            "uri": "test://static-text",
            "mimeType": "text/plain",
            "text": "This is the content of the static text resource.",
        }
    ]
    assert builtins(read["test://static-binary"]) == [
        {"uri": "test://static-binary", "mimeType": "image/png", "blob": base64.b64encode(PNG).decode()}
    ]
    (content,) = from_template.contents
    assert (content.uri, content.mime_type) == ("test://template/123/data", "application/json")
    assert msgspec.json.decode(from_template.text) == {
        "id": "123",
        "templateTest": True,
        "data": "Data for ID: 123",
    }


async def test_completion_gives_what_begins_so(opened: Opened) -> None:
    reference = PromptReference(name="test_prompt_with_arguments")
    async with opened() as client:
        found = await client.complete(reference, {"name": "arg1", "value": "par"})
        narrower = await client.complete(reference, {"name": "arg1", "value": "part"})
    assert list(found.values) == ["paris", "park", "party"]
    assert not found.has_more
    assert list(narrower.values) == ["party"]


async def test_changes_of_lists_are_told(opened: Opened) -> None:
    async with opened() as client, client.listen(tools=True, prompts=True) as changes:
        await client.call_tool("test_trigger_tool_change")
        assert await changes.receive() == ToolsListChanged()
        await client.call_tool("test_trigger_prompt_change")
        assert await changes.receive() == PromptsListChanged()


async def test_a_change_of_a_watched_resource_is_told(opened: Opened) -> None:
    server = make_server()
    async with opened(server) as client:
        async with client.subscribe(WATCHED) as changes:
            server.notify_resource_updated("test://static-text")
            server.notify_resource_updated(WATCHED)
            assert await changes.receive() == ResourceUpdated(WATCHED)
        await client.ping()


async def test_what_there_is_not_is_an_error_that_names_it(opened: Opened, wire: Wire) -> None:
    code = -32602 if wire.protocol == MODERN else -32002
    lacking = PromptReference(name="no_such_prompt")
    async with opened() as client:
        asks: list[tuple[str, Callable[[], Awaitable[Any]]]] = [
            ("no_such_tool", lambda: client.call_tool("no_such_tool")),
            ("no_such_prompt", lambda: client.get_prompt("no_such_prompt")),
            ("arg2", lambda: client.get_prompt("test_prompt_with_arguments", {"arg1": "a"})),
            ("no_such_prompt", lambda: client.complete(lacking, {"name": "a", "value": ""})),
        ]
        for named, ask in asks:
            with pytest.raises(ProtocolError, match=named) as caught:
                await ask()
            assert caught.value.code == -32602
        with pytest.raises(ProtocolError) as caught:
            await client.read_resource("test://no-such-resource")
    assert caught.value.code == code
    assert caught.value.data == {"uri": "test://no-such-resource"}


async def test_a_call_survives_that_its_stream_is_closed(opened: Opened, autojump_clock: Any) -> None:
    async with opened() as client:
        result = await client.call_tool("test_reconnection")
    assert result.text == "Reconnection test completed successfully."


async def test_an_argument_that_is_repeated_in_a_header_arrives(opened: Opened) -> None:
    async with opened() as client:
        await client.list_tools()
        for value in ("eu-west-1", "Grüße, 世界", " spaces ", "=?base64?x?="):
            assert (await client.call_tool("test_header_parameter", {"region": value})).data == value


async def test_tasks_end_as_they_should(opened: Opened, autojump_clock: Any) -> None:
    async with opened() as client:
        direct = await client.call_tool("greet", {"name": "Ada"})
        computing = await client.call_tool("slow_compute", {"seconds": 2, "label": "x"}, task=True)
        assert computing.id is not None
        assert (await client.fetch_task(computing.id)).status == "working"
        failing = await client.call_tool("failing_job", task=True)
        broken = await client.call_tool("protocol_error_job", task=True)
        assert direct.text == "Hello, Ada!"
        assert (await computing.result()).text == "Computed 'x' in 2 seconds."
        assert (await client.fetch_task(computing.id)).status == "completed"
        failed = await failing.result(raise_on_error=False)
        assert (failed.is_error, failed.text) == (True, "This job always fails")
        with pytest.raises(ProtocolError) as caught:
            await broken.result()
        assert caught.value.code == -32603
        assert broken.id is not None
        assert (await client.fetch_task(broken.id)).status == "failed"


async def test_a_task_that_is_cancelled_ends_as_cancelled(opened: Opened, autojump_clock: Any) -> None:
    async with opened() as client:
        task = await client.call_tool("slow_compute", {"seconds": 3600}, task=True)
        await task.cancel()
        with pytest.raises(TaskCancelled):
            await task.result()
        snapshot = await task.status()
        assert snapshot is not None
        assert snapshot.status == "cancelled"


async def test_tasks_ask_their_questions(opened: Opened, autojump_clock: Any) -> None:
    names = {"What is your first name?": "Ada", "What is your last name?": "Lovelace"}

    def answer(request: ElicitRequest) -> dict[str, Any]:
        if "confirm" in request.schema["properties"]:
            return {"confirm": True}
        return {"name": names.get(request.message, "Ada")}

    async with opened(elicitation_handler=answer) as client:
        told = [
            (await task.result()).text
            for task in [
                await client.call_tool("confirm_delete", {"filename": "a.txt"}, task=True),
                await client.call_tool("multi_input", task=True),
                await client.call_tool("test_tool_with_task", task=True),
            ]
        ]
    assert told == [
        "Deleted a.txt.",
        "What is your first name? Ada, What is your last name? Lovelace",
        "Hello, Ada!",
    ]
