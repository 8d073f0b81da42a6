"""Prompts: how they are listed, what their arguments become, what they return, and how they fail."""

from __future__ import annotations

import base64
import datetime
import enum
import functools
import logging
import subprocess
import sys
import threading
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
import trio

from tests.conftest import LEGACY, Wire
from trio_mcp import (
    Audio,
    Context,
    EmbeddedResource,
    GetPromptResult,
    Icon,
    Image,
    Message,
    Prompt,
    PromptDefinitionError,
    PromptMessage,
    ProtocolError,
    ResourceContents,
    ResourceLink,
    Server,
    ServerSettings,
    TextContent,
    ToolError,
    open_client,
)
from trio_mcp.wire.errors import INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND
from trio_mcp.wire.messages import ListParams


class Tone(enum.Enum):
    DRY = "dry"
    WARM = "warm"


def make_server() -> Server:
    server = Server("prompts")

    @server.prompt(title="Review", icons=[Icon(src="https://example.org/i.png")], meta={"example.org/n": 1})
    def review(
        code: str, limit: Annotated[int, msgspec.Meta(ge=1)] = 3, tags: list[str] | None = None
    ) -> str:
        """Review some code.

        Args:
            code: What is reviewed.
            limit: The most remarks.
        """
        return f"{code!r} {limit!r} {tags!r}"

    @server.prompt
    async def hello() -> str:
        return "Hello"

    return server


def listing(function: Any, **options: Any) -> Prompt:
    server = Server("one")
    return server.add_prompt(function, name="one", **options).definition.listing


async def get_text(client: Any, name: str, arguments: Any = None) -> str:
    result = await client.get_prompt(name, arguments)
    (message,) = result.messages
    assert message.role == "user"
    text: str = message.content.text
    return text


async def test_prompts_are_listed_in_declared_order_with_all_that_is_said_of_them(wire: Wire) -> None:
    async with wire.open(make_server()) as client:
        review, hello = await client.list_prompts()
        assert client.server_capabilities["prompts"] == {"listChanged": True}
        assert "completions" not in client.server_capabilities
    assert (review.name, review.title, review.description) == ("review", "Review", "Review some code.")
    assert review.icons == [Icon(src="https://example.org/i.png")]
    assert review.meta == {"example.org/n": 1}
    code, limit, tags = review.arguments or []
    assert (code.name, code.description, code.required) == ("code", "What is reviewed.", True)
    assert limit.required is False
    assert limit.description == 'The most remarks.\n\nWritten as JSON text: {"type":"integer","minimum":1}'
    assert (tags.description or "").startswith("Written as JSON text: {")
    assert (hello.name, hello.arguments, hello.description) == ("hello", None, None)


async def test_only_the_modern_list_says_how_long_it_may_be_cached(wire: Wire) -> None:
    recorder = wire.recorder(make_server())
    async with wire.open(recorder) as client:
        await client.list_prompts()
    (result,) = [m["result"] for m in recorder.received_messages() if "prompts" in m.get("result", {})]
    expected = (None, None) if wire.protocol == LEGACY else (0, "private")
    assert (result.get("ttlMs"), result.get("cacheScope")) == expected


async def test_a_server_without_prompts_declares_none_and_has_no_such_methods(wire: Wire) -> None:
    async with wire.open(Server("tools only")) as client:
        assert "prompts" not in client.server_capabilities
        for ask in (client.list_prompts, functools.partial(client.get_prompt, "x")):
            with pytest.raises(ProtocolError) as refused:
                await ask()
            assert refused.value.code == METHOD_NOT_FOUND


def test_a_server_without_prompts_imports_nothing_for_them() -> None:
    code = (
        "import sys, trio, trio_mcp\n"
        "server = trio_mcp.Server('x')\n"
        "async def main():\n"
        "    async with trio_mcp.open_server(server): pass\n"
        "trio.run(main)\n"
        "print([name for name in sys.modules if 'prompt' in name or name == 'trio_mcp.server.messages'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (str, "5", "5"),
        (str, '"quoted"', '"quoted"'),
        (Any, "5", "5"),
        (str | None, "null", "null"),
        (str | int, "5", "5"),
        (int, "5", 5),
        (int, "3.0", 3),
        (float, "2.5", 2.5),
        (bool, "true", True),
        (int | None, "null", None),
        (list[int], "[1, 2]", [1, 2]),
        (dict[str, int], '{"a": 1}', {"a": 1}),
        (Tone, "dry", Tone.DRY),
        (Literal["a", "b"], "b", "b"),
        (Literal["a", 1], "1", 1),
        (datetime.date, "2026-01-02", datetime.date(2026, 1, 2)),
        (datetime.date, '"2026-01-02"', datetime.date(2026, 1, 2)),
        (Path, "a/b", Path("a/b")),
    ],
)
async def test_a_text_becomes_what_the_type_takes_and_json_becomes_the_rest(annotation, text, value) -> None:
    server = Server("typed")
    seen = []

    async def typed(x: Any) -> str:
        seen.append(x)
        return "done"

    typed.__annotations__["x"] = annotation
    server.add_prompt(typed)
    async with open_client(server) as client:
        await client.get_prompt("typed", {"x": text})
    assert seen == [value]
    assert type(seen[0]) is type(value)


