"""Caching: what is given again, to whom, for how long, and what makes it stale."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import trio

from tests.conftest import LEGACY, MODERN
from tests.support.raw_peer import MODERN_META, open_raw
from trio_mcp import (
    Context,
    Principal,
    ProtocolError,
    Server,
    TaskConfig,
    ToolAnnotations,
    ToolError,
    open_client,
    open_server,
)
from trio_mcp.middleware import Caching, ListToolsResult

READ_ONLY = ToolAnnotations(read_only_hint=True)


class Counted:
    """A server with a cache; `runs` are the names of what has run."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.runs: list[str] = []
        self.server = server = Server("cached", version="1")
        self.cache = server.add_middleware(Caching(*args, **options))

        @server.tool(annotations=READ_ONLY)
        async def look(name: str = "", size: int = 0) -> str:
            self.runs.append("look")
            return f"{name} {size}"

        @server.tool
        async def change(name: str) -> str:
            self.runs.append("change")
            return name

        @server.resource("files://{name}")
        async def read(name: str) -> str:
            self.runs.append("read")
            return name


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_a_read_only_tool_runs_once_for_the_same_arguments(autojump_clock, protocol):
    counted = Counted(10)
    async with open_client(counted.server, protocol=protocol) as client:
        for arguments in ({"name": "a", "size": 1}, {"size": 1, "name": "a"}, {"name": "b", "size": 1}):
            result = await client.call_tool("look", arguments)
            assert result.text == f"{arguments['name']} 1"
        assert counted.runs == ["look", "look"]
        await trio.sleep(9)
        await client.call_tool("look", {"name": "a", "size": 1})
        assert len(counted.runs) == 2
        await trio.sleep(1.5)
        await client.call_tool("look", {"name": "a", "size": 1})
        assert len(counted.runs) == 3
    assert counted.cache.hits == 2


async def test_other_tools_are_not_cached_unless_they_are_named():
    for options, runs in [({}, ["change", "change"]), ({"tools": {"change"}}, ["change", "look", "look"])]:
        counted = Counted(**options)
        async with open_client(counted.server) as client:
            for _ in range(2):
                await client.call_tool("change", {"name": "a"})
            if options:
                for _ in range(2):
                    await client.call_tool("look")
        assert counted.runs == runs


async def test_a_tool_that_looks_at_an_open_world_is_not_cached():
    counted = Counted()

    @counted.server.tool(annotations=ToolAnnotations(read_only_hint=True, open_world_hint=True))
    async def search() -> str:
        counted.runs.append("search")
        return "found"

    async with open_client(counted.server) as client:
        for _ in range(2):
            await client.call_tool("search")
    assert counted.runs == ["search", "search"]


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_an_updated_resource_is_read_anew_and_others_are_not(protocol):
    counted = Counted()
    async with open_client(counted.server, protocol=protocol) as client:
        for _ in range(2):
            assert (await client.read_resource("files://a")).text == "a"
            assert (await client.read_resource("files://b")).text == "b"
        assert counted.runs == ["read", "read"]
        counted.server.notify_resource_updated("files://a")
        await client.read_resource("files://a")
        await client.read_resource("files://b")
    assert counted.runs == ["read", "read", "read"]


async def test_an_update_that_another_thread_tells_counts_as_well():
    counted = Counted()
    async with open_client(counted.server) as client:
        await client.read_resource("files://a")
        await trio.to_thread.run_sync(counted.server.notify_resource_updated, "files://a")
        await client.read_resource("files://a")
    assert counted.runs == ["read", "read"]


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_a_list_is_kept_until_it_changes(protocol):
    counted = Counted()
    server = counted.server
    asked: list[str] = []

    @server.middleware
    async def inside(ctx, call_next):
        asked.append(ctx.method)
        return await call_next(ctx)

    async with open_client(server, protocol=protocol) as client:
        for _ in range(3):
            assert [tool.name for tool in await client.list_tools()] == ["look", "change"]
        assert asked.count("tools/list") == 1
        server.remove_tool("change")
        for _ in range(2):
            assert [tool.name for tool in await client.list_tools()] == ["look"]
        assert asked.count("tools/list") == 2


