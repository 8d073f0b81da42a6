"""The HTTP endpoint in both eras: statuses, streams, and every refusal."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.support.asgi_host import MODERN, Host, finish, open_host
from tests.support.limits import HANG_SECONDS
from tests.support.memory import traced_memory
from trio_mcp import Context, HttpSettings, Server, ServerSettings, TaskSettings, asgi_app, open_server
from trio_mcp.wire.codec import encode_messages
from trio_mcp.wire.sse import EventDecoder


def make_server(**settings: Any) -> Server:
    server = Server(
        "http", version="1", settings=ServerSettings(**settings), task_settings=TaskSettings(shutdown_grace=0)
    )
    server.ended = []
    server.release = trio.Event()

    @server.tool
    async def loop(ctx: Context, n: int) -> str:
        for i in range(n):
            await ctx.report_progress(i + 1, n)
        return "done"

    @server.tool
    async def hold(ctx: Context, label: str = "held") -> str:
        await ctx.report_progress(1, 2, "begun")
        try:
            await server.release.wait()
            await ctx.report_progress(2, 2, "released")
        except trio.Cancelled:
            server.ended.append(label)
            raise
        return label

    @server.tool
    async def spin(ctx: Context) -> None:
        try:
            for i in range(10**9):
                await ctx.report_progress(i)
        finally:
            server.ended.append("spin")

    @server.tool
    async def whoami(ctx: Context) -> str:
        return str(ctx.principal)

    @server.tool
    async def recess(ctx: Context) -> str:
        await ctx.report_progress(1, 2)
        await trio.sleep(1)
        await ctx.close_stream(retry=0.5)
        await trio.sleep(10)
        await ctx.report_progress(2, 2)
        return "after the recess"

    @server.tool
    async def ask(ctx: Context) -> str:
        class Form(msgspec.Struct):
            name: str

        return (await ctx.elicit("who?", Form)).data.name

    return server


# The modern protocol


async def test_a_result_without_progress_is_json():
    async with open_host(asgi_app(make_server())) as host:
        answer = await finish(host.call("loop", n=0))
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json["result"]["content"][0]["text"] == "done"
    assert answer.headers["content-length"] == str(len(answer.body))


async def test_progress_makes_an_event_stream():
    async with open_host(asgi_app(make_server())) as host:
        answer = await finish(host.call("loop", token="t", n=3))
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["x-accel-buffering"] == "no"
    *updates, result = answer.messages
    assert [update["params"]["progress"] for update in updates] == [1, 2, 3]
    assert result["id"] == 1


async def test_a_quiet_response_becomes_a_stream_that_is_kept_alive(autojump_clock):
    server = make_server()
    async with open_host(asgi_app(server)) as host:
        answer = host.call("hold")  # without a token nothing is sent
        await trio.sleep(2)
        assert answer.status == 0
        await trio.sleep(2)
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.body == b":\n\n"
        await trio.sleep(16)
        assert answer.body == b":\n\n:\n\n"
        server.release.set()
        await finish(answer)
    assert [message["id"] for message in answer.messages] == [1]


@pytest.mark.parametrize("tool", ["hold", "spin"])
async def test_a_disconnect_cancels_a_modern_call(tool):
    """The handler's scope is cancelled at once, whether it waits or is sending."""
    server = make_server()
    async with open_host(asgi_app(server)) as host:
        answer = host.call(tool, token=1)
        await answer.wait_messages(1)
        answer.disconnect()
        await finish(answer)
        assert len(server.ended) == 1
        assert not any("result" in message for message in answer.messages)


async def test_a_disconnect_ends_no_other_call():
    server = make_server()
    async with open_host(asgi_app(server)) as host:
        gone, kept = host.call("hold", token=1, label="gone"), host.call("hold", token=1, label="kept")
        await gone.wait_messages(1)
        await kept.wait_messages(1)
        gone.disconnect()
        await finish(gone)
        server.release.set()
        await finish(kept)
    assert server.ended == ["gone"]
    assert kept.messages[-1]["result"]["content"][0]["text"] == "kept"