async def test_values_that_are_no_texts_travel_as_json_text(wire: Wire) -> None:
    recorder = wire.recorder(make_server())
    async with wire.open(recorder) as client:
        text = await get_text(client, "review", {"code": "x = 1", "limit": 2, "tags": ["a", "b"]})
    assert text == "'x = 1' 2 ['a', 'b']"
    (sent,) = recorder.sent_messages("prompts/get")
    assert sent["params"]["arguments"] == {"code": "x = 1", "limit": "2", "tags": '["a","b"]'}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "missing required argument 'code'"),
        (None, "missing required argument 'code'"),
        ({"code": "x", "colour": "red"}, "unexpected argument 'colour'"),
        ({"code": "x", "limit": "many"}, "limit: expected int, got str; 'limit' must be JSON text"),
        ({"code": "x", "limit": "0"}, "limit: expected int >= 1"),
        ({"code": "x", "tags": "[1]"}, "tags[0]: expected str, got int"),
    ],
    ids=["none", "no arguments", "unknown", "no JSON", "too small", "inside"],
)
async def test_arguments_that_do_not_fit_are_invalid_params_that_name_them(
    wire: Wire, arguments: Any, words: str
) -> None:
    async with wire.open(make_server()) as client:
        with pytest.raises(ProtocolError) as refused:
            await client.get_prompt("review", arguments)
        assert refused.value.code == INVALID_PARAMS
        assert refused.value.message.startswith("prompt 'review': ")
        assert words in refused.value.message
        assert await get_text(client, "hello") == "Hello"


async def test_a_text_that_breaks_a_pattern_is_told_so_and_not_that_it_is_a_number() -> None:
    server = Server("pattern")

    @server.prompt
    async def coded(code: Annotated[str, msgspec.Meta(pattern="^[a-z]+$")]) -> str:
        return code

    async with open_client(server) as client:
        with pytest.raises(ProtocolError, match="code: expected str matching regex"):
            await client.get_prompt("coded", {"code": "5"})


async def test_values_inside_of_a_text_are_counted_before_they_are_decoded(wire: Wire) -> None:
    server = Server("bounded", settings=ServerSettings(max_values=100))
    lengths = []

    @server.prompt
    async def measure(items: list[list[int]], text: str = "") -> str:
        lengths.append(len(items))
        return "measured"

    async with wire.open(server) as client:
        with pytest.raises(ProtocolError, match="items: it has more than 100 values") as refused:
            await client.get_prompt("measure", {"items": [[]] * 100})
        assert refused.value.code == INVALID_PARAMS
        await client.get_prompt("measure", {"items": [[]] * 50, "text": "[" * 1000})
    assert lengths == [50]


async def test_an_unknown_prompt_and_an_unknown_cursor_are_invalid_params(wire: Wire) -> None:
    async with wire.open(make_server()) as client:
        with pytest.raises(ProtocolError, match="Unknown prompt: nobody") as refused:
            await client.get_prompt("nobody")
        assert refused.value.code == INVALID_PARAMS
        with pytest.raises(ProtocolError, match="unknown cursor") as refused:
            await client._link.request("prompts/list", ListParams(cursor="x"))
        assert refused.value.code == INVALID_PARAMS


