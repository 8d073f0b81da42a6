"""Verifies access tokens by asking their authorization server (RFC 7662), for tokens of any form.

Owns what is asked, how often, and what an answer means. An endpoint that is away or refuses us says nothing
about a token.
"""

from __future__ import annotations

import base64
import logging
import math
import re
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import quote, urlencode

import attrs
import msgspec
import trio

from trio_mcp.authorization.shared_work import SharedWork
from trio_mcp.authorization.token_cache import TokenCache, digest_token
from trio_mcp.authorization.token_claims import (
    SCOPE_CLAIMS,
    make_principal,
    read_time,
    require_bearer,
    require_issuer,
    require_secure_url,
    require_text,
    require_texts,
)
from trio_mcp.authorization.verifier import InvalidToken, VerifierUnavailable
from trio_mcp.session.principal import Principal
from trio_mcp.transports.http.documents import Document, DocumentFetcher, Fetch
from trio_mcp.transports.http.response import UnreachableError
from trio_mcp.validators import require_count, require_interval

logger = logging.getLogger("trio_mcp.authorization")

MAX_TOKEN_BYTES: Final = 16 * 1024
"""As long as the longest JWT that is accepted; most tokens that need introspection are short."""

CACHED_TOKENS: Final = 4096
"""Accepted tokens, each of a few KiB with its claims; of refused ones as many, each of some 200 bytes."""

MAX_AT_ONCE: Final = 20
"""Requests that the endpoint gets at a time: whoever sends invented tokens must not flood it."""

MAX_RETRY_SECONDS: Final = 60.0
"""The longest wait that an endpoint can ask for."""

_AWAY_SECONDS: Final = 1.0
"""How long nobody asks again once the endpoint was found away."""

_USABLE_FOR_NOBODY: Final = frozenset({401, 403, 404, 429, 502, 503, 504})
"""Statuses that come for every token. Any other may be due to an odd one, and whoever sends such tokens must
not keep those of others from being verified."""

