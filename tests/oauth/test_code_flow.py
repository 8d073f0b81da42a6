"""Clients that let their user authorize them (MCP authorization), against a real server behind a door."""

from __future__ import annotations

import traceback
from collections import Counter
from functools import partial
from typing import Any
from urllib.parse import urlencode

import attrs
import httpx2
import pytest
import trio

from tests.oauth.protected import REDIRECT, World, open_world
from trio_mcp import AuthorizationError, OAuth, ProtocolError, open_client
from trio_mcp.errors import AuthorizationDenied, ConnectionLost, DiscoveryError, InsufficientScope
from trio_mcp.oauth.callback import read_callback
from trio_mcp.oauth.pkce import ProofKey
from trio_mcp.oauth.storage import MemoryStorage
from trio_mcp.wire.authorization import AuthorizationServerMetadata

WIRES: dict[str, dict[str, Any]] = {
    "http": {},
    "http-legacy": {"protocol": "2025-11-25"},
    "sse": {"transport": "sse"},
    "websocket": {},
    "websocket-legacy": {"protocol": "2025-11-25"},
}


def connect(world: World, wire: str, auth: Any, **options: Any) -> Any:
    """`open_client` over one wire."""
    url = world.url
    if wire == "sse":
        url = f"{world.origin}/sse"
    elif wire.startswith("websocket"):
        url = url.replace("http", "ws", 1)
    return open_client(url, auth=auth, **WIRES[wire], **options)


@pytest.fixture(params=list(WIRES))
def wire(request: pytest.FixtureRequest) -> str:
    """A way to the server."""
    return str(request.param)


async def test_a_user_is_asked_once_and_all_requests_carry_the_token(wire: str) -> None:
    async with open_world() as world:
        auth = world.oauth()
        for _ in range(2):
            async with connect(world, wire, auth) as client:
                assert (await client.call_tool("add", {"a": 1, "b": 2})).data == 3
    (asked,) = world.asked
    assert asked["scope"] == "read"
    assert asked["resource"] == world.origin
    (registered,) = world.registrations
    assert registered["application_type"] == "native"
    assert registered["redirect_uris"] == [REDIRECT]
    assert "refresh_token" in registered["grant_types"]
    assert world.requests["401"] == 1


async def test_the_answer_may_come_back_to_a_port_of_this_machine() -> None:
    async with open_world() as world, trio.open_nursery() as nursery:

        async def browse(url: str) -> None:
            answer = world.consent(url)

            async def follow() -> None:
                async with httpx2.AsyncClient(timeout=None) as browser:
                    await browser.get(f"{world.asked[0]['redirect_uri']}?{urlencode(answer)}")

            nursery.start_soon(follow)

        async with open_client(world.url, auth=OAuth(open_browser=browse)) as client:
            assert len(await client.list_tools()) == 2
    assert world.asked[0]["redirect_uri"].startswith("http://127.0.0.1:")


@pytest.mark.parametrize("wire", ["http", "http-legacy", "sse"])  # over WebSocket only the handshake has one
async def test_a_token_that_is_refused_is_refreshed_once_for_all_calls(wire: str) -> None:
    async with open_world() as world, connect(world, wire, world.oauth()) as client:
        world.revoke()
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(client.call_tool, "add", {"a": number, "b": 1})
        assert [fields["grant_type"] for fields in world.token_requests] == [
            "authorization_code",
            "refresh_token",
        ]
    assert len(world.asked) == 1
    assert world.calls == ["add"] * 20


async def test_500_clients_whose_token_expires_at_once_cause_one_refresh() -> None:
    async with open_world() as world:
        now = 1000.0
        auth = world.oauth(now=lambda: now)
        keeper = auth.for_server(world.url, None)
        async with open_client(world.url, auth=auth):
            pass
        now += 3600
        async with trio.open_nursery() as nursery:
            for _ in range(500):
                nursery.start_soon(keeper.headers, "POST", world.url)
        assert len(world.token_requests) == 2
        assert len(world.asked) == 1


