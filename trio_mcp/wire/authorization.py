"""What travels for authorization: challenges, metadata, and where it is found (MCP authorization).

Owns the syntax of WWW-Authenticate, the documents of OAuth as far as MCP uses them, and the URLs that follow
from a server's or an issuer's. Fetches nothing, trusts nothing, and decides nothing about tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar
from urllib.parse import SplitResult, urlsplit, urlunsplit

import attrs
import msgspec

from trio_mcp.wire.tolerant import UNREADABLE, read_tolerantly

PROTECTED_RESOURCE: Final = "/.well-known/oauth-protected-resource"
AUTHORIZATION_SERVER: Final = "/.well-known/oauth-authorization-server"
OPENID_CONFIGURATION: Final = "/.well-known/openid-configuration"

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TOKEN68: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|\Z))")
_EQUALS: Final = re.compile(r"[ \t]*=[ \t]*")
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_BLANKS: Final = re.compile(r"[ \t,]*")
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_UNSENDABLE: Final = re.compile(r"[^\x20-\x7e]")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_HTTP_SCHEMES: Final = {"ws": "http", "wss": "https"}


@attrs.frozen
class Challenge:
    """One challenge of a WWW-Authenticate header (RFC 9110, 11.6.1).

    `scheme` and the names of `parameters` are lower-case. `token68` is what a scheme such as Negotiate has
    in place of parameters.
    """

    scheme: str
    parameters: Mapping[str, str] = attrs.field(factory=dict)
    token68: str | None = None


def parse_challenges(header: str) -> list[Challenge]:
    """The challenges of one header, or of several that were joined by commas; unreadable parts are left out.

    The first of several parameters with one name counts.
    """
    challenges: list[Challenge] = []
    parameters: dict[str, str] | None = None
    at = 0
    while (at := _end_of(_BLANKS, header, at)) < len(header):
        name = _TOKEN.match(header, at)
        if name is None:
            at = _next_element(header, at)
            continue
        value, end = _read_value(header, name.end())
        if value is not None:
            if parameters is not None:
                parameters.setdefault(name[0].lower(), value)
            at = end
            continue
        at = name.end()
        if at < len(header) and header[at] not in " \t,":
            at, parameters = _next_element(header, at), None  # neither a scheme nor a parameter
            continue
        parameters = {}
        credentials = (
            _TOKEN68.match(header, _end_of(_BLANKS, header, at)) if header[at : at + 1] != "," else None
        )
        challenges.append(Challenge(name[0].lower(), parameters, credentials and credentials[0]))
        at = credentials.end() if credentials else at
    return challenges


def find_challenge(header: str | None, scheme: str = "bearer") -> Challenge | None:
    """The first challenge of `scheme` (lower-case) in a WWW-Authenticate header, or None."""
    challenges = parse_challenges(header) if header else []
    return next((challenge for challenge in challenges if challenge.scheme == scheme), None)


def render_challenge(scheme: str, parameters: Mapping[str, str]) -> str:
    """A challenge as a header has it; quotes are escaped, and what no header may hold becomes "?"."""
    rendered = ", ".join(f'{name}="{_escape(value)}"' for name, value in parameters.items())
    return f"{scheme} {rendered}" if rendered else scheme


def _escape(value: str) -> str:
    return _UNSENDABLE.sub("?", value).replace("\\", "\\\\").replace('"', '\\"')


def _end_of(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return at if found is None else found.end()


def _next_element(header: str, at: int) -> int:
    comma = header.find(",", at)
    return len(header) if comma < 0 else comma


def _read_value(header: str, at: int) -> tuple[str | None, int]:
    """The value of a parameter whose name ends at `at`, and its end; None if it is the name of none."""
    equals = _EQUALS.match(header, at)
    if equals is None:
        return None, at
    quoted = _QUOTED.match(header, equals.end())
    if quoted is not None:
        return _ESCAPED.sub(r"\1", quoted[1]), quoted.end()
    plain = _TOKEN.match(header, equals.end())
    return (None, at) if plain is None else (plain[0], plain.end())


class ProtectedResourceMetadata(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a server says about its authorization (RFC 9728, 2)."""

    resource: str
    authorization_servers: list[str] | None = None
    scopes_supported: list[str] | None = None
    bearer_methods_supported: list[str] | None = None
    jwks_uri: str | None = None
    resource_name: str | None = None
    resource_documentation: str | None = None
    resource_policy_uri: str | None = None
    resource_tos_uri: str | None = None
    dpop_signing_alg_values_supported: list[str] | None = None
    dpop_bound_access_tokens_required: bool | None = None


