"""Verifies access tokens that are JWTs (RFC 9068, RFC 8725), by the keys of their issuer.

Owns which tokens are accepted. Refuses to know where keys come from. Whatever a token itself names as its key
(jwk, jku, x5c, x5u) is ignored, and no message repeats anything of a token.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec

from trio_mcp.authorization.jose_library import (
    ClaimError,
    ExpiredTokenError,
    JoseError,
    JWTClaimsRegistry,
    MissingClaimError,
    UnsupportedAlgorithmError,
    jws,
)
from trio_mcp.authorization.jwks import FixedKeys, Jwks, KeySource
from trio_mcp.authorization.token_cache import TokenCache, digest_token
from trio_mcp.authorization.token_claims import (
    SCOPE_CLAIMS,
    make_principal,
    require_bearer,
    require_issuer,
    require_text,
    require_texts,
)
from trio_mcp.authorization.verification_keys import (
    ASYMMETRIC,
    SYMMETRIC,
    VerificationKeys,
    import_keys,
)
from trio_mcp.authorization.verifier import InvalidToken
from trio_mcp.session.principal import Principal
from trio_mcp.transports.http.documents import Fetch
from trio_mcp.validators import require_count, require_interval

MAX_TOKEN_BYTES: Final = 16 * 1024
"""Tokens with many groups have some 8 KiB; HTTP servers rarely take longer headers."""

CACHED_TOKENS: Final = 4096
"""Each takes a few KiB, with its claims."""

CACHE_SECONDS: Final = 300.0
"""How long a verified token is believed without another look at the keys; another look costs 0.1 ms."""

_TYPES: Final = frozenset({"at+jwt", "application/at+jwt", "jwt", "application/jwt"})
"""RFC 9068, 2.1, and what most issuers write. Other JWTs say that they are others (RFC 8725, 3.11)."""

_REASONS: Final[Mapping[str, str]] = {
    "iss": "the access token is of another issuer",
    "aud": "the access token is meant for another server",
    "nbf": "the access token is not valid yet",
    "iat": "the access token was issued in the future",
}


class _PinnedRegistry(jws.JWSRegistry):
    """The algorithms that a verifier accepts, and no others; headers were checked before."""

    def __init__(self, algorithms: Collection[str], limit: int) -> None:
        super().__init__(algorithms=algorithms)
        self._pinned = frozenset(algorithms)
        self.max_header_length = self.max_payload_length = self.max_signature_length = limit

    def get_alg(self, name: str) -> Any:
        if name not in self._pinned:
            raise UnsupportedAlgorithmError
        return self.algorithms[name]

    def check_header(self, header: dict[str, Any]) -> None:
        """Nothing is left to check, and parameters that are not known are ignored (RFC 7515, 4)."""


class JwtVerifier:
    """Verifies JWTs of one `issuer` that are meant for `audience`; a verifier for `Bearer` (extra `auth`).

    A token must be signed by a key of the issuer and by one of `algorithms`, by default any with a public
    key, and must have `iss`, `aud`, `exp` and a subject (RFC 9068, 4; RFC 8725). `issuer` is a URL that is
    compared exactly. `audience` is the URL of this server as clients are told it, or whatever the issuer puts
    in its place; of several, one must be in the token. Clocks may differ by `leeway` seconds. A token may
    have `max_token_bytes`.

    Keys come from `jwks_uri`; from `keys`, which are public keys as PEM, JWK, JWK Set or of joserfc, or a
    `Jwks` with settings of its own; or, without both, from what the issuer's metadata name. They are fetched
    with the first token, by `fetch`, by default a `DocumentFetcher()`, and again if a token names a key that
    is not among them. Their URL is https:// or on this machine, unless `allow_http`. HS256 and its like are
    accepted only if `algorithms` names nothing else and `keys` are secrets as JWKs.

    The principal's name is the issuer, "#" and the `subject_claim`; its scopes are those of the first of
    `scope_claims` that is there, and a token without any has none. A token that is bound to a key (`cnf`) is
    refused, unless `accept_bound` says that something else has checked the proof.

    A verified token is remembered until it expires, and for at most `cache_seconds`; of `cache_size` tokens,
    by their SHA-256. `clock` tells Unix seconds.

    Raises ValueError or TypeError for settings that contradict each other or are not safe, and ImportError
    without the extra `auth`.
    """

    def __init__(
        self,
        issuer: str,
        audience: str | Collection[str],
        *,
        jwks_uri: str | None = None,
        keys: VerificationKeys | Jwks | None = None,
        algorithms: Collection[str] = ASYMMETRIC,
        leeway: int = 30,
        subject_claim: str = "sub",
        scope_claims: Collection[str] = SCOPE_CLAIMS,
        accept_bound: bool = False,
        allow_http: bool = False,
        fetch: Fetch | None = None,
        max_token_bytes: int = MAX_TOKEN_BYTES,
        cache_size: int = CACHED_TOKENS,
        cache_seconds: float = CACHE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        require_issuer(issuer)
        require_interval("leeway", leeway)
        require_interval("cache_seconds", cache_seconds)
        require_count("cache_size", cache_size)
        require_count("max_token_bytes", max_token_bytes)
        self._issuer = issuer
        self._audiences = require_texts("audience", audience)
        self._algorithms = frozenset(require_texts("algorithms", algorithms))
        self._keys = _find_source(issuer, jwks_uri, keys, fetch, allow_http)
        _check_algorithms(self._algorithms, self._keys)
        self._leeway = int(leeway)
        self._subject_claim = require_text("subject_claim", subject_claim)
        self._scope_claims = require_texts("scope_claims", scope_claims)
        self._accept_bound = accept_bound
        self._max_token_bytes = max_token_bytes
        self._cache_seconds = cache_seconds
        self._clock = clock
        self._cache: TokenCache[Principal] = TokenCache(cache_size, clock)
        self._registry = _PinnedRegistry(self._algorithms, max_token_bytes)
        self._claims = JWTClaimsRegistry(
            now=lambda: int(clock()),
            leeway=self._leeway,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "values": list(self._audiences)},
            exp={"essential": True},
        )

    def __repr__(self) -> str:
        return f"<JwtVerifier of {self._issuer} for {', '.join(self._audiences)}>"

    @property
    def issuers(self) -> tuple[str, ...]:
        """Whose tokens are accepted, for the metadata of the server."""
        return (self._issuer,)

    async def verify(self, token: str) -> Principal:
        """Return whoever `token` was issued for; checkpoints only if keys have to be fetched.

        Raises InvalidToken, or VerifierUnavailable if the keys cannot be had now.
        """
        if len(token) > self._max_token_bytes:
            raise InvalidToken("the access token is too long")
        digest = digest_token(token)
        known = self._cache.find(digest)
        if known is not None:
            return known
        signature = self._read_signature(token)
        header = self._check_header(signature.protected)
        claims = self._read_claims(signature.payload)
        keys = await self._keys.find(header.kid, header.alg)
        if not any(key.has_signed(signature, self._registry) for key in keys):
            raise InvalidToken("the signature of the access token is not valid")
        principal = self._accept(claims)
        now = self._clock()
        expires_at = principal.expires_at or now
        self._cache.keep(digest, principal, min(expires_at + self._leeway, now + self._cache_seconds))
        return principal

    def _read_signature(self, token: str) -> jws.CompactSignature:
        signature = None
        if token.isascii():
            with suppress(JoseError, ValueError, RecursionError):
                signature = jws.extract_compact(token.encode("ascii"), registry=self._registry)
        if signature is None:  # raised here, so that no error with a part of the token is its context
            raise InvalidToken("the access token is no JWT")
        return signature

    def _check_header(self, header: Any) -> _Header:
        """Raises InvalidToken unless the header is one that can be accepted, whatever the signature."""
        try:
            found = msgspec.convert(header, _Header)
        except msgspec.ValidationError:
            raise InvalidToken("the header of the access token is malformed") from None
        if found.alg not in self._algorithms:
            raise InvalidToken("the access token is not signed by an algorithm that is accepted")
        if "crit" in header or "b64" in header:  # RFC 7515, 4.1.11: none of these is understood
            raise InvalidToken("the access token needs extensions that are not supported")
        if found.typ is not None and found.typ.lower() not in _TYPES:
            raise InvalidToken("this type of token is no access token")
        return found

    def _read_claims(self, payload: bytes) -> dict[str, Any]:
        """The claims, of which nothing is believed yet; raises InvalidToken if the issuer is another.

        That comes before the keys, so that no token makes this verifier fetch those of its own issuer in
        vain.
        """
        try:
            claims = msgspec.json.decode(payload, type=dict[str, Any])
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise InvalidToken("the access token has no claims") from None
        if claims.get("iss") != self._issuer:
            raise InvalidToken(_REASONS["iss"])
        return claims

    def _accept(self, claims: dict[str, Any]) -> Principal:
        """Whoever the claims of a signed token are about; raises InvalidToken unless they are in order."""
        try:
            self._claims.validate(claims)
        except ExpiredTokenError:
            raise InvalidToken("the access token has expired") from None
        except MissingClaimError:
            raise InvalidToken("the access token lacks iss, aud or exp") from None
        except ClaimError as error:
            reason = _REASONS.get(error.claim, "a claim of the access token is malformed")
            raise InvalidToken(reason) from None
        if not self._accept_bound:
            require_bearer(claims)
        return make_principal(
            claims,
            issuer=self._issuer,
            subject_claim=self._subject_claim,
            scope_claims=self._scope_claims,
            known_issuer=self._issuer,
        )


class _Header(msgspec.Struct):
    alg: str
    kid: str | None = None
    typ: str | None = None


def _find_source(
    issuer: str,
    jwks_uri: str | None,
    keys: VerificationKeys | Jwks | None,
    fetch: Fetch | None,
    allow_http: bool,
) -> KeySource:
    if keys is not None and jwks_uri is not None:
        raise ValueError("keys are given, or fetched from jwks_uri, but not both")
    if keys is not None and fetch is not None:
        raise ValueError("keys are given, so fetch has nothing to fetch")
    if isinstance(keys, Jwks):
        return keys
    if keys is not None:
        return FixedKeys(import_keys(keys))
    if jwks_uri is not None:
        return Jwks(jwks_uri, fetch=fetch, allow_http=allow_http)
    return Jwks(issuer=issuer, fetch=fetch, allow_http=allow_http)


def _check_algorithms(algorithms: Collection[str], keys: KeySource) -> None:
    """Raises ValueError unless the algorithms are known and fit the keys: a public key is never a secret."""
    unknown = sorted(set(algorithms) - SYMMETRIC - set(ASYMMETRIC))
    if unknown:
        raise ValueError(f"the algorithms {', '.join(unknown)} are not supported")
    symmetric = SYMMETRIC.intersection(algorithms)
    if symmetric and len(symmetric) < len(algorithms):
        raise ValueError("algorithms with a shared secret are accepted alone, or not at all")
    if symmetric and not isinstance(keys, FixedKeys):
        raise ValueError("a secret is never published: algorithms with one need keys=")
    if isinstance(keys, FixedKeys):
        if {key.is_secret for key in keys.keys} != {bool(symmetric)}:
            raise ValueError("keys= must be secrets for HS256 and its like, and public keys for all others")
        if not any(key.fits(algorithm) for key in keys.keys for algorithm in algorithms):
            raise ValueError("none of the keys can verify signatures by one of the algorithms")