async def test_500_clients_of_their_own_whose_tokens_expire_at_once_cause_one_refresh_each() -> None:
    async with open_world() as world:
        now = 1000.0
        kept = MemoryStorage()
        first = world.oauth(now=lambda: now, storage=kept)
        async with open_client(world.url, auth=first):
            pass
        grant = first.for_server(world.url, None).grant
        assert grant is not None
        registration = await kept.load(f"client {grant.issuer} {world.url}")
        assert registration is not None
        world.refreshable.update((f"refresh-of-{number}", "read") for number in range(500))
        keepers = []
        for number in range(500):
            storage = MemoryStorage()
            own = attrs.evolve(grant.tokens, refresh_token=f"refresh-of-{number}")
            await storage.save(f"client {grant.issuer} {world.url}", registration)
            await storage.save(f"tokens {world.url}", attrs.evolve(grant, tokens=own).dump())
            keepers.append(world.oauth(now=lambda: now, storage=storage).for_server(world.url, None))
        now += 3600
        async with trio.open_nursery() as nursery:
            for keeper in keepers * 3:
                nursery.start_soon(keeper.headers, "POST", world.url)
        refreshes = Counter(asked.get("refresh_token") for asked in world.token_requests[1:])
        assert refreshes == Counter(f"refresh-of-{number}" for number in range(500))
        assert len({keeper.grant.tokens.access_token for keeper in keepers if keeper.grant}) == 500
        assert len(world.asked) == 1


async def test_without_a_refresh_token_the_user_is_asked_again() -> None:
    async with (
        open_world(with_refresh=False, life=None) as world,
        open_client(world.url, auth=world.oauth()) as client,
    ):
        world.revoke()
        await client.call_tool("add", {"a": 1, "b": 1})
        assert len(world.asked) == 2


async def test_a_refresh_token_that_is_not_good_any_more_leads_to_the_user() -> None:
    async with open_world() as world, open_client(world.url, auth=world.oauth()) as client:
        world.revoke()
        world.refreshable.clear()
        await client.call_tool("add", {"a": 1, "b": 1})
        assert len(world.asked) == 2


@pytest.mark.parametrize("protocol", ["auto", "2025-11-25"])
async def test_an_operation_that_needs_more_asks_for_the_union_of_scopes_and_is_done_once(
    protocol: str,
) -> None:
    async with (
        open_world() as world,
        open_client(world.url, auth=world.oauth(), protocol=protocol) as client,
    ):
        await client.call_tool("write")
    assert [asked["scope"] for asked in world.asked] == ["read", "read write"]
    assert world.calls == ["write"]


async def test_an_operation_that_never_gets_its_scopes_fails_without_asking_for_ever() -> None:
    async with (
        open_world(granted=lambda scope: "read") as world,
        open_client(world.url, auth=world.oauth()) as client,
    ):
        for _ in range(5):
            with pytest.raises(InsufficientScope, match="tools/call write") as failed:
                await client.call_tool("write")
            assert failed.value.required == {"write"}
        assert len(world.asked) == 1 + 3
        await client.call_tool("add", {"a": 1, "b": 1})
        assert world.calls == ["add"]


async def test_a_user_who_refuses_is_asked_once(wire: str) -> None:
    def refuse(fields: dict[str, str]) -> dict[str, str]:
        return {"error": "access_denied", "state": fields["state"], "iss": fields["iss"]}

    async with open_world(callback=refuse) as world:
        with pytest.raises(AuthorizationDenied, match="access_denied") as denied:
            async with connect(world, wire, world.oauth()):
                pass
        assert denied.value.error == "access_denied"
        assert denied.value.issuer == world.issuer
        assert len(world.asked) == 1
        assert not world.token_requests


async def test_a_user_who_does_nothing_is_not_waited_for_endlessly() -> None:
    async def ignore(url: str) -> str:
        await trio.sleep_forever()
        raise AssertionError

    async with open_world() as world:
        with pytest.raises(AuthorizationDenied, match=r"within 0\.01 seconds"):
            async with open_client(world.url, auth=world.oauth(redirect=ignore, timeout=0.01)):
                pass