_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""RFC 6750, 2.1."""

_BEARER_TYPES: Final = frozenset({"bearer", "access_token"})
_OTHER_USES: Final = frozenset({"refresh_token", "refresh", "offline", "id", "id_token"})
"""What some authorization servers call the tokens that are no access tokens, in `token_use` or `typ`."""


@attrs.frozen
class _Refusal:
    reason: str


@attrs.frozen
class _Outage:
    reason: str
    retry_after: float
    concerns_all: bool
    """Whether it would be met with every other token."""


_Verdict: TypeAlias = Principal | _Refusal | _Outage


class Introspection:
    """Asks `endpoint` about each token; a verifier for `Bearer` (RFC 7662).

    This server is known there as `client_id` with `client_secret`, which are sent as `auth_method` says:
    "basic" or "post" (RFC 6749, 2.3.1). A token must be active, and meant for `audience`, which is the URL of
    this server or whatever the authorization server puts in its place; None says that the endpoint itself
    answers only for access tokens that are meant for this server. If `issuer` is given, an answer must not
    name another.

    The principal's name is the issuer, or without one the endpoint, then "#" and the `subject_claim`. Its
    scopes are those of the first of `scope_claims` that is there. A token that is bound to a key (`cnf`) is
    refused, unless `accept_bound` says that something else has checked the proof.

    An accepted token is remembered for at most `cache_seconds`, during which it is not noticed if it is
    revoked, and a refused one for `negative_seconds`; of `cache_size` tokens each, by their SHA-256. Of many
    requests with one token, one asks, and the endpoint gets at most `max_at_once` requests at a time. `fetch`
    sends them, by default a `DocumentFetcher()`. The endpoint is https:// or on this machine, unless
    `allow_http`. Clocks may differ by `leeway` seconds. A token may have `max_token_bytes`. `clock` tells
    Unix seconds.

    Raises ValueError or TypeError for settings that make no sense.
    """

    def __init__(
        self,
        endpoint: str,
        client_id: str,
        client_secret: str,
        *,
        audience: str | Collection[str] | None,
        issuer: str | None = None,
        auth_method: Literal["basic", "post"] = "basic",
        leeway: int = 30,
        subject_claim: str = "sub",
        scope_claims: Collection[str] = SCOPE_CLAIMS,
        accept_bound: bool = False,
        allow_http: bool = False,
        fetch: Fetch | None = None,
        max_token_bytes: int = MAX_TOKEN_BYTES,
        cache_size: int = CACHED_TOKENS,
        cache_seconds: float = 60.0,
        negative_seconds: float = 10.0,
        max_at_once: int = MAX_AT_ONCE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if auth_method not in ("basic", "post"):
            raise ValueError(f'auth_method must be "basic" or "post", not {auth_method!r}')
        if issuer is not None:
            require_issuer(issuer)
        require_interval("leeway", leeway)
        require_interval("cache_seconds", cache_seconds)
        require_interval("negative_seconds", negative_seconds)
        require_count("max_token_bytes", max_token_bytes)
        require_count("cache_size", cache_size)
        require_count("max_at_once", max_at_once)
        self._endpoint = require_secure_url("endpoint", endpoint, allow_http=allow_http)
        self._headers, self._fields = _write_credentials(client_id, client_secret, auth_method)
        self._audiences = None if audience is None else frozenset(require_texts("audience", audience))
        self._issuer = issuer
        self._leeway = leeway
        self._subject_claim = require_text("subject_claim", subject_claim)
        self._scope_claims = require_texts("scope_claims", scope_claims)
        self._accept_bound = accept_bound
        self._fetch = DocumentFetcher() if fetch is None else fetch
        self._max_token_bytes = max_token_bytes
        self._cache_seconds = cache_seconds
        self._negative_seconds = negative_seconds
        self._clock = clock
        self._accepted: TokenCache[Principal] = TokenCache(cache_size, clock)
        # Of its own, so that invented tokens drive out no accepted one.
        self._refused: TokenCache[_Refusal] = TokenCache(cache_size, clock)
        self._work: SharedWork[bytes, _Verdict] = SharedWork()
        self._turns = trio.Semaphore(max_at_once)
        self._outage: _Outage | None = None
        self._away_until = 0.0

    def __repr__(self) -> str:
        return f"<Introspection at {self._endpoint}>"

    @property
    def issuers(self) -> tuple[str, ...]:
        """Whose tokens are accepted, for the metadata of the server; nobody if that was not said."""
        return () if self._issuer is None else (self._issuer,)

    async def verify(self, token: str) -> Principal:
        """Return whoever `token` was issued for; checkpoints unless that is known already.

        Raises InvalidToken, or VerifierUnavailable if the endpoint gives no answer now.
        """
        if len(token) > self._max_token_bytes:
            raise InvalidToken("the access token is too long")
        if not _TOKEN.fullmatch(token):
            raise InvalidToken("the access token has characters that none may have")
        digest = digest_token(token)
        verdict: _Verdict | None = self._accepted.find(digest) or self._refused.find(digest)
        if verdict is None:
            verdict = await self._work.do(digest, lambda: self._ask(token, digest))
        if isinstance(verdict, _Refusal):
            raise InvalidToken(verdict.reason)
        if isinstance(verdict, _Outage):
            raise VerifierUnavailable(verdict.reason, retry_after=verdict.retry_after)
        return verdict

    async def _ask(self, token: str, digest: bytes) -> _Verdict:
        """What the endpoint says, which is remembered unless it is away."""
        async with self._turns:
            # At most that long: the clock may have been set back.
            if self._outage is not None and 0 < self._away_until - self._clock() <= _AWAY_SECONDS:
                return self._outage
            verdict = await self._introspect(token)
        now = self._clock()
        if isinstance(verdict, _Outage):
            if verdict.concerns_all:
                if self._outage is None:
                    logger.warning("%s", verdict.reason)
                self._outage = verdict
                self._away_until = now + _AWAY_SECONDS
            return verdict
        if self._outage is not None:
            logger.info("the introspection endpoint %s answers again", self._endpoint)
            self._outage = None
        if isinstance(verdict, _Refusal):
            self._refused.keep(digest, verdict, now + self._negative_seconds)
            return verdict
        end = math.inf if verdict.expires_at is None else verdict.expires_at + self._leeway
        self._accepted.keep(digest, verdict, min(end, now + self._cache_seconds))
        return verdict

    async def _introspect(self, token: str) -> _Verdict:
        fields = {"token": token, "token_type_hint": "access_token", **self._fields}
        try:
            answer = await self._fetch(
                self._endpoint, method="POST", headers=self._headers, body=urlencode(fields).encode()
            )
        except (UnreachableError, OSError) as error:
            return self._find_away(str(error) or type(error).__name__, concerns_all=True)
        if answer.status != 200:
            what = "it refuses the credentials of this server: it" if answer.status in (401, 403) else "it"
            return self._find_away(
                f"{what} answered {answer.status}",
                _read_retry(answer),
                concerns_all=answer.status in _USABLE_FOR_NOBODY,
            )
        try:
            claims = msgspec.json.decode(answer.body, type=dict[str, Any])
        except (msgspec.MsgspecError, ValueError, RecursionError):
            claims = {}
        if not isinstance(claims.get("active"), bool):
            return self._find_away("its answer is none of introspection")
        try:
            return self._judge(claims)
        except InvalidToken as refusal:
            return _Refusal(refusal.reason)

    def _find_away(self, reason: str, retry_after: float = 5.0, *, concerns_all: bool = False) -> _Outage:
        said = f"the introspection endpoint {self._endpoint} cannot be used: {reason}"
        return _Outage(said, retry_after, concerns_all)

    def _judge(self, claims: dict[str, Any]) -> Principal:
        """Whoever an answer is about; raises InvalidToken if the token is not to be accepted."""
        if not claims.pop("active"):
            raise InvalidToken("the access token is not active")
        now = self._clock()
        expires_at, not_before = read_time(claims, "exp"), read_time(claims, "nbf")
        if expires_at is not None and expires_at + self._leeway <= now:
            raise InvalidToken("the access token has expired")
        if not_before is not None and not_before - self._leeway > now:
            raise InvalidToken("the access token is not valid yet")
        if self._issuer is not None and claims.get("iss", self._issuer) != self._issuer:
            raise InvalidToken("the access token is of another issuer")
        if self._audiences is not None and self._audiences.isdisjoint(_read_audiences(claims)):
            raise InvalidToken("the access token is meant for another server")
        self._check_use(claims)
        named = claims.get("iss")
        return make_principal(
            claims,
            issuer=self._issuer or self._endpoint,
            subject_claim=self._subject_claim,
            scope_claims=self._scope_claims,
            known_issuer=self._issuer or (named if isinstance(named, str) else None),
        )

    def _check_use(self, claims: Mapping[str, Any]) -> None:
        """Raise InvalidToken for a bound token, a refresh token or an ID token, which may be active."""
        uses = (claims.get("token_use"), claims.get("typ"))
        if any(isinstance(use, str) and use.lower() in _OTHER_USES for use in uses):
            raise InvalidToken("this type of token is no access token")
        if self._accept_bound:
            return
        require_bearer(claims)
        kind = claims.get("token_type")
        if isinstance(kind, str) and kind.lower() not in _BEARER_TYPES:
            raise InvalidToken("the access token cannot be used as a bearer token")


def _write_credentials(
    client_id: str, client_secret: str, auth_method: str
) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """The headers and the fields by which this server identifies itself."""
    client_id, secret = require_text("client_id", client_id), require_text("client_secret", client_secret)
    headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
    if auth_method == "post":
        return headers, {"client_id": client_id, "client_secret": secret}
    pair = f"{quote(client_id, safe='')}:{quote(secret, safe='')}".encode()
    return {**headers, "authorization": f"Basic {base64.b64encode(pair).decode()}"}, {}


def _read_audiences(claims: Mapping[str, Any]) -> frozenset[str]:
    value = claims.get("aud")
    values = value if isinstance(value, list) else [value]
    return frozenset(one for one in values if isinstance(one, str))


def _read_retry(answer: Document) -> float:
    """The seconds of its Retry-After, if it has one that can be believed."""
    text = answer.headers.get("retry-after", "")
    return min(float(text), MAX_RETRY_SECONDS) if text.isascii() and text.isdigit() else 5.0
