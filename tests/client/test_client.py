"""The client: eras and their negotiation, results, errors, lost connections."""

from __future__ import annotations

import itertools
from typing import Any

import attrs
import msgspec
import pytest
import trio

from tests.conftest import LEGACY, MODERN
from tests.support.fake_server import DISCOVERED, INITIALIZED, FakeServer, error, result, silence
from tests.support.limits import HANG_SECONDS
from trio_mcp import (
    CallTimeout,
    ClientSettings,
    ConnectionLost,
    Context,
    Implementation,
    MCPError,
    ProtocolError,
    RemoteProtocolError,
    Server,
    TextContent,
    ToolError,
    open_client,
)
from trio_mcp.outgoing.transport import FrameTransport
from trio_mcp.testing import WireRecorder


@pytest.mark.parametrize("code", [-32601, -32602, -32600, -32000, 0])
async def test_any_error_but_a_modern_one_means_legacy(code):
    server = FakeServer({"server/discover": error(code), "initialize": result(INITIALIZED)})
    async with open_client(server) as client:
        assert client.protocol_version == LEGACY
        assert client.server_info == Implementation(name="fake", version="9")
    assert server.asked[:3] == ["server/discover", "initialize", "notifications/initialized"]


async def test_silence_means_legacy(autojump_clock):
    server = FakeServer({"server/discover": silence, "initialize": result(INITIALIZED)})
    started = trio.current_time()
    async with open_client(server) as client:
        assert client.protocol_version == LEGACY
    assert trio.current_time() - started < 10


async def test_a_slow_modern_server_is_still_modern(autojump_clock):
    """The answer to the probe counts, even if it arrives after the fall-back has begun."""
    pending: list[Any] = []

    def answer_both(request: Any) -> Any:
        if request.method == "server/discover":
            pending.append(request)
            return None
        return result(DISCOVERED)(pending[0])

    server = FakeServer({"server/discover": answer_both, "initialize": answer_both})
    async with open_client(server) as client:
        assert client.protocol_version == MODERN


async def test_a_server_that_answers_nothing_times_out(autojump_clock):
    server = FakeServer({"server/discover": silence, "initialize": silence})
    started = trio.current_time()
    with pytest.raises(CallTimeout, match="handshake"):
        async with open_client(server, settings=ClientSettings(handshake_timeout=20)):
            raise AssertionError("never reached")
    assert trio.current_time() - started == pytest.approx(20, abs=3)


async def test_a_malformed_answer_to_the_probe_means_legacy():
    server = FakeServer({"server/discover": result({}), "initialize": result(INITIALIZED)})
    async with open_client(server) as client:
        assert client.protocol_version == LEGACY


async def test_a_modern_error_is_not_legacy():
    server = FakeServer(
        {"server/discover": error(-32022, {"supported": ["2030-01-01"], "requested": MODERN})}
    )
    with pytest.raises(RemoteProtocolError, match="2030-01-01"):
        async with open_client(server):
            raise AssertionError("never reached")
    assert "initialize" not in server.asked


async def test_a_modern_error_that_names_a_legacy_version_leads_to_the_legacy_handshake():
    data = {"supported": ["2025-06-18"], "requested": MODERN}
    agreed = {**INITIALIZED, "protocolVersion": "2025-06-18"}
    server = FakeServer({"server/discover": error(-32022, data), "initialize": result(agreed)})
    async with open_client(server) as client:
        assert client.protocol_version == "2025-06-18"


@attrs.define
class LateCloser(FakeServer):
    """Closes its first connection six seconds after the probe, without an answer."""

    async def serve(self, transport: FrameTransport) -> None:
        if self.asked:
            await super().serve(transport)
            return
        await transport.receive_frames()
        self.asked.append("server/discover")
        await trio.sleep(6)
        await transport.aclose()


