"""Asking the authorization server about tokens: RFC 7662."""

from __future__ import annotations

import base64
import json
import logging
from typing import Any
from urllib.parse import parse_qs

import pytest
import trio
import trio.testing

from tests.support.issuer import (
    AUDIENCE,
    ISSUER,
    NOW,
    Clock,
    FakeWeb,
    claims,
    describe_all,
    find_leaks,
    refuse,
)
from trio_mcp import Introspection
from trio_mcp.authorization.introspection import MAX_AT_ONCE
from trio_mcp.authorization.verifier import InvalidToken, VerifierUnavailable
from trio_mcp.session.principal import Principal
from trio_mcp.transports.http.response import UnreachableError

ENDPOINT = f"{ISSUER}/introspect"
TOKEN = "opaque-token-of-ada-0123456789"
SECRET = "the secret: of this server/äöü"


class Fixture:
    """A verifier whose endpoint gives the answer that the test has set."""

    def __init__(self, answer: Any = None, **options: Any) -> None:
        self.clock, self.web = Clock(), FakeWeb()
        self.answer(active() if answer is None else answer)
        options = {"audience": AUDIENCE, "issuer": ISSUER, **options}
        self.verifier = Introspection(ENDPOINT, "server", SECRET, fetch=self.web, clock=self.clock, **options)

    def answer(self, content: Any, status: int = 200, **headers: str) -> None:
        if isinstance(content, Exception):
            self.web.answers[ENDPOINT] = content
        else:
            self.web.put(ENDPOINT, content, status, headers)

    @property
    def asked(self) -> int:
        return self.web.asked[ENDPOINT]

    async def verify(self, token: str = TOKEN) -> Principal:
        return await self.verifier.verify(token)

    async def outcome(self, token: str = TOKEN) -> str:
        try:
            return (await self.verify(token)).name
        except (InvalidToken, VerifierUnavailable) as error:
            return type(error).__name__

    async def crowd(self, tokens: list[str], expect_waiting: int) -> list[str]:
        """What comes of the checks of many tokens at once, before any of which was answered."""
        outcomes: list[str] = []

        async def check(token: str) -> None:
            outcomes.append(await self.outcome(token))

        self.web.gate = trio.Event()
        async with trio.open_nursery() as nursery:
            for token in tokens:
                nursery.start_soon(check, token)
            await trio.testing.wait_all_tasks_blocked()
            assert self.web.waiting == expect_waiting
            self.web.gate.set()
        return outcomes


def active(without: tuple[str, ...] = (), **changed: Any) -> dict[str, Any]:
    return {"active": True, **claims(without, **changed)}


async def test_the_principal_is_what_the_endpoint_says() -> None:
    principal = await Fixture(active(username="Ada")).verify()
    assert principal.name == f"{ISSUER}#ada"
    assert principal.scopes == {"read", "write"}
    assert (principal.client_id, principal.issuer, principal.subject) == ("editor", ISSUER, "ada")
    assert principal.expires_at == NOW + 3600
    assert principal.claims["username"] == "Ada"
    assert TOKEN not in repr(principal)


async def test_the_request_is_the_one_of_the_specification() -> None:
    fixture = Fixture()
    await fixture.verify()
    ((headers, body),) = fixture.web.bodies
    assert parse_qs(body.decode()) == {"token": [TOKEN], "token_type_hint": ["access_token"]}
    assert headers["content-type"] == "application/x-www-form-urlencoded"
    kind, _, pair = headers["authorization"].partition(" ")
    assert kind == "Basic"
    assert base64.b64decode(pair) == b"server:the%20secret%3A%20of%20this%20server%2F%C3%A4%C3%B6%C3%BC"


async def test_credentials_can_be_sent_in_the_form() -> None:
    fixture = Fixture(auth_method="post")
    await fixture.verify()
    ((headers, body),) = fixture.web.bodies
    assert "authorization" not in headers
    assert parse_qs(body.decode())["client_secret"] == [SECRET]


