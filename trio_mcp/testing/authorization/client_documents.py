"""Clients whose id is the URL of a document about them (draft-ietf-oauth-client-id-metadata-document-00).

Owns the finding of clients, and the fetching and checking of these documents. Refuses to know endpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
import trio

from trio_mcp.testing.authorization import jose
from trio_mcp.testing.authorization.clients import CODE, REFRESH, OAuthClient, find_redirect_flaw
from trio_mcp.testing.authorization.exchange import OAuthProblem
from trio_mcp.testing.authorization.local_request import get_local
from trio_mcp.testing.authorization.state import AuthorizationState
from trio_mcp.transports.http.response import UnreachableError
from trio_mcp.wire.origin import is_loopback_host


async def find_client(state: AuthorizationState, client_id: str) -> OAuthClient | None:
    """The client with this id, or None; checkpoints if its document is fetched. Raises OAuthProblem."""
    known = state.clients.get(client_id)
    if known is not None or not state.settings.client_documents or "://" not in client_id:
        return known
    _check_url(client_id)
    try:
        document = await state.fetch_document(client_id)
    except (OSError, ValueError, UnreachableError, trio.TooSlowError):
        raise OAuthProblem("invalid_client", "the client's metadata document cannot be fetched") from None
    client = read_document(client_id, document)
    state.clients.put(client_id, client)
    return client


def _check_url(url: str) -> None:
    """The URL that a client may have as its id (section 3); http only for this machine."""
    try:
        split = urlsplit(url)
        host = split.hostname or ""
    except ValueError:
        host, split = "", urlsplit("")
    is_http = split.scheme == "http" and is_loopback_host(host)
    is_plain = not (split.username or split.password or "#" in url)
    has_dots = any(part in (".", "..") for part in split.path.split("/"))
    if not host or not (split.scheme == "https" or is_http) or not is_plain or not split.path or has_dots:
        raise OAuthProblem("invalid_client", "the URL cannot be the id of a client")


def read_document(url: str, content: bytes) -> OAuthClient:
    """The client that a metadata document describes (section 4); raises OAuthProblem."""
    try:
        document = msgspec.json.decode(content, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise OAuthProblem("invalid_client", "the client's metadata document is no JSON object") from None
    if document.get("client_id") != url:
        raise OAuthProblem("invalid_client", "client_id in the metadata document is not its URL")
    if "client_secret" in document or "client_secret_expires_at" in document:
        raise OAuthProblem("invalid_client", "a public document cannot hold a secret")
    method = document.get("token_endpoint_auth_method", "none")
    if method not in ("none", "private_key_jwt"):
        raise OAuthProblem("invalid_client", "a client with a document has no shared secret")
    redirects, name = document.get("redirect_uris"), document.get("client_name")
    if not isinstance(redirects, list) or not all(_is_redirect(one) for one in redirects):
        raise OAuthProblem("invalid_client", "redirect_uris in the document are missing or not allowed")
    if not isinstance(name, str):
        raise OAuthProblem("invalid_client", "client_name in the metadata document is missing")
    return OAuthClient(
        client_id=url,
        auth_method=method,
        redirect_uris=tuple(redirects),
        grant_types=_read_grant_types(document),
        name=name,
        keys=_read_keys(document, method),
    )


def _is_redirect(uri: object) -> bool:
    return isinstance(uri, str) and find_redirect_flaw(uri, "native") is None


def _read_grant_types(document: Mapping[str, Any]) -> tuple[str, ...]:
    given = document.get("grant_types", [CODE, REFRESH])
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise OAuthProblem("invalid_client", "grant_types in the metadata document are no list of names")
    return tuple(given)


def _read_keys(document: Mapping[str, Any], method: str) -> jose.KeySet | None:
    if method == "none":
        return None
    try:
        return jose.read_keys(document.get("jwks"))
    except jose.InvalidJwt:
        raise OAuthProblem("invalid_client", "private_key_jwt needs keys in jwks") from None


async def fetch_local_document(url: str) -> bytes:
    """Read a document of this machine; checkpoints. Raises OAuthProblem, UnreachableError or ValueError."""
    if not is_loopback_host(urlsplit(url).hostname or ""):
        raise OAuthProblem(
            "invalid_client",
            "this development server reads metadata documents from this machine alone; "
            "hand it others with documents= or fetch_document=",
        )
    answer = await get_local(url, "application/json")
    if answer.status != 200:
        raise OAuthProblem("invalid_client", f"the metadata document was answered with {answer.status}")
    return answer.body
