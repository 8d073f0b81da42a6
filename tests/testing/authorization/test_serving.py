"""The authorization server on a loopback address."""

from __future__ import annotations

from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
import msgspec
import pytest
import trio

from tests.support.limits import HANG_SECONDS
from tests.support.oauth_dance import CALLBACK, VERIFIER, Dance, make_server
from trio_mcp.testing.authorization import open_authorization_server
from trio_mcp.testing.authorization.__main__ import read_arguments, serve
from trio_mcp.transports.asgi.types import Receive, Scope, Send
from trio_mcp.transports.hypercorn import serve_asgi


async def test_the_whole_dance_goes_over_http_with_a_document_of_this_machine() -> None:
    asked: list[str] = []

    async def documents(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        asked.append(scope["path"])
        url = f"{origin}/client.json"
        body = msgspec.json.encode({"client_id": url, "client_name": "App", "redirect_uris": [CALLBACK]})
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    with trio.fail_after(HANG_SECONDS):
        async with (
            open_authorization_server(path="/tenant") as server,
            trio.open_nursery() as nursery,
            httpx2.AsyncClient(timeout=None) as http,
        ):
            (origin,) = await nursery.start(lambda **kw: serve_asgi(documents, bind="127.0.0.1:0", **kw))
            split = urlsplit(server.issuer)
            assert (split.hostname, split.path) == ("127.0.0.1", "/tenant")
            known = f"http://{split.netloc}/.well-known/oauth-authorization-server/tenant"
            metadata = (await http.get(known)).json()
            assert metadata["issuer"] == server.issuer
            client_id = f"{origin}/client.json"
            redirect = await http.get(Dance(server, client_id).url())
            (code,) = parse_qs(urlsplit(redirect.headers["location"]).query)["code"]
            form = {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": CALLBACK,
                "code_verifier": VERIFIER,
                "client_id": client_id,
            }
            answer = await http.post(metadata["token_endpoint"], content=urlencode(form), headers=FORM)
            assert server.keys.verify(answer.json()["access_token"])[1]["client_id"] == client_id
            assert asked == ["/client.json"]
            nursery.cancel_scope.cancel()


FORM = {"content-type": "application/x-www-form-urlencoded"}


async def test_serving_leaves_nothing_in_the_log(caplog) -> None:
    caplog.set_level("DEBUG")
    with trio.fail_after(HANG_SECONDS):
        async with open_authorization_server() as server, httpx2.AsyncClient(timeout=None) as http:
            assert (await http.get(server.metadata["jwks_uri"])).status_code == 200
    assert [record.message for record in caplog.records if record.name.startswith("trio_mcp")] == []


async def test_the_browser_of_a_test_asks_the_callback_of_the_client() -> None:
    queries: list[str] = []

    async def callback(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        queries.append(scope["query_string"].decode())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    server = make_server()
    with trio.fail_after(HANG_SECONDS):
        async with trio.open_nursery() as nursery:
            (origin,) = await nursery.start(lambda **kw: serve_asgi(callback, bind="127.0.0.1:0", **kw))
            url = Dance(server).url(redirect_uri=f"{origin}/callback")
            await server.open_browser(url)
            nursery.cancel_scope.cancel()
    (query,) = queries
    assert set(parse_qs(query)) == {"code", "state", "iss"}
    assert set(parse_qs(await server.fetch_callback(url))) == {"code", "state", "iss"}


async def test_the_browser_of_a_test_asks_no_other_machine() -> None:
    server = make_server()
    server.add_client("web", redirect_uris=["https://app.example.com/callback"])
    with pytest.raises(ValueError, match="only this machine"):
        await server.open_browser(Dance(server, "web").url(redirect_uri="https://app.example.com/callback"))


@pytest.mark.parametrize("bind", ["0.0.0.0:0", "[::]:0", "192.0.2.1:80", "auth.example.com:443", "8000"])
async def test_it_is_served_on_no_other_address(bind: str) -> None:
    with pytest.raises(ValueError, match="loopback address only"):
        async with open_authorization_server(bind=bind):
            pass


async def test_a_path_begins_with_a_slash() -> None:
    with pytest.raises(ValueError, match="must begin with a slash"):
        async with open_authorization_server(path="tenant"):
            pass


async def test_the_command_serves_with_a_login_page_and_names_the_users(capsys) -> None:
    arguments = read_arguments(["--bind", "127.0.0.1:0", "--path", "/dev", "--scopes", "read"])
    with trio.fail_after(HANG_SECONDS):
        async with trio.open_nursery() as nursery, httpx2.AsyncClient(timeout=None) as http:
            issuer = await nursery.start(serve, arguments)
            metadata = (await http.get(f"{issuer}/.well-known/openid-configuration")).json()
            nursery.cancel_scope.cancel()
    assert (metadata["issuer"], "read" in metadata["scopes_supported"]) == (issuer, True)
    printed = capsys.readouterr().out
    assert f"Issuer {issuer}, for development only." in printed
    assert "alice (password alice)" in printed