async def test_without_an_issuer_the_endpoint_makes_the_name_unique() -> None:
    principal = await Fixture(issuer=None).verify()
    assert (principal.name, principal.issuer) == (f"{ENDPOINT}#ada", ISSUER)
    assert Fixture(issuer=None).verifier.issuers == ()
    assert Fixture().verifier.issuers == (ISSUER,)


async def test_an_audience_is_not_checked_if_the_endpoint_answers_for_this_server_only() -> None:
    assert await Fixture(active(("aud",)), audience=None).verify()


@pytest.mark.parametrize(
    "answer",
    [
        active(aud=["https://other.example", AUDIENCE]),
        active(("iss",)),
        active(("exp", "iat")),
        active(exp=NOW - 29),
        active(nbf=NOW + 30),
        active(token_type="Bearer"),
        active(token_type="bearer", typ="Bearer", token_use="access_token"),
    ],
    ids=str,
)
async def test_what_is_in_order_is_accepted(answer: dict[str, Any]) -> None:
    assert (await Fixture(answer).verify()).subject == "ada"


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "inactive": ({"active": False}, "the access token is not active"),
    "inactive with claims": ({**active(), "active": False}, "the access token is not active"),
    "expired": (active(exp=NOW - 30), "the access token has expired"),
    "not yet valid": (active(nbf=NOW + 31), "the access token is not valid yet"),
    "exp text": (active(exp="soon"), "the exp of the access token is no time"),
    "exp true": (active(exp=True), "the exp of the access token is no time"),
    "another audience": (active(aud="https://other.example"), "the access token is meant for another server"),
    "odd audience": (active(aud=[1, None]), "the access token is meant for another server"),
    "without audience": (active(("aud",)), "the access token is meant for another server"),
    "another issuer": (active(iss="https://evil.example"), "the access token is of another issuer"),
    "without subject": (active(("sub",)), "the access token does not say whom it was issued for"),
    "refresh token": (active(token_use="refresh_token"), "this type of token is no access token"),
    "Keycloak's refresh token": (active(typ="Refresh"), "this type of token is no access token"),
    "ID token": (active(typ="ID"), "this type of token is no access token"),
    "bound": (
        active(cnf={"x5t#S256": "x"}),
        "the access token is bound to a key, and cannot be used as a bearer token",
    ),
    "DPoP": (active(token_type="DPoP"), "the access token cannot be used as a bearer token"),
}


@pytest.mark.parametrize("case", BAD)
async def test_what_is_not_in_order_is_refused(case: str, caplog: pytest.LogCaptureFixture) -> None:
    answer, reason = BAD[case]
    assert await refuse(Fixture(answer).verifier, TOKEN, caplog) == reason


async def test_a_bound_token_is_accepted_if_something_else_checks_the_proof() -> None:
    assert await Fixture(active(cnf={"jkt": "x"}, token_type="DPoP"), accept_bound=True).verify()


@pytest.mark.parametrize("token", ["", " ", "a b", "a\n", "é", "a=b", "\udc80", "a" * 20_000], ids=ascii)
async def test_what_can_be_no_token_is_refused_without_asking(
    token: str, caplog: pytest.LogCaptureFixture
) -> None:
    fixture = Fixture()
    await refuse(fixture.verifier, token, caplog)
    assert not fixture.asked


# Outages.