@pytest.mark.parametrize(
    ("method", "headers", "meta", "status", "code"),
    [
        ("tools/list", {"mcp-protocol-version": None}, {}, 400, -32020),
        ("tools/list", {"mcp-method": None}, {}, 400, -32020),
        ("tools/list", {"mcp-method": "Tools/List"}, {}, 400, -32020),
        ("tools/list", {"mcp-protocol-version": "2025-11-25"}, {}, 400, -32020),
        (
            "tools/list",
            {"mcp-protocol-version": "1999-01-01"},
            {"io.modelcontextprotocol/protocolVersion": "1999-01-01"},
            400,
            -32022,
        ),
        ("tools/list", {}, {"io.modelcontextprotocol/clientCapabilities": None}, 400, -32602),
        ("initialize", {}, {}, 404, -32601),
        ("ping", {}, {}, 404, -32601),
        ("logging/setLevel", {}, {}, 404, -32601),
        ("tasks/list", {}, {}, 404, -32601),
        ("no/such", {}, {}, 404, -32601),
    ],
)
async def test_a_bad_modern_request_is_refused(method, headers, meta, status, code):
    async with open_host(asgi_app(make_server())) as host:
        answer = await finish(host.modern(method, headers=headers, meta=meta))
    assert (answer.status, answer.json["error"]["code"], answer.json["id"]) == (status, code, 1)


async def test_a_modern_version_without_meta_is_invalid():
    async with open_host(asgi_app(make_server())) as host:
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        answer = await finish(
            host.post(message, {"mcp-protocol-version": MODERN, "mcp-method": "tools/list"})
        )
    assert (answer.status, answer.json["error"]["code"]) == (400, -32602)


async def test_a_name_in_base64_is_decoded_and_compared():
    async with open_host(asgi_app(make_server())) as host:
        good = await finish(
            host.modern(
                "tools/call",
                {"name": "loop", "arguments": {"n": 0}},
                headers={"mcp-name": "=?base64?bG9vcA==?="},
            )
        )
        bad = await finish(
            host.modern("tools/call", {"name": "loop", "arguments": {"n": 0}}, headers={"mcp-name": "Loop"})
        )
        missing = await finish(
            host.modern("tools/call", {"name": "loop", "arguments": {"n": 0}}, headers={"mcp-name": None})
        )
    assert good.status == 200
    assert (bad.status, bad.json["error"]["code"]) == (400, -32020)
    assert (missing.status, missing.json["error"]["code"]) == (400, -32020)


async def test_a_task_id_is_in_the_name_header():
    meta = {
        "io.modelcontextprotocol/clientCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}}
    }
    async with open_host(asgi_app(make_server())) as host:
        answer = await finish(host.modern("tasks/get", {"taskId": "x"}, meta=meta))
        wrong = await finish(host.modern("tasks/get", {"taskId": "x"}, meta=meta, headers={"mcp-name": "y"}))
    assert answer.json["error"]["message"] == "no such task"
    assert (wrong.status, wrong.json["error"]["code"]) == (400, -32020)


async def test_an_error_of_a_handler_has_status_200():
    async with open_host(asgi_app(make_server())) as host:
        answer = await finish(host.call("nope"))
    assert (answer.status, answer.json["error"]["code"]) == (200, -32602)


async def test_a_missing_capability_is_a_bad_request():
    server = make_server()

    @server.tool(task=True)
    async def asks(ctx: Context) -> None:
        await ctx.sample("?", max_tokens=1)

    async with open_host(asgi_app(server)) as host:
        answer = await finish(host.call("asks"))
    assert (answer.status, answer.json["error"]["code"]) == (400, -32021)
    assert answer.json["error"]["data"] == {"requiredCapabilities": {"sampling": {}}}


async def test_a_modern_notification_is_accepted_and_session_headers_are_ignored():
    async with open_host(asgi_app(make_server())) as host:
        note = {"jsonrpc": "2.0", "method": "notifications/anything"}
        assert (await finish(host.post(note, {"mcp-protocol-version": MODERN}))).status == 202
        answer = await finish(
            host.modern("tools/list", headers={"mcp-session-id": "made-up", "last-event-id": "main-3"})
        )
    assert answer.status == 200
    assert "mcp-session-id" not in answer.headers


