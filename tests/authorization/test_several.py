"""Several verifiers in turn."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from tests.support.issuer import AUDIENCE, ISSUER, JWKS_URI, Clock, FakeWeb, claims, make_key, refuse, sign
from trio_mcp import AnyOf, JwtVerifier, StaticTokens
from trio_mcp.authorization.verifier import InvalidToken, VerifierUnavailable
from trio_mcp.session.principal import Principal


@attrs.define(eq=False)
class Fixed:
    """Always says the same; `asked` counts how often."""

    answer: Principal | Exception
    asked: int = 0

    async def verify(self, token: str) -> Principal:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


ADA = Principal("ada")
REFUSAL = InvalidToken("the access token has expired")
OUTAGE = VerifierUnavailable("away", retry_after=7)


async def test_the_first_that_accepts_a_token_decides() -> None:
    refusing, accepting, last = Fixed(REFUSAL), Fixed(ADA), Fixed(Principal("other"))
    assert await AnyOf(refusing, accepting, last).verify("token") is ADA
    assert (refusing.asked, accepting.asked, last.asked) == (1, 1, 0)


async def test_a_token_is_invalid_if_all_say_so() -> None:
    verifier = AnyOf(Fixed(REFUSAL), Fixed(InvalidToken("the access token is not known")), Fixed(REFUSAL))
    with pytest.raises(InvalidToken) as caught:
        await verifier.verify("token")
    assert caught.value.reason == "the access token has expired; the access token is not known"


async def test_an_outage_of_one_does_not_matter_if_another_accepts() -> None:
    assert await AnyOf(Fixed(OUTAGE), Fixed(ADA)).verify("token") is ADA


@pytest.mark.parametrize("verifiers", [(OUTAGE, REFUSAL), (REFUSAL, OUTAGE), (OUTAGE,)])
async def test_if_one_cannot_say_and_none_accepts_nobody_can(verifiers: Any) -> None:
    with pytest.raises(VerifierUnavailable) as caught:
        await AnyOf(*map(Fixed, verifiers)).verify("token")
    assert (caught.value.reason, caught.value.retry_after) == ("away", 7)


async def test_the_shortest_of_several_outages_is_told() -> None:
    longer = VerifierUnavailable("also away", retry_after=30)
    with pytest.raises(VerifierUnavailable) as caught:
        await AnyOf(Fixed(longer), Fixed(OUTAGE)).verify("token")
    assert (caught.value.reason, caught.value.retry_after) == ("also away; away", 7)


async def test_a_function_is_a_verifier_as_well() -> None:
    async def verify(token: str) -> Principal:
        if token != "known":
            raise InvalidToken
        return ADA

    assert await AnyOf(Fixed(REFUSAL), verify).verify("known") is ADA


async def test_an_error_that_is_none_of_the_two_passes() -> None:
    with pytest.raises(ZeroDivisionError):
        await AnyOf(Fixed(ZeroDivisionError()), Fixed(ADA)).verify("token")


async def test_an_outage_of_one_issuer_concerns_no_token_of_another(caplog: pytest.LogCaptureFixture) -> None:
    web, key, clock = FakeWeb(), make_key(), Clock()
    web.publish(key)
    web.cut("https://other.example/keys")
    verifier = AnyOf(
        JwtVerifier(
            "https://other.example", AUDIENCE, jwks_uri="https://other.example/keys", fetch=web, clock=clock
        ),
        JwtVerifier(ISSUER, AUDIENCE, jwks_uri=JWKS_URI, fetch=web, clock=clock),
        StaticTokens({"token-of-ada": "ada"}),
    )
    assert (await verifier.verify(sign(key, claims()))).name == f"{ISSUER}#ada"
    assert (await verifier.verify("token-of-ada")).name == "ada"
    await refuse(verifier, sign(key, claims(iss="https://evil.example")), caplog)
    assert set(web.asked) == {JWKS_URI}
    with pytest.raises(VerifierUnavailable):
        await verifier.verify(sign(key, claims(iss="https://other.example")))
    assert verifier.issuers == ("https://other.example", ISSUER)


def test_it_is_for_development_if_one_of_them_is() -> None:
    static = StaticTokens({"token": "ada"})
    assert AnyOf(Fixed(ADA), static).is_for_development
    assert AnyOf(AnyOf(static)).is_for_development
    assert not AnyOf(Fixed(ADA)).is_for_development
    assert "StaticTokens" in repr(AnyOf(static))


def test_what_is_no_verifier_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        AnyOf()
    with pytest.raises(TypeError, match="is no verifier"):
        AnyOf("token")  # type: ignore[arg-type]
