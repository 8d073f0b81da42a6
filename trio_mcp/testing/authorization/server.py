"""An authorization server for development and tests, as an ASGI application on Trio.

Owns its routes and what a test or developer can do with it. NOT for production: it keeps all in memory, hands
tokens to whoever asks, and answers only peers on this machine.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

import msgspec

from trio_mcp.testing.authorization import jose
from trio_mcp.testing.authorization.authorize import answer_authorize
from trio_mcp.testing.authorization.browser import visit
from trio_mcp.testing.authorization.client_documents import fetch_local_document
from trio_mcp.testing.authorization.clients import CODE, GRANT_TYPES, REFRESH, OAuthClient
from trio_mcp.testing.authorization.exchange import (
    FORM,
    Answer,
    OAuthProblem,
    Request,
    answer_problem,
    read_request,
    send_answer,
    serve_lifespan,
)
from trio_mcp.testing.authorization.faults import Faults
from trio_mcp.testing.authorization.grants import GrantBook
from trio_mcp.testing.authorization.in_memory import ask_app
from trio_mcp.testing.authorization.keys import SigningKeys
from trio_mcp.testing.authorization.local_request import get_local
from trio_mcp.testing.authorization.metadata import answer_keys, answer_metadata, describe_server
from trio_mcp.testing.authorization.minting import make_claims, mint, tamper
from trio_mcp.testing.authorization.protected_resource import ProtectedResource
from trio_mcp.testing.authorization.registration import answer_register
from trio_mcp.testing.authorization.state import (
    AuthorizationSettings,
    AuthorizationState,
    FetchDocument,
    SeenRequest,
)
from trio_mcp.testing.authorization.token_endpoint import answer_token
from trio_mcp.testing.authorization.token_status import answer_introspect, answer_revoke
from trio_mcp.transports.asgi.types import ASGIApp, Receive, Scope, Send
from trio_mcp.wire.origin import is_loopback_host

Endpoint = Callable[[AuthorizationState, Request], Answer | Awaitable[Answer]]

_ENDPOINTS: Final[Mapping[str, tuple[tuple[str, ...], Endpoint]]] = {
    "authorize": (("GET", "POST"), answer_authorize),
    "token": (("POST",), answer_token),
    "register": (("POST",), answer_register),
    "introspect": (("POST",), answer_introspect),
    "revoke": (("POST",), answer_revoke),
    "jwks": (("GET", "HEAD"), answer_keys),
    "oauth_metadata": (("GET", "HEAD"), answer_metadata),
    "openid_metadata": (("GET", "HEAD"), answer_metadata),
}

_CORS: Final = {
    "access-control-allow-origin": "*",
    "access-control-allow-methods": "GET, HEAD, POST, OPTIONS",
    "access-control-allow-headers": "authorization, content-type, dpop, mcp-protocol-version",
    "access-control-expose-headers": "dpop-nonce, www-authenticate",
}


class DevAuthorizationServer:
    """An OAuth 2.1 authorization server for development, NOT for production; an ASGI 3 application.

    It serves metadata (RFC 8414 and OpenID Connect), authorization codes with PKCE, refresh tokens that
    rotate, client credentials, JWT bearer assertions, token exchange for enterprise-managed authorization,
    DPoP, registration, Client ID Metadata Documents, introspection and revocation. Its users alice and bob
    grant whatever is asked for. `options` are the fields of `AuthorizationSettings`, which say otherwise.
    `now` is the Unix time in seconds, `documents` holds metadata documents of clients by URL, and
    `fetch_document` reads others (only those on this machine, if it is not given).

    Use it in memory by `request` and `authorize`, or serve it by `open_authorization_server`. Peers that are
    not on this machine, and requests for another host, are refused. Raises ImportError without joserfc
    (extra "auth"), ValueError for an issuer that is no URL, and TypeError for an unknown option.
    """

    def __init__(
        self,
        issuer: str = "https://auth.example.com",
        *,
        now: Callable[[], float] = time.time,
        documents: Mapping[str, Mapping[str, Any]] | None = None,
        fetch_document: FetchDocument = fetch_local_document,
        **options: Any,
    ) -> None:
        settings = AuthorizationSettings(**options)
        self.documents = dict(documents or {})
        self._fetch_other = fetch_document
        self._state = AuthorizationState(
            issuer=_check_issuer(issuer),
            settings=settings,
            now=now,
            fetch_document=self._fetch,
            keys=SigningKeys(settings.algorithm),
            grants=GrantBook(now),
        )

    def __repr__(self) -> str:
        return f"<DevAuthorizationServer of {self.issuer}, for development only: {self._state.grants!r}>"

    @property
    def issuer(self) -> str:
        """The issuer; a test may move the server to another one."""
        return self._state.issuer

    @issuer.setter
    def issuer(self, issuer: str) -> None:
        self._state.issuer = _check_issuer(issuer)

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata, with the faults that were asked for."""
        return describe_server(self._state)

    @property
    def faults(self) -> Faults:
        """What goes wrong, for tests."""
        return self._state.faults

    @property
    def keys(self) -> SigningKeys:
        """The keys that sign; `keys.rotate()` makes a new one."""
        return self._state.keys

    @property
    def counts(self) -> Counter[str]:
        """How many requests each endpoint has received."""
        return self._state.counts

    @property
    def seen(self) -> list[SeenRequest]:
        """The last 1000 requests to endpoints, oldest first; their values may be secrets."""
        return list(self._state.seen)

    def rotate_keys(self, *, keep: int = 1) -> str:
        """Sign with a new key from now on, and return its id; the last `keep` old ones stay published."""
        return self._state.keys.rotate(keep=keep)

    def add_client(
        self,
        client_id: str,
        *,
        secret: str | None = None,
        auth_method: str | None = None,
        redirect_uris: Collection[str] = (),
        grant_types: Collection[str] | None = None,
        jwks: Mapping[str, Any] | None = None,
        scopes: Collection[str] | None = None,
        name: str = "",
    ) -> None:
        """Register a client by hand: with a secret, with public keys (`jwks`), or public with neither.

        Without `grant_types` it may use all of them if it has credentials, else codes and refresh tokens.
        """
        if auth_method is None:
            auth_method = "client_secret_basic" if secret is not None else "none"
            auth_method = "private_key_jwt" if jwks is not None else auth_method
        usual = (CODE, REFRESH) if auth_method == "none" else GRANT_TYPES
        client = OAuthClient(
            client_id=client_id,
            secret=secret,
            auth_method=auth_method,
            redirect_uris=tuple(redirect_uris),
            grant_types=usual if grant_types is None else tuple(grant_types),
            name=name,
            keys=None if jwks is None else jose.read_keys(jwks),
            scopes=None if scopes is None else frozenset(scopes),
        )
        self._state.clients.put(client_id, client)

    def forget_client(self, client_id: str) -> None:
        """Forget a client, as a server does that has lost its registrations."""
        self._state.clients.take(client_id)

    def trust(self, issuer: str, jwks: Mapping[str, Any] | Callable[[], Mapping[str, Any]]) -> None:
        """Accept assertions of `issuer`, signed with these keys; a function is asked each time.

        `server.trust(idp.issuer, idp.keys.document)` follows the rotation of another development server.
        """

        def read() -> jose.KeySet:
            return jose.read_keys(jwks() if callable(jwks) else jwks)

        self._state.trusted[issuer] = read

    def name_client_at(self, audience: str, client_id: str, other_id: str) -> None:
        """Say what the client `client_id` is called at the authorization server `audience`, for an ID-JAG."""
        self._state.audience_clients[audience, client_id] = other_id

    def protect(
        self,
        app: ASGIApp,
        resource: str,
        *,
        scopes: Collection[str] = (),
        needs_proof: bool = False,
        needs_nonce: bool = False,
    ) -> ProtectedResource:
        """Put any ASGI application behind tokens of this server, for tests of clients.

        `resource` is its URL, for which tokens must be issued, with `scopes`. With `needs_proof` they must
        be bound to a key (DPoP); with `needs_nonce` proofs must hold a nonce of the resource. The claims are
        in `scope["trio_mcp.claims"]`. A server of trio_mcp has better protection of its own.
        """
        return ProtectedResource(
            self._state,
            app,
            resource,
            frozenset(scopes),
            needs_proof=needs_proof,
            needs_nonce=needs_nonce,
        )

    def revoke_subject(self, subject: str) -> None:
        """Revoke all that a user has granted."""
        self._state.grants.revoke_subject(subject)

    def issue_token(
        self,
        subject: str = "alice",
        *,
        audience: str | Collection[str] | None = None,
        scopes: Collection[str] = (),
        client_id: str = "test-client",
        issuer: str | None = None,
        expires_in: float = 3600.0,
        valid_in: float = 0.0,
        algorithm: str | None = None,
        typ: str = "at+jwt",
        header: Mapping[str, Any] | None = None,
        claims: Mapping[str, Any] | None = None,
        tampered: Mapping[str, Any] | None = None,
        with_other_key: bool = False,
    ) -> str:
        """Make any access token, good or bad, without a grant; introspection does not know it.

        Times are in seconds from now: a negative `expires_in` makes an expired token, a positive `valid_in`
        one that is not valid yet. `claims` replace or add claims, None takes one away. Of `algorithm`, "none"
        leaves the signature out and "HS256" signs with the public key. `tampered` changes claims behind the
        signature, and `with_other_key` signs with a key that is not published, under the id of one that is.
        """
        made = make_claims(
            self._state.now(),
            issuer=issuer or self.issuer,
            subject=subject,
            client_id=client_id,
            audience=self.issuer if audience is None else audience,
            scopes=scopes,
            expires_in=expires_in,
            valid_in=valid_in,
        )
        made = {name: value for name, value in {**made, **(claims or {})}.items() if value is not None}
        key = jose.generate_key(self.keys.algorithm) if with_other_key else None
        token = mint(self.keys, made, algorithm=algorithm, typ=typ, header=header, key=key)
        return token if tampered is None else tamper(token, tampered)

    async def authorize(
        self,
        url: str,
        *,
        user: str | None = None,
        password: str | None = None,
        scopes: Collection[str] | None = None,
        deny: bool = False,
    ) -> str:
        """Be the user's browser at an authorization URL, in memory; checkpoints.

        Returns the URL of the client's callback. `user` (the first one, if it is not given) logs in on the
        page, if there is one, and grants `scopes`, or all that is asked for, or refuses. Raises ValueError
        with the text of the page if the server sends the browser nowhere.
        """
        users = {known.subject: known.password for known in self._state.settings.users}
        name = user if user is not None else next(iter(users), "")
        if user is not None and not self._state.settings.login_page:
            url = f"{url}&{urlencode({'login_hint': user})}"
        given = password if password is not None else users.get(name, "")
        chosen = None if scopes is None else frozenset(scopes)

        async def ask(method: str, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
            return await self.request(method, url, headers=headers, body=body)

        return await visit(ask, url, name, given, scopes=chosen, deny=deny)

    async def fetch_callback(self, url: str) -> str:
        """Be the user's browser, and return the query of the client's callback; checkpoints.

        For `OAuth(redirect=server.fetch_callback, redirect_uri=...)`. Raises ValueError as `authorize`.
        """
        return urlsplit(await self.authorize(url)).query

    async def open_browser(self, url: str) -> None:
        """Be the user's browser up to the client's callback, which is asked over HTTP; checkpoints.

        For `OAuth(open_browser=server.open_browser)`. Raises ValueError as `authorize`, and for a callback
        that is not on this machine.
        """
        await get_local(await self.authorize(url), "text/html")

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, Any] | None = None,
        body: bytes = b"",
    ) -> Answer:
        """Make a request in memory, by way of the ASGI application; checkpoints.

        `form` is sent as a form; a list is a parameter that is repeated. A URL without a host is one of ours.
        """
        fields = {name.lower(): value for name, value in (headers or {}).items()}
        if form is not None:
            fields.setdefault("content-type", FORM)
            body = urlencode(form, doseq=True).encode("ascii")
        target = url if "://" in url else f"{self.issuer.rstrip('/')}/{url.removeprefix('/')}"
        return await ask_app(self, method, target, fields, body)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI 3); checkpoints if its host does. There is no WebSocket."""
        if scope["type"] == "lifespan":
            await serve_lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"the authorization server does not speak {scope['type']!r}")
        try:
            answer = self._refuse_peer(scope) or await self._answer(await read_request(scope, receive))
        except OAuthProblem as problem:
            answer = answer_problem(problem)
        await send_answer(send, answer, with_body=scope["method"] != "HEAD")

    def _refuse_peer(self, scope: Scope) -> Answer | None:
        client = scope.get("client")
        if client and client[0] and not is_loopback_host(client[0]):
            return Answer(403, {"content-type": "text/plain"}, b"This server is for development only.")
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == b"host"]
        if [host.lower() for host in hosts] != [urlsplit(self.issuer).netloc.lower()]:
            return Answer(421, {"content-type": "text/plain"}, b"This is not the host that was asked for.")
        return None

    async def _answer(self, request: Request) -> Answer:
        endpoint = self._find_endpoint(request.path)
        if endpoint is None:
            return Answer(404, {"content-type": "text/plain"}, b"There is no such endpoint.")
        methods, function = _ENDPOINTS[endpoint]
        if request.method == "OPTIONS":
            return Answer(204, _CORS)
        if request.method not in methods:
            return Answer(405, {"allow": ", ".join(methods)})
        self._note(endpoint, request)
        try:
            # The authorization endpoint meets its fault itself, as it answers by a redirect.
            fault = None if endpoint == "authorize" else await self._state.faults.meet(endpoint)
            made = fault or function(self._state, request)
            answer = made if isinstance(made, Answer) else await made
        except OAuthProblem as problem:
            answer = answer_problem(problem)
        return answer if endpoint == "authorize" else answer.with_headers(_CORS)

    def _find_endpoint(self, path: str) -> str | None:
        base, settings = self._state.path, self._state.settings
        well_known = {
            f"/.well-known/oauth-authorization-server{base}": "oauth_metadata",
            f"/.well-known/openid-configuration{base}": "openid_metadata",
            f"{base}/.well-known/openid-configuration": "openid_metadata",
        }
        if path in well_known:
            return well_known[path]
        name = path.removeprefix(f"{base}/")
        if path == name or "metadata" in name or name not in _ENDPOINTS:
            return None
        return None if name == "register" and not settings.registration else name

    def _note(self, endpoint: str, request: Request) -> None:
        self._state.counts[endpoint] += 1
        text = request.query if request.method == "GET" else request.body.decode("latin-1")
        if request.headers.get("content-type", "").startswith("application/json"):
            text = ""
        parameters = parse_qs(text, keep_blank_values=True)
        number = str(sum(self._state.counts.values()))
        self._state.seen.put(number, SeenRequest(endpoint, request.method, parameters, request.headers))

    async def _fetch(self, url: str) -> bytes:
        document = self.documents.get(url)
        return msgspec.json.encode(document) if document is not None else await self._fetch_other(url)


def _check_issuer(issuer: str) -> str:
    split = urlsplit(issuer)
    if split.scheme not in ("http", "https") or not split.hostname or split.query or split.fragment:
        raise ValueError(f"issuer must be an http or https URL without query and fragment, not {issuer!r}")
    return issuer