async def test_messages_of_every_kind_of_content_keep_their_order_and_roles(
    wire: Wire, tmp_path: Path
) -> None:
    server = Server("contents")
    picture = tmp_path / "p.png"
    picture.write_bytes(b"picture")

    @server.prompt
    async def everything() -> list[Any]:
        return [
            "text",
            Message("answer", role="assistant"),
            Message(Image(picture)),
            Audio(b"sound", "wav"),
            Message(ResourceLink(uri="file:///a", name="a"), role="assistant"),
            EmbeddedResource(resource=ResourceContents(uri="file:///b", text="b")),
            PromptMessage(role="assistant", content=TextContent(text="last")),
        ]

    async with wire.open(server) as client:
        result = await client.get_prompt("everything")
    text, answer, image, sound, link, embedded, last = result.messages
    assert [m.role for m in result.messages] == [
        *("user", "assistant", "user", "user", "assistant", "user", "assistant")
    ]
    assert (text.content.text, answer.content.text, last.content.text) == ("text", "answer", "last")
    assert (image.content.mime_type, base64.b64decode(image.content.data)) == ("image/png", b"picture")
    assert (sound.content.mime_type, base64.b64decode(sound.content.data)) == ("audio/wav", b"sound")
    assert link.content == ResourceLink(uri="file:///a", name="a")
    assert embedded.content.resource == ResourceContents(uri="file:///b", text="b")


async def test_a_prompt_may_return_one_message_or_the_whole_result() -> None:
    server = Server("forms")

    @server.prompt
    async def one() -> Message:
        """Say one thing."""
        return Message("one", role="assistant")

    @server.prompt
    async def whole() -> GetPromptResult:
        message = PromptMessage(role="user", content=TextContent(text="whole"))
        return GetPromptResult(messages=[message], description="Mine.", meta={"example.org/a": 1})

    @server.prompt
    async def nothing() -> list[Message]:
        return []

    async with open_client(server) as client:
        result = await client.get_prompt("one")
        assert (result.description, result.messages[0].role) == ("Say one thing.", "assistant")
        result = await client.get_prompt("whole")
        assert result.description == "Mine."
        assert result.meta is not None
        assert result.meta["example.org/a"] == 1
        assert (await client.get_prompt("nothing")).messages == []


async def test_what_is_no_message_is_an_error_that_names_its_type() -> None:
    server = Server("wrong")

    @server.prompt
    async def wrong() -> Any:
        return {"secret": 1}

    async with open_client(server) as client:
        with pytest.raises(ProtocolError, match="a list of them, and not dict") as failed:
            await client.get_prompt("wrong")
    assert failed.value.code == INTERNAL_ERROR
    assert "secret" not in failed.value.message


async def test_a_prompt_that_fails_tells_the_log_and_not_the_client(wire: Wire, caplog: Any) -> None:
    server = Server("failing")

    @server.prompt
    async def leak() -> str:
        raise OSError("/etc/secret")

    @server.prompt
    async def told() -> str:
        raise ToolError("there is no such album")

    @server.prompt
    async def coded() -> str:
        raise ProtocolError(-32050, "mine", {"a": 1})

    async with wire.open(server) as client:
        with pytest.raises(ProtocolError) as failed:
            await client.get_prompt("leak")
        assert (failed.value.code, failed.value.message) == (INTERNAL_ERROR, "Error in prompt 'leak'")
        with pytest.raises(ProtocolError) as failed:
            await client.get_prompt("told")
        assert (failed.value.code, failed.value.message) == (INTERNAL_ERROR, "there is no such album")
        with pytest.raises(ProtocolError) as failed:
            await client.get_prompt("coded")
        assert (failed.value.code, failed.value.message, failed.value.data) == (-32050, "mine", {"a": 1})
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert record.getMessage() == "prompt 'leak' failed"
    assert record.exc_info is not None
    assert "/etc/secret" in str(record.exc_info[1])


async def test_show_errors_shows_why_a_prompt_failed() -> None:
    server = Server("failing", settings=ServerSettings(show_errors=True))

    @server.prompt
    async def leak() -> str:
        raise OSError("disk")

    async with open_client(server) as client:
        with pytest.raises(ProtocolError, match="Error in prompt 'leak': OSError: disk"):
            await client.get_prompt("leak")


async def test_sync_prompts_run_in_threads() -> None:
    server = Server("threads")

    @server.prompt
    def where() -> str:
        return threading.current_thread().name

    @server.prompt
    async def here() -> str:
        return threading.current_thread().name

    async with open_client(server) as client:
        assert await get_text(client, "where") != threading.current_thread().name
        assert await get_text(client, "here") == threading.current_thread().name


