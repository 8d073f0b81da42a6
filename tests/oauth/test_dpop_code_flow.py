"""A user's tokens that are bound to a key: the key is kept with them, and proves them after a restart."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import attrs
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from tests.oauth.fake_network import ISSUER, SERVER, Asked, Network, answer, meet, refuse
from tests.oauth.test_dpop import read
from trio_mcp import OAuth
from trio_mcp.oauth.requests import OAuthAnswer
from trio_mcp.oauth.storage import MemoryStorage

NONCE = "issuer-nonce"


@attrs.define
class Issuer:
    """An authorization server that binds codes, tokens and refresh tokens to the key of a proof."""

    kind: str = "DPoP"
    life: int = 3600
    bound_to: str = ""
    requests: list[dict[str, str]] = attrs.field(factory=list)
    given: list[str] = attrs.field(factory=list)

    async def agree(self, url: str) -> str:
        fields = dict(parse_qsl(urlsplit(url).query))
        self.requests.append(fields)
        self.bound_to = fields.get("dpop_jkt", "")
        return urlencode({"code": "s3cret-code", "state": fields["state"], "iss": ISSUER})

    def give(self, asked: Asked) -> OAuthAnswer:
        if self.kind == "DPoP":
            proof = read(asked.headers["dpop"])
            if proof.claims.get("nonce") != NONCE:
                return answer({"error": "use_dpop_nonce"}, 400, {"dpop-nonce": NONCE})
            if thumbprint(proof) != self.bound_to:
                return refuse("invalid_grant")
        self.given.append(asked.fields["grant_type"])
        number = len(self.given)
        return answer(
            {
                "access_token": f"s3cret-{number}",
                "token_type": self.kind,
                "refresh_token": f"s3cret-refresh-{number}",
                "expires_in": self.life,
            }
        )


def thumbprint(proof: jwt.Token) -> str:
    return ECKey.import_key(proof.header["jwk"]).thumbprint()


@pytest.fixture
def issuer(network: Network) -> Issuer:
    found = Issuer()
    network.add_server()
    network.add_issuer(
        found.give,
        authorization_endpoint=f"{ISSUER}/authorize",
        code_challenge_methods_supported=["S256"],
        dpop_signing_alg_values_supported=["ES256"],
        authorization_response_iss_parameter_supported=True,
    )
    return found


def make(issuer: Issuer, storage: MemoryStorage, **options: Any) -> OAuth:
    return OAuth(
        client_id="client",
        redirect=issuer.agree,
        redirect_uri="http://127.0.0.1:4000/callback",
        storage=storage,
        **{"dpop": True, **options},
    )


async def test_code_and_token_are_bound_to_the_key_that_presents_the_token(issuer: Issuer) -> None:
    keeper = make(issuer, MemoryStorage()).for_server(SERVER, None)
    assert await meet(keeper)
    headers = await keeper.headers("POST", SERVER)
    assert headers["authorization"] == "DPoP s3cret-1"
    assert thumbprint(read(headers["dpop"])) == issuer.bound_to


async def test_after_a_restart_the_kept_key_presents_and_refreshes_the_kept_token(issuer: Issuer) -> None:
    now = 1000.0
    storage = MemoryStorage()
    await meet(make(issuer, storage, now=lambda: now).for_server(SERVER, None))
    again = make(issuer, storage, now=lambda: now).for_server(SERVER, None)
    headers = await again.headers("POST", SERVER)
    assert headers["authorization"] == "DPoP s3cret-1"
    assert thumbprint(read(headers["dpop"])) == issuer.bound_to
    now += issuer.life
    headers = await again.headers("POST", SERVER)
    assert headers["authorization"] == "DPoP s3cret-2"
    assert thumbprint(read(headers["dpop"])) == issuer.bound_to
    assert issuer.given == ["authorization_code", "refresh_token"]
    assert len(issuer.requests) == 1, "the user was asked once"


async def test_tokens_that_another_process_got_are_refreshed_with_its_key(issuer: Issuer) -> None:
    now = 1000.0
    storage = MemoryStorage()
    first = make(issuer, storage, now=lambda: now).for_server(SERVER, None)
    await meet(first)
    # Another process lets its user authorize it anew, with a key of its own.
    await storage.delete(f"tokens {SERVER}")
    await meet(make(issuer, storage, now=lambda: now).for_server(SERVER, None))
    now += issuer.life
    headers = await first.headers("POST", SERVER)
    assert headers["authorization"] == "DPoP s3cret-3"
    assert thumbprint(read(headers["dpop"])) == issuer.bound_to


@pytest.mark.parametrize("was_bound", [True, False])
async def test_kept_tokens_of_the_other_kind_are_not_used(issuer: Issuer, was_bound: bool) -> None:
    storage = MemoryStorage()
    issuer.kind = "DPoP" if was_bound else "Bearer"
    await meet(make(issuer, storage, dpop=was_bound).for_server(SERVER, None))
    again = make(issuer, storage, dpop=not was_bound).for_server(SERVER, None)
    assert await again.headers("POST", SERVER) == {}
    issuer.kind = "Bearer" if was_bound else "DPoP"
    assert await meet(again)
    assert len(issuer.requests) == 2


async def test_nothing_shows_the_key(issuer: Issuer) -> None:
    storage = MemoryStorage()
    auth = make(issuer, storage)
    keeper = auth.for_server(SERVER, None)
    await meet(keeper)
    assert keeper.grant is not None
    assert keeper.grant.key is not None
    shown = f"{auth!r} {keeper!r} {keeper.grant!r} {storage!r}"
    assert str(keeper.grant.key["d"]) not in shown
    assert "s3cret" not in shown
