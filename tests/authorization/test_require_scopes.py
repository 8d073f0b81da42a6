"""`ctx.require_scopes` over HTTP: a status of its own if nothing was sent yet, else an error of JSON-RPC."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.authorization.tokens import Tokens, bearing, make_principal
from tests.support.asgi_host import Exchange, Host, finish, open_host
from trio_mcp import Bearer, Context, ProtocolError, Server, asgi_app
from trio_mcp.wire.authorization import find_challenge

server = Server("deciding", version="1")


@server.tool
async def decide(ctx: Context, reports: bool = False) -> str:
    if reports:
        await ctx.report_progress(1)
        await trio.sleep(60)
    ctx.require_scopes("read", "delete")
    return "done"


@server.tool
def decide_in_thread(ctx: Context) -> str:
    ctx.require_scopes("delete")
    return "done"


@server.tool
async def outer(ctx: Context) -> Any:
    return (await ctx.call_tool("decide")).data


@server.tool
async def own_error() -> str:
    raise ProtocolError(-32043, "of its own", ["no scopes"])


@server.prompt
async def ask(ctx: Context) -> str:
    ctx.require_scopes("delete")
    return "done"


@server.resource("note://x")
async def note(ctx: Context) -> str:
    ctx.require_scopes("delete")
    return "done"


def make_app() -> Any:
    tokens = Tokens({"good": make_principal(), "all": make_principal(scopes=["read", "delete"])})
    return asgi_app(server, auth=Bearer(tokens, scopes=["read"]))


class Asking:
    """Requests of one era with a token."""

    def __init__(self, host: Host, era: str) -> None:
        self.host = host
        self.era = era
        self.headers: dict[str, Any] = {}

    async def open(self) -> Asking:
        if self.era == "legacy":
            params = {
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": {"name": "raw", "version": "1"},
            }
            begin = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
            answer = await finish(self.host.post(begin, bearing("good")))
            self.headers = {"mcp-session-id": answer.headers["mcp-session-id"]}
        return self

    async def ask(self, method: str, params: dict[str, Any], *, token: str = "good") -> Exchange:
        headers = bearing(token, **self.headers)
        if self.era == "legacy":
            message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            return await finish(self.host.post(message, headers))
        meta = params.pop("_meta", {})
        name = params.get("name", params.get("uri"))
        headers["mcp-name"] = name
        return await finish(self.host.modern(method, params, headers=headers, meta=meta))


def check_refusal(answer: Exchange, scope: str) -> None:
    assert answer.status == 403
    challenge = find_challenge(answer.headers["www-authenticate"])
    assert challenge is not None
    assert (challenge.parameters["error"], challenge.parameters["scope"]) == ("insufficient_scope", scope)
    assert answer.json["error"]["code"] == -32043


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_what_a_handler_needs_is_asked_for_before_the_answer_begins(era):
    async with open_host(make_app()) as host:
        asking = await Asking(host, era).open()
        for name in ("decide", "decide_in_thread", "outer"):
            check_refusal(await asking.ask("tools/call", {"name": name}), "read delete")
        check_refusal(await asking.ask("prompts/get", {"name": "ask"}), "read delete")
        check_refusal(await asking.ask("resources/read", {"uri": "note://x"}), "read delete")
        allowed = await asking.ask("tools/call", {"name": "outer"}, token="all")
    assert b"done" in allowed.body


@pytest.mark.parametrize("era", ["modern", "legacy"])
async def test_behind_progress_it_is_an_error_of_the_call(era, autojump_clock):
    async with open_host(make_app()) as host:
        asking = await Asking(host, era).open()
        params = {"name": "decide", "arguments": {"reports": True}, "_meta": {"progressToken": "p"}}
        answer = await asking.ask("tools/call", params)
    assert answer.status == 200
    progress, refusal = answer.messages
    assert progress["method"] == "notifications/progress"
    assert refusal["error"]["code"] == -32043
    assert refusal["error"]["data"] == {"requiredScopes": ["delete", "read"]}


async def test_an_error_that_names_no_scopes_stays_what_it_is():
    async with open_host(make_app()) as host:
        asking = await Asking(host, "modern").open()
        answer = await asking.ask("tools/call", {"name": "own_error"})
    assert (answer.status, answer.json["error"]["data"]) == (200, ["no scopes"])
