"""`JwtBearer`: tokens for a workload, by the identity that its platform gives it (RFC 7523, 2.1).

Owns the grant, where the assertion comes from, and that it goes only to the server that it is for. Refuses to
know discovery, and when a token is needed.
"""

from __future__ import annotations

import os
import re
import ssl
import time
from base64 import urlsafe_b64decode
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs
import msgspec
import trio

from trio_mcp.errors import AuthorizationError
from trio_mcp.oauth.client_authentication import (
    AuthenticatedForm,
    ClientAuthentication,
    has_credentials,
    make_authentication,
)
from trio_mcp.oauth.machine_flow import MachineAuthorization, MachineOptions
from trio_mcp.wire.authorization import AuthorizationServerMetadata

if TYPE_CHECKING:
    from trio_mcp.oauth.signing_key import KeyMaterial

GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"

MAX_ASSERTION_BYTES: Final = 64 * 1024
"""The longest assertion that is read from a file."""

AssertionSource: TypeAlias = str | os.PathLike[str] | Callable[[str], Awaitable[str]]
"""A JWT, the path of a file that holds one, or an async function from the audience to one."""

_JWT: Final = re.compile(r"[A-Za-z0-9_-]+\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]*")


class _Claims(msgspec.Struct):
    aud: str | list[str] | None = None


@attrs.frozen
class _Request:
    _source: AssertionSource = attrs.field(repr=False)
    _audience: str | None
    _client: ClientAuthentication | None

    @property
    def client_id(self) -> str:
        return "" if self._client is None else self._client.client_id

    @property
    def is_bound(self) -> bool:
        return self._client is not None and has_credentials(self._client)

    async def write(
        self, metadata: AuthorizationServerMetadata, resource: str, scopes: frozenset[str] | None
    ) -> AuthenticatedForm:
        assertion = await self._read(self._audience or metadata.issuer)
        self._check(assertion, metadata)
        return await write_assertion(assertion, self._client, metadata)

    async def _read(self, audience: str) -> str:
        if isinstance(self._source, str):
            return self._source
        if callable(self._source):
            return await self._source(audience)
        return await trio.to_thread.run_sync(_read_file, Path(self._source))

    def _check(self, assertion: str, metadata: AuthorizationServerMetadata) -> None:
        """Raise AuthorizationError unless the assertion is for this server, which could use it elsewhere."""
        audiences = _read_audiences(assertion)
        if audiences is None:
            raise AuthorizationError("the workload's assertion is no JWT", issuer=metadata.issuer)
        expected = {metadata.issuer, metadata.token_endpoint} if self._audience is None else {self._audience}
        known = {each.rstrip("/") for each in expected if each is not None}
        if not audiences or not all(each.rstrip("/") in known for each in audiences):
            raise AuthorizationError(
                f"the workload's assertion is for another audience than {self._audience or metadata.issuer}, "
                f"which is not given it; audience= and issuer= say if that is meant",
                issuer=metadata.issuer,
            )


async def write_assertion(
    assertion: str, client: ClientAuthentication | None, metadata: AuthorizationServerMetadata
) -> AuthenticatedForm:
    """The fields by which a client, if it is known, presents an assertion as its grant; checkpoints."""
    fields = {"grant_type": GRANT_TYPE, "assertion": assertion}
    if client is None:
        await trio.lowlevel.checkpoint()
        return AuthenticatedForm(fields)
    return await client.authenticate(fields, metadata)


def _read_file(path: Path) -> str:
    """The assertion in a file, which a platform replaces before it expires."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_ASSERTION_BYTES).decode("ascii").strip()
    except OSError as error:
        raise AuthorizationError(
            f"the workload's assertion in {path} cannot be read: {error.strerror or type(error).__name__}"
        ) from error
    except UnicodeDecodeError:
        raise AuthorizationError(f"the workload's assertion in {path} is no JWT") from None


def _read_audiences(assertion: str) -> list[str] | None:
    """The audiences that a JWT names, unverified; None if it is none."""
    match = _JWT.fullmatch(assertion)
    if match is None:
        return None
    try:
        raw = urlsafe_b64decode(match[1] + "=" * (-len(match[1]) % 4))
        audience = msgspec.json.decode(raw, type=_Claims).aud
    except (ValueError, msgspec.MsgspecError, RecursionError):
        return None
    return audience if isinstance(audience, list) else [] if audience is None else [audience]


class JwtBearer(MachineAuthorization):
    """Tokens for a workload, by the identity that its platform gives it; no person is asked.

    It is what `open_client(url, auth=...)` takes, for any number of clients of one Trio run; of many calls
    that meet an expired token, one gets another. Calls raise AuthorizationError if none is got.
    (Workload identity federation; RFC 7523, 2.1.)

    `assertion` is a JWT as text; or a `pathlib.Path`, never a text, of a file from which one is read each
    time, such as a projected service account token; or an async function that takes the audience and returns
    one. It is sent only to the authorization server that it is for: its audience must be the issuer or its
    token endpoint, or `audience`, which needs `issuer`. A refusal is not tried again.

    `client_id` is sent if it is given, with `client_secret` or an assertion by `private_key` if the server
    wants to know the client as well; these and all other options are those of `ClientCredentials`.

    Raises ValueError or TypeError for options that make no sense.
    """

    def __init__(
        self,
        assertion: AssertionSource,
        *,
        client_id: str | None = None,
        client_secret: str | None = None,
        private_key: KeyMaterial | Callable[[str], Awaitable[str]] | None = None,
        algorithm: str | None = None,
        key_id: str | None = None,
        auth_method: str | None = None,
        audience: str | None = None,
        scopes: Collection[str] | None = None,
        issuer: str | None = None,
        allow_private: bool = False,
        ssl_context: ssl.SSLContext | None = None,
        dpop: bool | str = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        if audience is not None and issuer is None:
            raise TypeError("audience= needs issuer=, the authorization server that takes it for its own")
        client: ClientAuthentication | None = None
        if client_id is not None:
            client = make_authentication(
                client_id,
                client_secret=client_secret,
                private_key=private_key,
                algorithm=algorithm,
                key_id=key_id,
                method=auth_method,
            )
        elif client_secret is not None or private_key is not None:
            raise TypeError("credentials belong to a client_id=, which is not given")
        options = MachineOptions(
            scopes=scopes,
            issuer=issuer,
            allow_private=allow_private,
            ssl_context=ssl_context,
            now=now,
            dpop=dpop,
        )
        super().__init__(_Request(assertion, audience, client), options)
