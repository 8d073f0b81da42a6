"""The end of tokens at their authorization server (RFC 7009), for a user who logs out."""

from __future__ import annotations

from typing import Final

from trio_mcp.oauth.discovery import require_endpoint
from trio_mcp.oauth.registration import ClientRegistration
from trio_mcp.oauth.requests import post_form, read_refusal
from trio_mcp.oauth.token_set import TokenSet
from trio_mcp.oauth.url_policy import UrlPolicy
from trio_mcp.wire.authorization import AuthorizationServerMetadata

UNSUPPORTED: Final = "unsupported_token_type"
"""Says an authorization server that revokes only one kind of tokens (RFC 7009, 2.2.1)."""


async def revoke(
    tokens: TokenSet,
    metadata: AuthorizationServerMetadata,
    registration: ClientRegistration,
    policy: UrlPolicy,
) -> bool:
    """End the tokens that a client has got; False if the authorization server does not offer that.

    Checkpoints. Raises AuthorizationError if it cannot be asked, or refuses.
    """
    issuer = metadata.issuer
    if metadata.revocation_endpoint is None:
        return False
    url = require_endpoint(metadata.revocation_endpoint, "revocation endpoint", issuer, policy)
    what = "the revocation endpoint"
    # The refresh token first: with it most servers end the access tokens as well.
    for kind, token in (("refresh_token", tokens.refresh_token), ("access_token", tokens.access_token)):
        if token is None:
            continue
        fields, headers = registration.authenticate({"token": token, "token_type_hint": kind})
        answer = await post_form(url, fields, headers=headers, policy=policy, what=what)
        refusal = None if answer.is_success else read_refusal(answer, what, issuer)
        if refusal is not None and refusal.error != UNSUPPORTED:
            raise refusal
    return True