async def test_another_authorization_server_gets_nothing_of_the_first() -> None:
    async with open_world() as world, open_client(world.url, auth=world.oauth()) as client:
        world.issuer_path = "/other"
        await client.call_tool("add", {"a": 1, "b": 1})
        assert [fields["grant_type"] for fields in world.token_requests] == ["authorization_code"] * 2
        assert [asked["client_id"] for asked in world.asked] == ["client-1 of /as", "client-2 of /other"]


async def test_a_client_id_belongs_to_one_authorization_server() -> None:
    async with open_world() as world:
        auth = world.oauth(client_id="mine")
        async with open_client(world.url, auth=auth) as client:
            world.issuer_path = "/other"
            with pytest.raises(AuthorizationError, match="registered with"):
                await client.call_tool("add", {"a": 1, "b": 1})
        assert [asked["client_id"] for asked in world.asked] == ["mine"]
        assert not world.registrations


async def test_a_pinned_issuer_is_the_only_one_that_is_trusted() -> None:
    async with open_world() as world:
        with pytest.raises(DiscoveryError, match="and not https://other"):
            async with open_client(world.url, auth=world.oauth(issuer="https://other")):
                pass
        assert not world.asked


async def test_a_metadata_document_is_the_id_of_the_client_where_it_is_supported() -> None:
    document = "https://client.example/metadata.json"
    async with (
        open_world(metadata={"client_id_metadata_document_supported": True}) as world,
        open_client(world.url, auth=world.oauth(client_metadata_url=document)),
    ):
        assert world.asked[0]["client_id"] == document
        assert not world.registrations


@pytest.mark.parametrize(
    ("methods", "basic"), [(["client_secret_basic"], True), (["client_secret_post"], False), (None, True)]
)
async def test_a_client_with_a_secret_proves_itself_as_the_server_wants(
    methods: list[str] | None, basic: bool
) -> None:
    metadata = {"token_endpoint_auth_methods_supported": methods, "registration_endpoint": None}
    async with open_world(metadata=metadata) as world:
        proofs: list[dict[str, str]] = []

        def answer(fields: dict[str, str]) -> None:
            proofs.append(dict(fields))
            fields["client_id"] = "mine"

        world.answer_token = answer
        async with open_client(world.url, auth=world.oauth(client_id="mine", client_secret="sesame")):
            pass
    assert ("client_secret" in proofs[0]) is not basic


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"metadata": {"code_challenge_methods_supported": None}}, "PKCE"),
        ({"metadata": {"code_challenge_methods_supported": ["plain"]}}, "PKCE"),
        ({"metadata": {"issuer": "https://attacker.example"}}, "equal to the letter"),
        ({"metadata": {"registration_endpoint": None}}, "client_id"),
        ({"metadata": {"token_endpoint": None}}, "no token endpoint"),
        ({"metadata": {"authorization_endpoint": "javascript:alert(1)"}}, "authorization endpoint"),
        ({"metadata": {"token_endpoint": "http://169.254.169.254/token"}}, "must not name"),
        ({"metadata": {"token_endpoint": "http://internet.example/token"}}, "must be https"),
        ({"resource": {"resource": "https://other.example/mcp"}}, "another resource"),
        ({"resource": {"authorization_servers": []}}, "no authorization server"),
        ({"resource": {"authorization_servers": ["file:///etc/passwd"]}}, "URL"),
        ({"resource": {"resource": 5}}, "malformed"),
    ],
)
async def test_a_user_is_never_sent_where_the_metadata_is_wrong(change: dict[str, Any], reason: str) -> None:
    async with open_world(**change) as world:
        with pytest.raises(AuthorizationError, match=reason):
            async with open_client(world.url, auth=world.oauth()):
                pass
        assert not world.asked
        assert not world.token_requests


