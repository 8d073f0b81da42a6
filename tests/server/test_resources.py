"""Resources and templates: how they are listed and read, over every transport and in both eras."""

from __future__ import annotations

import ast
import logging
import subprocess
import sys
import threading
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

import msgspec
import pytest
import trio

from tests.conftest import Wire
from tests.support.limits import HANG_SECONDS
from trio_mcp import (
    Annotations,
    Context,
    Icon,
    ProtocolError,
    ResourceContents,
    ResourceDefinitionError,
    ResourceError,
    ResourceNotFound,
    Server,
    ServerSettings,
    ToolError,
    open_client,
)

NOT_FOUND = {"2026-07-28": -32602, "2025-11-25": -32002}


async def test_a_resource_is_listed_as_it_was_registered(wire: Wire) -> None:
    server = Server("listing")
    icon = Icon(src="https://example.com/icon.png", mime_type="image/png", sizes=["48x48"], theme="dark")
    annotations = Annotations(audience=["user"], priority=0.5, last_modified="2026-01-01T00:00:00Z")

    @server.resource(
        "config://app",
        title="Configuration",
        size=12,
        mime_type="application/toml",
        annotations=annotations,
        icons=[icon],
        meta={"owner": "us"},
    )
    def config() -> str:
        """What the program is set to."""
        return "debug = true"

    @server.resource("users://{user}/profile", name="profile", icons=[icon])
    def read_profile(user: int) -> dict[str, Any]:
        return {"user": user}

    async with wire.open(server) as client:
        (resource,) = await client.list_resources()
        (template,) = await client.list_resource_templates()
        assert client.server_capabilities["resources"] == {"listChanged": True, "subscribe": True}
    assert (resource.uri, resource.name, resource.title) == ("config://app", "config", "Configuration")
    assert (resource.size, resource.mime_type) == (12, "application/toml")
    assert resource.description == "What the program is set to."
    assert (resource.annotations, resource.icons) == (annotations, [icon])
    assert resource.meta == {"owner": "us"}
    assert (template.uri_template, template.name) == ("users://{user}/profile", "profile")
    assert (template.mime_type, template.icons) == ("application/json", [icon])


async def test_what_a_list_and_a_read_look_like_on_the_wire(wire: Wire) -> None:
    server = Server("wire")
    server.add_resource("config://app", lambda: "on", name="config")
    recorder = wire.recorder(server)
    async with wire.open(recorder) as client:
        await client.list_resources()
        await client.list_resource_templates()
        await client.read_resource("config://app")
    results = [
        {name: value for name, value in message["result"].items() if name != "_meta"}
        for message in recorder.received_messages()
        if "result" in message
    ][-3:]
    caching = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
    extra = caching if wire.protocol == "2026-07-28" else {}
    assert results == [
        {"resources": [{"uri": "config://app", "name": "config"}], **extra},
        {"resourceTemplates": [], **extra},
        {"contents": [{"uri": "config://app", "mimeType": "text/plain", "text": "on"}], **extra},
    ]


async def test_a_server_without_resources_has_no_such_methods(wire: Wire) -> None:
    async with wire.open(Server("none")) as client:
        assert "resources" not in client.server_capabilities
        for verb in (client.list_resources, client.list_resource_templates):
            with pytest.raises(ProtocolError) as caught:
                await verb()
            assert caught.value.code == -32601
        with pytest.raises(ProtocolError) as caught:
            await client.read_resource("config://app")
        assert caught.value.code == -32601


class Point(msgspec.Struct):
    x: int


@pytest.mark.parametrize(
    ("value", "mime_type", "data"),
    [
        ("text", "text/plain", "text"),
        ("", "text/plain", ""),
        (b"\x00\xff", "application/octet-stream", b"\x00\xff"),
        (bytearray(b"ab"), "application/octet-stream", b"ab"),
        ({"a": [1]}, "application/json", '{"a":[1]}'),
        ([], "application/json", "[]"),
        (Point(3), "application/json", '{"x":3}'),
        (7, "application/json", "7"),
    ],
    ids=repr,
)
async def test_text_and_bytes_stay_and_other_values_become_json(value, mime_type, data):
    server = Server("values")
    server.add_resource("x://y", lambda: value, name="value")
    async with open_client(server) as client:
        result = await client.read_resource("x://y")
    assert result.data == data
    assert result.contents[0].mime_type == mime_type
    assert result.contents[0].uri == "x://y"


