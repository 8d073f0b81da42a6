"""The HTTP endpoint with hostile clients, hosts and timing."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.support.asgi_host import META, MODERN, Host, LegacyClient, finish, open_host
from tests.support.limits import HANG_SECONDS
from tests.transports.asgi.test_asgi import make_server
from trio_mcp import Context, HttpSettings, TaskConfig, asgi_app, open_server

WEBSOCKET = {
    "type": "websocket",
    "path": "/mcp",
    "headers": [(b"host", b"localhost")],
    "server": ("127.0.0.1", 8000),
}


def find_session(host: Host, client: LegacyClient) -> Any:
    return host._app._endpoint._sessions.find(client.session_id, None)


async def test_a_stream_whose_response_was_cancelled_is_no_longer_carried():
    """Otherwise its writer would wait for room forever, and it would never be discarded."""
    async with open_host(asgi_app(make_server())) as host:
        client = await host.initialize()
        answer = client.get()
        await answer.wait_body(b":\n\n")
        session = find_session(host, client)
        assert session._main.is_carried
        answer.scope.cancel()
        await finish(answer)
        assert not session._main.is_carried
        assert not session._home.is_heard


@pytest.mark.parametrize("method", ["tools/call", "initialize"])
async def test_a_body_that_arrives_after_the_shutdown_is_refused(method):
    """A server that has ended starts no work, because nothing would end that work."""
    params = {
        "tools/call": {"name": "hold", "_meta": META},
        "initialize": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "late", "version": "1"},
        },
    }[method]
    headers = {"accept": "*/*", "content-type": "application/json"}
    if method == "tools/call":
        headers |= {"mcp-protocol-version": MODERN, "mcp-method": method, "mcp-name": "hold"}
    async with open_server(make_server()) as running:
        app = asgi_app(running)
        async with open_host(app, lifespan=False) as host:
            answer = host.start("POST", headers, None)
            await wait_all_tasks_blocked()
            app.shut_down()
            message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            answer.to_app.send_nowait({"type": "http.request", "body": msgspec.json.encode(message)})
            with trio.fail_after(HANG_SECONDS):
                await answer.ended.wait()
            assert answer.status == 503


async def test_a_websocket_accepted_during_the_shutdown_ends():
    connecting, disconnected = trio.Event(), trio.Event()
    sent: list[str] = []

    async def receive() -> dict[str, Any]:
        if not connecting.is_set():
            await connecting.wait()
            return {"type": "websocket.connect"}
        await disconnected.wait()
        return {"type": "websocket.disconnect", "code": 1000}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    async with open_server(make_server()) as running, trio.open_nursery() as nursery:
        app = asgi_app(running)
        nursery.start_soon(app, WEBSOCKET, receive, send)
        await wait_all_tasks_blocked()
        app.shut_down()
        connecting.set()
        await wait_all_tasks_blocked()
        assert not nursery.child_tasks
        disconnected.set()


async def test_a_session_that_is_ending_is_not_found():
    """Its requests get 404 (MCP transports 2025-11-25), even while a handler still cleans up."""
    server = make_server()
    cleaned = trio.Event()

    @server.tool
    async def linger(ctx: Context) -> None:
        await ctx.report_progress(1)
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await cleaned.wait()

    async with open_host(asgi_app(server)) as host:
        client = await host.initialize()
        lingering = client.call("linger", token=1)
        await lingering.wait_messages(1)
        assert (await client.delete()).status == 204
        await wait_all_tasks_blocked()
        late = await finish(client.call("loop", ident=2, n=0))
        cleaned.set()
    assert late.status == 404


async def test_a_batch_of_notifications_is_refused_if_its_version_has_no_batches():
    """The refusal is its own response: on an unread main stream refusals would pile up (law 5)."""
    async with open_host(asgi_app(make_server())) as host:
        client = await host.initialize()
        answer = await finish(client.post([{"jsonrpc": "2.0", "method": "notifications/x"}]))
        assert (answer.status, answer.json["error"]["code"]) == (400, -32600)
        old = await host.initialize("2025-03-26")
        assert (await finish(old.post([{"jsonrpc": "2.0", "method": "notifications/x"}]))).status == 202


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_a_host_may_raise_oserror_if_the_client_is_gone(era):
    """Nothing crashes, and a legacy call can be resumed (ASGI 3, "Disconnected client - send exception")."""
    server = make_server()
    async with open_host(asgi_app(server)) as host:
        client = host if era == "modern" else await host.initialize()
        answer = client.call("hold", token=1)
        await answer.wait_messages(1)
        answer.broken = OSError("the client is gone")
        server.release.set()
        await wait_all_tasks_blocked()
        answer.disconnect()
        await finish(answer)
        if era == "legacy":
            resumed = await finish(client.get(answer.event_ids[-1]))
            assert resumed.messages[-1]["result"]["content"][0]["text"] == "held"


async def test_a_future_event_id_stalls_nothing():
    async with open_host(asgi_app(make_server(), settings=HttpSettings(stream_buffer=1000))) as host:
        client = await host.initialize()
        answer = client.call("loop", token=1, n=300)
        await answer.wait_messages(1)
        answer.disconnect()
        await finish(answer)
        await wait_all_tasks_blocked()  # the writer waits for room
        name = answer.event_ids[0].partition("-")[0]
        resumed = client.get(f"{name}-{10**17}")
        with trio.fail_after(HANG_SECONDS):
            await resumed.ended.wait()
        assert resumed.messages == []  # its event id says that it has all messages


async def test_a_session_that_did_not_open_ends_if_its_response_is_cancelled():
    async with open_host(asgi_app(make_server())) as host:
        answer = host.start("POST", {"accept": "*/*", "content-type": "application/json"}, None)
        answer.reading = trio.Event()
        refused = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}}
        answer.to_app.send_nowait({"type": "http.request", "body": msgspec.json.encode(refused)})
        await wait_all_tasks_blocked()
        answer.scope.cancel()
        await wait_all_tasks_blocked()
        assert len(host._app._endpoint._sessions) == 0


async def test_a_websocket_client_may_leave_before_it_is_accepted():
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.disconnect", "code": 1006}

    async def send(message: Any) -> None:
        sent.append(message)

    async with open_server(make_server()) as running:
        await asgi_app(running)(WEBSOCKET, receive, send)
    assert sent == []


async def test_cors_for_all_allows_every_origin_but_no_other_host():
    origin = {"origin": "https://app.example.com"}
    async with open_host(asgi_app(make_server(), cors_origins=["*"])) as host:
        assert (await finish(host.modern("tools/list", headers=origin))).status == 200
        rebound = {**origin, "host": "evil.example.com"}
        assert (await finish(host.modern("tools/list", headers=rebound))).status == 403


async def test_close_stream_closes_only_the_response_open_at_its_call():
    """If the client disconnects by itself meanwhile, the response that resumes the stream is not closed."""
    server = make_server()
    reported, paused = trio.Event(), trio.Event()

    @server.tool
    async def rest(ctx: Context) -> None:
        await ctx.report_progress(1)
        await server.release.wait()
        await ctx.report_progress(2)
        await reported.wait()
        await ctx.close_stream()
        paused.set()
        await trio.sleep_forever()

    async with open_host(asgi_app(server)) as host:
        client = await host.initialize()
        answer = client.call("rest", token=1)
        await answer.wait_messages(1)
        answer.reading = trio.Event()
        server.release.set()
        await wait_all_tasks_blocked()  # the second report is being written
        reported.set()
        await paused.wait()
        answer.disconnect()
        await wait_all_tasks_blocked()
        resumed = client.get(answer.event_ids[-1])
        await resumed.wait_messages(1)
        await wait_all_tasks_blocked()
        assert not resumed.ended.is_set()


async def test_a_client_that_does_not_read_may_leave_during_a_keep_alive(autojump_clock):
    """The disconnect is noticed at once, not after the comment has been written, which may be never."""
    server = make_server()
    async with open_host(asgi_app(server)) as host:
        answer = host.call("hold", token=1)
        await answer.wait_messages(1)
        answer.reading = trio.Event()
        await trio.sleep(60)
        answer.disconnect()
        await trio.sleep(1)
        assert server.ended == ["held"]
        answer.reading.set()


async def test_a_task_is_queued_once_however_often_its_result_is_requested():
    """Law 5: nothing piles up for a main stream that nobody reads; all progress arrives in order."""
    server = make_server()
    turns = trio.open_memory_channel[int](100)

    @server.tool(task=TaskConfig(mode="optional"))
    async def job(ctx: Context) -> str:
        async for turn in turns[1]:
            await ctx.report_progress(turn)
        return "done"

    async with open_host(asgi_app(server, settings=HttpSettings(stream_buffer=500))) as host:
        client = await host.initialize()
        main = client.get()
        await main.wait_body(b":\n\n")
        main.reading = trio.Event()
        params = {"name": "job", "arguments": {}, "task": {}, "_meta": {"progressToken": 1}}
        made = await finish(
            client.post({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        )
        named = {"taskId": made.json["result"]["task"]["taskId"]}
        waits = []
        for turn in range(1, 61):
            if turn > 30:  # the main stream is full by now
                ident = 1000 + turn
                wait = {"jsonrpc": "2.0", "id": ident, "method": "tasks/result", "params": named}
                waits.append(client.post(wait))
                await wait_all_tasks_blocked()
                cancel = {"method": "notifications/cancelled", "params": {"requestId": ident}}
                await finish(client.post({"jsonrpc": "2.0", **cancel}))
            turns[0].send_nowait(turn)
            await wait_all_tasks_blocked()
        assert find_session(host, client)._home.outbox.queued <= 2
        main.reading.set()
        turns[0].close()
        await wait_all_tasks_blocked()
        sent = [message for answer in (main, *waits) for message in answer.messages]
        params = [message["params"] for message in sent]
        progress = [each["progress"] for each in params if "progress" in each]
        assert sorted(progress) == list(range(1, 61))
        assert main.messages[-1]["params"]["status"] == "completed"


async def test_a_malformed_request_without_a_session_is_answered_with_its_id():
    """Law 12: an error has no id only if the id cannot be read."""
    async with open_host(asgi_app(make_server())) as host:
        malformed = await finish(host.post({"jsonrpc": "2.0", "id": 7, "method": "ping", "params": [1]}))
        assert (malformed.status, malformed.json["id"]) == (400, 7)
        unreadable = await finish(host.post(b"{"))
        assert (unreadable.status, "id" in unreadable.json) == (400, False)


async def test_a_task_sends_its_progress_on_a_stream_that_is_read():
    """Law 4: a client that stops waiting for the result gets the progress on its main stream."""
    server = make_server()
    send, receive = trio.open_memory_channel[int](100)

    @server.tool(task=True)
    async def job(ctx: Context) -> str:
        async for turn in receive:
            await ctx.report_progress(turn)
        return "done"

    async with open_host(asgi_app(server)) as host:
        client = await host.initialize()
        main = client.get()
        await main.wait_body(b":\n\n")
        params = {"name": "job", "arguments": {}, "task": {}, "_meta": {"progressToken": 1}}
        made = await finish(
            client.post({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        )
        named = {"taskId": made.json["result"]["task"]["taskId"]}
        left = client.post({"jsonrpc": "2.0", "id": 2, "method": "tasks/result", "params": named})
        await wait_all_tasks_blocked()
        left.disconnect()
        await finish(left)
        for turn in (1, 2, 3):
            send.send_nowait(turn)
            await main.wait_body(b'"progress":%d' % turn)
        result = client.post({"jsonrpc": "2.0", "id": 3, "method": "tasks/result", "params": named})
        await wait_all_tasks_blocked()
        send.send_nowait(4)
        send.close()
        await finish(result)
        by_main = [message["params"].get("progress") for message in main.messages]
        by_result = [message["params"].get("progress") for message in result.messages[:-1]]
    assert [progress for progress in by_main if progress] == [1, 2, 3]
    assert [progress for progress in by_result if progress] == [4]


async def test_a_version_in_meta_is_found_although_its_key_has_escapes():
    """A modern request is compared with its headers even if JSON escapes hide the key."""
    body = (
        b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":'
        b'{"io.modelcontextprotocol\\/protocolVersion":"2026-07-28",'
        b'"io.modelcontextprotocol/clientCapabilities":{}}}}'
    )
    async with open_host(asgi_app(make_server())) as host:
        client = await host.initialize()
        answer = await finish(client.post(body))
    assert (answer.status, answer.json["error"]["code"]) == (400, -32020)


async def test_a_request_with_several_origins_is_refused_whichever_of_them_is_allowed():
    headers = [(b"host", b"localhost"), (b"origin", b"http://localhost"), (b"origin", b"http://evil.example")]
    async with open_host(asgi_app(make_server())) as host:
        for order in (headers, headers[::-1]):
            host.scope = {"headers": order}
            assert (await host.request("POST")).status == 403


async def test_an_array_outside_of_a_session_is_refused_before_it_is_decoded(monkeypatch):
    def decode(body: Any) -> Any:
        raise AssertionError("it was decoded")

    async with open_host(asgi_app(make_server())) as host:
        monkeypatch.setattr("trio_mcp.transports.asgi.body.Body.decode", decode)
        answer = await finish(host.post(b" [" + b"1," * 1000 + b"1]"))
    assert (answer.status, answer.json["error"]["code"]) == (400, -32600)


async def send_pieces(host: Any, piece: bytes, count: int) -> Any:
    """POST a body of so many pieces, which are there at once; return the response."""
    headers = {"accept": "*/*", "content-type": "application/json"}
    answer = host.start("POST", headers, None)

    async def send() -> None:
        for _ in range(count):
            await answer.to_app.send({"type": "http.request", "body": piece, "more_body": True})
        await answer.to_app.send({"type": "http.request", "body": b"", "more_body": False})

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await finish(answer)
        nursery.cancel_scope.cancel()
    return answer


@pytest.mark.parametrize("piece", [b"", b" ", b"1"])
async def test_a_body_in_pieces_that_carry_nothing_is_refused(piece):
    async with open_host(asgi_app(make_server())) as host:
        answer = await send_pieces(host, piece, 10_000)
        assert (answer.status, answer.json["error"]["code"]) == (400, -32700)
        assert answer.json["error"]["message"] == "the body comes in pieces that carry nothing"


async def test_a_body_in_many_pieces_of_some_length_is_read():
    async with open_host(asgi_app(make_server())) as host:
        answer = await send_pieces(host, b" " * 20, 10_000)
        assert "not valid JSON" in answer.json["error"]["message"]
