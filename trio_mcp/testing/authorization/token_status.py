"""What becomes of a token that was handed out: introspection (RFC 7662) and revocation (RFC 7009).

Owns who may ask. The life of tokens is in `grants.py`.
"""

from __future__ import annotations

from trio_mcp.testing.authorization.client_authentication import authenticate_client
from trio_mcp.testing.authorization.exchange import Answer, OAuthProblem, Request, answer_json
from trio_mcp.testing.authorization.state import AuthorizationState


async def answer_introspect(state: AuthorizationState, request: Request) -> Answer:
    """Describe a token to a client with credentials, such as a protected server. Raises OAuthProblem.

    Checkpoints if a metadata document is fetched.
    """
    form = request.form()
    client = await authenticate_client(state, request, form)
    if client.is_public:
        raise OAuthProblem("invalid_client", "only a client with credentials may ask", 401)
    return answer_json(state.grants.describe(form.need("token")))


async def answer_revoke(state: AuthorizationState, request: Request) -> Answer:
    """Revoke a token of the client that asks; an unknown token is no failure. Raises OAuthProblem.

    Checkpoints if a metadata document is fetched.
    """
    form = request.form()
    client = await authenticate_client(state, request, form)
    state.grants.revoke(form.need("token"), client.client_id)
    return Answer(200, {"cache-control": "no-store"})