async def test_bytes_arrive_over_every_transport(wire: Wire) -> None:
    server = Server("bytes")
    picture = bytes(range(256)) * 100

    @server.resource("img://{name}", mime_type="image/png")
    async def image(name: str) -> bytes:
        return picture

    async with wire.open(server) as client:
        result = await client.read_resource("img://a")
    assert (result.data, result.contents[0].mime_type) == (picture, "image/png")


async def test_a_function_may_return_complete_contents() -> None:
    server = Server("contents")
    contents = [
        ResourceContents(uri="x://y/1", text="one", meta={"page": 1}),
        ResourceContents(uri="x://y/2", blob="AAE=", mime_type="image/png"),
    ]

    @server.resource("x://y")
    def pages() -> list[ResourceContents]:
        return contents

    async with open_client(server) as client:
        result = await client.read_resource("x://y")
    assert list(result.contents) == contents
    assert (result.text, result.data) == ("one", None)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "returned None"),
        (object(), "result"),
        (ResourceContents(uri="x://y"), "either a text or a blob"),
        ("\ud800", "surrogate"),
    ],
    ids=["None", "object", "empty contents", "surrogate"],
)
async def test_a_value_that_cannot_be_contents_is_an_error(value, words):
    server = Server("bad values")
    server.add_resource("x://y", lambda: value, name="value")
    async with open_client(server) as client:
        with pytest.raises(ProtocolError, match=words) as caught:
            await client.read_resource("x://y")
    assert caught.value.code == -32603


async def test_the_parts_of_a_uri_are_converted_to_the_type_hints(wire: Wire) -> None:
    server = Server("types")

    @server.resource("x://{number}/{ratio}/{name}/{flag}{/path*}{?size,tag*}")
    async def read(
        number: int,
        ratio: float,
        name: str,
        flag: bool,
        path: list[str],
        tag: list[int] | None = None,
        size: Literal["small", "large"] = "small",
    ) -> dict[str, Any]:
        return {"path": path, "tag": tag, "size": size, "values": [number, ratio, name, flag]}

    async with wire.open(server) as client:
        result = await client.read_resource("x://7/2.5/007%2F%C3%A9/true/a/b?tag=1&size=large&tag=2")
        assert msgspec.json.decode(result.text) == {
            "path": ["a", "b"],
            "tag": [1, 2],
            "size": "large",
            "values": [7, 2.5, "007/\xe9", True],
        }
        result = await client.read_resource("x://7/2/1/false/a")
        assert msgspec.json.decode(result.text) == {
            "path": ["a"],
            "tag": None,
            "size": "small",
            "values": [7, 2.0, "1", False],
        }


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("x://abc", "number"),
        ("x://0", "number"),
        ("x://1?kind=9", "kind"),
        ("x://" + "[" * 2000, "number"),
        ("x://" + "1" * 5000, "number"),
        ("x://NaN", "number"),
    ],
)
async def test_parts_that_do_not_fit_are_named(wire: Wire, uri: str, words: str) -> None:
    server = Server("checks")

    @server.resource("x://{number}{?kind}")
    def read(number: Annotated[int, msgspec.Meta(ge=1, lt=10)], kind: Literal["a", "b"] = "a") -> str:
        raise AssertionError("never called")

    async with wire.open(server) as client:
        with pytest.raises(ProtocolError, match=words) as caught:
            await client.read_resource(uri)
    assert caught.value.code == -32602


async def test_a_part_that_is_required_and_missing_is_named() -> None:
    server = Server("missing")
    server.add_resource("x://y{?q}", lambda q: q, name="search")
    async with open_client(server) as client:
        assert (await client.read_resource("x://y?q=a")).text == "a"
        with pytest.raises(ProtocolError, match="missing required argument 'q'"):
            await client.read_resource("x://y")


@pytest.mark.parametrize("uri", ["x://unknown", "", "x://y/", "X://y", "file:///etc/passwd", "x://%zz"])
async def test_an_unknown_uri_has_the_error_of_its_era(wire: Wire, uri: str) -> None:
    server = Server("unknown")
    server.add_resource("x://y", lambda: "", name="y")
    server.add_resource("z://{key}", lambda key: key, name="z")
    async with wire.open(server) as client:
        with pytest.raises(ProtocolError) as caught:
            await client.read_resource(uri)
    assert caught.value.code == NOT_FOUND[wire.protocol]
    assert (caught.value.message, caught.value.data) == ("Resource not found", {"uri": uri})