@pytest.mark.parametrize("kind", [FakeServer, LateCloser])
async def test_a_server_that_closes_at_the_probe_is_connected_to_again_in_the_legacy_way(
    autojump_clock, kind
):
    """Some legacy servers end at a first message that is not initialize, at once or after a while."""
    server = kind({"server/discover": lambda request: "close", "initialize": result(INITIALIZED)})
    async with open_client(server) as client:
        assert client.protocol_version == LEGACY
        assert client.server_info == Implementation(name="fake", version="9")
    assert server.asked[:3] == ["server/discover", "initialize", "notifications/initialized"]


async def test_a_modern_server_that_is_pinned_is_connected_to_only_once():
    server = FakeServer({"server/discover": lambda request: "close"})
    with pytest.raises(ConnectionLost):
        async with open_client(server, protocol=MODERN):
            raise AssertionError("never reached")
    assert server.asked == ["server/discover"]


async def test_a_server_that_always_closes_is_a_lost_connection():
    server = FakeServer({"server/discover": lambda request: "close", "initialize": lambda request: "close"})
    with pytest.raises(ConnectionLost):
        async with open_client(server):
            raise AssertionError("never reached")


async def test_a_version_that_the_server_does_not_serve_is_an_error():
    server = FakeServer({"initialize": result({**INITIALIZED, "protocolVersion": "2099-01-01"})})
    with pytest.raises(RemoteProtocolError, match="2099-01-01"):
        async with open_client(server):
            raise AssertionError("never reached")


@pytest.mark.parametrize("protocol", [MODERN, LEGACY, "2025-06-18", "2025-03-26", "2024-11-05"])
async def test_a_pinned_protocol(protocol):
    async with open_client(make_server(), protocol=protocol) as client:
        assert client.protocol_version == protocol
        assert (await client.call_tool("echo", {"text": "x"})).text == "x"


async def test_arguments_that_make_no_sense_are_refused():
    for options, words in (
        ({"protocol": "1.0"}, "2026-07-28"),
        ({"log_level": "loud"}, "emergency"),
    ):
        with pytest.raises(ValueError, match=words):
            async with open_client(make_server(), **options):
                raise AssertionError("never reached")
    for target, kind in (
        (5, TypeError),
        ([], TypeError),
        ("server.txt", ValueError),
        ("no/such.py", FileNotFoundError),
    ):
        with pytest.raises(kind):
            async with open_client(target):
                raise AssertionError("never reached")


def make_server() -> Server:
    server = Server("real", version="1", instructions="Use with care.")

    @server.tool
    async def echo(text: str) -> str:
        """Give back the text."""
        return text

    @server.tool
    async def add(a: int, b: int) -> int:
        return a + b

    @server.tool
    async def point() -> Point:
        return Point(1, 2)

    @server.tool
    async def fail() -> None:
        raise ToolError("on purpose")

    @server.tool
    async def wait(ctx: Context) -> None:
        await ctx.report_progress(1)
        await trio.sleep_forever()

    return server


@attrs.frozen
class Point:
    x: int
    y: int


async def test_the_server_s_description_of_itself(wire):
    async with wire.open(make_server()) as client:
        assert client.protocol_version == wire.protocol
        assert client.server_info == Implementation(name="real", version="1")
        assert client.instructions == "Use with care."
        assert "tools" in client.server_capabilities
        tools = {tool.name: tool for tool in await client.list_tools()}
        await client.ping()
    assert list(tools) == ["echo", "add", "point", "fail", "wait"]
    assert tools["echo"].description == "Give back the text."
    assert tools["echo"].input_schema["properties"] == {"text": {"type": "string"}}
    assert tools["add"].output_schema is not None


async def test_results(wire):
    async with wire.open(make_server()) as client:
        echo = await client.call_tool("echo", {"text": "hello"})
        assert (echo.text, echo.data, echo.structured_content, echo.is_error) == (
            "hello",
            "hello",
            None,
            False,
        )
        assert echo.content == [TextContent(text="hello")]
        added = await client.call_tool("add", {"a": 2, "b": 3})
        assert (added.data, added.text, added.structured_content) == (5, "5", {"result": 5})
        point = await client.call_tool("point", result_type=Point)
        assert point.data == Point(1, 2)
        assert point.structured_content == {"x": 1, "y": 2}
        with pytest.raises(RemoteProtocolError, match="no <class 'int'>"):
            await client.call_tool("point", result_type=int)


