"""The keys of an issuer: RFC 7517, RFC 8414, and MCP authorization, "Authorization Server Discovery"."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import trio
import trio.testing

from tests.support.issuer import AUDIENCE, ISSUER, JWKS_URI, Clock, FakeWeb, claims, make_key, public, sign
from tests.transports.http.test_http_connection import Peer, raw_server
from trio_mcp import JwtVerifier
from trio_mcp.authorization.jwks import MAX_FETCH_SECONDS, Jwks
from trio_mcp.authorization.verifier import InvalidToken, VerifierUnavailable
from trio_mcp.transports.http.documents import Document

OLD, NEW = make_key(kid="old"), make_key(kid="new")
METADATA = [
    "https://issuer.example/.well-known/oauth-authorization-server/realm",
    "https://issuer.example/.well-known/openid-configuration/realm",
    "https://issuer.example/realm/.well-known/openid-configuration",
]


class Fixture:
    """Keys that are published at `JWKS_URI`, with a clock; `now` counts from 0."""

    def __init__(self, *keys: Any, **options: Any) -> None:
        self.clock, self.web = Clock(0.0), FakeWeb()
        self.web.publish(*keys)
        uri = None if "issuer" in options else JWKS_URI
        self.jwks = Jwks(uri, fetch=self.web, clock=self.clock, **options)

    @property
    def fetches(self) -> int:
        return self.web.asked[JWKS_URI]

    async def find(self, kid: str | None = "old") -> str | None:
        (found,) = await self.jwks.find(kid, "ES256")
        return found.kid

    async def outcome(self, kid: str = "old") -> str:
        """What comes of a search: the name of the key, or the kind of the error."""
        try:
            found = await self.find(kid)
        except (InvalidToken, VerifierUnavailable) as error:
            return type(error).__name__
        return found or ""

    async def crowd(self, size: int, kid: str) -> list[str]:
        """What comes of many searches at once, of which all wait for one answer."""
        outcomes: list[str] = []

        async def search() -> None:
            outcomes.append(await self.outcome(kid))

        self.web.gate = trio.Event()
        async with trio.open_nursery() as nursery:
            for _ in range(size):
                nursery.start_soon(search)
            await trio.testing.wait_all_tasks_blocked()
            assert self.web.waiting == 1
            self.web.gate.set()
        return outcomes


async def test_keys_are_fetched_once() -> None:
    fixture = Fixture(OLD)
    assert [await fixture.find() for _ in range(3)] == ["old"] * 3
    assert fixture.fetches == 1


async def test_nothing_is_fetched_before_the_first_token() -> None:
    assert not Fixture(OLD).web.asked


async def test_of_many_requests_one_fetches_the_keys() -> None:
    fixture = Fixture(OLD)
    assert await fixture.crowd(500, "old") == ["old"] * 500
    assert fixture.fetches == 1


async def test_if_the_request_that_fetches_is_cancelled_another_one_does() -> None:
    fixture = Fixture(OLD)
    fixture.web.gate = trio.Event()
    outcomes: list[str] = []

    async def search(scope: trio.CancelScope) -> None:
        with scope:
            outcomes.append(await fixture.outcome())

    first, second = trio.CancelScope(), trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(search, first)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(search, second)
        await trio.testing.wait_all_tasks_blocked()
        first.cancel()
        await trio.testing.wait_all_tasks_blocked()
        fixture.web.gate.set()
    assert outcomes == ["old"]
    assert fixture.fetches == 2


# Rotation.


async def test_a_new_key_is_found_as_soon_as_a_token_names_it() -> None:
    fixture = Fixture(OLD)
    await fixture.find("old")
    fixture.web.publish(OLD, NEW)
    assert await fixture.find("new") == "new"
    assert await fixture.find("old") == "old"
    assert fixture.fetches == 2


async def test_of_many_tokens_with_a_new_key_one_fetches_it() -> None:
    fixture = Fixture(OLD)
    await fixture.find("old")
    fixture.web.publish(NEW)
    assert await fixture.crowd(500, "new") == ["new"] * 500
    assert fixture.fetches == 2


async def test_invented_keys_cause_one_fetch_in_a_while() -> None:
    fixture = Fixture(OLD, min_refetch=10)
    await fixture.find("old")
    for number in range(50):
        assert await fixture.outcome(f"invented-{number}") == "InvalidToken"
    assert fixture.fetches == 2
    fixture.clock.now = 9.9
    assert await fixture.outcome("invented") == "InvalidToken"
    assert fixture.fetches == 2
    fixture.clock.now = 10.1
    assert await fixture.outcome("invented") == "InvalidToken"
    assert fixture.fetches == 3


async def test_many_invented_keys_at_once_cause_one_fetch() -> None:
    fixture = Fixture(OLD)
    await fixture.find("old")
    assert await fixture.crowd(100, "invented") == ["InvalidToken"] * 100
    assert fixture.fetches == 2


async def test_a_new_key_that_is_being_fetched_is_waited_for() -> None:
    """Also if keys were looked for in vain a moment ago, so that no fetch would be begun for it."""
    fixture = Fixture(OLD, refresh_seconds=600, min_refetch=1000)
    await fixture.find("old")
    assert await fixture.outcome("new") == "InvalidToken"
    assert fixture.fetches == 2
    fixture.web.publish(OLD, NEW)
    assert await fixture.outcome("new") == "InvalidToken"
    assert fixture.fetches == 2
    outcomes = []

    async def search() -> None:
        outcomes.append(await fixture.outcome("new"))

    fixture.web.gate = trio.Event()
    fixture.clock.now = 601
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fixture.find, "old")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(search)
        await trio.testing.wait_all_tasks_blocked()
        fixture.web.gate.set()
    assert outcomes == ["new"]
    assert fixture.fetches == 3


async def test_invented_keys_do_not_delay_known_ones() -> None:
    fixture = Fixture(OLD)
    await fixture.find("old")
    fixture.web.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fixture.outcome, "invented")
        await trio.testing.wait_all_tasks_blocked()
        assert fixture.web.waiting == 1
        assert await fixture.find("old") == "old"
        assert fixture.web.waiting == 1
        fixture.web.gate.set()


async def test_a_withdrawn_key_counts_no_longer_than_refresh_seconds() -> None:
    fixture = Fixture(OLD, refresh_seconds=600)
    await fixture.find("old")
    fixture.web.publish(NEW)
    fixture.clock.now = 599
    assert await fixture.outcome("old") == "old"
    fixture.clock.now = 600
    assert await fixture.outcome("old") == "InvalidToken"
    assert await fixture.outcome("new") == "new"
    assert fixture.fetches == 2


async def test_while_one_request_refreshes_the_keys_others_use_those_that_are_known() -> None:
    fixture = Fixture(OLD, refresh_seconds=600)
    await fixture.find("old")
    fixture.clock.now = 601
    fixture.web.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fixture.find, "old")
        await trio.testing.wait_all_tasks_blocked()
        assert fixture.web.waiting == 1
        assert [await fixture.find("old") for _ in range(3)] == ["old"] * 3
        assert fixture.web.waiting == 1, "none of them has waited"
        fixture.web.gate.set()
    assert fixture.fetches == 2


# Outages.


async def test_without_keys_nothing_can_be_said(caplog: pytest.LogCaptureFixture) -> None:
    fixture = Fixture(OLD)
    fixture.web.cut()
    with pytest.raises(VerifierUnavailable) as caught:
        await fixture.find()
    assert caught.value.retry_after == 10
    assert JWKS_URI in caught.value.reason
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


async def test_an_endpoint_that_is_away_is_not_asked_by_every_request() -> None:
    fixture = Fixture(OLD, min_refetch=10)
    fixture.web.cut()
    assert [await fixture.outcome() for _ in range(20)] == ["VerifierUnavailable"] * 20
    assert fixture.fetches == 1
    fixture.web.publish(OLD)
    fixture.clock.now = 9
    with pytest.raises(VerifierUnavailable) as caught:
        await fixture.find()
    assert caught.value.retry_after == 1
    fixture.clock.now = 10
    assert await fixture.find() == "old"
    assert fixture.fetches == 2


async def test_of_many_requests_in_an_outage_one_waits_for_the_endpoint() -> None:
    fixture = Fixture(OLD)
    fixture.web.cut()
    assert await fixture.crowd(100, "old") == ["VerifierUnavailable"] * 100
    assert fixture.fetches == 1


async def test_known_keys_count_for_a_bounded_time_in_an_outage(caplog: pytest.LogCaptureFixture) -> None:
    fixture = Fixture(OLD, refresh_seconds=600, stale_seconds=3600)
    await fixture.find()
    fixture.web.cut()
    for now in (601, 602, 700, 3599):
        fixture.clock.now = now
        assert await fixture.outcome("old") == "old"
    assert fixture.fetches == 4, "not at 602, just after a failure"
    fixture.clock.now = 3620
    assert await fixture.outcome("old") == "VerifierUnavailable"
    fixture.web.publish(OLD)
    fixture.clock.now = 3640
    assert await fixture.outcome("old") == "old"
    levels = [record.levelno for record in caplog.records]
    assert levels == [logging.WARNING], "an outage is told once, and nobody has asked for more"


async def test_an_unknown_key_in_an_outage_is_not_an_invalid_token() -> None:
    fixture = Fixture(OLD)
    await fixture.find()
    fixture.web.cut()
    assert await fixture.outcome("new") == "VerifierUnavailable"
    assert await fixture.outcome("new") == "VerifierUnavailable"
    assert await fixture.outcome("old") == "old"
    fixture.web.publish(OLD, NEW)
    fixture.clock.now = 11
    assert await fixture.outcome("new") == "new"


async def test_an_endpoint_that_never_answers_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    fixture = Fixture(OLD)
    fixture.web.gate = trio.Event()
    assert await fixture.outcome() == "VerifierUnavailable"
    assert trio.current_time() == MAX_FETCH_SECONDS


@pytest.mark.parametrize(
    "answer",
    [
        Document(500),
        Document(404),
        Document(204),
        Document(302, {"location": "https://evil.example/keys"}),
        Document(200, {}, b""),
        Document(200, {}, b"<html>"),
        Document(200, {}, b"[]"),
        Document(200, {}, b"{}"),
        Document(200, {}, b'{"keys": {}}'),
        Document(200, {}, b"[" * 100_000),
        Document(200, {}, b'{"keys": [%b{}]}' % (b"{}," * 100)),
        OSError("no route"),
    ],
    ids=repr,
)
async def test_an_answer_without_keys_is_an_outage_and_changes_nothing(answer: Any) -> None:
    fixture = Fixture(OLD, min_refetch=0)
    working = fixture.web.answers[JWKS_URI]
    fixture.web.answers[JWKS_URI] = answer
    assert await fixture.outcome() == "VerifierUnavailable"
    fixture.web.answers[JWKS_URI] = working
    assert await fixture.outcome() == "old"
    fixture.web.answers[JWKS_URI] = answer
    assert await fixture.outcome("new") == "VerifierUnavailable"
    assert await fixture.outcome("old") == "old"


async def test_an_issuer_can_withdraw_all_keys(caplog: pytest.LogCaptureFixture) -> None:
    fixture = Fixture(OLD)
    await fixture.find()
    fixture.web.publish()
    fixture.clock.now = 601
    assert await fixture.outcome("old") == "InvalidToken"
    assert "has no key that can verify tokens" in caplog.text


ODD_KEYS: dict[str, Any] = {
    "null": None,
    "list": [],
    "empty": {},
    "of a later type": {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA"},
    "type in a list": {"kty": ["EC"]},
    "without coordinates": {"kty": "EC", "crv": "P-256"},
    "unknown curve": {"kty": "EC", "crv": "P-999", "x": "AAAA", "y": "AAAA"},
    "not on the curve": {"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"},
    "numbers": {"kty": "EC", "crv": "P-256", "x": 1, "y": 2},
    "short": {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
    "without a modulus": {"kty": "RSA", "n": "", "e": ""},
    "modulus of zeros": {"kty": "RSA", "n": "A" * 342, "e": "AQAB"},
    "no base64": {"kty": "RSA", "n": "_" * 342, "e": "!"},
    "cut": {"kty": "OKP", "crv": "Ed25519", "x": "AAAA"},
    "secret": {"kty": "oct", "k": "A" * 86},
    "for encryption": {**public(OLD), "use": "enc"},
    "for nothing": {**public(OLD), "use": "nothing"},
    "for a number": {**public(OLD), "use": 1},
    "for other operations": {**public(OLD), "key_ops": ["encrypt"]},
    "for odd operations": {**public(OLD), "key_ops": 1},
    "named by a number": {**public(OLD), "kid": 1},
    "private": OLD.as_dict(private=True),
}


@pytest.mark.parametrize("case", ODD_KEYS)
async def test_a_key_that_cannot_verify_is_left_out(case: str, caplog: pytest.LogCaptureFixture) -> None:
    fixture = Fixture()
    fixture.web.put(JWKS_URI, {"keys": [ODD_KEYS[case], public(NEW)]})
    with caplog.at_level(logging.DEBUG):
        assert await fixture.outcome("old") == "InvalidToken"
        assert await fixture.outcome("new") == "new"
    assert "key 1 of 2 cannot verify tokens" in caplog.text
    assert OLD.as_dict(private=True)["d"] not in caplog.text


# Discovery.


def discovering(*keys: Any, **options: Any) -> Fixture:
    return Fixture(*keys, issuer=ISSUER, **options)


async def test_the_metadata_of_the_issuer_name_its_keys() -> None:
    fixture = discovering(OLD)
    fixture.web.put(METADATA[0], {"issuer": ISSUER, "jwks_uri": JWKS_URI})
    assert await fixture.find() == "old"
    assert fixture.web.asked == {METADATA[0]: 1, JWKS_URI: 1}


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_metadata_are_looked_for_in_the_order_of_the_specification(place: int) -> None:
    fixture = discovering(OLD)
    fixture.web.put(METADATA[place], {"issuer": ISSUER, "jwks_uri": JWKS_URI})
    for url in METADATA[:place]:
        fixture.web.put(url, b"<html>any page", 200)
    assert await fixture.find() == "old"
    assert list(fixture.web.asked) == [*METADATA[: place + 1], JWKS_URI]


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"issuer": "https://evil.example", "jwks_uri": JWKS_URI}, "of another issuer"),
        ({"issuer": f"{ISSUER}/", "jwks_uri": JWKS_URI}, "of another issuer"),
        ({"jwks_uri": JWKS_URI}, "malformed"),
        ({"issuer": ISSUER}, "names no jwks_uri"),
        ({"issuer": ISSUER, "jwks_uri": "http://issuer.example/keys"}, "https://"),
        ({"issuer": ISSUER, "jwks_uri": "file:///etc/passwd"}, "https://"),
        ({"issuer": ISSUER, "jwks_uri": "https://a:b@issuer.example/keys"}, "without credentials"),
    ],
    ids=["another", "slash", "no issuer", "no keys", "plain http", "file", "credentials"],
)
async def test_metadata_that_cannot_be_trusted_are_refused(metadata: dict[str, Any], reason: str) -> None:
    fixture = discovering(OLD)
    fixture.web.put(METADATA[0], metadata)
    with pytest.raises(VerifierUnavailable) as caught:
        await fixture.find()
    assert reason in caught.value.reason
    assert not fixture.fetches


async def test_metadata_that_are_away_are_an_outage(caplog: pytest.LogCaptureFixture) -> None:
    for answer in (Document(503), Document(429), OSError("no route")):
        fixture = discovering(OLD)
        fixture.web.answers[METADATA[0]] = answer
        fixture.web.put(METADATA[1], {"issuer": ISSUER, "jwks_uri": JWKS_URI})
        assert await fixture.outcome() == "VerifierUnavailable"
        assert fixture.web.asked == {METADATA[0]: 1}


async def test_an_issuer_without_metadata_is_an_outage() -> None:
    fixture = discovering(OLD)
    assert await fixture.outcome() == "VerifierUnavailable"
    assert list(fixture.web.asked) == METADATA


async def test_keys_that_have_moved_are_found_again() -> None:
    fixture = discovering(OLD)
    fixture.web.put(METADATA[0], {"issuer": ISSUER, "jwks_uri": JWKS_URI})
    await fixture.find()
    moved = f"{ISSUER}/moved"
    fixture.web.put(METADATA[0], {"issuer": ISSUER, "jwks_uri": moved})
    fixture.web.publish(NEW, url=moved)
    fixture.web.answers[JWKS_URI] = Document(404)
    assert await fixture.outcome("new") == "VerifierUnavailable"
    fixture.clock.now = 11
    assert await fixture.outcome("new") == "new"


async def test_keys_are_found_over_real_connections() -> None:
    documents: dict[str, Any] = {}

    async def script(peer: Peer) -> None:
        while await peer.read_request():
            document = documents.get(peer.server.requests[-1].line.split()[1])
            if document is None:
                await peer.reply(b"", b"HTTP/1.1 404 Not Found\r\n")
            else:
                await peer.reply(json.dumps(document).encode())

    async with raw_server(script) as server:
        issuer = server.url.removesuffix("/mcp")
        documents["/.well-known/openid-configuration"] = {"issuer": issuer, "jwks_uri": f"{issuer}/keys"}
        documents["/keys"] = {"keys": [public(NEW)]}
        verifier = JwtVerifier(issuer, AUDIENCE, clock=Clock())
        principal = await verifier.verify(sign(NEW, claims(iss=issuer)))
    assert principal.name == f"{issuer}#ada"
    assert [request.line.split()[1] for request in server.requests] == [
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
        "/keys",
    ]


# Settings.


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"uri": JWKS_URI, "issuer": ISSUER},
        {"uri": "http://issuer.example/keys"},
        {"uri": "ftp://issuer.example/keys"},
        {"uri": "https:///keys"},
        {"uri": "https://a@issuer.example/keys"},
        {"issuer": "http://issuer.example"},
        {"issuer": f"{ISSUER}?a"},
        {"issuer": f"{ISSUER}#a"},
        {"uri": JWKS_URI, "refresh_seconds": 0},
        {"uri": JWKS_URI, "stale_seconds": -1},
        {"uri": JWKS_URI, "min_refetch": -1},
        {"uri": JWKS_URI, "min_refetch": float("inf")},
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Jwks(**options)


@pytest.mark.parametrize(
    "uri", ["http://localhost:8080/keys", "http://127.0.0.1/keys", "http://[::1]:1/keys", "https://a.b/keys"]
)
def test_this_machine_needs_no_tls(uri: str) -> None:
    assert uri in repr(Jwks(uri))


def test_plain_http_can_be_allowed() -> None:
    assert Jwks("http://keycloak:8080/keys", allow_http=True)
