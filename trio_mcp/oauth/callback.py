"""The answer to an authorization request, as it comes back by the user's browser.

Owns what is checked in it, and in which order. Refuses to know how it was received and what follows.
"""

from __future__ import annotations

import hmac
from urllib.parse import parse_qs

from trio_mcp.errors import AuthorizationDenied, AuthorizationError
from trio_mcp.printable import printable
from trio_mcp.wire.authorization import AuthorizationServerMetadata


def read_callback(query: str, state: str, metadata: AuthorizationServerMetadata) -> str:
    """The code in the answer to an authorization request.

    Raises AuthorizationDenied if it is a refusal, and AuthorizationError unless it carries `state` and comes
    from the right issuer ("Authorization Response Validation"); before, nothing in it is believed or shown.
    """
    issuer = metadata.issuer
    fields = parse_qs(query.removeprefix("?"), keep_blank_values=True)
    if any(len(fields.get(name, ())) > 1 for name in ("state", "iss", "code", "error")):
        raise AuthorizationError("the answer to the authorization request is ambiguous", issuer=issuer)
    found = {name: values[0] for name, values in fields.items()}
    if not hmac.compare_digest(found.get("state", "").encode(), state.encode()):
        raise AuthorizationError(
            "the answer to the authorization request carries another state, so it is none to ours",
            issuer=issuer,
        )
    named = found.get("iss")
    if named is None and metadata.authorization_response_iss_parameter_supported:
        raise AuthorizationError(
            f"the answer to the authorization request does not say that it is from {issuer}", issuer=issuer
        )
    if named is not None and named != issuer:
        raise AuthorizationError(
            f"the answer to the authorization request is not from {issuer}", issuer=issuer
        )
    if "error" in found:
        error, description = found["error"], found.get("error_description")
        said = printable((f"{error}: {description}" if description else error)[:300])
        kind = AuthorizationDenied if error == "access_denied" else AuthorizationError
        raise kind(f"{issuer} does not let the client in: {said}", error=error, issuer=issuer)
    code = found.get("code")
    if not code:
        raise AuthorizationError(f"{issuer} gave neither a code nor an error", issuer=issuer)
    return code
