"""`trio-mcp run --auth`: what may be written there, and a server that is served so."""

from __future__ import annotations

import re
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.cli.command import read_until, run, start
from tests.cli.test_network import run_without
from tests.support.limits import HANG_SECONDS
from trio_mcp import InvalidToken, MCPError, Server, open_client
from trio_mcp.authorization.bearer import Bearer
from trio_mcp.cli.network import serve_network
from trio_mcp.cli.server_auth import read_entrance
from trio_mcp.cli.status import CommandError
from trio_mcp.testing.authorization import open_authorization_server

JWKS = "jwks:https://issuer.example/keys,issuer=https://issuer.example"
INTROSPECT = "introspect:https://issuer.example/introspect,client_id=me,client_secret=env:MY_SECRET"


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "sesame-token")
    monkeypatch.setenv("MY_SECRET", "sesame secret")
    monkeypatch.setenv("BROKEN", "sesame token with spaces")


def read(*auth: str, url: str | None = None, http: str = ":8000", sse: bool = False) -> dict[str, Any]:
    return read_entrance(auth, url, http, None, sse=sse)


def verifier_of(entrance: dict[str, Any]) -> Any:
    """The object whose bound method the guard asks."""
    guard = entrance["auth"]
    assert isinstance(guard, Bearer)
    return guard._verify.__self__  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("auth", "message"),
    [
        ("", "--auth says how tokens are verified: jwks:URL,... or introspect:URL,... or static:env:NAME"),
        ("sesame-token", "--auth says how tokens are verified"),
        ("bearer:sesame", "--auth says how tokens are verified"),
        ("jwks:", "--auth jwks: a URL is needed behind the colon: jwks:https://..."),
        ("jwks:issuer.example/keys,issuer=x", "--auth jwks: a URL is needed"),
        ("jwks:https://issuer.example/keys", "--auth jwks: issuer= is missing"),
        (
            f"{JWKS},resource=x",
            "it takes issuer=, audience=, algorithms=, leeway=, allow_http=, behind a comma each",
        ),
        (f"{JWKS},audiense=x", "did you mean 'audience'?"),
        (f"{JWKS},", "behind a comma each"),
        (f"{JWKS},issuer=x", "--auth jwks: issuer= is given twice"),
        (f"{JWKS},audience", "--auth jwks: audience= is empty"),
        (f"{JWKS},audience= ", "--auth jwks: audience= is empty"),
        (f"{JWKS},leeway=soon", "--auth jwks: leeway= is a number of seconds, not 'soon'"),
        (f"{JWKS},allow_http=yes", "--auth jwks: allow_http= is true or false, not 'yes'"),
        (f"{JWKS},algorithms=none", "--auth jwks: "),
        (f"{JWKS},algorithms=HS256", "--auth jwks: "),
        ("jwks:http://issuer.example/keys,issuer=x", "must be an https:// URL"),
        ("introspect:https://i.example/x,client_id=me", "--auth introspect: client_secret= is missing"),
        (
            "introspect:https://i.example/x,client_id=me,client_secret=sesame",
            "--auth introspect: client_secret needs env:NAME or file:PATH",
        ),
        ("static:sesame", "--auth static: the token is read from env:NAME or file:PATH"),
        ("static:env:NOT_THERE", "--auth static: there is no environment variable 'NOT_THERE'"),
        ("static:env:BROKEN", "--auth static: token 1 is none that a client can send"),
        ("static:env:MY_TOKEN,audience=x", "--auth static: it takes name=, scopes=, behind a comma each"),
    ],
)
def test_what_cannot_be_read_is_refused_and_no_secret_is_shown(auth: str, message: str) -> None:
    with pytest.raises(CommandError) as caught:
        read(auth)
    assert message in str(caught.value)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"http": None}, "--auth needs --http"),
        ({"http": None, "auth": (), "url": "https://h/mcp"}, "--url needs --http"),
        ({"ws": ":8001"}, "--ws takes no tokens"),
        *(
            ({"url": url}, f"--url: {url!r} is no URL of a server")
            for url in (
                "example.com/mcp",
                "ws://h/mcp",
                "https://",
                "https://u:p@h/",
                "https://h/?a",
                "https://h:x/",
            )
        ),
    ],
)
def test_options_that_make_no_sense_together_are_refused(options: dict[str, Any], message: str) -> None:
    given = {"auth": ("static:env:MY_TOKEN",), "url": None, "http": ":8000", "ws": None, **options}
    with pytest.raises(CommandError) as caught:
        read_entrance(**given, sse=False)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("options", "audiences"),
    [
        ({}, {"http://127.0.0.1:8000/mcp", "http://localhost:8000/mcp"}),
        ({"http": "[::1]:80"}, {"http://[::1]:80/mcp", "http://localhost:80/mcp"}),
        ({"http": "localhost:1", "sse": True}, {"http://localhost:1/mcp", "http://localhost:1/sse"}),
        ({"http": ":0", "url": "https://example.com/mcp"}, {"https://example.com/mcp"}),
        (
            {"http": "0.0.0.0:8000", "url": "https://EXAMPLE.com/"},
            {"https://EXAMPLE.com/", "https://example.com"},
        ),
    ],
)
def test_tokens_must_be_for_the_url_of_the_server(options: dict[str, Any], audiences: set[str]) -> None:
    for auth in (JWKS, INTROSPECT):
        assert set(verifier_of(read(auth, **options))._audiences) == audiences
        said = verifier_of(read(f"{auth},audience=one api://two", **options))
        assert set(said._audiences) == {"one", "api://two"}