async def test_a_subscription_ends_gracefully_with_the_server():
    """It ends with a result alone (MCP subscriptions, "Graceful Closure").

    Clients take a cancellation for a loss, and the schema of 2026-07-28 has it on stdio only.
    """
    async with open_host(asgi_app(make_server())) as host:
        answer = host.modern("subscriptions/listen", {"notifications": {}})
        await answer.wait_messages(1)
    acknowledged, result = answer.messages
    assert acknowledged["method"] == "notifications/subscriptions/acknowledged"
    assert result["id"] == 1
    assert result["result"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == 1
    assert answer.ended.is_set()


async def test_a_call_that_the_server_cannot_finish_gets_503():
    server = make_server()
    async with open_host(asgi_app(server)) as host:
        answer = host.call("hold")
        await wait_all_tasks_blocked()
    assert (answer.status, answer.json["id"]) == (503, 1)
    assert server.ended == ["held"]


# The legacy protocol


async def test_a_session_runs_from_its_handshake_to_its_end():
    async with open_host(asgi_app(make_server())) as host:
        client = await host.initialize()
        assert len(client.session_id) >= 32
        assert client.session_id.isascii()
        answer = await finish(client.call("loop", n=0))
        assert answer.headers["content-type"] == "application/json"
        assert (await client.delete()).status == 204
        for gone in (
            client.call("loop", n=0),
            client.get(),
            host.start("DELETE", {"mcp-session-id": client.session_id}),
        ):
            assert (await finish(gone)).status == 404


async def test_streams_of_2025_11_25_begin_with_an_event_without_data():
    async with open_host(asgi_app(make_server())) as host:
        client = await host.initialize()
        answer = await finish(client.call("loop", token=1, n=2))
        old = await host.initialize("2025-06-18")
        older = await finish(old.call("loop", token=1, n=2))
    first, *_ = answer.body.split(b"\n\n")
    assert first.startswith(b"id: ")
    assert first.endswith(b"\ndata: ")
    assert [message.get("id") for message in answer.messages] == [None, None, 1]
    assert len(answer.event_ids) == len(set(answer.event_ids)) == 4
    assert b"data: \n" not in older.body


async def test_a_disconnect_leaves_a_legacy_call_running_and_it_can_be_resumed():
    server = make_server()
    async with open_host(asgi_app(server)) as host:
        client = await host.initialize()
        answer = client.call("hold", token=1)
        await answer.wait_messages(1)
        last = answer.event_ids[-1]
        answer.disconnect()
        await finish(answer)
        await wait_all_tasks_blocked()
        assert server.ended == []
        server.release.set()
        resumed = await finish(client.get(last))
        assert [message.get("method", "result") for message in resumed.messages] == [
            "notifications/progress",
            "result",
        ]
        # It can also be resumed from its very beginning, and after its end.
        whole = await finish(client.get(last.rpartition("-")[0] + "-0"))
        assert len(whole.messages) == 3
        assert set(whole.event_ids) < {*answer.event_ids, *resumed.event_ids}
        unknown = await finish(client.get("s99-1"))
        assert unknown.status == 405


async def test_a_tool_may_close_its_stream_for_a_while(autojump_clock):
    """It sends `retry` and closes the response; the rest arrives by Last-Event-ID (SEP-1699)."""
    async with open_host(asgi_app(make_server())) as host:
        client = await host.initialize()
        answer = await finish(client.call("recess", token=1))
        assert b"retry: 500\n" in answer.body
        assert len(answer.messages) == 1
        await trio.sleep(0.5)
        resumed = await finish(client.get(answer.event_ids[-1]))
        assert resumed.messages[-1]["result"]["content"][0]["text"] == "after the recess"
        old = await host.initialize("2025-06-18")
        assert (await finish(old.call("recess"))).messages[-1]["id"] == 1


async def test_a_question_is_sent_on_the_stream_of_its_call():
    async with open_host(asgi_app(make_server())) as host:
        client = await host.initialize()
        main = client.get()
        answer = client.call("ask")
        (question,) = await answer.wait_messages(1)
        assert question["method"] == "elicitation/create"
        accepted = client.post(
            {
                "jsonrpc": "2.0",
                "id": question["id"],
                "result": {"action": "accept", "content": {"name": "Ada"}},
            }
        )
        assert (await finish(accepted)).status == 202
        await finish(answer)
        assert answer.messages[-1]["result"]["content"][0]["text"] == "Ada"
        assert main.messages == []


async def test_a_legacy_call_is_cancelled_by_a_notification():
    server = make_server()
    async with open_host(asgi_app(server)) as host:
        client = await host.initialize()
        answer = client.call("hold", ident=7, token=1)
        await answer.wait_messages(1)
        note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
        assert (await finish(client.post(note))).status == 202
        await finish(answer)
        assert len(answer.messages) == 1
    assert server.ended == ["held"]


async def test_the_stream_of_a_cancelled_call_cannot_be_resumed():
    """A client resumes a stream that ended without a response; 404 would end its session."""
    server = make_server()
    async with open_host(asgi_app(server)) as host:
        client = await host.initialize()
        carried, left = (client.call("hold", ident=ident, token=ident) for ident in (7, 8))
        for answer in (carried, left):
            await answer.wait_messages(1)
        left.disconnect()
        await finish(left)
        for ident in (7, 8):
            params = {"requestId": ident}
            note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}
            await finish(client.post(note))
        await finish(carried)
        await wait_all_tasks_blocked()
        for answer in (carried, left):
            assert (await finish(client.get(answer.event_ids[-1]))).status == 405
        assert (await finish(client.post({"jsonrpc": "2.0", "id": 9, "method": "ping"}))).status == 200