@pytest.mark.parametrize(
    "answer",
    [
        (UnreachableError("the connection failed"), 0),
        (OSError("no route"), 0),
        (b"", 500),
        (b"", 503),
        (b"", 429),
        (b"", 400),
        (b"", 401),
        (b"", 403),
        (b"", 404),
        (active(), 201),
        (b"", 200),
        (b"<html>", 200),
        (b"[]", 200),
        (b"[" * 100_000, 200),
        ({}, 200),
        ({"active": "true"}, 200),
        ({"active": 1}, 200),
        ({"active": None}, 200),
    ],
    ids=lambda answer: f"{answer[1]} {str(answer[0])[:30]}",
)
async def test_an_outage_is_not_an_invalid_token(answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    fixture = Fixture()
    fixture.answer(*answer)
    with caplog.at_level(logging.DEBUG), pytest.raises(VerifierUnavailable) as caught:
        await fixture.verify()
    shown = describe_all(caught.value) + caplog.text + repr(fixture.verifier)
    for secret in (TOKEN, SECRET, base64.b64encode(SECRET.encode()).decode()):
        assert not find_leaks(secret, shown)
    assert ENDPOINT in caught.value.reason
    fixture.answer(active())
    fixture.clock.now += 1
    assert (await fixture.verify()).subject == "ada", "nothing was remembered of it"


async def test_the_endpoint_can_say_when_to_come_back() -> None:
    for told, seconds in (("7", 7), ("9999", 60), ("soon", 5), ("", 5), ("-1", 5), ("²", 5)):
        fixture = Fixture()
        fixture.answer(b"", 503, **{"retry-after": told})
        with pytest.raises(VerifierUnavailable) as caught:
            await fixture.verify()
        assert caught.value.retry_after == seconds


async def test_in_an_outage_few_requests_are_sent(caplog: pytest.LogCaptureFixture) -> None:
    fixture = Fixture()
    fixture.answer(OSError("no route"))
    tokens = [f"token-{number}" for number in range(200)]
    outcomes = await fixture.crowd(tokens, MAX_AT_ONCE)
    assert outcomes == ["VerifierUnavailable"] * 200
    assert fixture.asked == MAX_AT_ONCE
    assert await fixture.outcome("another") == "VerifierUnavailable"
    assert fixture.asked == MAX_AT_ONCE
    assert len(caplog.records) == 1, "one line for one outage"


@pytest.mark.parametrize("answer", [(b"", 500), (b"", 400), (b"<html>", 200), ({}, 200)], ids=str)
async def test_a_token_that_the_endpoint_cannot_answer_for_blocks_no_other(answer: Any) -> None:
    fixture = Fixture()
    fixture.answer(*answer)
    assert await fixture.outcome("odd") == "VerifierUnavailable"
    fixture.answer(active())
    assert await fixture.outcome() == f"{ISSUER}#ada"


@pytest.mark.parametrize("status", [401, 403, 404, 429, 502, 503, 504])
async def test_an_endpoint_that_answers_nobody_is_left_alone_for_a_moment(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    fixture = Fixture()
    fixture.answer(b"", status)
    outcomes = [await fixture.outcome(token) for token in ("one", "two", "one")]
    assert outcomes == ["VerifierUnavailable"] * 3
    assert fixture.asked == 1
    assert ENDPOINT in caplog.text
    fixture.clock.now += 1
    await fixture.outcome("two")
    assert fixture.asked == 2


async def test_a_clock_that_is_set_back_makes_no_outage_longer() -> None:
    fixture = Fixture()
    fixture.answer(OSError("no route"))
    await fixture.outcome()
    fixture.answer(active())
    fixture.clock.now -= 3600
    assert await fixture.outcome() == f"{ISSUER}#ada"


async def test_what_was_accepted_is_still_accepted_in_an_outage() -> None:
    fixture = Fixture()
    await fixture.verify()
    fixture.answer(OSError("no route"))
    assert await fixture.outcome("another") == "VerifierUnavailable"
    assert (await fixture.verify()).subject == "ada"


# What is remembered.


async def test_an_accepted_token_is_remembered_for_a_while() -> None:
    fixture = Fixture(cache_seconds=60)
    first = await fixture.verify()
    fixture.clock.now += 59
    assert await fixture.verify() is first
    fixture.answer({"active": False})
    fixture.clock.now += 1
    assert await fixture.outcome() == "InvalidToken"
    assert fixture.asked == 2


async def test_a_token_is_not_remembered_for_longer_than_it_is_valid() -> None:
    fixture = Fixture(active(exp=NOW + 10), cache_seconds=600, leeway=5)
    await fixture.verify()
    fixture.clock.now += 14
    await fixture.verify()
    assert fixture.asked == 1
    fixture.clock.now += 1
    assert await fixture.outcome() == "InvalidToken"
    assert fixture.asked == 2


async def test_a_refused_token_is_remembered_shortly() -> None:
    fixture = Fixture({"active": False}, negative_seconds=10)
    assert [await fixture.outcome() for _ in range(5)] == ["InvalidToken"] * 5
    assert fixture.asked == 1
    fixture.answer(active())
    fixture.clock.now += 10
    assert await fixture.outcome() == f"{ISSUER}#ada"


async def test_invented_tokens_drive_out_no_accepted_one() -> None:
    fixture = Fixture(cache_size=2)
    await fixture.verify()
    fixture.answer({"active": False})
    for number in range(10):
        assert await fixture.outcome(f"invented-{number}") == "InvalidToken"
    assert await fixture.outcome() == f"{ISSUER}#ada"
    assert fixture.asked == 11


async def test_of_many_requests_with_one_token_one_asks() -> None:
    fixture = Fixture()
    assert await fixture.crowd([TOKEN] * 500, 1) == [f"{ISSUER}#ada"] * 500
    assert fixture.asked == 1


async def test_of_many_requests_with_one_token_one_meets_the_outage() -> None:
    fixture = Fixture()
    fixture.answer(OSError("no route"))
    assert await fixture.crowd([TOKEN] * 500, 1) == ["VerifierUnavailable"] * 500
    assert fixture.asked == 1


async def test_the_endpoint_gets_a_bounded_number_of_requests_at_a_time() -> None:
    fixture = Fixture(max_at_once=3)
    outcomes = await fixture.crowd([f"token-{number}" for number in range(10)], 3)
    assert outcomes == [f"{ISSUER}#ada"] * 10
    assert fixture.asked == 10


async def test_if_the_request_that_asks_is_cancelled_another_one_asks() -> None:
    fixture = Fixture()
    fixture.web.gate = trio.Event()
    outcomes: list[str] = []

    async def check(scope: trio.CancelScope) -> None:
        with scope:
            outcomes.append(await fixture.outcome())

    first, second = trio.CancelScope(), trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(check, first)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(check, second)
        await trio.testing.wait_all_tasks_blocked()
        first.cancel()
        await trio.testing.wait_all_tasks_blocked()
        fixture.web.gate.set()
    assert outcomes == [f"{ISSUER}#ada"]
    assert fixture.asked == 2


async def test_the_claims_cannot_be_changed() -> None:
    principal = await Fixture().verify()
    with pytest.raises(TypeError):
        principal.claims["sub"] = "root"  # type: ignore[index]


# Settings.


@pytest.mark.parametrize(
    "changed",
    [
        {"endpoint": "http://issuer.example/introspect"},
        {"endpoint": "https://a:b@issuer.example/introspect"},
        {"endpoint": ""},
        {"client_id": ""},
        {"client_secret": ""},
        {"audience": []},
        {"audience": ""},
        {"issuer": ""},
        {"issuer": "https://issuer.example#a"},
        {"auth_method": "none"},
        {"leeway": -1},
        {"cache_seconds": -1},
        {"negative_seconds": float("inf")},
        {"cache_size": 0},
        {"max_at_once": 0},
        {"scope_claims": []},
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(changed: dict[str, Any]) -> None:
    options: dict[str, Any] = {
        "endpoint": ENDPOINT,
        "client_id": "server",
        "client_secret": SECRET,
        "audience": AUDIENCE,
        **changed,
    }
    with pytest.raises(ValueError, match=r"\w") as caught:
        Introspection(**options)
    assert SECRET not in describe_all(caught.value)


def test_a_secret_is_not_shown() -> None:
    assert SECRET not in repr(Introspection(ENDPOINT, "server", SECRET, audience=AUDIENCE))
    with pytest.raises(TypeError) as caught:
        Introspection(ENDPOINT, "server", SECRET.encode(), audience=AUDIENCE)  # type: ignore[arg-type]
    assert "the secret" not in describe_all(caught.value)


def test_the_audience_must_be_thought_of() -> None:
    with pytest.raises(TypeError, match="audience"):
        Introspection(ENDPOINT, "server", SECRET)  # type: ignore[call-arg]


async def test_the_answer_is_not_shared_with_who_made_it() -> None:
    content = active()
    fixture = Fixture(json.loads(json.dumps(content)))
    assert "active" not in (await fixture.verify()).claims
