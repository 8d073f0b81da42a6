"""Answers that cannot be matched or read: whose call they end, and where a fault is told that ends none."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from tests.client.test_client import DISCOVERED, FakeServer, result
from tests.support.limits import HANG_SECONDS
from trio_mcp import CallTimeout, MCPError, ProtocolError, RemoteProtocolError, open_client


def server_that_answers(*answers: bytes) -> FakeServer:
    """Make a server whose answers to tools/call are these, with %d for the id."""

    def call(request: Any) -> list[bytes]:
        return [answer.replace(b"%d", str(request.id).encode()) for answer in answers]

    return FakeServer({"server/discover": result(DISCOVERED), "tools/call": call})


@pytest.mark.parametrize("ident", [b'"%d"', b"%d.0", b"%d.00"])
async def test_an_answer_whose_id_differs_in_its_json_type_is_matched(ident):
    server = server_that_answers(b'{"jsonrpc":"2.0","id":' + ident + b',"result":{"content":[]}}')
    with trio.fail_after(HANG_SECONDS):
        async with open_client(server) as client:
            assert (await client.call_tool("any")).content == []


async def test_progress_whose_token_came_back_as_text_is_delivered():
    server = server_that_answers(
        b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"%d","progress":1}}',
        b'{"jsonrpc":"2.0","id":%d,"result":{"content":[]}}',
    )
    seen: list[float] = []
    async with open_client(server) as client:
        await client.call_tool("any", progress_handler=lambda p, t, m: seen.append(p))
    assert seen == [1]


@pytest.mark.parametrize("ident", [b'"other"', b"4711", b'"01"'])
async def test_an_answer_with_an_id_that_was_never_given_fails_the_only_call(ident):
    server = server_that_answers(b'{"jsonrpc":"2.0","id":' + ident + b',"result":{"content":[]}}')
    with trio.fail_after(HANG_SECONDS):
        async with open_client(server) as client:
            with pytest.raises(RemoteProtocolError, match=ident.decode().strip('"')):
                await client.call_tool("any")


@pytest.mark.parametrize("ident", [b"", b',"id":null'])
async def test_an_error_without_an_id_is_that_of_the_only_call(ident):
    server = server_that_answers(b'{"jsonrpc":"2.0","error":{"code":-32700,"message":"what?"}' + ident + b"}")
    with trio.fail_after(HANG_SECONDS):
        async with open_client(server) as client:
            with pytest.raises(ProtocolError, match="what"):
                await client.call_tool("any")


async def test_an_error_without_an_id_is_told_if_it_may_be_that_of_several_calls(autojump_clock):
    asked: list[Any] = []

    def call(request: Any) -> Any:
        asked.append(request)
        if len(asked) < 2:
            return None
        null = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"what?"}}'
        return [null, result({"content": []})(asked[0])]

    server = FakeServer({"server/discover": result(DISCOVERED), "tools/call": call})
    faults: list[MCPError] = []
    logged: list[Any] = []
    async with (
        open_client(server, on_error=faults.append, log_handler=logged.append) as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(client.call_tool, "any")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(CallTimeout):
            await client.call_tool("any", max_timeout=3)
    (fault,) = faults
    assert isinstance(fault, ProtocolError)
    assert fault.code == -32700
    assert [message.data for message in logged] == ["what?"]


UNREADABLE = {
    "NaN": (b'"result":{"x":NaN}', r"byte \d+"),
    "infinity": (b'"result":{"x":-Infinity}', r"byte \d+"),
    "a lone surrogate": (b'"result":{"x":"\\ud83d"}', r"lone surrogate \(byte \d+\)"),
    "no UTF-8": (b'"result":{"x":"\xff"}', r"position \d+"),
    "trailing garbage": (b'"result":{}} x', r"byte \d+"),
    "cut off": (b'"result":{"x":[1', r"byte \d+"),
    "too deep": (b'"result":' + b"[" * 5000, "."),
    "result and error": (b'"result":{},"error":{"code":1,"message":"x"}', "not both"),
}


@pytest.mark.parametrize("front", [True, False])
@pytest.mark.parametrize("flaw", UNREADABLE)
async def test_an_answer_that_cannot_be_decoded_ends_its_call_and_names_the_place(flaw, front):
    member, words = UNREADABLE[flaw]
    if front:
        answer = b'{"jsonrpc":"2.0","id":%d,' + member + b"}"
    elif flaw in ("trailing garbage", "cut off", "too deep"):
        pytest.skip("nothing stands behind the flaw")
    else:
        answer = b'{"jsonrpc":"2.0",' + member + b',"id":%d}'
    with trio.fail_after(HANG_SECONDS):
        async with open_client(server_that_answers(answer)) as client:
            with pytest.raises(RemoteProtocolError, match=words):
                await client.call_tool("any")
            await client.ping()


async def test_an_unreadable_message_without_an_id_is_told_and_ends_no_call():
    faults: list[MCPError] = []
    server = server_that_answers(
        b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%d,"progress":NaN}}',
        b'{"jsonrpc":"2.0","method":"x","params":{"id":%d,"a":NaN}}',
        b"hello, I have started",
        b'{"jsonrpc":"2.0","id":%d,"result":{"content":[]}}',
    )
    async with open_client(server, on_error=faults.append) as client:
        await client.call_tool("any")
    assert [type(fault) for fault in faults] == [RemoteProtocolError] * 3


async def test_an_unreadable_request_of_a_server_ends_no_call_of_the_same_id_and_is_answered():
    server = server_that_answers(
        b'{"jsonrpc":"2.0","id":%d,"method":"ping","params":{"a":NaN}}',
        b'{"jsonrpc":"2.0","id":%d,"result":{"content":[]}}',
    )
    async with open_client(server) as client:
        await client.call_tool("any")
        await client.ping()
    assert "an answer" in server.asked


async def test_what_an_error_hook_raises_is_logged_and_ends_nothing(caplog):
    def fail(fault: MCPError) -> None:
        raise ValueError("the hook is broken")

    server = server_that_answers(b"no JSON", b'{"jsonrpc":"2.0","id":%d,"result":{"content":[]}}')
    async with open_client(server, on_error=fail) as client:
        await client.call_tool("any")
    assert "an on_error handler failed" in caplog.text


@pytest.mark.parametrize("number", [b"1" + b"0" * 400, b"-1" + b"0" * 400])
async def test_progress_that_no_float_holds_is_left_out(number):
    def progress(value: bytes) -> bytes:
        return (
            b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%d,"progress":'
            + value
            + b"}}"
        )

    faults: list[MCPError] = []
    seen: list[float] = []
    server = server_that_answers(
        progress(b"1"),
        progress(number),
        progress(b'2,"total":' + number),
        progress(b"1" + b"0" * 30),
        b'{"jsonrpc":"2.0","id":%d,"result":{"content":[]}}',
    )
    async with open_client(server, on_error=faults.append) as client:
        await client.call_tool("any", progress_handler=lambda p, t, m: seen.extend([p, t]))
    assert seen == [1, None, 2, None, 10**30, None]
    (fault,) = faults
    assert "progress that cannot be read" in str(fault)