async def test_errors(wire):
    async with wire.open(make_server()) as client:
        with pytest.raises(ToolError, match="on purpose") as caught:
            await client.call_tool("fail")
        assert caught.value.result.is_error
        failed = await client.call_tool("fail", raise_on_error=False)
        assert (failed.is_error, failed.text) == (True, "on purpose")
        with pytest.raises(ToolError, match="text"):
            await client.call_tool("echo", {"text": 5})
        with pytest.raises(ToolError, match="surplus"):
            await client.call_tool("echo", {"text": "a", "surplus": 1})
        with pytest.raises(ProtocolError, match="Unknown tool: nope") as refused:
            await client.call_tool("nope")
        assert refused.value.code == -32602
        with pytest.raises(ValueError, match="not JSON"):
            await client.call_tool("echo", {"text": object()})
        with pytest.raises(ValueError, match="not JSON"):
            await client.call_tool("echo", {"text": "\ud800"})
        with pytest.raises(ValueError, match="not JSON"):
            await client.call_tool("echo", {"text": float("nan")})
        assert (await client.call_tool("echo", {"text": "alive"})).text == "alive"


async def test_a_cancelled_call_tells_the_server(wire):
    recorder = wire.recorder(make_server())
    async with wire.open(recorder) as client:
        with trio.CancelScope() as scope:
            await client.call_tool("wait", progress_handler=lambda *update: scope.cancel())
        assert scope.cancelled_caught
        await client.ping()
    (request,) = recorder.sent_messages("tools/call")
    (cancelled,) = recorder.sent_messages("notifications/cancelled")
    assert cancelled["params"]["requestId"] == request["id"]
    assert not any(m.get("id") == request["id"] for m in recorder.received_messages()), "nothing more is sent"


async def test_an_answered_call_sends_no_cancellation(wire):
    recorder = wire.recorder(make_server())
    async with wire.open(recorder) as client:
        await client.call_tool("echo", {"text": "x"})
        await client.call_tool("fail", raise_on_error=False)
    assert recorder.sent_messages("notifications/cancelled") == []


@pytest.mark.parametrize(
    "answers",
    [
        [b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":77,"progress":1}}'],
        [
            b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"two","progress":1}}'
        ],
        [b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":2,"progress":true}}'],
        [b'{"jsonrpc":"2.0","method":"notifications/progress"}'],
        [b'{"jsonrpc":"2.0","method":"notifications/unheard_of","params":{}}'],
        [b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"loud","data":1}}'],
        [b'{"jsonrpc":"2.0","id":1,"result":{}}'],
        [b"this is no JSON"],
    ],
)
async def test_messages_that_a_server_should_not_send_are_dropped(answers):
    """Late or unknown tokens, second answers and malformed lines change nothing."""
    seen: list[Any] = []

    def call(request: Any) -> Any:
        return [*answers, result({"content": []})(request)]

    server = FakeServer({"server/discover": result(DISCOVERED), "tools/call": call})
    async with open_client(server, log_handler=seen.append) as client:
        await client.call_tool("any", progress_handler=lambda *update: seen.append(update))
    assert seen == []


@pytest.mark.parametrize(
    "answer",
    [
        {"result": {"content": 5}},
        {"result": {}},
        {"result": {"content": [{"type": "unheard_of"}]}},
        {"result": {"resultType": "mystery", "content": []}},
        {"result": []},
        {"error": {"code": "x", "message": "y"}},
        {"result": {"content": []}, "error": {"code": 1, "message": "y"}},
    ],
)
async def test_a_malformed_result_is_a_clear_error(answer):
    server = FakeServer(
        {"server/discover": result(DISCOVERED), "tools/call": lambda request: {"id": request.id, **answer}}
    )
    async with open_client(server) as client:
        with trio.fail_after(HANG_SECONDS), pytest.raises(RemoteProtocolError):
            await client.call_tool("any")