async def test_batches_are_accepted_in_2025_03_26_only():
    batch = [
        {"jsonrpc": "2.0", "id": i, "method": "tools/call", "params": {"name": "loop", "arguments": {"n": 0}}}
        for i in (1, 2)
    ]
    async with open_host(asgi_app(make_server())) as host:
        client = await host.initialize("2025-03-26")
        answer = await finish(client.post(batch))
        assert sorted(member["id"] for member in answer.json) == [1, 2]
        note = {"jsonrpc": "2.0", "method": "notifications/x"}
        assert (await finish(client.post([note, note]))).status == 202
        newer = await host.initialize()
        refused = await finish(newer.post(batch))
        assert (refused.status, refused.json["error"]["code"]) == (400, -32600)


async def test_an_unreadable_message_is_answered_as_its_version_requires():
    async with open_host(asgi_app(make_server())) as host:
        before = await finish(host.post(b"{"))
        newer = await finish((await host.initialize()).post(b"{"))
        older = await finish((await host.initialize("2025-06-18")).post(b"{"))
    for answer in (before, newer, older):
        assert (answer.status, answer.json["error"]["code"]) == (400, -32700)
    assert "id" not in before.json
    assert "id" not in newer.json
    assert older.json["id"] is None


async def test_a_session_ends_when_its_client_is_silent(autojump_clock):
    server = make_server()
    settings = HttpSettings(session_timeout=100)
    async with open_host(asgi_app(server, settings=settings)) as host:
        listening, silent = await host.initialize(), await host.initialize()
        listening.get()
        answer = silent.call("hold", token=1)
        await answer.wait_messages(1)
        answer.disconnect()
        await trio.sleep(99)
        assert server.ended == []
        await trio.sleep(2)
        assert server.ended == ["held"]
        assert (await finish(silent.call("loop", n=0))).status == 404
        assert (await finish(listening.call("loop", n=0))).status == 200