async def test_a_tool_that_was_replaced_does_not_answer_any_more():
    counted = Counted()
    async with open_client(counted.server) as client:
        await client.call_tool("look")
        counted.server.remove_tool("look")
        with pytest.raises(ProtocolError, match="Unknown tool"):
            await client.call_tool("look")
        counted.server.add_tool(lambda: "other", name="look", annotations=READ_ONLY)
        assert (await client.call_tool("look")).data == "other"


async def test_nobody_gets_what_was_made_for_another_principal_or_for_other_scopes():
    counted = Counted()
    server = counted.server

    @server.tool(annotations=READ_ONLY)
    async def whose(ctx: Context) -> str:
        return "nobody" if ctx.principal is None else f"{ctx.principal.name} {sorted(ctx.principal.scopes)}"

    @server.tool(annotations=READ_ONLY, scopes={"all"})
    async def guarded() -> str:
        return "secret"

    answers = []
    async with open_server(server) as running:
        for principal in (
            Principal("ada", scopes={"all"}),
            Principal("ada", scopes={"some"}),
            Principal("bob", scopes={"all"}),
        ):
            async with open_client(running.authenticated(principal)) as client:
                names = [tool.name for tool in await client.list_tools()]
                answers.append((await client.call_tool("whose")).data)
                assert ("guarded" in names) == ("all" in principal.scopes)
                if "all" in principal.scopes:
                    assert (await client.call_tool("guarded")).data == "secret"
                else:
                    with pytest.raises(ProtocolError):
                        await client.call_tool("guarded")
        async with open_client(running) as client:
            answers.append((await client.call_tool("whose")).data)
    assert answers == ["ada ['all']", "ada ['some']", "bob ['all']", "nobody"]
    assert counted.cache.hits == 0


async def test_what_a_result_depends_on_besides_is_named_by_a_key():
    counted = Counted(key=lambda ctx: ctx.params.meta.get("lang") if ctx.method == "tools/call" else None)

    async def ask(peer: Any, ident: int, lang: str | None) -> None:
        meta = {**MODERN_META, **({} if lang is None else {"lang": lang})}
        params = {"name": "look", "_meta": meta}
        await peer.ask({"jsonrpc": "2.0", "id": ident, "method": "tools/call", "params": params})

    async with open_raw("memory", counted.server) as peer:
        for ident, lang in enumerate(["de", "en", "de", None, None]):
            await ask(peer, ident, lang)
    assert len(counted.runs) == 4  # without a language it is not cached


async def test_requests_for_the_same_wait_for_the_one_that_runs(autojump_clock):
    counted = Counted()
    runs: list[float] = []

    @counted.server.tool(annotations=READ_ONLY)
    async def slow() -> str:
        runs.append(trio.current_time())
        await trio.sleep(5)
        return "slow"

    async with open_client(counted.server) as client, trio.open_nursery() as nursery:
        begun = trio.current_time()
        for _ in range(10):
            nursery.start_soon(client.call_tool, "slow")
    assert len(runs) == 1
    assert counted.cache.hits == 9
    assert trio.current_time() - begun < 6


async def test_if_the_one_that_runs_is_cancelled_another_runs_it(autojump_clock):
    counted = Counted()
    runs: list[int] = []

    @counted.server.tool(annotations=READ_ONLY)
    async def slow() -> str:
        runs.append(1)
        await trio.sleep(5)
        return "slow"

    answers: list[str] = []
    async with open_client(counted.server) as client, trio.open_nursery() as nursery:

        async def impatient() -> None:
            with trio.move_on_after(1):
                await client.call_tool("slow")

        async def patient() -> None:
            answers.append((await client.call_tool("slow")).data)

        nursery.start_soon(impatient)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(3):
            nursery.start_soon(patient)
    assert answers == ["slow"] * 3
    assert len(runs) == 2


async def test_failures_are_not_kept_and_not_shared(autojump_clock):
    counted = Counted()
    runs: list[int] = []

    @counted.server.tool(annotations=READ_ONLY)
    async def fail() -> str:
        runs.append(1)
        await trio.sleep(1)
        raise ToolError("failed")

    async with open_client(counted.server) as client:
        for _ in range(2):
            await client.call_tool("fail", raise_on_error=False)
        assert len(runs) == 2
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(partial(client.call_tool, "fail", raise_on_error=False))
    assert len(runs) == 5
    assert counted.cache.hits == 0


