"""`EnterpriseManaged`: tokens that the identity provider of an organization grants its users.

Owns the exchange of a user's identity for a grant, and that grant's way to the authorization server. Refuses
to know how the user logged in, discovery of the server, and when a token is needed.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs
import trio

from trio_mcp.errors import AuthorizationError
from trio_mcp.oauth.client_authentication import (
    AuthenticatedForm,
    ClientAuthentication,
    has_credentials,
    make_authentication,
)
from trio_mcp.oauth.discovery import discover_issuer, require_endpoint
from trio_mcp.oauth.jwt_bearer import write_assertion
from trio_mcp.oauth.machine_flow import MachineAuthorization, MachineOptions
from trio_mcp.oauth.requests import OAuthAnswer, post_form, read_refusal
from trio_mcp.oauth.token_set import write_scopes
from trio_mcp.oauth.url_policy import UrlPolicy
from trio_mcp.wire.authorization import AuthorizationServerMetadata, TokenResponse, read_document

if TYPE_CHECKING:
    from trio_mcp.oauth.signing_key import KeyMaterial

EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
ID_JAG: Final = "urn:ietf:params:oauth:token-type:id-jag"

SUBJECT_TYPES: Final = {
    "id_token": "urn:ietf:params:oauth:token-type:id_token",
    "saml2": "urn:ietf:params:oauth:token-type:saml2",
    "refresh_token": "urn:ietf:params:oauth:token-type:refresh_token",
}
"""The short names of what says who the user is."""

IdentitySource: TypeAlias = str | Callable[[], Awaitable[str]]
"""What the identity provider gave the user at login, or an async function that returns it."""

_PROVIDER: Final = "the identity provider"


@attrs.define(eq=False)
class IdentityProvider:
    """The identity provider of an organization, which exchanges identities for grants (RFC 8693).

    It was configured by whoever runs the client, so it may be on a private network.
    """

    _issuer: str | None
    _token_endpoint: str | None
    _client: ClientAuthentication
    _policy: UrlPolicy
    _metadata: AuthorizationServerMetadata | None = attrs.field(default=None, init=False)

    async def exchange(
        self, identity: str, subject_type: str, audience: str, resource: str, scopes: frozenset[str] | None
    ) -> str:
        """Get a grant (ID-JAG) for the authorization server `audience` and for `resource`; checkpoints.

        Raises AuthorizationError if the provider does not give it, by the organization's policy for example.
        """
        metadata = await self._find_metadata()
        url = require_endpoint(metadata.token_endpoint, "token endpoint", metadata.issuer, self._policy)
        fields = {
            "grant_type": EXCHANGE,
            "requested_token_type": ID_JAG,
            "audience": audience,
            "resource": resource,
            "subject_token": identity,
            "subject_token_type": subject_type,
        }
        if scopes is not None:
            fields["scope"] = write_scopes(scopes)
        form = await self._client.authenticate(fields, metadata)
        answer = await post_form(url, form.fields, headers=form.headers, policy=self._policy, what=_PROVIDER)
        return _read_grant(answer, metadata.issuer)

    async def _find_metadata(self) -> AuthorizationServerMetadata:
        if self._metadata is None:
            if self._issuer is None:
                assert self._token_endpoint is not None, "EnterpriseManaged has one or the other"
                self._metadata = AuthorizationServerMetadata(
                    issuer=self._token_endpoint, token_endpoint=self._token_endpoint
                )
            elif self._token_endpoint is None:
                self._metadata = await discover_issuer(self._issuer, self._policy)
            else:
                self._metadata = AuthorizationServerMetadata(
                    issuer=self._issuer, token_endpoint=self._token_endpoint
                )
        return self._metadata


def _read_grant(answer: OAuthAnswer, issuer: str) -> str:
    if not answer.is_success:
        raise read_refusal(answer, _PROVIDER, issuer)
    try:
        response = read_document(answer.body, TokenResponse, f"the answer of {_PROVIDER}")
    except ValueError as error:
        raise AuthorizationError(str(error), issuer=issuer) from None
    if response.issued_token_type != ID_JAG:
        # Anything else may be a token that is worth something elsewhere, so it is sent nowhere.
        raise AuthorizationError(
            f"{_PROVIDER} gave something else than an authorization grant", issuer=issuer
        )
    return response.access_token


@attrs.frozen
class _Request:
    _identity: IdentitySource = attrs.field(repr=False)
    _subject_type: str
    _provider: IdentityProvider
    _client: ClientAuthentication

    @property
    def client_id(self) -> str:
        return self._client.client_id

    @property
    def is_bound(self) -> bool:
        return has_credentials(self._client)

    async def write(
        self, metadata: AuthorizationServerMetadata, resource: str, scopes: frozenset[str] | None
    ) -> AuthenticatedForm:
        await trio.lowlevel.checkpoint()
        identity = self._identity if isinstance(self._identity, str) else await self._identity()
        grant = await self._provider.exchange(identity, self._subject_type, metadata.issuer, resource, scopes)
        return await write_assertion(grant, self._client, metadata)


class EnterpriseManaged(MachineAuthorization):
    """Tokens that an organization's identity provider grants its users, without asking them for each server.

    It is what `open_client(url, auth=...)` takes, for any number of clients of one Trio run; of many calls
    that meet an expired token, one gets another. Calls raise AuthorizationError if none is got. (MCP
    extension Enterprise-Managed Authorization; RFC 8693, RFC 7523.)

    `identity` is what the provider gave the user at login: an OpenID ID token, or an async function without
    arguments that returns one that is still good. Logging in is left to the program. `identity_type` is
    "id_token", "saml2", "refresh_token" or a URN. The provider exchanges it for a grant, if the
    organization's policy allows that, and the authorization server of the MCP server gives a token for the
    grant.

    The provider is `idp_issuer`, whose metadata is asked for, or `idp_token_endpoint`; the client is known
    there as `idp_client_id`, with `idp_client_secret` or `idp_private_key` if it has one. At the server's
    authorization server it is `client_id`, with `client_secret` or `private_key`; without either it only says
    its id. All other options are those of `ClientCredentials`.

    Raises ValueError or TypeError for options that make no sense. `extension` is the extension of MCP that a
    client declares with it.
    """

    extension: Final = "io.modelcontextprotocol/enterprise-managed-authorization"

    def __init__(
        self,
        identity: IdentitySource,
        *,
        client_id: str,
        client_secret: str | None = None,
        private_key: KeyMaterial | Callable[[str], Awaitable[str]] | None = None,
        auth_method: str | None = None,
        idp_client_id: str,
        idp_client_secret: str | None = None,
        idp_private_key: KeyMaterial | Callable[[str], Awaitable[str]] | None = None,
        idp_auth_method: str | None = None,
        idp_issuer: str | None = None,
        idp_token_endpoint: str | None = None,
        identity_type: str = "id_token",
        scopes: Collection[str] | None = None,
        issuer: str | None = None,
        allow_private: bool = False,
        ssl_context: ssl.SSLContext | None = None,
        dpop: bool | str = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        where = idp_issuer or idp_token_endpoint
        if where is None:
            raise TypeError("idp_issuer= or idp_token_endpoint= says where the identity provider is")
        if identity_type not in SUBJECT_TYPES and not identity_type.startswith("urn:"):
            raise ValueError(
                f"identity_type must be one of {', '.join(SUBJECT_TYPES)} or a URN, not {identity_type!r}"
            )
        client = make_authentication(
            client_id, client_secret=client_secret, private_key=private_key, method=auth_method
        )
        idp_client = make_authentication(
            idp_client_id,
            client_secret=idp_client_secret,
            private_key=idp_private_key,
            method=idp_auth_method,
        )
        policy = UrlPolicy.for_server(where, allow_private=allow_private, ssl_context=ssl_context)
        provider = IdentityProvider(idp_issuer, idp_token_endpoint, idp_client, policy)
        options = MachineOptions(
            scopes=scopes,
            issuer=issuer,
            allow_private=allow_private,
            ssl_context=ssl_context,
            now=now,
            dpop=dpop,
        )
        subject_type = SUBJECT_TYPES.get(identity_type, identity_type)
        self._where = where
        super().__init__(_Request(identity, subject_type, provider, client), options)

    def _describe(self) -> str:
        return f"by {self._where} "