async def test_bad_versions_and_missing_sessions_are_refused():
    async with open_host(asgi_app(make_server())) as host:
        client = await host.initialize()
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        bad = await finish(client.post(ping, **{"mcp-protocol-version": "1999-01-01"}))
        assert (bad.status, bad.json["error"]["code"]) == (400, -32022)
        assert (await finish(host.post(ping))).status == 400
        assert (await finish(host.post(ping, {"mcp-session-id": "made-up"}))).status == 404
        asked = {
            "protocolVersion": "1999-01-01",
            "capabilities": {},
            "clientInfo": {"name": "a", "version": "1"},
        }
        answer = await finish(host.post({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": asked}))
        assert answer.json["result"]["protocolVersion"] == "2025-11-25"
        refused = await finish(host.post({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}}))
        assert (refused.status, refused.json["error"]["code"]) == (200, -32602)
        assert "mcp-session-id" not in refused.headers
        await wait_all_tasks_blocked()
        assert len(host._app._endpoint._sessions) == 2


async def test_a_new_get_replaces_an_old_one():
    async with open_host(asgi_app(make_server())) as host:
        client = await host.initialize()
        old = client.get()
        await wait_all_tasks_blocked()
        assert old.status == 200
        new = client.get()
        await finish(old)
        assert not new.ended.is_set()


async def test_a_session_belongs_to_its_principal():
    async with open_host(asgi_app(make_server(), authenticate=lambda scope: scope["user"])) as host:
        host.scope["user"] = "ada"
        client = await host.initialize()
        assert (await finish(client.call("whoami"))).json["result"]["content"][0]["text"] == "ada"
        assert (await finish(host.call("whoami"))).json["result"]["content"][0]["text"] == "ada"
        host.scope["user"] = "eve"
        for refused in (client.call("whoami"), client.get()):
            assert (await finish(refused)).status == 404
        assert (await client.delete()).status == 404


# Refusals in both eras


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "127.0.0.1"}, 200),
        ({"host": "[::1]:8000"}, 200),
        ({"host": "evil.example.com"}, 403),
        ({"host": "localhost.evil.example.com:8000"}, 403),
        ({"host": None}, 403),
        ({"origin": "http://localhost:3000"}, 200),
        ({"origin": "http://evil.example.com"}, 403),
        ({"origin": "null"}, 403),
        ({"accept": "application/json"}, 406),
        ({"accept": "text/event-stream"}, 406),
        ({"accept": "*/*"}, 200),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/json; charset=utf-8"}, 200),
    ],
)
async def test_headers_are_checked_on_loopback(headers, status):
    app = asgi_app(make_server())
    async with open_host(app) as host:
        answer = await finish(host.modern("tools/list", headers=headers))
    assert answer.status == status
    assert sum(app.refusals.values()) == (status != 200)
    if status != 200:
        assert answer.json["error"]["message"]


async def test_beyond_loopback_all_hosts_are_allowed_unless_some_are_named():
    async with open_host(asgi_app(make_server())) as host:
        host.address = ("10.0.0.7", 80)
        assert (await finish(host.modern("tools/list", headers={"host": "mcp.example.com"}))).status == 200
    async with open_host(asgi_app(make_server(), allowed_hosts=["mcp.example.com"])) as host:
        assert (await finish(host.modern("tools/list", headers={"host": "mcp.example.com"}))).status == 200
        assert (await finish(host.modern("tools/list"))).status == 403
        # The list that was not given keeps its default.
        headers = {"host": "mcp.example.com", "origin": "http://evil.example.com"}
        assert (await finish(host.modern("tools/list", headers=headers))).status == 403
    async with open_host(asgi_app(make_server(), allowed_hosts=["*"], allowed_origins=["*"])) as host:
        assert (await finish(host.modern("tools/list", headers=headers))).status == 200
    with pytest.raises(ValueError, match="is none of"):
        asgi_app(make_server(), allowed_hosts=["http://example.com/"])


