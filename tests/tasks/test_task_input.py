"""What background tasks ask their clients, while they run and before they exist."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio

from tests.conftest import LEGACY, MODERN, WIRES
from tests.support.limits import HANG_SECONDS
from tests.support.raw_peer import MODERN_META, RawPeer
from tests.tasks.task_server import Name, make_server, raw_peer
from trio_mcp import (
    Context,
    ProtocolError,
    TaskConfig,
    TaskHandle,
    open_server,
)
from trio_mcp.client.server_requests import MAX_REQUESTS
from trio_mcp.session.connection import ServerConnection


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

            with trio.fail_after(HANG_SECONDS):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(wait, first)
                    nursery.start_soon(wait, second)
    assert sorted(asked) == ["one", "two"]
    assert resumed in (["one"], ["two"])
    assert results == resumed * 2


async def ask_in_task(creator: RawPeer, other: RawPeer) -> tuple[str, list[Any]]:
    """Let a legacy task of `creator` ask both, who wait for its result: its id, and the two questions."""
    peers = (creator, other)
    for peer in peers:
        await peer.initialize(LEGACY, {"elicitation": {}})
    params: dict[str, Any] = {"name": "greet", "task": {}}
    await creator.send({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    task_id = (await creator.receive_matching(id=1))["result"]["task"]["taskId"]
    for peer in peers:
        params = {"taskId": task_id}
        await peer.send({"jsonrpc": "2.0", "id": 2, "method": "tasks/result", "params": params})
    return task_id, [await peer.receive_matching(method="elicitation/create") for peer in peers]


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

    async with open_server(server) as running:
        known = running.authenticated("somebody")
        async with raw_peer(known) as creator, raw_peer(known) as other:
            peers = (creator, other)
            _, asked = await ask_in_task(*peers)
            for index in (winner, 1 - winner):
                content = {"action": "accept", "content": {"name": f"peer {index}"}}
                await peers[index].send({"jsonrpc": "2.0", "id": asked[index]["id"], "result": content})
                await trio.testing.wait_all_tasks_blocked()
            for peer in peers:
                result = (await peer.receive_matching(id=2))["result"]
                assert result["content"][0]["text"] == f"peer {winner}"
                await peer.send({"jsonrpc": "2.0", "id": 3, "method": "ping"})
                assert (await peer.receive_matching(id=3))["result"] == {}
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
            state = again["requestState"]
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


async def test_a_key_names_the_question_of_a_task(wire):
    """`key` is on the wire in a task as it is while gathering; a key that was used gets a number."""
    server = make_server()

    @server.tool(task=True)
    async def greet(ctx: Context) -> str:
        first = await ctx.elicit("First?", Name, key="user_name")
        second = await ctx.elicit("Second?", Name, key="user_name")
        third = await ctx.elicit("Third?", Name)
        return " ".join(answer.data.name for answer in (first, second, third))

    keys: list[str] = []
    async with open_server(server) as running:

        async def answer(request: Any) -> Any:
            task = await receive.receive()
            send.send_nowait(task)
            keys.extend((await running.fetch_task(task.id)).inputs)
            return {"name": request.message[:-1]}

        send, receive = trio.open_memory_channel[TaskHandle](1)
        async with wire.open_running(running, elicitation_handler=answer) as client:
            task = await client.call_tool("greet", task=True)
            send.send_nowait(task)
            assert (await task.result()).data == "First Second Third"
    assert keys == ["user_name", "user_name-2", "input-1"]


async def test_of_two_answers_that_are_read_together_the_first_counts():
    """2025-11-25, twice the same request: the second answer must not replace the first one."""
    server = make_server()

    @server.tool
    async def greet(ctx: Context) -> str:
        return str((await ctx.elicit("Who?", Name)).data.name)

    async with open_server(server) as running, raw_peer(running) as peer:
        await peer.initialize(LEGACY, {"elicitation": {}})
        await peer.send({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "greet"}})
        question = await peer.receive()
        for name in ("one", "two"):
            content = {"action": "accept", "content": {"name": name}}
            await peer.send({"jsonrpc": "2.0", "id": question["id"], "result": content})
        assert (await peer.receive())["result"]["content"][0]["text"] == "one"


@pytest.mark.parametrize("attempt", range(8))
async def test_of_two_clients_the_one_that_is_read_first_answers(attempt):
    """Trio wakes tasks in any order, so the answer is noted when it is read."""
    server = make_server()

    @server.tool(task=True)
    async def greet(ctx: Context) -> str:
        return str((await ctx.elicit("Who?", Name)).data.name)

    async with open_server(server) as running:
        known = running.authenticated("somebody")
        async with raw_peer(known) as first, raw_peer(known) as second:
            task_id, asked = await ask_in_task(first, second)
            read: list[str] = []
            original = ServerConnection.accept_answer

            def accept(connection: ServerConnection, frame: Any) -> bool:
                read.append(msgspec.json.decode(frame.result)["content"]["name"])
                return original(connection, frame)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(ServerConnection, "accept_answer", accept)
                async with trio.open_nursery() as nursery:
                    for peer, question, name in zip((first, second), asked, ("one", "two"), strict=True):
                        content = {"action": "accept", "content": {"name": name}}
                        answer = {"jsonrpc": "2.0", "id": question["id"], "result": content}
                        nursery.start_soon(peer.send, answer)
                record = await running.await_task(task_id)
    assert record.outcome is not None
    assert record.outcome.result is not None
    assert msgspec.json.decode(record.outcome.result)["content"][0]["text"] == read[0]


async def test_an_answer_of_an_earlier_round_is_not_replaced():
    """Gathering in the modern era: of two answers under one key, the first counts."""
    server = make_server()

    async def gather(ctx: Context, arguments: dict[str, Any]) -> str:
        first = await ctx.elicit("First?", Name, key="first")
        second = await ctx.elicit("Second?", Name, key="second")
        return f"{first.data.name} {second.data.name}"

    @server.tool(task=TaskConfig(gather=gather))
    async def greet(ctx: Context) -> str:
        return str(ctx.gathered)

    meta = {**MODERN_META, "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}}

    def answers(**names: str) -> dict[str, Any]:
        return {key: {"action": "accept", "content": {"name": name}} for key, name in names.items()}

    async with open_server(server) as running, raw_peer(running) as peer:

        async def call(ident: int, **members: Any) -> Any:
            params = {"name": "greet", "_meta": meta, **members}
            request = {"jsonrpc": "2.0", "id": ident, "method": "tools/call", "params": params}
            return (await peer.ask(request))["result"]

        state = (await call(1))["requestState"]
        asked = await call(2, requestState=state, inputResponses=answers(first="a"))
        assert list(asked["inputRequests"]) == ["second"]
        done = await call(
            3, requestState=asked["requestState"], inputResponses=answers(first="late", second="b")
        )
        assert done["content"][0]["text"] == "a b"


@pytest.mark.parametrize("wire", [wire for wire in WIRES if wire.protocol == MODERN], ids=str)
async def test_many_questions_of_a_task_are_answered_some_at_a_time(wire):
    server, number = make_server(), MAX_REQUESTS + 6
    open_now, most = 0, 0

    @server.tool(task=True)
    async def ask(ctx: Context) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(number):
                nursery.start_soon(ctx.elicit, "Sure?")

    async def answer(request: Any) -> dict[str, Any]:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        if open_now == MAX_REQUESTS:
            full.set()
        await full.wait()
        open_now -= 1
        return {}

    full = trio.Event()
    async with wire.open(server, elicitation_handler=answer) as client:
        with trio.fail_after(HANG_SECONDS):
            await (await client.call_tool("ask", task=True)).result()
    assert most == MAX_REQUESTS
