"""How a client shows an authorization server which client it is (RFC 6749, 2.3; RFC 7523, 2.2).

Owns the methods and the choice between them. Refuses to know grants, and keeps secrets out of every repr.
"""

from __future__ import annotations

import secrets
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import quote_plus

import attrs
import trio

from trio_mcp.errors import AuthorizationError
from trio_mcp.wire.authorization import AuthorizationServerMetadata

if TYPE_CHECKING:
    from trio_mcp.oauth.signing_key import KeyMaterial, SigningKey

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

ASSERTION_SECONDS: Final = 60
"""How long an assertion is valid: it is used at once, and clocks differ by some seconds."""

_BASIC, _POST, _JWT, _NONE = "client_secret_basic", "client_secret_post", "private_key_jwt", "none"


@attrs.frozen
class AuthenticatedForm:
    """What goes into a request to a token endpoint; both hold secrets."""

    fields: dict[str, str] = attrs.field(repr=False)
    headers: dict[str, str] = attrs.field(repr=False, factory=dict)


class ClientAuthentication(Protocol):
    """A client's id and the means to show that it is this client."""

    @property
    def client_id(self) -> str:
        """The id under which the authorization server knows the client."""

    async def authenticate(
        self, fields: dict[str, str], metadata: AuthorizationServerMetadata
    ) -> AuthenticatedForm:
        """Complete a request to a token endpoint; checkpoints.

        Raises AuthorizationError if the server takes no method of this client.
        """


@attrs.frozen
class PublicClient:
    """A client without a secret: it only says its id."""

    client_id: str

    async def authenticate(
        self, fields: dict[str, str], metadata: AuthorizationServerMetadata
    ) -> AuthenticatedForm:
        """Name the client; checkpoints."""
        await trio.lowlevel.checkpoint()
        return AuthenticatedForm({**fields, "client_id": self.client_id})


@attrs.frozen
class SecretClient:
    """A client with a secret. `method` is "client_secret_basic" or "client_secret_post".

    By default it is the first of these that the server says it takes, and basic, which all take, if it says
    nothing.
    """

    client_id: str
    _secret: str = attrs.field(repr=False)
    method: str | None = None

    def __attrs_post_init__(self) -> None:
        if self.method not in (None, _BASIC, _POST):
            raise ValueError(f"a secret is sent by {_BASIC!r} or {_POST!r}, not by {self.method!r}")

    async def authenticate(
        self, fields: dict[str, str], metadata: AuthorizationServerMetadata
    ) -> AuthenticatedForm:
        """Send the secret with the request; checkpoints."""
        await trio.lowlevel.checkpoint()
        method = self.method or _choose(metadata, (_BASIC, _POST))
        if method == _POST:
            return AuthenticatedForm({**fields, "client_id": self.client_id, "client_secret": self._secret})
        # Both are encoded first, so that a colon in either is no separator (RFC 6749, 2.3.1).
        pair = f"{quote_plus(self.client_id)}:{quote_plus(self._secret)}"
        return AuthenticatedForm(fields, {"authorization": f"Basic {b64encode(pair.encode()).decode()}"})


@attrs.frozen
class KeyClient:
    """A client that signs an assertion for each request, with a key or by a service that holds it.

    `sign` gets the audience, which is the issuer of the authorization server, and returns the assertion.
    """

    client_id: str
    _key: SigningKey | None = attrs.field(default=None, repr=False)
    _sign: Callable[[str], Awaitable[str]] | None = attrs.field(default=None, repr=False)
    _now: Callable[[], float] = attrs.field(default=time.time, repr=False)

    async def authenticate(
        self, fields: dict[str, str], metadata: AuthorizationServerMetadata
    ) -> AuthenticatedForm:
        """Sign an assertion; checkpoints."""
        await trio.lowlevel.checkpoint()
        if self._sign is not None:
            assertion = await self._sign(metadata.issuer)
        else:
            assertion = self._make_assertion(metadata)
        return AuthenticatedForm(
            {**fields, "client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
        )

    def _make_assertion(self, metadata: AuthorizationServerMetadata) -> str:
        assert self._key is not None, "a client has a key or a function"
        try:
            algorithm = self._key.choose_algorithm(metadata.token_endpoint_auth_signing_alg_values_supported)
        except ValueError as error:
            raise AuthorizationError(str(error), issuer=metadata.issuer) from None
        now = int(self._now())
        claims = {
            "iss": self.client_id,
            "sub": self.client_id,
            # The issuer alone: a token endpoint as the audience lets one server use it at another.
            "aud": metadata.issuer,
            "iat": now,
            "exp": now + ASSERTION_SECONDS,
            "jti": secrets.token_urlsafe(16),
        }
        return self._key.sign({"typ": "JWT"}, claims, algorithm)


def has_credentials(client: ClientAuthentication) -> bool:
    """Whether the client has a secret or a key, which belong to one authorization server."""
    return not isinstance(client, PublicClient)


def make_authentication(
    client_id: str,
    *,
    client_secret: str | None = None,
    private_key: KeyMaterial | Callable[[str], Awaitable[str]] | None = None,
    algorithm: str | None = None,
    key_id: str | None = None,
    method: str | None = None,
) -> ClientAuthentication:
    """The authentication that a client with these credentials uses; raises ValueError if they contradict."""
    if client_secret is not None and private_key is not None:
        raise ValueError("a client has a secret or a private key, not both")
    if private_key is None:
        if algorithm is not None or key_id is not None:
            raise ValueError("algorithm and key_id belong to a private key")
        if client_secret is not None:
            return SecretClient(client_id, client_secret, method)
        if method not in (None, _NONE):
            raise ValueError(f"{method!r} needs a secret or a private key")
        return PublicClient(client_id)
    if method not in (None, _JWT):
        raise ValueError(f"a private key is used by {_JWT!r}, not by {method!r}")
    if callable(private_key):
        return KeyClient(client_id, sign=private_key)
    from trio_mcp.oauth.signing_key import read_key

    return KeyClient(client_id, read_key(private_key, algorithm, key_id))


def _choose(metadata: AuthorizationServerMetadata, methods: Collection[str]) -> str:
    """The first of `methods` that the server takes; the very first if it does not say which it takes."""
    accepted = metadata.token_endpoint_auth_methods_supported
    for method in methods:
        if accepted is None or method in accepted:
            return method
    raise AuthorizationError(
        f"the authorization server does not take {' or '.join(methods)}", issuer=metadata.issuer
    )