async def test_the_metadata_is_found_without_a_hint() -> None:
    async with (
        open_world(has_hint=False, scope=None, resource={"scopes_supported": ["b", "a"]}) as world,
        open_client(world.url, auth=world.oauth()),
    ):
        assert world.asked[0]["scope"] == "a b"


async def test_a_server_without_metadata_is_its_own_authorization_server() -> None:
    async with (
        open_world(has_hint=False, has_metadata=False, issuer_path="") as world,
        open_client(world.url, auth=world.oauth()) as client,
    ):
        await client.call_tool("add", {"a": 1, "b": 1})
        assert world.asked[0]["resource"] == world.url


async def test_metadata_that_is_not_where_the_server_says_is_an_error() -> None:
    async with open_world(has_metadata=False) as world:
        with pytest.raises(DiscoveryError, match="answered with 404"):
            async with open_client(world.url, auth=world.oauth()):
                pass
        assert not world.asked


async def test_no_scope_is_asked_for_if_nobody_names_one() -> None:
    async with open_world(scope=None) as world, open_client(world.url, auth=world.oauth()):
        assert "scope" not in world.asked[0]


async def test_a_refresh_token_is_asked_for_where_a_scope_does_that() -> None:
    async with (
        open_world(metadata={"scopes_supported": ["read", "offline_access"]}) as world,
        open_client(world.url, auth=world.oauth(scopes=["mine"])),
    ):
        assert world.asked[0]["scope"] == "mine offline_access read"
        assert world.asked[0]["prompt"] == "consent"


async def test_a_server_that_refuses_the_new_token_is_not_asked_for_ever() -> None:
    async with open_world() as world:
        world.answer_token = lambda fields: (200, {"access_token": "sesame-unknown", "token_type": "Bearer"})
        with pytest.raises(AuthorizationError, match="does not accept the token") as refused:
            async with open_client(world.url, auth=world.oauth()):
                pass
        assert refused.value.error == "invalid_token"
        assert len(world.asked) == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((400, {"error": "invalid_grant"}), "invalid_grant"),
        ((200, {"access_token": "a b", "token_type": "Bearer"}), "no header can hold"),
        ((200, {"access_token": "ab", "token_type": "mac"}), "of a type"),
        ((200, {"token_type": "Bearer"}), "malformed"),
        ((200, b"<html>"), "malformed"),
        ((503, b""), "503"),
    ],
)
async def test_an_answer_without_a_token_is_an_error(answer: tuple[int, Any], reason: str) -> None:
    async with open_world(answer_token=lambda fields: answer) as world:
        with pytest.raises(AuthorizationError, match=reason):
            async with open_client(world.url, auth=world.oauth()):
                pass


async def test_tokens_and_registrations_outlive_the_client() -> None:
    storage = MemoryStorage()
    async with open_world() as world:
        for _ in range(2):
            async with open_client(world.url, auth=world.oauth(storage=storage)):
                world.revoke()
        async with open_client(world.url, auth=world.oauth(storage=storage)):
            pass
        assert len(world.asked) == len(world.registrations) == 1
        assert len(world.token_requests) == 3


async def test_a_client_that_registers_anew_for_one_server_keeps_the_tokens_of_another() -> None:
    storage = MemoryStorage()
    async with open_world() as world:
        first = world.oauth(storage=storage)
        async with open_client(world.url, auth=first):
            pass
        # Another server of the same issuer, with another redirect URI.
        async with open_client(
            f"{world.url}?second", auth=world.oauth(storage=storage, redirect_uri=REDIRECT + "2")
        ):
            pass
        assert len(world.registrations) == len(world.asked) == 2
        world.revoke()
        async with open_client(world.url, auth=world.oauth(storage=storage)):
            pass
        assert len(world.asked) == 2


