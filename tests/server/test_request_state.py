"""The sealed state that a client carries from round to round: what is refused, and who can go on."""

from __future__ import annotations

from functools import partial
from typing import Any

import attrs
import httpx2
import msgspec
import pytest
import trio

from tests.conftest import LEGACY, MODERN, Wire
from tests.support.limits import HANG_SECONDS
from tests.support.raw_peer import MODERN_META, RawPeer, open_raw
from tests.tasks.task_server import raw_peer
from trio_mcp import (
    Context,
    MemoryUsedStates,
    ProtocolError,
    Server,
    ServerSettings,
    open_client,
    open_server,
    serve_http,
)
from trio_mcp.server.state_seal import StateSeal

OLD, NEW = "an old secret of forty characters or so.", b"a new secret of forty characters or so.."


@attrs.frozen
class Name:
    name: str


def make_server(name: str = "states", **settings: Any) -> Server:
    server = Server(name, settings=ServerSettings(**settings))

    @server.tool
    async def greet(ctx: Context, greeting: str = "Hello") -> str:
        first = await ctx.elicit("First name?", Name, key="first")
        last = await ctx.elicit("Last name?", Name, key="last")
        assert first.data is not None
        assert last.data is not None
        return f"{greeting} {first.data.name} {last.data.name}"

    @server.tool
    async def part(ctx: Context, greeting: str = "Hello") -> str:
        return (await ctx.elicit("First name?", Name, key="first")).action

    @server.prompt(name="greet")
    async def greet_prompt(ctx: Context, greeting: str = "Hello") -> str:
        return (await ctx.elicit("First name?", Name, key="first")).action

    return server