async def test_progress_of_a_prompt_arrives_before_its_messages(wire: Wire) -> None:
    server = Server("progress")

    @server.prompt
    async def slow(ctx: Context, steps: int) -> str:
        for step in range(1, steps + 1):
            await ctx.report_progress(step, steps)
        return "done"

    seen: list[float] = []
    async with wire.open(server) as client:
        result = await client.get_prompt(
            "slow", {"steps": "3"}, progress_handler=lambda progress, total, message: seen.append(progress)
        )
        assert "ctx" not in [a.name for a in (await client.list_prompts())[0].arguments or []]
    assert seen == [1, 2, 3]
    assert result.messages[0].content == TextContent(text="done")


async def test_cancelling_the_client_cancels_the_prompt(wire: Wire) -> None:
    server = Server("cancel")
    started, ended = trio.Event(), trio.Event()

    @server.prompt
    async def forever() -> str:
        started.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()
        return "never"

    async with wire.open(server) as client, trio.open_nursery() as nursery:
        nursery.start_soon(client.get_prompt, "forever")
        await started.wait()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await ended.wait()


async def test_both_timeouts_end_a_silent_prompt(autojump_clock: Any) -> None:
    server = Server("silent")

    @server.prompt
    async def forever() -> str:
        await trio.sleep_forever()
        return "never"

    async with open_client(server) as client:
        with pytest.raises(trio.TooSlowError, match="prompt 'forever' made no progress for 2 seconds"):
            await client.get_prompt("forever", idle_timeout=2)
        with pytest.raises(trio.TooSlowError, match="prompt 'forever' took longer than 3 seconds"):
            await client.get_prompt("forever", max_timeout=3)


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_prompt_may_call_tools(is_async: bool) -> None:
    server = Server("both", settings=ServerSettings(thread_limit=1))

    @server.tool
    def double(x: int) -> int:
        return 2 * x

    if is_async:

        @server.prompt
        async def ask(ctx: Context) -> str:
            return str((await ctx.call_tool("double", {"x": 4})).data)
    else:

        @server.prompt
        def ask(ctx: Context) -> str:
            call = functools.partial(ctx.call_tool, "double", {"x": 4})
            return str(trio.from_thread.run(call).data)

    async with open_client(server) as client:
        assert await get_text(client, "ask") == "8"


def generator():
    yield "x"


class Holder:
    def method(self, x: str) -> str:
        return x


@pytest.mark.parametrize(
    ("function", "options", "words"),
    [
        (5, {}, "no function"),
        (lambda: "x", {}, "a lambda has no name"),
        (generator, {}, "prompt 'generator' is a generator"),
        (Holder.method, {}, "prompt 'method', parameter 'self'.*server.add_prompt"),
        (generator, {"name": ""}, "must be printable text"),
        (generator, {"name": "a\nb"}, "must be printable text"),
        (lambda *words: "x", {"name": "many"}, "prompt .*parameter 'words'"),
        (lambda x=5: "x", {"name": "taken"}, "already a prompt named 'taken'"),
    ],
    ids=["no function", "lambda", "generator", "method", "empty", "newline", "words", "taken"],
)
def test_what_cannot_be_a_prompt_is_refused_at_registration(function: Any, options: Any, words: str) -> None:
    server = Server("refusing")
    server.add_prompt(lambda: "x", name="taken")
    with pytest.raises(PromptDefinitionError, match=words):
        server.add_prompt(function, **options)


def test_a_decorated_prompt_can_still_be_called_and_named() -> None:
    server = Server("decorated")

    @server.prompt("greeting", description="Says hello.")
    def greet(name: str) -> str:
        """Not this."""
        return f"Hello {name}"

    assert greet("Ann") == "Hello Ann"
    assert greet.__name__ == "greet"
    assert list(server.prompts) == ["greeting"]
    assert server.prompts["greeting"].listing.description == "Says hello."
    with pytest.raises(PromptDefinitionError, match="one name"):
        server.prompt("a", name="b")


def test_bound_methods_and_partials_are_prompts() -> None:
    assert [a.name for a in listing(Holder().method).arguments or []] == ["x"]
    assert listing(functools.partial(Holder().method, x="a")).arguments is None


def test_a_title_of_an_argument_is_listed_and_the_name_of_a_class_is_none() -> None:
    def titled(x: Annotated[str, msgspec.Meta(title="The X")], tone: Tone = Tone.DRY) -> str: ...

    x, tone = listing(titled).arguments or []
    assert (x.title, tone.title) == ("The X", None)


def test_a_message_of_something_else_is_refused() -> None:
    with pytest.raises(TypeError):
        Message(5)  # type: ignore[arg-type]  # it is wrong on purpose
    with pytest.raises(ValueError, match="role"):
        Message("x", role="system")  # type: ignore[arg-type]  # it is wrong on purpose