async def test_cors_headers_are_sent_only_if_asked_for():
    headers = {"origin": "https://app.example.com", "access-control-request-headers": "mcp-method"}
    async with open_host(asgi_app(make_server())) as host:
        assert (await host.request("OPTIONS", {})).status == 405
    async with open_host(asgi_app(make_server(), cors_origins=["https://app.example.com"])) as host:
        preflight = await host.request("OPTIONS", headers)
        assert preflight.status == 204
        assert preflight.headers["access-control-allow-origin"] == "https://app.example.com"
        assert preflight.headers["access-control-allow-headers"] == "mcp-method"
        answer = await finish(host.modern("tools/list", headers={"origin": "https://app.example.com"}))
        assert answer.headers["access-control-expose-headers"] == "mcp-session-id"
        assert (
            await finish(host.modern("tools/list", headers={"origin": "https://other.example.com"}))
        ).status == 403


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "OPTIONS"])
async def test_other_methods_are_refused(method):
    async with open_host(asgi_app(make_server())) as host:
        answer = await host.request(method)
    assert (answer.status, answer.headers["allow"]) == (405, "POST, GET, DELETE")


async def test_other_paths_are_refused_and_mounts_are_served():
    async with open_host(asgi_app(make_server())) as host:
        assert (await host.request("GET", path="/other")).status == 404
        assert (await finish(host.modern("tools/list", path="/mcp/"))).status == 200
        host.scope["root_path"] = "/api"
        assert (await finish(host.modern("tools/list", path="/api/mcp"))).status == 200
        assert (await finish(host.modern("tools/list", path="/api/"))).status == 200


async def test_a_body_that_is_too_long_or_too_slow_is_refused(autojump_clock):
    settings = HttpSettings(max_body_bytes=1000, body_timeout=5)
    headers = {"accept": "*/*", "content-type": "application/json"}
    async with open_host(asgi_app(make_server(), settings=settings)) as host:
        declared = await finish(host.start("POST", {**headers, "content-length": "1001"}, None))
        assert declared.status == 413
        sent = host.start("POST", headers, None)
        for _ in range(2):
            sent.to_app.send_nowait({"type": "http.request", "body": b"x" * 600, "more_body": True})
        assert (await finish(sent)).status == 413
        slow = host.start("POST", headers, None)
        slow.to_app.send_nowait({"type": "http.request", "body": b"{", "more_body": True})
        started = trio.current_time()
        assert (await finish(slow)).status == 408
        assert trio.current_time() - started == 5
        left = host.start("POST", headers, None)
        left.disconnect()
        assert (await finish(left)).status == 0


async def test_streams_and_sessions_over_the_caps_are_refused():
    server = make_server()
    settings = HttpSettings(max_streams_per_peer=2, max_streams=3, max_sessions=2, max_sessions_per_peer=1)
    app = asgi_app(server, settings=settings)
    async with open_host(app) as host:
        held = [host.call("hold", token=1) for _ in range(2)]
        for answer in held:
            await answer.wait_messages(1)
        refused = await finish(host.call("loop", n=0))
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert "max_streams_per_peer is 2" in refused.json["error"]["message"]
        host.peer = "127.0.0.2"
        held.append(host.call("hold", token=1))
        await held[-1].wait_messages(1)
        assert "max_streams is 3" in (await finish(host.call("loop", n=0))).json["error"]["message"]
        server.release.set()
        for answer in held:
            await finish(answer)
        for peer, status in (("a", 200), ("a", 503), ("b", 200), ("c", 503)):
            host.peer = peer
            params = {
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": {"name": "a", "version": "1"},
            }
            answer = await finish(
                host.post({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})
            )
            assert answer.status == status, peer
    assert app.refusals == {"streams": 2, "sessions": 2}
    assert not app._endpoint._load._peers


# Lifespans


async def test_without_a_running_server_the_error_names_open_server():
    app = asgi_app(make_server())
    async with open_host(app, lifespan=False) as host:
        answer = await finish(host.call("loop", n=0))
    assert answer.status == 503
    assert "open_server" in answer.json["error"]["message"]


