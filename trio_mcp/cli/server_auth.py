"""`trio-mcp run --auth`: who may use a server that is served over HTTP.

Owns the reading of the option. What verifies tokens is imported only if the option is there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import urlsplit

from trio_mcp.cli.arguments import suggest
from trio_mcp.cli.network import read_address
from trio_mcp.cli.output import print_note
from trio_mcp.cli.secret_source import ENV, FILE, read_secret
from trio_mcp.cli.status import CommandError
from trio_mcp.wire.authorization import canonical_resource
from trio_mcp.wire.origin import LOOPBACK_NAMES, is_loopback_host

if TYPE_CHECKING:
    from trio_mcp.authorization.bearer import Bearer
    from trio_mcp.authorization.verifier import Verifier

Members: TypeAlias = dict[str, str]

_TRUTHS: Final = {"true": True, "false": False}

DEVELOPER: Final = "developer"
"""Who has a static token, if its option names nobody."""


def read_entrance(
    auth: Sequence[str], url: str | None, http: str | None, ws: str | None, *, sse: bool
) -> dict[str, Any]:
    """The keyword arguments of `serve_http` that say who is let in, from the options of `trio-mcp run`.

    Raises CommandError for options that cannot be read or make no sense, or that need the extra `auth`.
    """
    if not auth and url is None:
        return {}
    if http is None:
        raise CommandError(f"{'--auth' if auth else '--url'} needs --http: tokens come with HTTP requests")
    if auth and ws is not None:
        raise CommandError("--ws takes no tokens: with --auth, use the WebSocket at the address of --http")
    address = read_address(http)
    if url is not None:
        _check_url(url)
    entrance: dict[str, Any] = {}
    if url is not None and is_loopback_host(address[0]):
        # A server on a loopback address lets in no other name; behind a proxy it has that of its URL.
        entrance["allowed_hosts"] = [urlsplit(url).netloc, *sorted(LOOPBACK_NAMES)]
    if auth:
        paths = ("/mcp", "/sse") if sse else ("/mcp",)
        # Some issuers put the URL into tokens as it was written, others in its canonical form.
        told = () if url is None else tuple(dict.fromkeys((canonical_resource(url), url)))
        audiences = told or _find_urls(address, paths)
        entrance["auth"] = _make_guard(auth, url, audiences)
        if any(text.startswith("static:") for text in auth) and not is_loopback_host(address[0]):
            print_note("Static tokens are for development: they never end, and others get at this address.")
    return entrance


def _make_guard(texts: Sequence[str], url: str | None, audiences: tuple[str, ...]) -> Bearer:
    from trio_mcp.authorization.bearer import Bearer
    from trio_mcp.authorization.several import AnyOf

    try:
        verifiers = [_read_verifier(text, audiences) for text in texts]
    except ImportError as error:
        raise CommandError(str(error)) from None
    return Bearer(verifiers[0] if len(verifiers) == 1 else AnyOf(*verifiers), resource=url)


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or "@" in parts.netloc or "?" in url or "#" in url or not url.isprintable() or " " in url:
        raise CommandError(f"--url: {url!r} is no URL of a server, such as https://example.com/mcp")


def _find_urls(address: tuple[str, int], paths: Sequence[str]) -> tuple[str, ...]:
    """The URLs by which clients may know the server; none if they cannot be told beforehand."""
    host, port = address
    if port == 0 or not is_loopback_host(host):
        return ()
    shown = f"[{host}]" if ":" in host else host
    names = dict.fromkeys((shown, "localhost"))
    return tuple(f"http://{name}:{port}{path}" for name in names for path in paths)


def _read_verifier(text: str, audiences: tuple[str, ...]) -> Verifier:
    kind, colon, rest = text.partition(":")
    if not colon or kind not in _KINDS:
        # Of the text only this part is shown: the rest may hold a secret.
        hint = "jwks:URL,... or introspect:URL,... or static:env:NAME"
        raise CommandError(f"--auth says how tokens are verified: {hint}")
    first, *more = rest.split(",")
    members = _read_members(kind, more)
    try:
        verifier = _KINDS[kind](first, members, audiences)
    except (TypeError, ValueError) as error:
        raise CommandError(f"--auth {kind}: {error}") from None
    return verifier


def _read_members(kind: str, parts: Sequence[str]) -> Members:
    known = _MEMBERS[kind]
    found: Members = {}
    for part in parts:
        name, equals, value = part.partition("=")
        if name not in known:
            raise CommandError(
                f"--auth {kind}: it takes {', '.join(f'{one}=' for one in known)}, behind a comma each"
                + (f"; {suggest(name, known)}" if equals and name.isidentifier() else "")
            )
        if name in found:
            raise CommandError(f"--auth {kind}: {name}= is given twice")
        if not value.strip():
            raise CommandError(f"--auth {kind}: {name}= is empty")
        found[name] = value
    return found


def _make_jwks(url: str, members: Members, audiences: tuple[str, ...]) -> Verifier:
    from trio_mcp.authorization.jwt_verifier import JwtVerifier

    options: dict[str, Any] = {"jwks_uri": _require_url("jwks", url)}
    if "algorithms" in members:
        options["algorithms"] = members["algorithms"].split()
    if "leeway" in members:
        options["leeway"] = _read_number("jwks", "leeway", members)
    return JwtVerifier(
        _require("jwks", "issuer", members),
        _read_audiences("jwks", members, audiences),
        allow_http=_read_truth("jwks", "allow_http", members),
        **options,
    )


def _make_introspection(url: str, members: Members, audiences: tuple[str, ...]) -> Verifier:
    from trio_mcp.authorization.introspection import Introspection

    return Introspection(
        _require_url("introspect", url),
        _require("introspect", "client_id", members),
        read_secret(_require("introspect", "client_secret", members), "--auth introspect: client_secret"),
        audience=_read_audiences("introspect", members, audiences),
        issuer=members.get("issuer"),
        allow_http=_read_truth("introspect", "allow_http", members),
    )


def _make_static(source: str, members: Members, audiences: tuple[str, ...]) -> Verifier:
    from trio_mcp.authorization.static_tokens import StaticTokens
    from trio_mcp.session.principal import Principal

    if not source.startswith((ENV, FILE)):
        raise CommandError("--auth static: the token is read from env:NAME or file:PATH")
    scopes = frozenset(members["scopes"].split()) if "scopes" in members else None
    owner = Principal(members.get("name", DEVELOPER), scopes=scopes)
    return StaticTokens({read_secret(source, "--auth static"): owner})


_KINDS: Final[Mapping[str, Callable[[str, Members, tuple[str, ...]], Verifier]]] = {
    "jwks": _make_jwks,
    "introspect": _make_introspection,
    "static": _make_static,
}
_MEMBERS: Final[Mapping[str, tuple[str, ...]]] = {
    "jwks": ("issuer", "audience", "algorithms", "leeway", "allow_http"),
    "introspect": ("client_id", "client_secret", "audience", "issuer", "allow_http"),
    "static": ("name", "scopes"),
}


def _require(kind: str, name: str, members: Members) -> str:
    if name not in members:
        raise CommandError(f"--auth {kind}: {name}= is missing")
    return members[name]


def _require_url(kind: str, url: str) -> str:
    if not url.startswith(("https://", "http://")):
        raise CommandError(f"--auth {kind}: a URL is needed behind the colon: {kind}:https://...")
    return url


def _read_audiences(kind: str, members: Members, audiences: tuple[str, ...]) -> tuple[str, ...]:
    """For whom tokens must be: what is said, or the URLs of the server."""
    if "audience" in members:
        return tuple(members["audience"].split())
    if not audiences:
        raise CommandError(
            f"--auth {kind}: say audience=, or --url: the address alone does not tell the server's URL"
        )
    return audiences


def _read_truth(kind: str, name: str, members: Members) -> bool:
    text = members.get(name, "false")
    if text not in _TRUTHS:
        raise CommandError(f"--auth {kind}: {name}= is true or false, not {text!r}")
    return _TRUTHS[text]


def _read_number(kind: str, name: str, members: Members) -> int:
    text = members[name]
    if not (text.isascii() and text.isdigit() and len(text) <= 6):
        raise CommandError(f"--auth {kind}: {name}= is a number of seconds, not {text!r}")
    return int(text)
