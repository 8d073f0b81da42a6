"""Tokens that are bound to a key: got and presented with proofs, and with the nonces that servers want."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from joserfc import jwt
from joserfc.jwk import ECKey
from trio.testing import MockClock

from tests.oauth.fake_network import CHALLENGE, ISSUER, METADATA_URL, SERVER, Asked, Network, answer, meet
from tests.oauth.test_dpop import read
from trio_mcp.errors import AuthorizationError
from trio_mcp.oauth.client_credentials import ClientCredentials
from trio_mcp.oauth.requests import OAuthAnswer
from trio_mcp.oauth.token_keeper import TokenKeeper
from trio_mcp.transports.http.authorizer import Refusal

NONCE_WANTED = {
    "www-authenticate": f'DPoP error="use_dpop_nonce", resource_metadata="{METADATA_URL}"',
    "dpop-nonce": "resource-nonce",
}


@attrs.define
class BoundTokens:
    """A token endpoint that binds its tokens to the keys of proofs, and wants a nonce if it has one."""

    nonce: str | None = None
    members: dict[str, Any] = attrs.field(factory=dict)
    thumbprints: list[str] = attrs.field(factory=list)

    def __call__(self, asked: Asked) -> OAuthAnswer:
        proof = read(asked.headers["dpop"])
        assert (proof.claims["htm"], proof.claims["htu"]) == ("POST", asked.url)
        if proof.claims.get("nonce") != self.nonce:
            return answer({"error": "use_dpop_nonce"}, 400, {"dpop-nonce": str(self.nonce)})
        self.thumbprints.append(proof.header["jwk"]["x"])
        token = f"token-{len(self.thumbprints)}"
        return answer({"access_token": token, "token_type": "DPoP", **self.members})


def open_keeper(network: Network, endpoint: Any, **metadata: Any) -> TokenKeeper:
    network.add_server()
    network.add_issuer(endpoint, dpop_signing_alg_values_supported=["ES256"], **metadata)
    return ClientCredentials("client", "s3cret", dpop=True).for_server(SERVER, None)


def proof_of(headers: Any) -> jwt.Token:
    return read(headers["dpop"])


async def test_a_token_is_presented_with_the_key_to_which_it_is_bound(network: Network) -> None:
    endpoint = BoundTokens()
    keeper = open_keeper(network, endpoint)
    assert await keeper.headers("POST", SERVER) == {}
    assert await meet(keeper, headers={"www-authenticate": f'DPoP resource_metadata="{METADATA_URL}"'})
    first, second = [await keeper.headers("POST", SERVER) for _ in range(2)]
    assert first["authorization"] == second["authorization"] == "DPoP token-1"
    assert [proof_of(first).header["jwk"]["x"]] == endpoint.thumbprints
    assert proof_of(first).claims["jti"] != proof_of(second).claims["jti"]
    assert network.asked[0].url == METADATA_URL


async def test_the_nonces_of_both_servers_go_into_the_proofs(network: Network) -> None:
    keeper = open_keeper(network, BoundTokens(nonce="issuer-nonce"))
    assert await meet(keeper)
    assert len(network.forms()) == 2
    assert "nonce" not in proof_of(await keeper.headers("POST", SERVER)).claims
    assert await meet(keeper, headers=NONCE_WANTED, attempt=1)
    assert proof_of(await keeper.headers("POST", SERVER)).claims["nonce"] == "resource-nonce"
    assert len(network.forms()) == 2, "a nonce needs no other token"
    keeper.note_answer(SERVER, {"dpop-nonce": "next"})
    assert proof_of(await keeper.headers("POST", SERVER)).claims["nonce"] == "next"


async def test_a_token_that_expires_beside_its_nonce_is_replaced(
    network: Network, autojump_clock: MockClock
) -> None:
    keeper = open_keeper(network, BoundTokens())
    assert await meet(keeper)
    await trio.sleep(3600)
    assert await meet(keeper, headers=NONCE_WANTED, attempt=0)
    assert await meet(keeper, headers={"www-authenticate": 'DPoP error="invalid_token"'}, attempt=1)
    assert (await keeper.headers("POST", SERVER))["authorization"] == "DPoP token-2"
    with pytest.raises(AuthorizationError, match="does not accept the token"):
        await meet(keeper, headers={"www-authenticate": 'DPoP error="invalid_token"'}, attempt=2)


async def test_requests_that_were_refused_together_get_one_token(network: Network) -> None:
    keeper = open_keeper(network, BoundTokens())
    await meet(keeper)
    presented = [await keeper.headers("POST", SERVER) for _ in range(10)]
    for each in presented:
        assert await keeper.answer(Refusal(401, CHALLENGE, each, "POST", SERVER))
    assert len(network.forms()) == 2


async def test_the_request_with_the_nonce_has_an_assertion_of_its_own(network: Network) -> None:
    network.add_server()
    network.add_issuer(BoundTokens(nonce="issuer-nonce"))
    key = ECKey.generate_key("P-256")
    auth = ClientCredentials("client", private_key=key.as_pem(private=True), dpop=True)
    assert await meet(auth.for_server(SERVER, None))
    first, second = [form.fields["client_assertion"] for form in network.forms()]
    ids = {jwt.decode(each, key, ["ES256"]).claims["jti"] for each in (first, second)}
    assert len(ids) == 2, "a server takes each only once"


async def test_a_token_that_is_bound_to_no_key_is_refused(network: Network) -> None:
    keeper = open_keeper(network, BoundTokens(members={"token_type": "Bearer"}))
    with pytest.raises(AuthorizationError, match="type"):
        await meet(keeper)
    assert await keeper.headers("POST", SERVER) == {}


async def test_a_server_that_takes_no_such_proofs_is_not_asked(network: Network) -> None:
    network.add_server()
    network.add_issuer(BoundTokens(), dpop_signing_alg_values_supported=["ES256"])
    auth = ClientCredentials("client", "s3cret", dpop="Ed25519")
    with pytest.raises(AuthorizationError, match="no DPoP proofs that are signed with Ed25519"):
        await meet(auth.for_server(SERVER, None))
    assert not network.forms(ISSUER)


def test_an_algorithm_that_there_is_not_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="keys are made for"):
        ClientCredentials("client", "s3cret", dpop="HS256")
