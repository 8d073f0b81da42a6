"""What a protected endpoint answers to requests with and without a token (MCP authorization; RFC 6750)."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import trio

from tests.authorization.tokens import OUTAGE, Tokens, bearing, make_principal
from tests.conftest import LEGACY, MODERN
from tests.support.asgi_host import Exchange, Host, finish, open_host
from tests.support.limits import HANG_SECONDS
from trio_mcp import (
    Bearer,
    Context,
    InvalidToken,
    MCPError,
    Principal,
    Server,
    asgi_app,
    open_client,
    serve_http,
)
from trio_mcp.transports.asgi.guard import GuardedRequest
from trio_mcp.wire.authorization import Challenge, find_challenge

METADATA = "http://localhost:8000/.well-known/oauth-protected-resource/mcp"

server = Server("protected", version="1")


@server.tool
async def whoami(ctx: Context) -> list[Any]:
    assert "authorization" not in ctx.headers
    who = ctx.principal
    return [None, None] if who is None else [who.subject, dict(who.claims)]


@server.tool(scopes=["write", "files"])
async def write() -> str:
    return "written"


def make_tokens() -> Tokens:
    return Tokens(
        {
            "good": make_principal(),
            "poor": make_principal("bob", ["other"]),
            "admin": make_principal("eve", ["admin"]),
            "unlimited": make_principal("zoe", None),
            "old": make_principal(left=-20),
            "stale": make_principal(left=-31),
        }
    )


def read_challenge(answer: Exchange) -> Challenge:
    found = find_challenge(answer.headers["www-authenticate"])
    assert found is not None
    return found


async def ask(host: Host, **headers: Any) -> Exchange:
    return await finish(host.modern("tools/list", headers=headers))


async def test_a_request_without_a_token_is_asked_for_one_before_its_body_is_read():
    async with open_host(asgi_app(server, auth=Bearer(make_tokens(), scopes=["read", "list"]))) as host:
        answer = await finish(host.start("POST", {"content-type": "application/json"}, None))
    assert answer.status == 401
    assert dict(read_challenge(answer).parameters) == {"scope": "read list", "resource_metadata": METADATA}
    assert answer.json["error"]["message"] == "an access token is needed"


async def test_a_valid_token_lets_a_request_in_as_its_principal():
    tokens = make_tokens()
    async with open_host(asgi_app(server, auth=Bearer(tokens))) as host:
        answer = await finish(
            host.modern("tools/call", {"name": "whoami"}, headers={"authorization": "bEARER  good"})
        )
    assert answer.json["result"]["structuredContent"]["result"] == ["ann", {"tenant": "blue"}]
    assert tokens.asked == ["good"]


@pytest.mark.parametrize(
    ("token", "reason"),
    [("unknown", "nobody has issued this token"), ("stale", "the access token has expired")],
)
async def test_a_token_that_is_not_valid_is_called_so_and_not_repeated(token, reason, caplog):
    async with open_host(asgi_app(server, auth=Bearer(make_tokens(), realm='the "realm"'))) as host:
        with caplog.at_level("DEBUG"):
            answer = await ask(host, **bearing(token))
    assert answer.status == 401
    assert dict(read_challenge(answer).parameters) == {
        "realm": 'the "realm"',
        "error": "invalid_token",
        "error_description": reason,
        "resource_metadata": METADATA,
    }
    assert token not in str(answer.headers) + str(answer.body) + caplog.text


async def test_a_token_is_accepted_for_a_while_after_its_end_because_clocks_differ():
    async with open_host(asgi_app(server, auth=Bearer(make_tokens()))) as host:
        assert (await ask(host, **bearing("old"))).status == 200
    async with open_host(asgi_app(server, auth=Bearer(make_tokens(), leeway=0))) as host:
        assert (await ask(host, **bearing("old"))).status == 401


async def test_an_outage_does_not_fill_the_log(caplog, autojump_clock):
    """It is told once a minute, whether many requests come or few."""
    async with open_host(asgi_app(server, auth=Bearer(make_tokens()))) as host:
        for _ in range(10):
            for _ in range(20):
                assert (await ask(host, **bearing(OUTAGE))).status == 503
            await trio.sleep(30)
    assert [record.message for record in caplog.records] == [
        "access tokens cannot be verified: the issuer is away"
    ] * 5


async def test_an_outage_of_the_verifier_is_not_an_invalid_token(caplog):
    app = asgi_app(server, auth=Bearer(make_tokens()))
    async with open_host(app) as host:
        for _ in range(3):
            answer = await ask(host, **bearing(OUTAGE))
            assert (answer.status, answer.headers["retry-after"]) == (503, "7")
            assert "www-authenticate" not in answer.headers
            assert answer.json["error"]["code"] == -32603
    assert app.refusals == {"verifier": 3}
    assert [record.message for record in caplog.records] == [
        "access tokens cannot be verified: the issuer is away"
    ]


@pytest.mark.parametrize(
    "headers",
    [
        [b"Bearer"],
        [b"Bearer "],
        [b"Bearer good token"],
        [b"Bearer good,"],
        [b"Bearer g\xf6\xf6d"],
        [b"Bearer good", b"Bearer good"],
        [b"Bearer good", b"Basic eDp5"],
        [b""],
        [b"@@@ good"],
    ],
)
async def test_a_malformed_authorization_header_is_a_bad_request(headers):
    tokens = make_tokens()
    async with open_host(asgi_app(server, auth=Bearer(tokens))) as host:
        raw = [(b"host", b"localhost:8000"), *((b"authorization", value) for value in headers)]
        host.scope["headers"] = raw
        answer = await host.request("POST")
    assert answer.status == 400
    assert read_challenge(answer).parameters["error"] == "invalid_request"
    assert tokens.asked == []


async def test_another_scheme_is_no_token():
    async with open_host(asgi_app(server, auth=Bearer(make_tokens()))) as host:
        answer = await ask(host, authorization="Basic Z29vZDpnb29k")
    assert answer.status == 401
    assert "error" not in read_challenge(answer).parameters


@pytest.mark.parametrize("query", ["x=1&access_token=good", "access%5ftoken=", "access_token"])
@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer good"}])
async def test_a_token_in_the_url_is_refused(headers, query):
    async with open_host(asgi_app(server, auth=Bearer(make_tokens(), optional=True))) as host:
        answer = await finish(host.modern("tools/list", headers=headers, path=f"/mcp?{query}"))
        assert (await finish(host.modern("tools/list", path="/mcp?why=access_token"))).status == 200
    assert answer.status == 400
    assert read_challenge(answer).parameters["error"] == "invalid_request"


async def test_a_token_without_the_scopes_that_everything_needs_is_refused_at_the_door():
    async with open_host(asgi_app(server, auth=Bearer(make_tokens(), scopes=["read"]))) as host:
        assert (await ask(host, **bearing("good"))).status == 200
        assert (await ask(host, **bearing("unlimited"))).status == 200
        answer = await finish(host.start("POST", bearing("poor"), None))
    assert answer.status == 403
    found = read_challenge(answer).parameters
    assert (found["error"], found["scope"]) == ("insufficient_scope", "read")
    assert found["resource_metadata"] == METADATA


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_a_call_without_the_scopes_of_its_tool_is_told_all_of_them(era):
    app = asgi_app(server, auth=Bearer(make_tokens(), scopes=["read"]))
    async with open_host(app) as host:
        if era == "modern":
            answer = await finish(host.modern("tools/call", {"name": "write"}, headers=bearing("good")))
        else:
            session = await open_session(host, "good")
            answer = await finish(post_call(host, session, "write", "good"))
    assert answer.status == 403
    found = read_challenge(answer).parameters
    assert (found["error"], found["scope"]) == ("insufficient_scope", "read files write")
    assert found["resource_metadata"] == METADATA
    assert answer.json["error"]["code"] == -32043
    assert answer.json["error"]["data"] == {"requiredScopes": ["files", "write"]}
    assert app.refusals == {"scope": 1}


async def test_a_scope_may_include_others():
    implies = {"admin": ["read", "editor"], "editor": ["write", "files", "admin"]}
    auth = Bearer(make_tokens(), scopes=["read"], implies=implies)
    async with open_host(asgi_app(server, auth=auth)) as host:
        assert (await ask(host, **bearing("poor"))).status == 403
        answer = await finish(host.modern("tools/call", {"name": "write"}, headers=bearing("admin")))
    assert answer.json["result"]["content"][0]["text"] == "written"


async def test_an_optional_token_may_be_missing_but_must_be_valid_and_is_asked_for_where_a_scope_is_needed():
    async with open_host(asgi_app(server, auth=Bearer(make_tokens(), optional=True))) as host:
        listed = (await ask(host)).json["result"]["tools"]
        who = (await finish(host.call("whoami"))).json["result"]["structuredContent"]["result"]
        refused = await finish(host.call("write"))
        assert (await ask(host, **bearing("unknown"))).status == 401
    assert [tool["name"] for tool in listed] == ["whoami"]
    assert who == [None, None]
    assert refused.status == 401
    assert dict(read_challenge(refused).parameters) == {
        "scope": "files write",
        "resource_metadata": METADATA,
    }


async def test_a_preflight_needs_no_token_and_pages_may_read_the_challenge():
    page = {"origin": "https://page.example"}
    auth = Bearer(make_tokens())
    async with open_host(asgi_app(server, auth=auth, cors_origins=["https://page.example"])) as host:
        preflight = await host.request(
            "OPTIONS", {**page, "access-control-request-headers": "authorization, mcp-method"}
        )
        refused = await ask(host, **page)
    assert preflight.status == 204
    assert preflight.headers["access-control-allow-headers"] == "authorization, mcp-method"
    assert refused.status == 401
    assert refused.headers["access-control-allow-origin"] == "https://page.example"
    assert "www-authenticate" in refused.headers["access-control-expose-headers"]


async def test_the_host_is_checked_before_the_token():
    tokens = make_tokens()
    async with open_host(asgi_app(server, auth=Bearer(tokens))) as host:
        headers = bearing("good", host="evil.example")
        assert (await finish(host.modern("tools/list", headers=headers))).status == 403
    assert tokens.asked == []


async def test_requests_whose_tokens_are_being_verified_count_among_those_of_their_client():
    stalled = trio.Event()

    async def verify(token: str) -> Principal:
        stalled.set()
        await trio.sleep_forever()
        raise AssertionError("never reached")

    app = asgi_app(server, auth=Bearer(verify))
    async with open_host(app) as host:
        waiting = host.modern("tools/list", headers=bearing("good"))
        await stalled.wait()
        assert "1 responses" in repr(app._endpoint)
        waiting.scope.cancel()
        await finish(waiting)
        assert "0 responses" in repr(app._endpoint)


async def test_a_request_whose_server_ends_while_its_token_is_verified_gets_503():
    verifying, go_on = trio.Event(), trio.Event()

    async def verify(token: str) -> Principal:
        verifying.set()
        await go_on.wait()
        return make_principal()

    app = asgi_app(server, auth=Bearer(verify))
    async with open_host(app) as host:
        waiting = host.modern("tools/list", headers=bearing("good"))
        await verifying.wait()
        app.shut_down()
        go_on.set()
        assert (await finish(waiting)).status == 503


async def test_what_is_no_principal_lets_nobody_in():
    async def verify(token: str) -> Any:
        return "ann"

    wrong = pytest.RaisesExc(TypeError, match="must return a Principal, not str")
    with pytest.RaisesGroup(wrong, flatten_subgroups=True):
        async with open_host(asgi_app(server, auth=Bearer(verify))) as host:
            await ask(host, **bearing("good"))


# Sessions of legacy clients


async def open_session(host: Host, token: str) -> str:
    params = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "raw", "version": "1"},
    }
    begin = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
    answer = await finish(host.post(begin, bearing(token)))
    assert answer.status == 200
    session = answer.headers["mcp-session-id"]
    ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    assert (await finish(host.post(ready, bearing(token, **{"mcp-session-id": session})))).status == 202
    return session


def post_call(host: Host, session: str, tool: str, token: str | None) -> Exchange:
    headers = {"mcp-session-id": session, **({} if token is None else bearing(token))}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool}}
    return host.post(message, headers)


async def test_each_request_of_a_session_is_limited_by_its_own_token():
    tokens = make_tokens()
    tokens.tokens["more"] = make_principal(scopes=["read", "write", "files"])
    async with open_host(asgi_app(server, auth=Bearer(tokens))) as host:
        session = await open_session(host, "good")
        assert (await finish(post_call(host, session, "write", "good"))).status == 403
        assert (await finish(post_call(host, session, "write", "more"))).json["result"]
        assert (await finish(post_call(host, session, "write", "good"))).status == 403


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("stale", 401), ("poor", 404), ("good", 200)])
async def test_a_session_is_used_by_its_principal_alone(token, status):
    async with open_host(asgi_app(server, auth=Bearer(make_tokens()))) as host:
        session = await open_session(host, "good")
        headers = {"mcp-session-id": session, **({} if token is None else bearing(token))}
        assert (await finish(post_call(host, session, "whoami", token))).status == status
        if status != 200:
            assert (await host.request("GET", headers)).status == status
            assert (await host.request("DELETE", headers)).status == status
        else:
            assert (await host.request("DELETE", headers)).status == 204


async def test_the_paths_of_http_sse_need_a_token_too():
    async with open_host(asgi_app(server, auth=Bearer(make_tokens()), sse=True)) as host:
        refused = await host.request("GET", {"accept": "text/event-stream"}, path="/sse")
        assert (await host.request("POST", path="/messages?session_id=x")).status == 401
        accepted = host.start("GET", bearing("good", accept="text/event-stream"), path="/sse")
        await accepted.wait_body(b"session_id=")
        where = accepted.body.split(b"data: ")[1].split()[0].decode()
        assert (await finish(host.post({}, bearing("poor"), path=where))).status == 404
        accepted.disconnect()
        await finish(accepted)
    assert refused.status == 401
    metadata = "http://localhost:8000/.well-known/oauth-protected-resource/sse"
    assert read_challenge(refused).parameters["resource_metadata"] == metadata


async def test_no_handler_and_no_repr_shows_a_token():
    seen: list[Any] = []
    showing = Server("showing", version="1")

    @showing.tool
    async def look(ctx: Context) -> str:
        seen.append((dict(ctx.headers), repr(ctx), repr(ctx.principal), repr(ctx._request)))
        return "looked"

    async def verify(token: str) -> Principal:
        seen.append(repr(GuardedRequest({"token": token}, {"authorization": token}, "/mcp")))
        return make_principal()

    async with open_host(asgi_app(showing, auth=Bearer(verify))) as host:
        headers = bearing("s3cret", **{"x-other": "shown"})
        assert (await finish(host.modern("tools/call", {"name": "look"}, headers=headers))).status == 200
    assert len(seen) == 2
    assert "shown" in str(seen)
    assert "s3cret" not in str(seen)


# What a program may configure


async def test_authenticate_may_be_async_and_return_a_principal():
    async def authenticate(scope: Any) -> Principal:
        await trio.lowlevel.checkpoint()
        return Principal("ann", scopes=["read"], subject="ann")

    async with open_host(asgi_app(server, authenticate=authenticate)) as host:
        listed = (await ask(host)).json["result"]["tools"]
        refused = await finish(host.call("write"))
    assert [tool["name"] for tool in listed] == ["whoami"]
    assert (refused.status, refused.json["error"]["code"]) == (200, -32043)
    assert "www-authenticate" not in refused.headers


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"scopes": "read"}, TypeError),
        ({"scopes": ["read write"]}, ValueError),
        ({"scopes": ['"']}, ValueError),
        ({"scopes_supported": [""]}, ValueError),
        ({"implies": {"admin": "read"}}, TypeError),
        ({"resource": "mcp.example"}, ValueError),
        ({"resource": "https://mcp.example/mcp#x"}, ValueError),
        ({"authorization_servers": "https://issuer.example"}, TypeError),
        ({"leeway": -1}, ValueError),
        ({"optional": True, "scopes": ["read"]}, ValueError),
    ],
)
def test_a_bad_option_is_refused(options, error):
    with pytest.raises(error):
        Bearer(make_tokens(), **options)


def test_two_ways_to_tell_who_a_client_is_are_refused():
    with pytest.raises(ValueError, match="give one of them"):
        asgi_app(server, auth=Bearer(make_tokens()), authenticate=lambda scope: None)


async def test_a_verifier_may_be_a_function():
    async def verify(token: str) -> Principal:
        raise InvalidToken

    async with open_host(asgi_app(server, auth=Bearer(verify))) as host:
        answer = await ask(host, **bearing("good"))
    assert read_challenge(answer).parameters["error_description"] == "the access token is not valid"


def test_a_principal_shows_no_claims_and_needs_a_name():
    principal = make_principal()
    assert str(principal) == "https://issuer.example#ann"
    assert "tenant" not in repr(principal)
    with pytest.raises(ValueError, match="not empty"):
        Principal("")
    with pytest.raises(TypeError, match="collection"):
        Principal("ann", scopes="read")


# Over real sockets


@pytest.mark.parametrize("protocol", [MODERN, LEGACY])
async def test_a_client_that_sends_a_token_with_each_request_is_served(protocol):
    """The lists and the calls of a client of ours, and what it is told without a token."""
    with trio.fail_after(HANG_SECONDS):
        async with trio.open_nursery() as nursery:
            auth = Bearer(make_tokens(), scopes=["read"])
            (url,) = await nursery.start(partial(serve_http, server, bind="127.0.0.1:0", auth=auth))
            async with open_client(url, protocol=protocol, headers=bearing("good")) as client:
                assert [tool.name for tool in await client.list_tools()] == ["whoami"]
                assert (await client.call_tool("whoami")).data == ["ann", {"tenant": "blue"}]
            with pytest.raises(MCPError, match=r"token|401"):
                async with open_client(url, protocol=protocol) as client:
                    await client.list_tools()
            nursery.cancel_scope.cancel()
