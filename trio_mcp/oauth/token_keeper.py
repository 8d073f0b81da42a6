"""The token for one server: presented with each request, and renewed once for all who use it.

Owns when a token is loaded, refreshed, got anew and given up. Refuses to know how one is got, which a
`TokenSource` does.
"""

from __future__ import annotations

import enum
import logging
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs
import msgspec
import trio

from trio_mcp.errors import AuthorizationError, InsufficientScope
from trio_mcp.oauth.requests import REQUEST_SECONDS
from trio_mcp.oauth.storage import TokenStorage
from trio_mcp.oauth.token_set import TokenSet, load_tokens, read_scopes
from trio_mcp.printable import printable
from trio_mcp.transports.http.authorizer import Refusal
from trio_mcp.wire.authorization import Challenge, find_challenge

if TYPE_CHECKING:
    from trio_mcp.oauth.dpop import DpopProver

logger = logging.getLogger("trio_mcp.oauth")

MAX_STEP_UPS: Final = 3
"""How often one operation may ask for more scopes (MCP, "Step-Up Authorization Flow")."""

MAX_OPERATIONS: Final = 1000
"""How many operations are remembered that asked for more scopes; a client of that many begins anew."""

JUST_SECONDS: Final = 60.0
"""How long a token that needs proofs counts as just obtained: a server that refuses it then takes none."""

STORE_SECONDS: Final = 10.0
"""How long a storage may take to keep what was got."""


@attrs.frozen
class Grant:
    """Tokens, and what they are bound to: the issuer, the client and the resource that they are for.

    `asked` are the scopes that were asked for, None if none was named, and `key` is the private key to which
    the tokens are bound, as a JWK, None if they are bound to none.
    """

    tokens: TokenSet
    issuer: str
    client_id: str
    resource: str
    asked: frozenset[str] | None = None
    key: Mapping[str, Any] | None = attrs.field(default=None, repr=False)

    def dump(self) -> str:
        """The values as text, secrets included, for a storage."""
        values: dict[str, Any] = {
            "issuer": self.issuer,
            "client_id": self.client_id,
            "resource": self.resource,
            "asked": None if self.asked is None else sorted(self.asked),
            "tokens": self.tokens.dump(),
            "key": self.key,
        }
        return msgspec.json.encode(values).decode()


def load_grant(text: str) -> Grant | None:
    """What `Grant.dump` has made; None if the text is nothing of that kind."""
    try:
        values = msgspec.json.decode(text, type=dict[str, Any])
        tokens = load_tokens(values.pop("tokens", None))
        grant: Grant = msgspec.convert({**values, "tokens": tokens}, Grant)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return grant


class TokenSource(Protocol):
    """A way to get tokens for one server. Every method checkpoints, and raises AuthorizationError."""

    async def find_issuer(self, challenge: Challenge | None, known: str | None) -> str:
        """The authorization server that is responsible now; the `known` one if it still is."""

    async def obtain(self, challenge: Challenge | None, known: Grant | None, extra: frozenset[str]) -> Grant:
        """Get tokens anew, which may need a person; after `find_issuer`.

        The scopes are those of `known`, if it is the same issuer's, and the `extra` ones besides.
        """

    async def refresh(self, grant: Grant) -> Grant | None:
        """Get tokens by the refresh token; None if it is not good any more. Needs no person."""


class Freshness(enum.Enum):
    """Where the tokens of a keeper come from."""

    STORED = "kept from before"
    REFRESHED = "got by a refresh token"
    OBTAINED = "got anew"