async def test_a_function_may_say_that_there_is_no_such_resource(wire: Wire) -> None:
    server = Server("users")

    @server.resource("users://{user_id}")
    def user(user_id: int) -> str:
        raise ResourceNotFound(f"there is no user {user_id}")

    async with wire.open(server) as client:
        with pytest.raises(ProtocolError, match="there is no user 7") as caught:
            await client.read_resource("users://7")
    assert caught.value.code == NOT_FOUND[wire.protocol]


@pytest.mark.parametrize("error", [ResourceError("the disk is full"), ToolError("the disk is full")])
async def test_an_error_that_is_meant_for_the_client_arrives(error):
    server = Server("errors")

    @server.resource("x://y")
    async def read() -> str:
        raise error

    async with open_client(server) as client:
        with pytest.raises(ProtocolError, match="the disk is full") as caught:
            await client.read_resource("x://y")
    assert caught.value.code == -32603


async def test_other_failures_are_logged_and_not_shown(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    server = Server("failing")

    @server.resource("x://{part}")
    async def read(part: str) -> str:
        raise RuntimeError("secret password")

    async with wire.open(server) as client:
        for part in range(3):
            with pytest.raises(ProtocolError) as caught:
                await client.read_resource(f"x://{part}")
            assert caught.value.code == -32603
            assert caught.value.message == f"Error in resource 'x://{part}'"
    records = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert records[0].getMessage() == "resource 'x://{part}' failed"
    assert len([record for record in records if record.exc_info]) == 1


async def test_failures_are_shown_if_the_server_is_set_to() -> None:
    server = Server("failing", settings=ServerSettings(show_errors=True))

    @server.resource("x://y")
    async def read() -> str:
        raise RuntimeError("the reason")

    async with open_client(server) as client:
        with pytest.raises(ProtocolError, match="RuntimeError: the reason"):
            await client.read_resource("x://y")


async def test_a_resource_comes_before_templates_and_the_first_template_counts() -> None:
    server = Server("overlaps")
    server.add_resource("x://{a}", lambda a: f"first {a}", name="first")
    server.add_resource("x://{b}{?q}", lambda b, q="": f"second {b} {q}", name="second")
    server.add_resource("x://fixed", lambda: "fixed", name="fixed")
    async with open_client(server) as client:
        assert (await client.read_resource("x://fixed")).text == "fixed"
        assert (await client.read_resource("x://1")).text == "first 1"
        assert (await client.read_resource("x://1?q=2")).text == "second 1 2"
        assert [listed.name for listed in await client.list_resource_templates()] == ["first", "second"]


async def test_progress_of_a_read_arrives_before_it_returns(wire: Wire) -> None:
    server = Server("progress")

    @server.resource("x://{count}")
    async def read(ctx: Context, count: int) -> str:
        for number in range(1, count + 1):
            await ctx.report_progress(number, count, f"part {number}")
        return "done"

    seen: list[tuple[float, float | None, str | None]] = []
    async with wire.open(server) as client:
        result = await client.read_resource("x://20", progress_handler=lambda *update: seen.append(update))
    assert result.text == "done"
    assert seen == [(number, 20, f"part {number}") for number in range(1, 21)]


async def test_progress_is_delivered_while_the_resource_is_read(wire: Wire) -> None:
    server = Server("waiting")
    go_on = trio.Event()

    @server.resource("x://y")
    async def read(ctx: Context) -> str:
        await ctx.report_progress(1, 2)
        await go_on.wait()
        return "done"

    with trio.fail_after(HANG_SECONDS):
        async with wire.open(server) as client:
            await client.read_resource("x://y", progress_handler=lambda *update: go_on.set())


async def test_a_sync_function_runs_in_a_thread_and_reports(wire: Wire) -> None:
    server = Server("threads")
    threads = []

    @server.resource("x://y")
    def read(ctx: Context) -> str:
        threads.append(threading.current_thread())
        ctx.report_progress(1, 1)
        return "done"

    seen: list[float] = []
    async with wire.open(server) as client:
        await client.read_resource("x://y", progress_handler=lambda progress, *rest: seen.append(progress))
    assert seen == [1]
    assert threads != [threading.current_thread()]


async def test_a_static_method_may_be_a_resource_or_a_prompt(wire: Wire) -> None:
    server = Server("static")

    class Handlers:
        @server.prompt
        @server.resource("numbers://{number}")
        @staticmethod
        async def following(number: int) -> str:
            return str(number + 1)

    async with wire.open(server) as client:
        assert (await client.read_resource("numbers://3")).data == "4"
        assert (await client.get_prompt("following", {"number": 3})).messages[0].content.text == "4"  # type: ignore[union-attr]  # it is text
    assert await Handlers.following(4) == "5"


async def test_cancelling_a_read_cancels_the_function(wire: Wire) -> None:
    server = Server("cancelling")
    started, ended = trio.Event(), trio.Event()

    @server.resource("x://y")
    async def read() -> str:
        started.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    with trio.fail_after(HANG_SECONDS):
        async with wire.open(server) as client:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.read_resource, "x://y")
                await started.wait()
                nursery.cancel_scope.cancel()
            await ended.wait()