@pytest.mark.parametrize("http", [":0", "0.0.0.0:8000"])
def test_a_url_that_cannot_be_told_beforehand_must_be_said(http: str) -> None:
    with pytest.raises(CommandError, match="say audience=, or --url"):
        read(JWKS, http=http)


async def test_any_of_several_verifiers_may_accept_a_token() -> None:
    verifier = verifier_of(read("static:env:MY_TOKEN,name=ada,scopes=a b", JWKS))
    principal = await verifier.verify("sesame-token")
    assert (principal.name, principal.scopes) == ("ada", {"a", "b"})
    with pytest.raises(InvalidToken):
        await verifier.verify("another-token")


def test_behind_a_proxy_the_host_of_the_url_is_let_in() -> None:
    assert "example.com" in read(url="https://example.com/mcp")["allowed_hosts"]
    assert "localhost:*" in read(url="https://example.com/mcp")["allowed_hosts"]
    assert "allowed_hosts" not in read(url="https://example.com/mcp", http="0.0.0.0:8000")
    assert read() == {}


def test_static_tokens_beyond_this_machine_are_noted(capsys: pytest.CaptureFixture[str]) -> None:
    read("static:env:MY_TOKEN", http=":8000")
    assert capsys.readouterr().err == ""
    read("static:env:MY_TOKEN", http="0.0.0.0:8000")
    assert "Static tokens are for development" in capsys.readouterr().err


async def test_tokens_of_an_issuer_are_verified_by_its_keys() -> None:
    server = Server("calculator")

    @server.tool
    def add(a: int, b: int) -> int:
        return a + b

    with trio.fail_after(HANG_SECONDS):
        async with open_authorization_server() as issuer, trio.open_nursery() as nursery:
            auth = f"jwks:{issuer.metadata['jwks_uri']},issuer={issuer.issuer},audience=calculator"
            listening = trio.Event()
            urls: list[str] = []

            def note(text: str) -> None:
                urls.extend(re.findall(r" at (\S+);", text))
                listening.set()

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("trio_mcp.cli.network.print_note", note)
                entrance = read(auth, http=":0")
                nursery.start_soon(
                    partial(
                        serve_network, server, ("127.0.0.1", 0), None, access_log=False, entrance=entrance
                    )
                )
                await listening.wait()
            good = issuer.issue_token("ada", audience="calculator")
            async with open_client(urls[0], auth=good) as client:
                assert (await client.call_tool("add", {"a": 1, "b": 2})).data == 3
            other = issuer.issue_token("ada", audience="another")
            with pytest.raises(MCPError, match="meant for another server"):
                async with open_client(urls[0], auth=other):
                    pass
            nursery.cancel_scope.cancel()


def test_a_file_is_served_to_whom_has_the_token_and_to_nobody_else(server_file: Path, tmp_path: Path) -> None:
    with start("run", server_file, "--http", ":0", "--auth", "static:env:MY_TOKEN") as process:
        assert process.stderr is not None
        try:
            told = read_until(process.stderr.fileno(), "Ctrl-C")
            (url,) = re.findall(r" at (\S+);", told)
            called = run("call", url, "add", "a=2", "b=3", "--auth", "env:MY_TOKEN")
            refused = run("list", url)
            process.send_signal(signal.SIGINT)
            printed, errors = process.communicate(timeout=HANG_SECONDS)
        finally:
            process.kill()
    assert (called.stdout, called.returncode) == ("5\n", 0)
    assert refused.returncode == 2
    assert refused.stderr == f"trio-mcp: {url} wants an access token: trio-mcp login {url}\n"
    for shown in (told, errors.decode(), called.stderr, refused.stderr, printed.decode()):
        assert "sesame" not in shown


def test_a_missing_library_is_named(server_file: Path) -> None:
    done = run_without(["joserfc"], "run", server_file, "--http", ":8000", "--auth", JWKS)
    assert done.returncode == 2
    assert done.stderr.startswith("trio-mcp: ")
    assert "pip install 'trio-mcp[auth]'" in done.stderr
    assert done.stderr.count("\n") == 1