async def test_a_connection_that_ends_fails_every_call():
    server = FakeServer({"server/discover": result(DISCOVERED), "tools/call": lambda request: "close"})
    async with open_client(server) as client:
        with pytest.raises(ConnectionLost):
            await client.call_tool("any")
        with pytest.raises(ConnectionLost):
            await client.call_tool("any")
        with pytest.raises(ConnectionLost):
            await client.ping()


async def test_pages_of_tools():
    tools = [{"name": name, "inputSchema": {"type": "object"}} for name in "abc"]

    def page(request: Any) -> Any:
        cursor = msgspec.json.decode(request.params).get("cursor", "0")
        more = {} if cursor == "2" else {"nextCursor": str(int(cursor) + 1)}
        return result({"tools": [tools[int(cursor)]], **more})(request)

    server = FakeServer({"server/discover": result(DISCOVERED), "tools/list": page})
    async with open_client(server) as client:
        assert [tool.name for tool in await client.list_tools()] == ["a", "b", "c"]


@pytest.mark.parametrize("cursor", ["", None])
async def test_an_empty_cursor_ends_a_list(cursor):
    page = result({"tools": [{"name": "a", "inputSchema": {"type": "object"}}], "nextCursor": cursor})
    server = FakeServer({"server/discover": result(DISCOVERED), "tools/list": page})
    async with open_client(server) as client:
        assert [tool.name for tool in await client.list_tools()] == ["a"]
    assert server.asked.count("tools/list") == 1


async def test_a_repeated_cursor_ends_a_list_with_a_warning_and_keeps_what_was_read(caplog):
    """Also if it is not the very last one: pages that go round in a circle."""
    tools = [{"name": name, "inputSchema": {"type": "object"}} for name in "abc"]
    after = {None: ("0", tools[0]), "0": ("1", tools[1]), "1": ("0", tools[2])}

    def page(request: Any) -> Any:
        cursor, tool = after[msgspec.json.decode(request.params).get("cursor")]
        return result({"tools": [tool], "nextCursor": cursor})(request)

    server = FakeServer({"server/discover": result(DISCOVERED), "tools/list": page})
    async with open_client(server) as client:
        assert [tool.name for tool in await client.list_tools()] == ["a", "b", "c"]
    assert server.asked.count("tools/list") == 3
    assert "the server's list of tools repeats the cursor '0'" in caplog.text


@pytest.mark.parametrize("cursors", [[""], ["x", "x"]])
async def test_the_list_of_tasks_ends_at_such_a_cursor_too(cursors):
    pages = iter(cursors)
    server = FakeServer(
        {
            "initialize": result(INITIALIZED),
            "tasks/list": lambda request: result({"tasks": [], "nextCursor": next(pages)})(request),
        }
    )
    async with open_client(server, protocol=LEGACY) as client:
        assert await client.list_tasks() == []
    assert server.asked.count("tasks/list") == len(cursors)


async def test_an_endless_list_of_pages_is_an_error():
    numbers = itertools.count()
    server = FakeServer(
        {
            "server/discover": result(DISCOVERED),
            "tools/list": lambda request: result({"tools": [], "nextCursor": str(next(numbers))})(request),
        }
    )
    async with open_client(server) as client:
        with pytest.raises(RemoteProtocolError, match="1000 pages"):
            await client.list_tools()


async def test_a_server_s_requests_are_answered():
    """A legacy server may ping; what this client does not serve gets an error."""
    recorder = WireRecorder(
        FakeServer(
            {
                "initialize": lambda request: [
                    result(INITIALIZED)(request),
                    {"id": "p", "method": "ping"},
                    {"id": "r", "method": "roots/list"},
                ],
                "ping": result({}),
            }
        )
    )
    async with open_client(recorder, protocol=LEGACY) as client:
        await client.ping()
    answers = {m["id"]: m for m in recorder.sent_messages() if "method" not in m}
    assert answers["p"]["result"] == {}
    assert answers["r"]["error"]["code"] == -32601


async def test_no_exception_of_the_block_is_wrapped_in_a_group(wire):
    for kind in (KeyError, MCPError, trio.TooSlowError):
        with pytest.raises(kind):
            async with wire.open(make_server()):
                raise kind("mine")
