"""`ClientGroup`: names, failures that stay alone, the end, and servers that come and go."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.conftest import Wire
from tests.support.limits import HANG_SECONDS
from trio_mcp import (
    CallTimeout,
    ClientSettings,
    ConnectionLost,
    Context,
    GroupServer,
    MCPError,
    PromptReference,
    ProtocolError,
    ResourceTemplateReference,
    Server,
    ServerEntry,
    ServerLookupError,
    ServerState,
    ServerUnavailable,
    ToolError,
    open_group,
)
from trio_mcp.client.group_member import TRANSITIONS
from trio_mcp.outgoing.transport import FrameTransport
from trio_mcp.testing import memory_pair


def make_server(name: str, *, hang: bool = False) -> Server:
    server = Server(name)

    @server.tool
    async def who(ctx: Context, steps: int = 0) -> str:
        for number in range(1, steps + 1):
            await ctx.report_progress(number, steps)
        return name

    @server.tool
    def fail() -> None:
        raise ToolError("it went wrong")

    @server.tool
    async def wait() -> None:
        await trio.sleep_forever()

    @server.prompt
    def greet(style: str) -> str:
        return f"{name} greets {style}"

    @greet.complete("style")
    def styles(value: str) -> list[str]:
        return [f"{value}-{name}"]

    @server.resource(f"only://{name}")
    def only() -> str:
        return f"only {name}"

    @server.resource("both://all")
    def both() -> str:
        return f"both {name}"

    @server.resource(f"part-{name}://{{number}}")
    def part(number: int) -> str:
        return f"part {number} of {name}"

    return server


class Broken:
    """A connector that fails when it is opened, as `error` says."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    @asynccontextmanager
    async def open_transport(self, settings: ClientSettings) -> AsyncIterator[FrameTransport]:
        await trio.lowlevel.checkpoint()
        raise self.error
        yield memory_pair()[0]


class Silent:
    """A connector to a peer that never answers; counts how many connections are open."""

    def __init__(self) -> None:
        self.opened = 0

    @asynccontextmanager
    async def open_transport(self, settings: ClientSettings) -> AsyncIterator[FrameTransport]:
        ours, theirs = memory_pair()
        self.opened += 1
        try:
            yield ours
        finally:
            self.opened -= 1
            with trio.CancelScope(shield=True):
                await ours.aclose()
                await theirs.aclose()