async def test_a_change_that_overtakes_a_result_makes_it_stale(autojump_clock):
    counted = Counted()
    held = ["old"]

    @counted.server.resource("state://now")
    async def state() -> str:
        value = held[0]
        await trio.sleep(5)
        return value

    async with open_client(counted.server) as client, trio.open_nursery() as nursery:
        nursery.start_soon(client.read_resource, "state://now")
        await trio.sleep(1)
        held[0] = "new"
        counted.server.notify_resource_updated("state://now")
        await trio.sleep(10)
        assert (await client.read_resource("state://now")).text == "new"


async def test_a_task_is_not_cached(autojump_clock):
    counted = Counted()
    runs: list[int] = []

    @counted.server.tool(annotations=READ_ONLY, task=TaskConfig(promote_after=1))
    async def work() -> str:
        runs.append(1)
        await trio.sleep(5)
        return "worked"

    async with open_client(counted.server) as client:
        for _ in range(2):
            task = await client.call_tool("work", task=True)
            assert (await task.result()).data == "worked"
    assert len(runs) == 2
    assert counted.cache.hits == 0


async def test_what_goes_on_after_a_question_is_not_cached():
    counted = Counted()
    answers = iter([1, 2])

    @counted.server.tool(annotations=READ_ONLY)
    async def ask(ctx: Context) -> str:
        return str((await ctx.elicit("Which?", int)).data)

    def answer(request: Any) -> Any:
        return {"value": next(answers)}

    async with open_client(counted.server, elicitation_handler=answer) as client:
        assert [(await client.call_tool("ask")).data for _ in range(2)] == ["1", "2"]


async def test_the_bytes_are_bounded_and_what_was_used_longest_ago_gives_way():
    counted = Counted(max_bytes=2500, resources=False)

    @counted.server.tool(annotations=READ_ONLY)
    async def large(letter: str) -> str:
        counted.runs.append(letter)
        return letter * 1000

    @counted.server.tool(annotations=READ_ONLY)
    async def huge() -> str:
        counted.runs.append("huge")
        return "x" * 5000

    async with open_client(counted.server) as client:
        for letter in "abacab":
            await client.call_tool("large", {"letter": letter})
        assert counted.runs == ["a", "b", "c", "b"]
        for _ in range(2):
            await client.call_tool("huge")
    assert counted.runs[-2:] == ["huge", "huge"]
    assert "2 results" in repr(counted.cache)


async def test_what_outer_middleware_does_to_a_result_is_not_kept():
    server = Server("cached")
    server.add_tool(lambda: None, name="one")
    server.add_tool(lambda: None, name="two")
    hidden = ["two", "one", ""]

    @server.middleware
    async def outside(ctx, call_next):
        result = await call_next(ctx)
        if isinstance(result, ListToolsResult):
            name = hidden.pop(0)
            for tool in [tool for tool in result.tools if tool.name == name]:
                result.tools.remove(tool)
        return result

    server.add_middleware(Caching())
    async with open_client(server) as client:
        names = [[tool.name for tool in await client.list_tools()] for _ in range(3)]
    assert names == [["one"], ["two"], ["one", "two"]]


async def test_two_servers_with_one_cache_do_not_share_results():
    cache = Caching()
    answers = []
    for name in ("one", "two"):
        server = Server(name)
        server.add_middleware(cache)
        server.add_tool(lambda name=name: name, name="look", annotations=READ_ONLY)
        async with open_client(server) as client:
            answers.append((await client.call_tool("look")).data)
    assert answers == ["one", "two"]


async def test_it_can_be_cleared():
    counted = Counted()
    async with open_client(counted.server) as client:
        await client.call_tool("look")
        counted.cache.clear()
        await client.call_tool("look")
    assert counted.runs == ["look", "look"]


@pytest.mark.parametrize(
    ("options", "error"),
    [({"ttl": 0}, ValueError), ({"max_bytes": 0}, ValueError), ({"tools": "look"}, TypeError)],
)
def test_wrong_options_are_refused(options, error):
    with pytest.raises(error, match="must be"):
        Caching(**options)
