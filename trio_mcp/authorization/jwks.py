"""The keys of an issuer, as it publishes them: fetched when they are needed, kept, and fetched again in time.

Owns how often the issuer is asked, and for how long its last answer counts while it is away. Refuses to know
tokens. Keys come from the configured issuer only, never from a URL or a key in a token.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final, Protocol

import attrs
import msgspec
import trio

from trio_mcp.authorization.shared_work import SharedWork
from trio_mcp.authorization.token_claims import require_secure_url
from trio_mcp.authorization.verification_keys import VerificationKey, choose_keys, read_key_set
from trio_mcp.authorization.verifier import InvalidToken, VerifierUnavailable
from trio_mcp.transports.http.documents import Document, DocumentFetcher, Fetch
from trio_mcp.transports.http.response import UnreachableError
from trio_mcp.validators import require_interval, require_positive
from trio_mcp.wire.authorization import AuthorizationServerMetadata, authorization_server_urls, read_document

logger = logging.getLogger("trio_mcp.authorization")

REFRESH_SECONDS: Final = 600.0
"""How old keys may be before they are fetched again: a key that was withdrawn counts no longer than this."""

STALE_SECONDS: Final = 4 * 3600.0
"""How long keys go on to count if they cannot be fetched again."""

MIN_REFETCH_SECONDS: Final = 10.0
"""How often keys are fetched for tokens that name unknown ones, and how often while the issuer is away."""

MAX_FETCH_SECONDS: Final = 20.0
"""How long metadata and keys may take together: a request waits for them."""

_UNKNOWN_KEY: Final = "the access token is signed by an unknown key"


class KeySource(Protocol):
    """Where the keys of an issuer come from."""

    async def find(self, kid: str | None, algorithm: str) -> tuple[VerificationKey, ...]:
        """The keys that may have signed a token that names `kid`; checkpoints if it has to fetch them.

        Raises InvalidToken if there are none, and VerifierUnavailable if that cannot be said now.
        """


@attrs.frozen
class FixedKeys:
    """Keys that never change."""

    keys: tuple[VerificationKey, ...]

    async def find(self, kid: str | None, algorithm: str) -> tuple[VerificationKey, ...]:
        """See `KeySource.find`; never checkpoints."""
        found = choose_keys(self.keys, kid, algorithm)
        if not found:
            raise InvalidToken(_UNKNOWN_KEY)
        return found


class Jwks:
    """The JWK Set at `uri`, or else at the `jwks_uri` that the metadata of `issuer` names (RFC 8414, 3).

    It is fetched with the first token, again if it is older than `refresh_seconds`, and for a token that
    names an unknown key, at most once in `min_refetch` seconds for all of these. If it cannot be fetched, the
    last one counts for at most `stale_seconds`. Of many requests that need it, one fetches it. `fetch` asks
    for documents, by default a `DocumentFetcher()`. URLs are https:// or of this machine, unless
    `allow_http`. `clock` tells seconds, and is never set back.

    Raises ValueError unless there is either a `uri` or an `issuer`.
    """

    def __init__(
        self,
        uri: str | None = None,
        *,
        issuer: str | None = None,
        fetch: Fetch | None = None,
        refresh_seconds: float = REFRESH_SECONDS,
        stale_seconds: float = STALE_SECONDS,
        min_refetch: float = MIN_REFETCH_SECONDS,
        allow_http: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if (uri is None) == (issuer is None):
            raise ValueError("a JWK Set is at a uri or named by an issuer, and one of the two is needed")
        if uri is not None:
            require_secure_url("uri", uri, allow_http=allow_http)
        if issuer is not None:
            require_secure_url("issuer", issuer, allow_http=allow_http)
            authorization_server_urls(issuer)
        require_positive("refresh_seconds", refresh_seconds)
        require_interval("stale_seconds", stale_seconds)
        require_interval("min_refetch", min_refetch)
        self._configured = self._uri = uri
        self._issuer = issuer
        self._fetch_document = DocumentFetcher() if fetch is None else fetch
        self._refresh_seconds = refresh_seconds
        self._stale_seconds = max(stale_seconds, refresh_seconds)
        self._min_refetch = min_refetch
        self._allow_http = allow_http
        self._clock = clock
        self._work: SharedWork[None, None] = SharedWork()
        self._keys: tuple[VerificationKey, ...] = ()
        self._fetched_at: float | None = None
        self._searched_at: float | None = None  # when keys were last fetched for an unknown one
        self._failed_at: float | None = None  # None if the last fetch succeeded
        self._failure = ""

    def __repr__(self) -> str:
        return f"<Jwks of {self._configured or self._issuer}: {len(self._keys)} keys>"

    async def find(self, kid: str | None, algorithm: str) -> tuple[VerificationKey, ...]:
        """See `KeySource.find`."""
        age = self._age(self._fetched_at)
        if age >= self._stale_seconds:
            self._keys, self._fetched_at = (), None
        found = choose_keys(self._keys, kid, algorithm)
        if found and (age < self._refresh_seconds or self._is_fetching or self._has_just_failed):
            return found
        if not found and self._keys and self._has_just_searched and not self._is_fetching:
            raise InvalidToken(_UNKNOWN_KEY)
        if not self._has_just_failed or self._is_fetching:
            is_search = self._fetched_at is not None and not found
            await self._work.do(None, self._fetch)
            if is_search:
                self._searched_at = self._clock()
            found = choose_keys(self._keys, kid, algorithm)
        if found:
            return found
        if self._failed_at is not None:
            left = self._min_refetch - self._age(self._failed_at)
            raise VerifierUnavailable(self._failure, retry_after=max(1.0, left))
        raise InvalidToken(_UNKNOWN_KEY)

    def _age(self, then: float | None) -> float:
        return float("inf") if then is None else self._clock() - then

    @property
    def _is_fetching(self) -> bool:
        return self._work.is_doing(None)

    @property
    def _has_just_failed(self) -> bool:
        return self._age(self._failed_at) < self._min_refetch

    @property
    def _has_just_searched(self) -> bool:
        return self._failed_at is None and self._age(self._searched_at) < self._min_refetch

    async def _fetch(self) -> None:
        """Fetch the keys; a failure is noted, and logged."""
        try:
            with trio.fail_after(MAX_FETCH_SECONDS):
                keys = await self._load()
        except (VerifierUnavailable, UnreachableError, OSError, trio.TooSlowError) as error:
            is_new, self._failed_at = self._failed_at is None, self._clock()
            cause = str(error) or f"no answer within {MAX_FETCH_SECONDS:g} seconds"
            self._failure = f"the keys of {self._configured or self._issuer} cannot be had: {cause}"
            self._uri = self._configured  # it may have moved
            # An outage is told once, however often it is looked whether it is over.
            logger.log(logging.WARNING if is_new else logging.DEBUG, "%s", self._failure)
            return
        if self._failed_at is not None:
            logger.info("the keys of %s can be had again", self._configured or self._issuer)
        if not keys:
            logger.warning("%s has no key that can verify tokens", self._uri)
        self._keys, self._fetched_at, self._failed_at = keys, self._clock(), None

    async def _load(self) -> tuple[VerificationKey, ...]:
        if self._uri is None:
            self._uri = await self._discover()
        document = await self._fetch_document(self._uri)
        if document.status != 200:
            raise VerifierUnavailable(f"{self._uri} answered {document.status}")
        try:
            return read_key_set(msgspec.json.decode(document.body))
        except (ValueError, RecursionError) as error:  # also what is no JSON
            raise VerifierUnavailable(f"{self._uri} has no keys: {error}") from None

    async def _discover(self) -> str:
        """The URL that the issuer's metadata name; raises VerifierUnavailable if there are none."""
        assert self._issuer is not None
        problems = []
        for url in authorization_server_urls(self._issuer):
            document = await self._fetch_document(url)
            if document.status >= 500 or document.status == 429:
                raise VerifierUnavailable(f"{url} answered {document.status}")
            try:
                return self._read_uri(url, document)
            except ValueError as error:
                problems.append(str(error))
        raise VerifierUnavailable("; ".join(problems))

    def _read_uri(self, url: str, document: Document) -> str:
        if document.status != 200:
            raise ValueError(f"{url} answered {document.status}")
        metadata = read_document(document.body, AuthorizationServerMetadata, f"the metadata at {url}")
        if metadata.issuer != self._issuer:
            raise ValueError(f"{url} has the metadata of another issuer, {metadata.issuer[:200]!r}")
        if metadata.jwks_uri is None:
            raise ValueError(f"{url} names no jwks_uri")
        return require_secure_url("jwks_uri", metadata.jwks_uri, allow_http=self._allow_http)