META = {**MODERN_META, "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}}


def named(**names: str) -> dict[str, Any]:
    return {key: {"action": "accept", "content": {"name": name}} for key, name in names.items()}


async def send(peer: RawPeer, method: str = "tools/call", name: str = "greet", **members: Any) -> Any:
    """Send a request, and return the answer."""
    params = {"name": name, "arguments": {}, "_meta": META, **members}
    return await peer.ask({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})


async def begin(peer: RawPeer, **members: Any) -> str:
    result = (await send(peer, **members))["result"]
    assert result["resultType"] == "input_required"
    assert list(result["inputRequests"]) == ["first"]
    state = result["requestState"]
    assert isinstance(state, str)
    return state


def refusal(answer: Any) -> str:
    assert answer["error"]["code"] == -32602
    message = answer["error"]["message"]
    assert isinstance(message, str)
    return message


@pytest.mark.parametrize("transport", ["memory", "stdio", "http", "websocket", "websocket-asgi"])
async def test_the_answers_of_all_rounds_travel_in_the_state(transport: str) -> None:
    async with open_raw(transport, make_server()) as peer:
        first = await begin(peer)
        asked = (await send(peer, requestState=first, inputResponses=named(first="Ada")))["result"]
        assert list(asked["inputRequests"]) == ["last"]
        assert asked["requestState"] != first
        answers = named(first="too late", last="Lovelace", unknown="x")
        done = await send(peer, requestState=asked["requestState"], inputResponses=answers)
        assert done["result"]["content"][0]["text"] == "Hello Ada Lovelace"
        assert done["result"]["resultType"] == "complete"


async def test_the_state_shows_nothing_of_what_it_holds() -> None:
    async with open_server(make_server()) as running, raw_peer(running) as peer:
        state = await begin(peer)
        asked = (await send(peer, requestState=state, inputResponses=named(first="Ada")))["result"]
    assert "Ada" not in asked["requestState"]
    sealed = StateSeal()
    assert sealed.open(asked["requestState"]) is None


@pytest.mark.parametrize(
    "alter",
    [
        lambda state: state + "-TAMPERED",
        lambda state: state + "=",
        lambda state: state.rstrip("="),
        lambda state: state[:-8] + "AAAAAAA=",
        lambda state: "A" + state[1:],
        lambda state: state[:40] + ("A" if state[40] != "A" else "B") + state[41:],
        lambda state: state + "\n",
        lambda state: "",
        lambda state: "nonsense!",
        lambda state: "\u00e9" + state,
    ],
)
async def test_a_state_that_was_altered_is_refused(alter: Any) -> None:
    async with open_server(make_server()) as running, raw_peer(running) as peer:
        state = alter(await begin(peer))
        answer = await send(peer, requestState=state, inputResponses=named(first="Ada"))
    assert "was altered" in refusal(answer)


@pytest.mark.parametrize(
    "other",
    [
        {"name": "part"},
        {"method": "prompts/get"},
        {"arguments": {"greeting": "Bye"}},
        {"arguments": {"greeting": "Hello"}},  # the same by its default, but not the same call
    ],
)
async def test_a_state_of_another_call_is_refused(other: dict[str, Any]) -> None:
    async with open_server(make_server()) as running, raw_peer(running) as peer:
        state = await begin(peer)
        answer = await send(peer, **other, requestState=state, inputResponses=named(first="Ada"))
    assert "another call" in refusal(answer)


async def test_the_order_of_arguments_makes_no_other_call() -> None:
    server = make_server()

    @server.tool
    async def pair(ctx: Context, one: int, two: int) -> str:
        return (await ctx.elicit("First name?", Name, key="first")).action

    async with open_server(server) as running, raw_peer(running) as peer:
        state = await begin(peer, name="pair", arguments={"one": 1, "two": 2})
        arguments = {"two": 2, "one": 1}
        answer = await send(
            peer, name="pair", arguments=arguments, requestState=state, inputResponses=named(first="Ada")
        )
    assert answer["result"]["content"][0]["text"] == "accept"


async def test_a_state_of_another_principal_is_refused() -> None:
    async with open_server(make_server()) as running:
        async with raw_peer(running.authenticated("ada")) as peer:
            state = await begin(peer)
        for other in (running.authenticated("bob"), running):
            async with raw_peer(other) as peer:
                answer = await send(peer, requestState=state, inputResponses=named(first="Bob"))
                assert "another client" in refusal(answer)
        async with raw_peer(running.authenticated("ada")) as peer:  # on any connection
            answer = await send(peer, requestState=state, inputResponses=named(first="Ada"))
            assert list(answer["result"]["inputRequests"]) == ["last"]


async def test_a_state_of_another_server_with_the_same_keys_is_refused() -> None:
    async with open_server(make_server("one", state_keys=[OLD])) as one, raw_peer(one) as peer:
        state = await begin(peer)
    async with open_server(make_server("two", state_keys=[OLD])) as two, raw_peer(two) as peer:
        answer = await send(peer, requestState=state, inputResponses=named(first="Ada"))
    assert "another call" in refusal(answer)


async def test_a_state_that_has_expired_is_refused() -> None:
    seal = StateSeal([OLD])
    server = make_server(state_keys=[OLD], state_ttl=60)
    async with open_server(server) as running, raw_peer(running) as peer:
        content = seal.open(await begin(peer))
        assert content is not None
        state = msgspec.json.decode(content)
        state["expires"] -= 60
        late = seal.seal(msgspec.json.encode(state))
        answer = await send(peer, requestState=late, inputResponses=named(first="Ada"))
    assert "has expired" in refusal(answer)


async def test_a_state_is_used_once() -> None:
    async with open_server(make_server()) as running, raw_peer(running) as peer:
        state = await begin(peer)
        members: dict[str, Any] = {"requestState": state, "inputResponses": named(first="Ada")}
        assert "result" in await send(peer, **members)
        assert "was used before" in refusal(await send(peer, **members))


async def test_wrong_keys_are_asked_for_again_and_what_is_no_object_is_no_answer() -> None:
    async with open_server(make_server()) as running, raw_peer(running) as peer:
        state = await begin(peer)
        for wrong in (named(other="x"), {}, {"first": None}, {"first": 12345}, {"first": "text"}):
            state = await begin(peer, requestState=state, inputResponses=wrong)
        assert await begin(peer, inputResponses=named(last="Lovelace"))  # without a state


@pytest.mark.parametrize("responses", [1, "text", ["first"]])
async def test_input_responses_that_are_no_object_are_refused(responses: Any) -> None:
    async with open_server(make_server()) as running, raw_peer(running) as peer:
        answer = await send(peer, inputResponses=responses)
    assert answer["error"]["code"] == -32602


async def test_input_responses_that_are_null_answer_nothing() -> None:
    async with open_server(make_server()) as running, raw_peer(running) as peer:
        assert await begin(peer, inputResponses=None)


async def test_answers_without_a_state_count_too() -> None:
    async with open_server(make_server()) as running, raw_peer(running) as peer:
        answer = await send(peer, inputResponses=named(first="Ada", last="Lovelace", more="x"))
    assert answer["result"]["content"][0]["text"] == "Hello Ada Lovelace"


async def test_answers_that_nobody_has_asked_for_do_not_swell_the_state() -> None:
    seal = StateSeal([OLD])
    async with open_server(make_server(state_keys=[OLD])) as running, raw_peer(running) as peer:
        answers = {**named(first="Ada"), **named(**{f"more{number}": "x" for number in range(1000)})}
        asked = (await send(peer, inputResponses=answers))["result"]
    content = seal.open(asked["requestState"])
    assert content is not None
    assert list(msgspec.json.decode(content)["answers"]) == ["first"]


async def test_a_state_that_becomes_too_large_is_an_error_that_names_the_setting() -> None:
    server = make_server(max_state_bytes=2000)
    async with open_server(server) as running, raw_peer(running) as peer:
        state = await begin(peer)
        answer = await send(peer, requestState=state, inputResponses=named(first="x" * 2000))
        assert answer["error"]["code"] == -32603
        assert "max_state_bytes of this server is 2000" in answer["error"]["message"]
        answer = await send(peer, requestState="A" * 2001, inputResponses=named(first="x"))
        assert "was altered" in refusal(answer)


async def test_keys_are_rotated_without_losing_a_call() -> None:
    async with open_server(make_server(state_keys=[OLD])) as old, raw_peer(old) as peer:
        state = await begin(peer)
    async with open_server(make_server(state_keys=[NEW, OLD])) as both, raw_peer(both) as peer:
        asked = (await send(peer, requestState=state, inputResponses=named(first="Ada")))["result"]
    async with open_server(make_server(state_keys=[NEW])) as new, raw_peer(new) as peer:
        members: dict[str, Any] = {"inputResponses": named(last="Lovelace")}
        done = await send(peer, requestState=asked["requestState"], **members)
        assert done["result"]["content"][0]["text"] == "Hello Ada Lovelace"
        assert "was altered" in refusal(await send(peer, requestState=state, **members))


async def test_without_keys_another_process_cannot_go_on() -> None:
    async with open_server(make_server()) as one, raw_peer(one) as peer:
        state = await begin(peer)
    async with open_server(make_server()) as two, raw_peer(two) as peer:
        answer = await send(peer, requestState=state, inputResponses=named(first="Ada"))
    assert "was not given out by this server" in refusal(answer)


@pytest.mark.parametrize("shared", [True, False])
async def test_replicas_that_share_the_used_states_use_each_once(shared: bool) -> None:
    states = MemoryUsedStates()
    settings: dict[str, Any] = {"state_keys": [OLD], **({"used_states": states} if shared else {})}
    async with (
        open_server(make_server(**settings)) as one,
        open_server(make_server(**settings)) as two,
        raw_peer(one) as peer,
        raw_peer(two) as other,
    ):
        state = await begin(peer)
        members: dict[str, Any] = {"requestState": state, "inputResponses": named(first="Ada")}
        assert "result" in await send(peer, **members)
        again = await send(other, **members)
    assert ("error" in again) is shared


async def test_legacy_requests_have_no_rounds() -> None:
    server = make_server()
    async with open_server(server) as running, raw_peer(running) as peer:
        await peer.initialize(LEGACY, {"elicitation": {}})
        params = {"name": "greet", "requestState": "nonsense", "inputResponses": named(first="x")}
        await peer.send({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        assert (await peer.receive())["method"] == "elicitation/create"


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("a single secret that is long enough, but no list", TypeError),
        ([OLD, "short"], ValueError),
        ([12345], TypeError),
    ],
)
def test_bad_keys_are_refused_when_the_settings_are_made(keys: Any, problem: type[Exception]) -> None:
    with pytest.raises(problem, match="state_keys"):
        ServerSettings(state_keys=keys)


def test_keys_are_not_shown() -> None:
    assert "secret" not in repr(ServerSettings(state_keys=[OLD, NEW]))


async def test_the_memory_of_used_states_is_bounded_and_uses_none_twice() -> None:
    now = 0.0
    states = MemoryUsedStates(limit=2, clock=lambda: now)
    assert await states.use("a", 10)
    assert not await states.use("a", 10)
    assert await states.use("b", 20)
    assert await states.use("c", 30)
    assert len(states) == 2
    assert not await states.use("a", 10)  # forgotten, and still refused
    assert not await states.use("early", 9)
    assert not await states.use("b", 20)
    now = 25.0
    assert await states.use("d", 40)
    assert len(states) == 2


async def test_a_failing_memory_of_used_states_fails_the_call() -> None:
    class Broken:
        async def use(self, state_id: str, expires: float) -> bool:
            await trio.lowlevel.checkpoint()
            raise ConnectionError("the store is away")

    async with open_client(
        make_server(used_states=Broken()),
        protocol=MODERN,
        elicitation_handler=lambda request: {"name": "Ada"},
    ) as client:
        result = await client.call_tool("greet", raise_on_error=False)
        assert result.is_error
        with pytest.raises(ProtocolError):
            await client.get_prompt("greet")


async def test_missing_capabilities_are_told_with_status_400_over_http(wire: Wire) -> None:
    if wire.transport != "http" or wire.protocol != MODERN:
        pytest.skip("the status of HTTP")
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(partial(serve_http, make_server(), bind="127.0.0.1:0"))
        params = {"name": "greet", "arguments": {}, "_meta": MODERN_META}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        headers = {
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": MODERN,
            "mcp-method": "tools/call",
            "mcp-name": "greet",
        }
        async with httpx2.AsyncClient(timeout=HANG_SECONDS) as http:
            answer = await http.post(url, json=body, headers=headers)
        nursery.cancel_scope.cancel()
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == -32021