async def test_a_running_server_needs_no_lifespan_and_can_have_several_paths():
    server = make_server()
    async with open_server(server) as running:
        app, other = asgi_app(running), asgi_app(running, path="/second")
        async with open_host(app, lifespan=False) as host, open_host(other, lifespan=False) as second:
            assert (await finish(host.call("loop", n=0))).status == 200
            assert (await finish(second.modern("tools/list", path="/second"))).status == 200
            client = await host.initialize()
            held = host.call("hold", token=1)
            await held.wait_messages(1)
            running.begin_closing()
            await finish(held)
            assert (await finish(host.call("loop", n=0))).status == 503
            assert (await finish(client.call("loop", n=0))).status == 503
    assert server.ended == ["held"]


@pytest.mark.parametrize("make", [asynccontextmanager, lambda generator: generator])
async def test_the_value_of_the_lifespan_is_in_the_context(make):
    server = make_server()
    order: list[str] = []

    async def database(of: Server) -> Any:  # noqa: ASYNC900  # a lifespan may be a generator
        assert of is server
        order.append("open")
        yield {"rows": 3}
        order.append("closed")

    assert server.lifespan(make(database))

    @server.tool
    async def rows(ctx: Context) -> int:
        return ctx.lifespan["rows"]

    async with open_host(asgi_app(server)) as host:
        answer = await finish(host.call("rows"))
        assert order == ["open"]
    assert answer.json["result"]["structuredContent"] == {"result": 3}
    assert order == ["open", "closed"]


async def test_a_lifespan_that_fails_is_reported_to_the_host(caplog):
    server = make_server()

    @server.lifespan
    @asynccontextmanager
    async def fails(of: Server) -> Any:
        raise OSError("no database")
        yield

    told: list[Any] = []

    async def receive() -> dict[str, str]:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        told.append(message)

    await asgi_app(server)({"type": "lifespan"}, receive, send)
    assert told[0]["type"] == "lifespan.startup.failed"
    assert "no database" in told[0]["message"]


# Memory


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_a_stalled_reader_of_many_reports_needs_little_memory(era):
    """Law 5: 100,000 unread reports need less than 1 MB; the first and the last arrive once they are read."""
    server = make_server()
    reported = trio.Event()

    @server.tool
    async def chatter(ctx: Context) -> str:
        for i in range(100_000):
            await ctx.report_progress(i, 100_000, "x" * 20)
        reported.set()
        await server.release.wait()
        return "done"

    async with open_host(asgi_app(server)) as host:
        client = host if era == "modern" else await host.initialize()
        with traced_memory() as held:
            answer = client.call("chatter", token=1)
            await answer.wait_messages(1)
            answer.reading = trio.Event()
            before = held()
            with trio.fail_after(HANG_SECONDS):
                await reported.wait()
            await wait_all_tasks_blocked()
            assert held() - before < 1_000_000
        server.release.set()
        answer.reading.set()
        await finish(answer)
    frames = EventDecoder(1 << 24).feed(answer.body)
    messages = [msgspec.json.decode(data) for data in encode_messages(frames)]
    progress = [message["params"]["progress"] for message in messages[:-1]]
    assert (progress[0], progress[-1]) == (0, 99_999)
    assert progress == sorted(set(progress))
    assert "result" in messages[-1]


async def test_the_number_of_ended_streams_kept_is_capped():
    server = make_server()
    async with open_host(asgi_app(server, settings=HttpSettings(kept_streams=3))) as host:
        client = await host.initialize()
        for ident in range(1, 20):
            await finish(client.call("loop", ident=ident, token=ident, n=1))
        session = host._app._endpoint._sessions.find(client.session_id, None)
        await wait_all_tasks_blocked()
        assert len(session._streams) <= 1 + 3 + 1


def test_a_host_on_another_event_loop_is_refused():
    async def serve() -> None:
        with pytest.raises(RuntimeError, match="runs on Trio"):
            await asgi_app(make_server())({"type": "lifespan"}, None, None)

    asyncio.run(serve())


async def test_unknown_scopes_and_relative_paths_are_refused() -> None:
    app = asgi_app(make_server())
    with pytest.raises(RuntimeError, match="no ASGI scope of type 'other'"):
        await app({"type": "other"}, None, None)
    with pytest.raises(ValueError, match="must begin with"):
        asgi_app(make_server(), path="mcp")
    assert isinstance(Host, type)
