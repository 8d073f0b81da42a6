"""What background tasks ask their clients, while they run and before they exist."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.conftest import LEGACY, MODERN
from tests.support.raw_peer import MODERN_META, RawPeer
from tests.tasks.task_server import Name, make_server, raw_peer
from trio_mcp import (
    Context,
    ProtocolError,
    TaskConfig,
    TaskHandle,
    open_server,
)


async def test_input_required_and_back(wire):
    server = make_server()
    statuses: list[str] = []

    @server.tool(task=True)
    async def greet(ctx: Context) -> str:
        answer = await ctx.elicit("Who are you?", Name)
        return f"Hello, {answer.data.name}!" if answer.accepted else answer.action

    async with open_server(server) as running:

        async def answer(request: Any) -> Any:
            assert request.message == "Who are you?"
            assert request.schema["properties"] == {"name": {"type": "string"}}
            # Over HTTP the question may come by another stream than the handle, and before it.
            task = await receive.receive()
            statuses.append((await running.fetch_task(task.id)).status.value)
            return answers.pop(0)

        send, receive = trio.open_memory_channel[TaskHandle](2)
        async with wire.open_running(running, elicitation_handler=answer) as client:
            answers: list[Any] = [{"name": "Trio"}, None]
            for expected in ("Hello, Trio!", "decline"):
                task = await client.call_tool("greet", task=True)
                send.send_nowait(task)
                assert (await task.result()).data == expected
    assert statuses == ["input_required", "input_required"]


async def test_sampling(wire):
    server = make_server()

    @server.tool(task=True)
    async def think(ctx: Context) -> str:
        sampled = await ctx.sample("What is the capital of France?", max_tokens=10)
        return f"{sampled.text} ({sampled.model})"

    def answer(request: Any) -> str:
        assert request.max_tokens == 10
        return "Paris"

    async with wire.open(server, sampling_handler=answer) as client:
        task = await client.call_tool("think", task=True)
        assert (await task.result()).data == "Paris (unknown)"


async def test_a_client_that_cannot_be_asked(wire):
    server = make_server()

    @server.tool(task=True)
    async def greet(ctx: Context) -> str:
        return str((await ctx.elicit("Who?", Name)).action)

    async with wire.open(server) as client:
        task = await client.call_tool("greet", task=True)
        with pytest.raises(ProtocolError, match="no elicitation") as refused:
            await task.result()
        assert refused.value.data == {"requiredCapabilities": {"elicitation": {}}}


async def test_two_racing_answers_resume_once():
    """Modern: whoever answers first counts; the other is acknowledged and ignored."""
    server = make_server()
    seen: list[str] = []

    @server.tool(task=True)
    async def greet(ctx: Context) -> str:
        answer = await ctx.elicit("Who?", Name)
        seen.append(answer.data.name)
        return answer.data.name

    async with open_server(server) as running, raw_peer(running) as first, raw_peer(running) as second:
        meta = {
            **MODERN_META,
            "io.modelcontextprotocol/clientCapabilities": {
                "elicitation": {},
                "extensions": {"io.modelcontextprotocol/tasks": {}},
            },
            "io.github.trio-mcp/task": True,
        }
        params = {"name": "greet", "_meta": meta}
        created = await first.ask({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        task_id = created["result"]["taskId"]
        await trio.testing.wait_all_tasks_blocked()
        get = {"jsonrpc": "2.0", "id": 2, "method": "tasks/get", "params": {"taskId": task_id, "_meta": meta}}
        asked = (await first.ask(get))["result"]
        assert asked["status"] == "input_required"
        (key,) = asked["inputRequests"]
        for peer, name in ((first, "one"), (second, "two")):
            responses = {
                key: {"action": "accept", "content": {"name": name}},
                "unknown": {"action": "cancel"},
            }
            update = {"taskId": task_id, "inputResponses": responses, "_meta": meta}
            await peer.send({"jsonrpc": "2.0", "id": 3, "method": "tasks/update", "params": update})
        for peer in (first, second):
            assert (await peer.receive())["result"]["resultType"] == "complete"
        record = await running.await_task(task_id)
        assert record.status == "completed"
    assert seen in (["one"], ["two"])


async def test_two_connections_answer_one_question(wire):
    """2025-11-25: both wait in tasks/result and both are asked; the task resumes once."""
    if wire.protocol != LEGACY:
        return
    server = make_server()
    resumed: list[str] = []
    asked: list[str] = []
    both_asked = trio.Event()

    @server.tool(task=True)
    async def greet(ctx: Context) -> str:
        answer = await ctx.elicit("Who?", Name)
        resumed.append(answer.data.name)
        return answer.data.name

    def handler(name: str) -> Any:
        async def answer(request: Any) -> Any:
            asked.append(name)
            if len(asked) == 2:
                both_asked.set()
            await both_asked.wait()
            return {"name": name}

        return answer

    results: list[str] = []
    async with open_server(server) as running:
        known = running.authenticated("somebody")
        async with (
            wire.open_running(known, elicitation_handler=handler("one")) as first,
            wire.open_running(known, elicitation_handler=handler("two")) as second,
        ):
            task = await first.call_tool("greet", task=True)

            async def wait(client: Any) -> None:
                results.append((await client.await_task(task.id)).data)

            with trio.fail_after(10):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(wait, first)
                    nursery.start_soon(wait, second)
    assert sorted(asked) == ["one", "two"]
    assert resumed in (["one"], ["two"])
    assert results == resumed * 2


@pytest.mark.parametrize("winner", [0, 1])
async def test_a_late_answer_is_dropped(winner):
    """2025-11-25: the answer behind the first changes nothing, and its connection goes on."""
    server = make_server()
    resumed: list[str] = []

    @server.tool(task=True)
    async def greet(ctx: Context) -> str:
        answer = await ctx.elicit("Who?", Name)
        resumed.append(answer.data.name)
        return answer.data.name

    async def wait_for(peer: RawPeer, **wanted: Any) -> Any:
        while True:
            message = await peer.receive()
            if all(message.get(key) == value for key, value in wanted.items()):
                return message

    async with open_server(server) as running:
        known = running.authenticated("somebody")
        async with raw_peer(known) as creator, raw_peer(known) as other:
            peers = (creator, other)
            for peer in peers:
                await peer.initialize(LEGACY, {"elicitation": {}})
            params = {"name": "greet", "task": {}}
            await creator.send({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
            task_id = (await wait_for(creator, id=1))["result"]["task"]["taskId"]
            for peer in peers:
                params = {"taskId": task_id}
                await peer.send({"jsonrpc": "2.0", "id": 2, "method": "tasks/result", "params": params})
            asked = [await wait_for(peer, method="elicitation/create") for peer in peers]
            for index in (winner, 1 - winner):
                content = {"action": "accept", "content": {"name": f"peer {index}"}}
                await peers[index].send({"jsonrpc": "2.0", "id": asked[index]["id"], "result": content})
                await trio.testing.wait_all_tasks_blocked()
            for peer in peers:
                result = (await wait_for(peer, id=2))["result"]
                assert result["content"][0]["text"] == f"peer {winner}"
                await peer.send({"jsonrpc": "2.0", "id": 3, "method": "ping"})
                assert (await wait_for(peer, id=3))["result"] == {}
    assert resumed == [f"peer {winner}"]


async def test_input_is_gathered_before_the_task_exists(wire):
    """Modern: by multi round trip with a sealed state; legacy: the server simply asks."""
    server = make_server()
    rounds: list[int] = []

    async def gather(ctx: Context, arguments: dict[str, Any]) -> list[str]:
        rounds.append(1)
        first = await ctx.elicit(f"First name for {arguments['greeting']}?", Name, key="user_name")
        second = await ctx.elicit("Last name?", Name)
        assert ctx.task_id is None
        return [first.data.name, second.data.name]

    @server.tool(task=TaskConfig(mode="required", gather=gather))
    async def greet(ctx: Context, greeting: str) -> str:
        assert ctx.task_id is not None
        return " ".join([greeting, *ctx.gathered])

    asked: list[str] = []

    def answer(request: Any) -> Any:
        asked.append(request.message)
        return {"name": f"name{len(asked)}"}

    async with wire.open(server, elicitation_handler=answer) as client:
        task = await client.call_tool("greet", {"greeting": "Hello"}, task=True)
        assert task.id is not None
        assert (await task.result()).data == "Hello name1 name2"
    assert asked == ["First name for Hello?", "Last name?"]
    assert len(rounds) == (3 if wire.protocol == MODERN else 1)


async def test_a_state_that_was_altered_is_refused():
    server = make_server()

    async def gather(ctx: Context, arguments: dict[str, Any]) -> str:
        return (await ctx.elicit("Who?", Name, key="who")).data.name

    @server.tool(task=TaskConfig(mode="required", gather=gather))
    async def greet(ctx: Context) -> str:
        return str(ctx.gathered)

    capabilities = {"elicitation": {}, "extensions": {"io.modelcontextprotocol/tasks": {}}}
    meta = {**MODERN_META, "io.modelcontextprotocol/clientCapabilities": capabilities}

    def request(ident: int, **members: Any) -> dict[str, Any]:
        params = {"name": "greet", "_meta": meta, **members}
        return {"jsonrpc": "2.0", "id": ident, "method": "tools/call", "params": params}

    async with open_server(server) as running, raw_peer(running) as peer:
        asked = (await peer.ask(request(1)))["result"]
        assert asked["resultType"] == "input_required"
        assert list(asked["inputRequests"]) == ["who"]
        state = asked["requestState"]
        good = {"who": {"action": "accept", "content": {"name": "x"}}}
        for altered in (state[:-4] + "AAAA", "nonsense!", "", state + "A"):
            answer = await peer.ask(request(2, requestState=altered, inputResponses=good))
            assert answer["error"]["code"] == -32602
        for wrong in ({"other": {"action": "accept"}}, {"who": None}, {"who": "text"}):
            again = (await peer.ask(request(3, requestState=state, inputResponses=wrong)))["result"]
            assert again["resultType"] == "input_required"
        made = (await peer.ask(request(4, requestState=state, inputResponses=good)))["result"]
        assert made["resultType"] == "task"
        assert (await running.await_task(made["taskId"])).status == "completed"


async def test_a_crashing_elicitation_handler_is_an_answer(wire, caplog):
    server = make_server()

    @server.tool(task=True)
    async def greet(ctx: Context) -> str:
        try:
            return (await ctx.elicit("Who?", Name)).action
        except ProtocolError as error:
            return error.message

    def crash(request: Any) -> Any:
        raise RuntimeError("in the handler")

    async with wire.open(server, elicitation_handler=crash) as client:
        task = await client.call_tool("greet", task=True)
        answer = (await task.result()).data
    assert answer == ("cancel" if wire.protocol == MODERN else "elicitation/create failed")
    assert "the handler of elicitation/create failed" in caplog.text


async def test_gathering_also_before_a_direct_answer(wire):
    server = make_server()

    async def gather(ctx: Context, arguments: dict[str, Any]) -> str:
        return (await ctx.elicit("Who?", Name)).data.name

    @server.tool(task=TaskConfig(gather=gather))
    async def greet(ctx: Context) -> str:
        return f"{ctx.gathered} {ctx.task_id is not None}"

    async with wire.open(server, elicitation_handler=lambda request: {"name": "x"}) as client:
        assert (await client.call_tool("greet")).data == "x False"