class Cuttable:
    """A connector to `server` whose connection `cut` ends."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.cut = trio.Event()

    @asynccontextmanager
    async def open_transport(self, settings: ClientSettings) -> AsyncIterator[FrameTransport]:
        ours, theirs = memory_pair()

        async def serve() -> None:
            async with trio.open_nursery() as serving:
                serving.start_soon(self._server.serve, theirs)
                await self.cut.wait()
                await theirs.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)  # noqa: ASYNC113  # frames that are sent before it runs are queued
            yield ours
            nursery.cancel_scope.cancel()


async def wait_state(server: GroupServer, state: ServerState) -> None:
    with trio.fail_after(HANG_SECONDS):
        while server.state is not state:
            await wait_all_tasks_blocked()
            await trio.lowlevel.checkpoint()


async def test_tools_of_several_servers_are_called_by_their_prefix(wire: Wire) -> None:
    servers = {name: wire.target(make_server(name)) for name in ("one", "two")}
    seen: list[float] = []
    async with open_group(servers, protocol=wire.protocol) as group:
        for name in servers:
            result = await group.call_tool(
                f"{name}_who",
                {"steps": 3},
                progress_handler=lambda progress, total, message: seen.append(progress),
            )
            assert result.data == name
        assert seen == [1, 2, 3] * 2
        assert (await group.get_prompt("two_greet", {"style": "x"})).messages[
            0
        ].content.text == "two greets x"
        assert (await group.read_resource("only://two")).text == "only two"
        assert (await group.read_resource("part-one://7")).text == "part 7 of one"


async def test_the_order_of_the_servers_is_the_order_of_the_lists() -> None:
    names = ["zeta", "alpha", "mid"]
    async with open_group({name: make_server(name) for name in names}) as group:
        tools = [tool.name for tool in await group.list_tools()]
        assert tools == [f"{name}_{tool}" for name in names for tool in ("who", "fail", "wait")]
        assert [prompt.name for prompt in await group.list_prompts()] == [f"{name}_greet" for name in names]
        resources = await group.list_resources()
        assert [(item.name, item.uri) for item in resources[:2]] == [
            ("zeta_only", "only://zeta"),
            ("zeta_both", "both://all"),
        ]
        templates = await group.list_resource_templates()
        assert [item.uri_template for item in templates] == [f"part-{name}://{{number}}" for name in names]
        assert list(group.servers) == names


async def test_a_resource_of_several_servers_needs_the_name_of_one() -> None:
    async with open_group({name: make_server(name) for name in ("one", "two")}) as group:
        with pytest.raises(ServerLookupError, match="'both://all' belongs to 'one' and 'two': say which"):
            await group.read_resource("both://all")
        assert (await group.read_resource("both://all", server="two")).text == "both two"
        with pytest.raises(ServerLookupError, match="no server of the group lists 'none://x'"):
            await group.read_resource("none://x")
        with pytest.raises(ServerLookupError, match="the group has no server 'three': it has 'one', 'two'"):
            await group.read_resource("both://all", server="three")
    async with open_group({"one": make_server("one")}) as group:
        assert (await group.read_resource("both://all")).text == "both one"


async def test_arguments_are_completed_by_the_server_that_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def complete(ref: ResourceTemplateReference, *rest: Any) -> None:
        await trio.lowlevel.checkpoint()
        asked.append(ref.uri)

    async with open_group({name: make_server(name) for name in ("one", "two")}) as group:
        argument = {"name": "style", "value": "x"}
        assert (await group.complete(PromptReference(name="two_greet"), argument)).values == ["x-two"]
        monkeypatch.setattr(group.client("two"), "complete", complete)
        number = {"name": "number", "value": ""}
        await group.complete(ResourceTemplateReference(uri="part-two://{number}"), number)
        await group.complete(ResourceTemplateReference(uri="unlisted://{number}"), number, server="two")
        assert asked == ["part-two://{number}", "unlisted://{number}"]
        with pytest.raises(ServerLookupError, match="no server of the group lists 'unlisted://"):
            await group.complete(ResourceTemplateReference(uri="unlisted://{number}"), number)


async def test_an_unknown_prefix_is_refused_with_those_that_there_are() -> None:
    async with open_group({name: make_server(name) for name in ("one", "two")}) as group:
        with pytest.raises(ServerLookupError, match="has a prefix of 'three_who': 'one_', 'two_'"):
            await group.call_tool("three_who")


@pytest.mark.parametrize(
    "names", [("a", "a_b"), ("a_b", "a"), ("a b", "a_b"), ("", "a")], ids=lambda names: " and ".join(names)
)
async def test_prefixes_by_which_a_name_could_be_of_two_servers_are_refused(names: tuple[str, str]) -> None:
    servers = {name: make_server("x") for name in names}
    with pytest.raises(ValueError, match=f"servers '{names[0]}' and '{names[1]}' clash"):
        async with open_group(servers):
            pytest.fail("it is not entered")


async def test_a_prefix_can_be_given_and_a_group_of_one_needs_none() -> None:
    servers = {
        "a": make_server("one"),
        "a_b": ServerEntry(make_server("two"), prefix="other"),
    }
    async with open_group(servers) as group:
        assert (await group.call_tool("other_who")).data == "two"
    async with open_group({"a": ServerEntry(make_server("one"), prefix="")}) as group:
        assert (await group.call_tool("who")).data == "one"
    async with open_group({"My Server": make_server("one")}) as group:
        assert (await group.list_tools())[0].name == "My_Server_who"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (Broken(OSError("no route")), "no route"),
        (Broken(ExceptionGroup("several", [ConnectionLost("it is gone")])), "it is gone"),
        (Broken(RuntimeError("a bug")), "a bug"),
        (Broken(PermissionError(13, "Permission denied", "/x")), "Permission denied: '/x'"),
        (Broken(RuntimeError()), "RuntimeError"),
        ("none.py", "there is no file 'none.py'"),
        (7, "a target is a Server"),
        ([sys.executable, "-c", "import sys; sys.exit('no licence')"], "no licence"),
    ],
    ids=["OSError", "group", "bug", "permission", "no text", "file", "type", "process"],
)
async def test_a_server_that_cannot_be_opened_fails_alone(
    target: Any, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_group({"bad": target, "good": make_server("good")}) as group:
        assert (await group.call_tool("good_who")).data == "good"
        bad = group.servers["bad"]
        assert bad.state is ServerState.FAILED
        with pytest.raises(ServerUnavailable, match="server 'bad' has failed: ") as caught:
            await group.call_tool("bad_who")
        assert caught.value.server == "bad"
        assert words in str(caught.value)
        assert [tool.name for tool in await group.list_tools()] == ["good_who", "good_fail", "good_wait"]
        assert repr(group) == "<ClientGroup of 'bad' failed, 'good' connected>"
    assert "server 'bad' of the group has failed: " in caplog.text


async def test_a_server_that_does_not_answer_fails_after_its_time(autojump_clock: trio.abc.Clock) -> None:
    silent = Silent()
    servers = {
        "slow": ServerEntry(silent, timeout=5),
        "slower": silent,
        "good": make_server("good"),
    }
    started = trio.current_time()
    async with open_group(servers, server_timeout=7) as group:
        # A connection is closed before its server has failed.
        assert trio.current_time() - started == 7 + ClientSettings().drain_timeout
        assert silent.opened == 0
        assert isinstance(group.servers["slow"].error, CallTimeout)
        assert str(group.servers["slow"].error) == "it did not connect within 5 seconds"
        assert (await group.call_tool("good_who")).data == "good"


async def test_a_connection_that_is_lost_fails_alone_and_its_call_names_the_server() -> None:
    cuttable = Cuttable(make_server("one"))
    async with (
        open_group({"one": cuttable, "two": make_server("two")}) as group,
        trio.open_nursery() as nursery,
    ):

        async def call() -> None:
            with pytest.raises(ServerUnavailable, match="server 'one' was lost: "):
                await group.call_tool("one_wait")

        nursery.start_soon(call)
        await wait_all_tasks_blocked()
        cuttable.cut.set()
        await wait_state(group.servers["one"], ServerState.FAILED)
        with pytest.raises(
            ServerUnavailable, match="server 'one' has failed: the server closed the connection"
        ):
            await group.call_tool("one_who")
        assert (await group.call_tool("two_who")).data == "two"


async def test_a_list_goes_on_without_a_server_that_does_not_answer(
    autojump_clock: trio.abc.Clock, caplog: pytest.LogCaptureFixture
) -> None:
    stuck = Server("stuck")

    class Stuck:
        async def serve(self, transport: FrameTransport) -> None:
            """Answer the first request only."""
            ours, theirs = memory_pair()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stuck.serve, theirs)
                await ours.send_frames(await transport.receive_frames())
                await transport.send_frames(await ours.receive_frames())
                with trio.CancelScope():
                    while True:
                        try:
                            await transport.receive_frames()
                        except trio.EndOfChannel:
                            break
                nursery.cancel_scope.cancel()

    servers = {"stuck": Stuck(), "good": make_server("good")}
    async with open_group(servers, server_timeout=3) as group:
        started = trio.current_time()
        assert [tool.name for tool in await group.list_tools()] == ["good_who", "good_fail", "good_wait"]
        assert trio.current_time() - started == 3
        assert group.servers["stuck"].state is ServerState.CONNECTED
    assert "the tools of 'stuck' are left out: no answer within 3 seconds" in caplog.text


async def test_other_errors_pass_through_with_a_note_of_the_server() -> None:
    async with open_group({"one": make_server("one"), "two": make_server("two")}) as group:
        with pytest.raises(ToolError, match="it went wrong") as caught:
            await group.call_tool("two_fail")
        assert caught.value.__notes__ == ["This is of the server 'two'."]
        with pytest.raises(ProtocolError) as refused:
            await group.call_tool("two_none")
        assert refused.value.__notes__ == ["This is of the server 'two'."]
        assert (await group.call_tool("two_fail", raise_on_error=False)).is_error


async def test_a_call_may_run_beside_its_block() -> None:
    async with (
        open_group({"one": make_server("one")}) as group,
        group.start_call("one_who", {"steps": 2}) as call,
    ):
        assert [update.progress async for update in call.updates] == [1, 2]
        assert (await call.result()).data == "one"


async def test_options_of_one_server_prevail_over_those_of_the_group() -> None:
    servers = {
        "old": ServerEntry(make_server("old"), options={"protocol": "2025-06-18"}),
        "new": make_server("new"),
    }
    async with open_group(servers, protocol="2025-11-25") as group:
        assert group.client("old").protocol_version == "2025-06-18"
        assert group.client("new").protocol_version == "2025-11-25"


async def test_the_handler_of_the_group_gets_the_progress_of_every_call() -> None:
    seen: list[tuple[float, float | None]] = []
    async with open_group(
        {name: make_server(name) for name in ("one", "two")},
        progress_handler=lambda progress, total, message: seen.append((progress, total)),
    ) as group:
        await group.call_tool("one_who", {"steps": 1})
        await group.call_tool("two_who", {"steps": 2})
    assert seen == [(1, 1), (1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: open_group({}, nonsense=1), TypeError, "'nonsense' is no option of open_client"),
        (lambda: ServerEntry("x.py", options={"target": 1}), TypeError, "'target' is no option"),
        (lambda: ServerEntry("x.py", prefix="a b"), ValueError, "a prefix has ASCII letters"),
        (lambda: ServerEntry("x.py", timeout=0), ValueError, "timeout must be"),
        (lambda: open_group({}, server_timeout=-1), ValueError, "server_timeout must be"),
        (lambda: open_group({"mcpServers": {"a": {}}}), ValueError, "server 'a' needs either"),
        (lambda: open_group("no/such/file.json"), FileNotFoundError, "no/such/file.json"),
    ],
)
async def test_arguments_that_make_no_sense_are_refused(
    make: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        async with make():
            pytest.fail("it is not entered")


async def test_servers_come_and_go() -> None:
    async with open_group({"one": make_server("one")}) as group:
        added = await group.add("two", make_server("two"))
        assert added.state is ServerState.CONNECTED
        assert (await group.call_tool("two_who")).data == "two"
        with pytest.raises(ValueError, match="the group has a server 'two' already"):
            await group.add("two", make_server("two"))
        with pytest.raises(ValueError, match="clash"):
            await group.add("two_more", make_server("two"))
        with pytest.raises(OSError, match="no route"):
            await group.add("bad", Broken(OSError("no route")))
        assert list(group.servers) == ["one", "two"]
        await group.remove("one")
        assert list(group.servers) == ["two"]
        with pytest.raises(ServerLookupError):
            await group.call_tool("one_who")
        with pytest.raises(ServerLookupError):
            await group.remove("one")
        assert (await group.call_tool("two_who")).data == "two"
    with pytest.raises(ServerUnavailable, match="server 'two' is closed"):
        await group.call_tool("two_who")
    assert added.state is ServerState.CLOSED


async def test_a_server_is_removed_while_it_is_called() -> None:
    async with open_group({"one": make_server("one")}) as group, trio.open_nursery() as nursery:

        async def call() -> None:
            with pytest.raises(ServerUnavailable, match="server 'one' was lost: the client was closed"):
                await group.call_tool("one_wait")

        nursery.start_soon(call)
        await wait_all_tasks_blocked()
        await group.remove("one")


async def test_adding_that_is_cancelled_adds_nothing(autojump_clock: trio.abc.Clock) -> None:
    silent = Silent()
    async with open_group({}) as group:
        with trio.move_on_after(1):
            await group.add("silent", silent)
        assert not group.servers
        assert repr(group) == "<ClientGroup of no servers>"
    assert silent.opened == 0


async def test_opening_that_is_cancelled_closes_what_was_opened(autojump_clock: trio.abc.Clock) -> None:
    silent = Silent()
    with trio.move_on_after(1) as scope:
        async with open_group({"one": make_server("one"), "silent": silent}):
            pytest.fail("it is not entered")
    assert scope.cancelled_caught
    assert silent.opened == 0


async def test_a_caller_meets_its_own_cancellation_and_not_the_end_of_a_server(wire: Wire) -> None:
    """A call that is cancelled with the whole group, before it is scheduled again."""
    met: list[BaseException] = []
    with trio.CancelScope() as scope:
        async with (
            open_group(
                {name: wire.target(make_server(name)) for name in ("one", "two")}, protocol=wire.protocol
            ) as group,
            trio.open_nursery() as nursery,
        ):

            async def call(name: str) -> None:
                try:
                    await group.call_tool(name)
                except BaseException as error:
                    met.append(error)
                    raise

            nursery.start_soon(call, "one_wait")
            nursery.start_soon(call, "two_wait")
            await wait_all_tasks_blocked()
            scope.cancel()
    assert scope.cancelled_caught
    assert [type(error) for error in met] == [trio.Cancelled] * 2


async def test_an_exception_of_the_block_is_not_wrapped() -> None:
    with pytest.raises(KeyError, match="mine"):
        async with open_group({"one": make_server("one"), "bad": Broken(OSError("no"))}):
            raise KeyError("mine")


async def test_a_group_may_be_empty() -> None:
    async with open_group({}) as group:
        assert await group.list_tools() == []
        with pytest.raises(ServerLookupError, match="there is none"):
            await group.call_tool("x")


STATES = list(ServerState)


@pytest.mark.parametrize("target", STATES)
@pytest.mark.parametrize("start", STATES)
def test_a_failed_or_closed_server_stays_so(start: ServerState, target: ServerState) -> None:
    allowed = {
        (ServerState.CONNECTING, ServerState.CONNECTED),
        (ServerState.CONNECTING, ServerState.FAILED),
        (ServerState.CONNECTING, ServerState.CLOSED),
        (ServerState.CONNECTED, ServerState.FAILED),
        (ServerState.CONNECTED, ServerState.CLOSED),
    }
    assert (target in TRANSITIONS[start]) == ((start, target) in allowed)


def test_errors_of_a_group_are_caught_as_those_of_a_client() -> None:
    assert issubclass(ServerUnavailable, ConnectionLost)
    assert issubclass(ServerLookupError, MCPError)
    assert issubclass(ServerLookupError, LookupError)