class AuthorizationServerMetadata(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What an authorization server says about itself (RFC 8414, 2; OpenID Connect Discovery 1.0, 3)."""

    issuer: str
    authorization_endpoint: str | None = None
    token_endpoint: str | None = None
    registration_endpoint: str | None = None
    revocation_endpoint: str | None = None
    introspection_endpoint: str | None = None
    jwks_uri: str | None = None
    scopes_supported: list[str] | None = None
    response_types_supported: list[str] | None = None
    response_modes_supported: list[str] | None = None
    grant_types_supported: list[str] | None = None
    code_challenge_methods_supported: list[str] | None = None
    token_endpoint_auth_methods_supported: list[str] | None = None
    token_endpoint_auth_signing_alg_values_supported: list[str] | None = None
    client_id_metadata_document_supported: bool | None = None
    authorization_response_iss_parameter_supported: bool | None = None
    authorization_grant_profiles_supported: list[str] | None = None
    dpop_signing_alg_values_supported: list[str] | None = None
    subject_types_supported: list[str] | None = None
    id_token_signing_alg_values_supported: list[str] | None = None


class _Secretive(msgspec.Struct):
    """A struct that does not show its values, because some are secrets."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


class TokenResponse(_Secretive, kw_only=True, omit_defaults=True):
    """The answer of a token endpoint (RFC 6749, 5.1). `expires_in` is in seconds; some send a string."""

    access_token: str
    token_type: str = "Bearer"
    expires_in: float | str | None = None
    refresh_token: str | None = None
    scope: str | None = None
    issued_token_type: str | None = None
    id_token: str | None = None


class ClientInformation(_Secretive, kw_only=True, omit_defaults=True):
    """The answer of a registration endpoint (RFC 7591, 3.2.1). Times are in Unix seconds; 0 is never."""

    client_id: str
    client_secret: str | None = None
    client_secret_expires_at: float | None = None
    token_endpoint_auth_method: str | None = None
    redirect_uris: list[str] | None = None


class OAuthErrorBody(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How an endpoint of OAuth refuses (RFC 6749, 5.2)."""

    error: str
    error_description: str | None = None
    error_uri: str | None = None


_Document = TypeVar("_Document", bound=msgspec.Struct)


def read_document(raw: bytes, kind: type[_Document], what: str) -> _Document:
    """Decode a document of a peer; `what` names it. Members that cannot be read are left out, with a warning.

    Raises ValueError if it is none. The message repeats no value of the document.
    """
    try:
        return msgspec.json.decode(raw, type=kind)
    except UNREADABLE:
        pass
    try:
        document: _Document = read_tolerantly(raw, kind, what)
    except UNREADABLE as error:
        raise ValueError(f"{what} is malformed: {error}") from None
    return document


def protected_resource_urls(server_url: str) -> tuple[str, ...]:
    """Where the metadata of the server at `server_url` may be, the likeliest first (RFC 9728, 3.1).

    Raises ValueError if it is no URL of a server.
    """
    parts = _split(server_url)
    root = _join(parts.scheme, parts.netloc, PROTECTED_RESOURCE)
    if parts.path in ("", "/") and not parts.query:
        return (root,)
    path = "" if parts.path == "/" else parts.path
    return (_join(parts.scheme, parts.netloc, PROTECTED_RESOURCE + path, parts.query), root)


def authorization_server_urls(issuer: str) -> tuple[str, ...]:
    """Where the metadata of `issuer` may be, in the order in which they are tried (MCP authorization server
    discovery, "Authorization Server Metadata Discovery").

    Raises ValueError if it is no URL of an issuer.
    """
    parts = _split(issuer)
    if parts.query or "?" in issuer or "#" in issuer:
        raise ValueError(
            f"the issuer {issuer!r} has a query or a fragment, which none may have (RFC 8414, 2)"
        )
    path = parts.path.rstrip("/")
    inserted = [f"{AUTHORIZATION_SERVER}{path}", f"{OPENID_CONFIGURATION}{path}"]
    paths = [*inserted, f"{path}{OPENID_CONFIGURATION}"] if path else inserted
    return tuple(_join(parts.scheme, parts.netloc, one) for one in paths)


def canonical_resource(url: str) -> str:
    """The identifier of the server at `url`, as a `resource` parameter has it (MCP, "Canonical Server URI").

    Scheme and host are lower-case, the default port and a path of "/" alone are left out, as is a fragment; a
    WebSocket's URL becomes that of HTTP. Raises ValueError if it is no URL of a server.
    """
    parts = _split(url)
    path = "" if parts.path == "/" and not parts.query else parts.path
    return _join(parts.scheme, parts.netloc, path, parts.query)


def resource_covers(resource: str, server_url: str) -> bool:
    """Whether a token for `resource` is one for the server at `server_url`.

    Their origins are equal, and the path of `resource` is that of the server or leads to it, segment by
    segment. A resource with a query is that one URL.
    """
    try:
        outer, inner = _split(resource), _split(server_url)
    except ValueError:
        return False
    if (outer.scheme, outer.netloc) != (inner.scheme, inner.netloc) or "#" in resource:
        return False
    if outer.query:
        return (outer.path or "/", outer.query) == (inner.path or "/", inner.query)
    return f"{inner.path.rstrip('/')}/".startswith(f"{outer.path.rstrip('/')}/")


def _join(scheme: str, netloc: str, path: str, query: str = "") -> str:
    return urlunsplit((scheme, netloc, path, query, ""))


def _split(url: str) -> SplitResult:
    """The canonical parts of a URL; raises ValueError unless it is one with a host and without a user."""
    if url != url.strip() or not url.isprintable() or "\\" in url:
        raise ValueError("a URL has characters that none may have")
    parts = urlsplit(url)
    scheme = _HTTP_SCHEMES.get(parts.scheme, parts.scheme)
    if scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ValueError(f"{url!r} is no http:// or https:// URL with a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"the URL of {parts.hostname!r} holds credentials")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = parts.port  # raises ValueError if it is none
    netloc = host if port in (None, _DEFAULT_PORTS[scheme]) else f"{host}:{port}"
    return SplitResult(scheme, netloc, parts.path, parts.query, "")