class TokenKeeper:
    """An authorizer for one server, shared by its clients of one Trio run; `key` is that of `storage`."""

    def __init__(
        self,
        url: str,
        source: TokenSource,
        storage: TokenStorage | None,
        key: str,
        now: Callable[[], float],
        prover: DpopProver | None = None,
    ) -> None:
        self._url = url
        self._source = source
        self._storage = storage
        self._key = key
        self._now = now
        self._prover = prover
        self._grant: Grant | None = None
        self._freshness = Freshness.STORED
        self._presented: Mapping[str, str] = {}
        self._is_loaded = storage is None
        self._is_asking = False
        self._obtained_at = -math.inf
        self._lock = trio.Lock()
        self._step_ups: dict[str, int] = {}

    def __repr__(self) -> str:
        state = "no token" if self._grant is None else f"a token {self._freshness.value}"
        return f"<TokenKeeper for {self._url}: {state}>"

    @property
    def grant(self) -> Grant | None:
        """What is held now."""
        return self._grant

    async def headers(self, method: str, url: str) -> Mapping[str, str]:
        """The token as a header, refreshed if it has expired; nothing if there is none.

        Checkpoints only if it has to wait, and never for a person. Raises AuthorizationError.
        """
        if not self._is_loaded:
            async with self._lock:
                await self._load()
        grant = self._grant
        if grant is None or method == "DELETE" or not grant.tokens.is_expired(self._now()):
            return self._present(method, url)
        if not self._is_asking and grant.tokens.refresh_token is not None:
            async with self._lock:
                if self._grant is grant:
                    await self._refresh_in_time(grant)
        # Without a refresh token the server's refusal says how to get another token.
        return self._present(method, url)

    async def answer(self, refusal: Refusal) -> bool:
        """Get a token that the server may accept; once for all requests that were refused together.

        Checkpoints; may wait for a person. Raises AuthorizationError.
        """
        if self._prover is not None and refusal.status == 401 and self._prover.is_nonce_wanted(refusal):
            await trio.lowlevel.checkpoint()
            return True
        challenge = _find_challenge(refusal)
        lacks_scope = challenge is not None and challenge.parameters.get("error") == "insufficient_scope"
        if refusal.status != 401 and not lacks_scope:
            await trio.lowlevel.checkpoint()
            return False
        async with self._lock:
            await self._load()
            if self._presented and self._presented["authorization"] != refusal.presented.get("authorization"):
                return True  # somebody else has got another token meanwhile
            if challenge is not None and lacks_scope:
                await self._step_up(refusal, challenge)
            else:
                await self._renew(refusal, challenge)
        return True

    async def forget(self) -> Grant | None:
        """Drop the tokens, here and in the storage, and return them; checkpoints."""
        async with self._lock:
            await self._load()
            grant = self._grant
            self._set(None, Freshness.STORED)
            if self._storage is not None:
                await self._storage.delete(self._key)
            return grant

    async def _renew(self, refusal: Refusal, challenge: Challenge | None) -> None:
        """Replace a token that the server does not accept, or get the first."""
        grant = self._grant
        if grant is not None and refusal.attempt and self._is_just_obtained():
            raise AuthorizationError(
                f"{self._url} does not accept the token that {grant.issuer} has just given for it"
                f"{_describe(challenge)}",
                error=None if challenge is None else challenge.parameters.get("error"),
                issuer=grant.issuer,
            )
        issuer = await self._source.find_issuer(challenge, None if grant is None else grant.issuer)
        if grant is not None and grant.issuer != issuer:
            # The server has moved to another authorization server: nothing of the old one is used there.
            self._set(None, Freshness.STORED)
            grant = None
        was_refreshed = refusal.attempt > 0 and self._freshness is Freshness.REFRESHED
        if grant is not None and grant.tokens.refresh_token is not None and not was_refreshed:
            if await self._refresh(grant):
                return
            grant = self._grant
        await self._obtain(challenge, grant, frozenset())

    async def _step_up(self, refusal: Refusal, challenge: Challenge) -> None:
        """Ask for the scopes that an operation needs, beside those that were asked for before."""
        operation = refusal.operation()
        required = read_scopes(challenge.parameters.get("scope")) or frozenset()
        grant = self._grant
        tries = self._step_ups.get(operation, 0)
        asked = frozenset() if grant is None or grant.asked is None else grant.asked
        in_vain = refusal.attempt > 0 and self._freshness is Freshness.OBTAINED and required <= asked
        if tries >= MAX_STEP_UPS or in_vain:
            raise InsufficientScope(
                f"{operation} at {self._url} needs more than was granted"
                f"{': ' + printable(' '.join(sorted(required))) if required else ''}",
                required,
                issuer=None if grant is None else grant.issuer,
            )
        if len(self._step_ups) >= MAX_OPERATIONS:
            self._step_ups.clear()
        self._step_ups[operation] = tries + 1
        issuer = await self._source.find_issuer(challenge, None if grant is None else grant.issuer)
        if grant is not None and grant.issuer != issuer:
            grant = None
        await self._obtain(challenge, grant, required)

    async def _obtain(self, challenge: Challenge | None, known: Grant | None, extra: frozenset[str]) -> None:
        self._is_asking = True
        try:
            grant = await self._source.obtain(challenge, known, extra)
        finally:
            self._is_asking = False
        self._set(grant, Freshness.OBTAINED)
        self._obtained_at = trio.current_time()
        await self._save(grant)

    def _is_just_obtained(self) -> bool:
        """Whether a request that was refused before carried the token that is held now.

        With proofs the refusal before may have been for a nonce, so that only the time tells.
        """
        if self._freshness is not Freshness.OBTAINED:
            return False
        return self._prover is None or trio.current_time() < self._obtained_at + JUST_SECONDS

    async def _refresh_in_time(self, grant: Grant) -> None:
        """Refresh a token that is about to expire; one that has not yet is used if that fails."""
        try:
            await self._refresh(grant)
        except AuthorizationError:
            expires_at = grant.tokens.expires_at
            if expires_at is not None and self._now() >= expires_at:
                raise
            logger.warning("the token for %s could not be refreshed yet", self._url)

    async def _refresh(self, grant: Grant) -> bool:
        """Refresh under the storage's lock; False if a person is needed."""
        # Shielded: a refresh token that was used and whose successor is lost ends the whole authorization.
        with trio.CancelScope(
            shield=True, deadline=trio.current_time() + 2 * REQUEST_SECONDS + STORE_SECONDS
        ):
            if self._storage is None:
                return await self._refresh_now(grant)
            async with self._storage.lock(self._key):
                kept = await self._load_kept()
                if kept is not None and kept.tokens.access_token != grant.tokens.access_token:
                    if kept.issuer == grant.issuer and not kept.tokens.is_expired(self._now()):
                        self._set(kept, Freshness.REFRESHED)  # another process has done it
                        return True
                    grant = kept if kept.issuer == grant.issuer else grant
                return await self._refresh_now(grant)
        raise AuthorizationError(f"the token for {self._url} was not refreshed in time", issuer=grant.issuer)

    async def _refresh_now(self, grant: Grant) -> bool:
        self._use_key(grant)
        refreshed = await self._source.refresh(grant)
        if refreshed is None:
            spent = attrs.evolve(grant, tokens=attrs.evolve(grant.tokens, refresh_token=None))
            self._set(spent, Freshness.STORED)
            return False
        self._set(refreshed, Freshness.REFRESHED)
        await self._save(refreshed)
        return True

    def _set(self, grant: Grant | None, freshness: Freshness) -> None:
        self._grant, self._freshness = grant, freshness
        scheme = "Bearer" if self._prover is None else "DPoP"
        self._presented = {} if grant is None else {"authorization": f"{scheme} {grant.tokens.access_token}"}
        if grant is not None:
            self._use_key(grant)

    def _use_key(self, grant: Grant) -> None:
        """Prove with the key of these tokens, which another process may have got."""
        if self._prover is not None and grant.key is not None:
            self._prover.use_key(grant.key)

    def _present(self, method: str, url: str) -> Mapping[str, str]:
        """The headers of one request: the token, and a proof of its key if it has one."""
        if self._prover is None or self._grant is None:
            return self._presented
        return self._prover.present(method, url, self._grant.tokens.access_token)

    def note_answer(self, url: str, headers: Mapping[str, str]) -> None:
        """Take from an answer what the next proof needs."""
        if self._prover is not None:
            self._prover.note_nonce(url, headers, is_resource=True)

    async def _load(self) -> None:
        if self._is_loaded:
            return
        kept = await self._load_kept()
        self._is_loaded = True
        if kept is not None and self._grant is None:
            self._set(kept, Freshness.STORED)

    async def _load_kept(self) -> Grant | None:
        text = None if self._storage is None else await self._storage.load(self._key)
        kept = None if text is None else load_grant(text)
        if kept is not None and (kept.key is None) != (self._prover is None):
            return None  # tokens that are bound to a key cannot be presented without, nor the others with one
        return kept

    async def _save(self, grant: Grant) -> None:
        if self._storage is not None:
            # Shielded: what was got and is not kept has to be asked for again.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + STORE_SECONDS):
                await self._storage.save(self._key, grant.dump())


def make_prover(dpop: bool | str, now: Callable[[], float]) -> DpopProver | None:
    """What makes proofs for one server (RFC 9449), if `dpop` is true; a text is the algorithm of its key.

    Raises ValueError for an algorithm that there is not.
    """
    if not dpop:
        return None
    from trio_mcp.oauth.dpop import DpopProver
    from trio_mcp.oauth.signing_key import make_key

    return DpopProver(make_key("ES256" if dpop is True else dpop), now)


def _find_challenge(refusal: Refusal) -> Challenge | None:
    header = refusal.headers.get("www-authenticate")
    return find_challenge(header) or find_challenge(header, "dpop")


def _describe(challenge: Challenge | None) -> str:
    said = None if challenge is None else challenge.parameters.get("error_description")
    return f": {printable(said[:300])}" if said else ""