async def test_a_resource_may_call_tools_of_its_server() -> None:
    """Also if the tools have a single thread, and so have the resources."""
    server = Server("calling", settings=ServerSettings(thread_limit=1))

    @server.tool
    def double(number: int) -> int:
        return 2 * number

    @server.resource("x://{number}")
    def read(ctx: Context, number: int) -> str:
        result = trio.from_thread.run(ctx.call_tool, "double", {"number": number})
        return str(result.data)

    async with open_client(server) as client:
        assert (await client.read_resource("x://4")).text == "8"


async def test_a_resource_has_the_lifespan_and_the_facts_of_its_request(wire: Wire) -> None:
    server = Server("facts")

    @server.lifespan
    @asynccontextmanager
    async def live(server: Server):
        yield "shared"

    @server.resource("x://y")
    async def read(ctx: Context) -> list[Any]:
        return [ctx.lifespan, ctx.protocol_version]

    async with wire.open(server) as client:
        assert msgspec.json.decode((await client.read_resource("x://y")).text) == ["shared", wire.protocol]


@pytest.mark.parametrize(
    ("uri", "function", "words"),
    [
        ("config", lambda: "", "needs a scheme"),
        ("x://{", lambda: "", "brace"),
        ("x://{key}", lambda: "", "no parameter 'key'"),
        ("x://{key}", lambda key, more: "", "no variable for the parameter 'more'"),
        ("x://y", lambda key: "", "no variable for the parameter 'key'"),
        ("x://{a}{b}", lambda a, b: "", "cannot be known"),
        ("x://{a:3}", lambda a: "", "prefix"),
        ("x://y", 3, "no function"),
        (7, lambda: "", "needs its URI"),
    ],
)
def test_what_is_refused_at_registration(uri, function, words):
    server = Server("refusing")
    with pytest.raises(ResourceDefinitionError, match=words):
        server.add_resource(uri, function, name="it")
    assert server.definition.resources is None


def test_a_uri_is_registered_once():
    server = Server("twice")
    server.add_resource("x://{a}", lambda a: "", name="a")
    server.add_resource("x://y", lambda: "", name="y")
    for uri, function in (("x://{a}", lambda a: ""), ("x://y", lambda: "")):
        with pytest.raises(ResourceDefinitionError, match="already"):
            server.add_resource(uri, function, name="again")


def test_a_decorator_without_a_uri_and_a_lambda_without_a_name_are_refused():
    server = Server("refusing")
    with pytest.raises(ResourceDefinitionError, match="needs its URI"):

        @server.resource  # type: ignore[arg-type]  # it is wrong on purpose
        def config() -> str:
            return ""

    with pytest.raises(ResourceDefinitionError, match="pass name="):
        server.add_resource("x://y", lambda: "")
    with pytest.raises(ResourceDefinitionError, match="no size"):
        server.add_resource("x://{a}", lambda a: "", name="a", size=3)
    with pytest.raises(ResourceDefinitionError, match="number of bytes"):
        server.add_resource("x://y", lambda: "", name="a", size=-1)


def test_a_server_of_tools_imports_nothing_for_resources():
    code = """
import sys, trio
from trio_mcp import Server, open_server
server = Server("tools")
@server.tool
def tool() -> None: ...
async def main():
    async with open_server(server):
        print(sorted(name for name in sys.modules if "resource" in name or "template" in name))
trio.run(main)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [name for name in ast.literal_eval(done.stdout) if name.startswith("trio_mcp")] == []