async def test_a_registration_that_the_user_did_not_agree_to_is_used_for_the_next_try() -> None:
    storage = MemoryStorage()
    async with open_world() as world:
        auth = world.oauth(storage=storage)
        agree = world.callback
        world.callback = lambda fields: {
            "error": "access_denied",
            "state": fields["state"],
            "iss": fields["iss"],
        }
        with pytest.raises(AuthorizationDenied):
            async with open_client(world.url, auth=auth):
                pass
        assert repr(storage) == "<MemoryStorage of 0 values>"
        world.callback = agree
        async with open_client(world.url, auth=auth):
            pass
        assert len(world.registrations) == 1


async def test_a_refresh_goes_on_with_the_registration_of_another_process() -> None:
    storage = MemoryStorage()
    async with open_world() as world:
        now = 1000.0
        ours, theirs = (
            world.oauth(storage=storage, now=lambda: now, redirect_uri=uri)
            for uri in (REDIRECT, REDIRECT + "2")
        )
        async with open_client(world.url, auth=ours) as client:
            world.refreshable.clear()
            world.revoke()
            async with open_client(world.url, auth=theirs):
                pass
            now += 3600
            await client.call_tool("add", {"a": 1, "b": 1})
            now += 3600
            await client.call_tool("add", {"a": 1, "b": 1})
        assert len(world.asked) == 2
        assert {fields["client_id"] for fields in world.token_requests[-2:]} == {"client-2 of /as"}


async def test_clients_that_share_a_storage_use_a_refresh_token_once() -> None:
    storage = MemoryStorage()
    async with open_world() as world:
        now = 1000.0
        auths = [world.oauth(storage=storage, now=lambda: now) for _ in range(5)]
        keepers = [auth.for_server(world.url, None) for auth in auths]
        async with open_client(world.url, auth=auths[0]):
            pass
        for keeper in keepers:
            await keeper.headers("POST", world.url)
        now += 3600
        async with trio.open_nursery() as nursery:
            for keeper in keepers:
                nursery.start_soon(keeper.headers, "POST", world.url)
        assert len(world.token_requests) == 2
        assert len({keeper.grant.tokens.access_token for keeper in keepers if keeper.grant}) == 1


async def test_a_refresh_whose_caller_has_gone_is_kept() -> None:
    async with open_world() as world:
        now = 1000.0
        keeper = world.oauth(now=lambda: now).for_server(world.url, None)
        auth: Any = keeper
        async with open_client(world.url, auth=auth):
            pass
        now += 3600
        with trio.CancelScope() as scope:
            scope.cancel()
            await keeper.headers("POST", world.url)
        assert keeper.grant is not None
        assert keeper.grant.tokens.access_token in world.tokens


async def test_a_token_that_is_about_to_expire_is_used_while_it_cannot_be_refreshed() -> None:
    async with open_world() as world:
        now = 1000.0
        auth = world.oauth(now=lambda: now)
        async with open_client(world.url, auth=auth) as client:
            world.answer_token = lambda fields: (503, {})
            now += 3595
            await client.call_tool("add", {"a": 1, "b": 1})
            now += 5
            with pytest.raises(AuthorizationError, match="503"):
                await client.call_tool("add", {"a": 1, "b": 1})


async def test_a_text_is_a_bearer_token(wire: str) -> None:
    async with open_world() as world:
        world.tokens["sesame-given"] = (world.issuer, frozenset({"read"}))
        async with connect(world, wire, "sesame-given") as client:
            await client.call_tool("add", {"a": 1, "b": 1})
    assert world.calls == ["add"]


async def test_a_wrong_token_is_refused(wire: str) -> None:
    token = "-".join(("sesame", "wrong"))  # so that the source in the traceback does not have it
    async with open_world() as world:
        with pytest.raises((ProtocolError, ConnectionLost), match="401") as refused:
            async with connect(world, wire, token):
                pass
        assert token not in "".join(traceback.format_exception(refused.value))


async def test_a_token_takes_the_place_of_a_header_of_the_caller(wire: str) -> None:
    async with open_world() as world:
        world.tokens["sesame-given"] = (world.issuer, frozenset({"read"}))
        async with connect(world, wire, "sesame-given", headers={"Authorization": "Bearer other"}) as client:
            await client.call_tool("add", {"a": 1, "b": 1})


async def test_a_client_of_the_caller_carries_the_token_too() -> None:
    async with (
        open_world() as world,
        httpx2.AsyncClient(timeout=None) as http_client,
        open_client(world.url, auth=world.oauth(), http_client=http_client) as client,
    ):
        world.revoke()
        await client.call_tool("write")
    assert len(world.asked) == 2
    assert world.calls == ["write"]


@pytest.mark.parametrize("token", ["", "a b", "a\nb", "ä"])
async def test_a_token_that_no_header_can_hold_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match="token"):
        async with open_client("http://127.0.0.1:9/mcp", auth=token):
            pass


async def test_no_secret_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    shown = []
    async with open_world() as world:
        auth = world.oauth(client_id="mine")
        keeper = auth.for_server(world.url, None)
        async with open_client(world.url, auth=auth) as client:
            await client.call_tool("write")
            shown += [repr(value) for value in (client, auth, keeper, keeper.grant, ProofKey())]
            world.revoke()
            # The answer repeats the refresh token that it refuses.
            world.refreshable["spent"] = ""
            world.answer_token = lambda fields: (
                400,
                {"error": "server_error", "error_description": str(fields)},
            )
            with pytest.raises(AuthorizationError) as failed:
                await client.call_tool("write")
        shown += traceback.format_exception(failed.value)
        secrets = [*world.secrets, *(asked["state"] for asked in world.asked)]
    text = "\n".join([*shown, caplog.text])
    assert len(secrets) > 5
    assert not [secret for secret in secrets if secret in text]
    assert "sesame" not in text


def metadata(**changes: Any) -> AuthorizationServerMetadata:
    return AuthorizationServerMetadata(issuer="https://as.example", **changes)


@pytest.mark.parametrize(
    ("query", "advertised", "code"),
    [
        ("code=c&state=s&iss=https://as.example", True, "c"),
        ("?code=c&state=s&iss=https%3A%2F%2Fas.example", None, "c"),
        ("code=c&state=s", None, "c"),
        ("code=c&state=s", True, None),
        ("code=c&state=s&iss=https://as.example/", True, None),
        ("code=c&state=s&iss=https://AS.example", None, None),
        ("code=c&state=s&iss=https://as.example:443", None, None),
        ("code=c&state=s&iss=", None, None),
        ("code=c&state=t&iss=https://as.example", True, None),
        ("code=c&iss=https://as.example", True, None),
        ("code=c&state=s&state=s&iss=https://as.example", True, None),
        ("code=c&code=d&state=s&iss=https://as.example", True, None),
        ("state=s&iss=https://as.example", True, None),
        ("", True, None),
    ],
)
def test_an_answer_counts_only_with_the_state_and_the_issuer_of_the_request(
    query: str, advertised: bool | None, code: str | None
) -> None:
    read = partial(
        read_callback, query, "s", metadata(authorization_response_iss_parameter_supported=advertised)
    )
    if code is not None:
        assert read() == code
        return
    with pytest.raises(AuthorizationError):
        read()


def test_an_error_of_another_issuer_is_not_shown() -> None:
    query = "error=access_denied&error_description=call+me&state=s&iss=https://evil.example"
    with pytest.raises(AuthorizationError) as refused:
        read_callback(query, "s", metadata())
    assert not isinstance(refused.value, AuthorizationDenied)
    assert refused.value.error is None
    assert "call me" not in str(refused.value)


def test_the_proof_is_that_of_rfc_7636() -> None:
    proof = ProofKey("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
    assert proof.challenge == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    assert len(ProofKey().verifier) >= 43
    assert ProofKey().verifier != ProofKey().verifier


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"client_secret": "x"}, TypeError),
        ({"scopes": "read"}, TypeError),
        ({"client_metadata_url": "http://h/c.json"}, ValueError),
        ({"client_metadata_url": "https://h"}, ValueError),
        ({"redirect_uri": REDIRECT}, TypeError),
        ({"timeout": 0}, ValueError),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        OAuth(**options)
