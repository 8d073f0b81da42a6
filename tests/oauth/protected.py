"""A real server of ours behind a door that wants tokens, with the authorization server that gives them.

The user's consent needs no HTTP: `World.agree` is what a browser would bring back. What the parts say can be
changed for a test by `metadata`, `resource`, `callback` and `answer_token`.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import attrs
import hypercorn.trio
import trio
from hypercorn.config import Config

from tests.support.limits import HANG_SECONDS
from trio_mcp import OAuth, Server, asgi_app
from trio_mcp.wire.authorization import render_challenge

REDIRECT = "http://127.0.0.1:4000/callback"


def make_server(calls: list[str]) -> Server:
    """A server whose tool notes each call."""
    server = Server("protected")

    @server.tool
    async def add(a: int, b: int) -> int:
        """Add two numbers."""
        calls.append("add")
        return a + b

    @server.tool
    async def write() -> str:
        """Needs the scope "write"."""
        calls.append("write")
        return "written"

    return server


@attrs.define(eq=False)
class World:
    """The server, its authorization servers below `origin`, and what was asked of them."""

    calls: list[str] = attrs.field(factory=list)
    origin: str = ""
    issuer_path: str = "/as"
    life: int | None = 3600
    scope: str | None = "read"
    tokens: dict[str, tuple[str, frozenset[str]]] = attrs.field(factory=dict)
    """The tokens that are good, with their issuer and their scopes."""
    refreshable: dict[str, str] = attrs.field(factory=dict)
    asked: list[dict[str, str]] = attrs.field(factory=list)
    """The authorization requests."""
    token_requests: list[dict[str, str]] = attrs.field(factory=list)
    registrations: list[dict[str, Any]] = attrs.field(factory=list)
    requests: Counter[str] = attrs.field(factory=Counter)
    metadata: dict[str, Any] = attrs.field(factory=dict)
    resource: dict[str, Any] = attrs.field(factory=dict)
    callback: Callable[[dict[str, str]], dict[str, str]] = lambda fields: fields
    answer_token: Callable[[dict[str, str]], tuple[int, Any] | None] = lambda fields: None
    needed: dict[str, str] = attrs.field(factory=lambda: {"write": "write"})
    granted: Callable[[str], str] = lambda scope: scope
    with_refresh: bool = True
    has_hint: bool = True
    """Whether the challenge says where the metadata is."""
    has_metadata: bool = True
    """Whether the server has any, as from MCP 2025-06-18 on."""
    _codes: dict[str, dict[str, str]] = attrs.field(factory=dict)
    _numbers: Any = attrs.field(factory=itertools.count)
    app: Any = None

    @property
    def url(self) -> str:
        return f"{self.origin}/mcp"

    @property
    def issuer(self) -> str:
        return f"{self.origin}{self.issuer_path}"

    @property
    def secrets(self) -> list[str]:
        """All that must never be shown."""
        verifiers = [fields.get("code_verifier", "") for fields in self.token_requests]
        return [secret for secret in (*self.tokens, *self.refreshable, *self._codes, *verifiers) if secret]

    def oauth(self, **options: Any) -> OAuth:
        """A client whose user agrees."""
        return OAuth(**{"redirect": self.agree, "redirect_uri": REDIRECT, **options})

    async def agree(self, url: str) -> str:
        """What comes back from a user who agrees."""
        await trio.lowlevel.checkpoint()
        return urlencode(self.callback(self.consent(url)))

    def consent(self, url: str) -> dict[str, str]:
        """Give a code for an authorization request."""
        assert url.startswith(f"{self.issuer}/authorize?")
        fields = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert (fields["response_type"], fields["code_challenge_method"]) == ("code", "S256")
        self.asked.append(fields)
        code = f"sesame-code-{next(self._numbers)}"
        self._codes[code] = fields
        return {"code": code, "state": fields["state"], "iss": self.issuer}

    def revoke(self) -> None:
        """Let no access token be good any more."""
        self.tokens.clear()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        path = scope["path"]
        if path in ("/mcp", "/sse", "/messages"):
            await self._guard(scope, receive, send)
            return
        self.requests[path] += 1
        body = await read_body(receive)
        status, document = self._answer(scope, path, body)
        await reply(send, status, document)

    def _answer(self, scope: Any, path: str, body: bytes) -> tuple[int, Any]:
        if path == "/.well-known/oauth-protected-resource/mcp" and self.has_metadata:
            known = {"resource": self.origin, "authorization_servers": [self.issuer]}
            return 200, {**known, **self.resource}
        base, _, last = path.rpartition("/")
        if path == "/.well-known/oauth-authorization-server" and not self.issuer_path:
            return 200, self._metadata(self.origin)
        if path.startswith("/.well-known/oauth-authorization-server/"):
            return 200, self._metadata(f"{self.origin}/{last}")
        if last == "register":
            asked = json.loads(body)
            self.registrations.append(asked)
            return 201, {**asked, "client_id": f"client-{len(self.registrations)} of {base}"}
        if last == "token":
            fields = {name: values[0] for name, values in parse_qs(body.decode()).items()}
            self.token_requests.append(fields)
            return self.answer_token(fields) or self._grant(fields, f"{self.origin}{base}")
        return 404, {}

    def _metadata(self, issuer: str) -> dict[str, Any]:
        known = {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/authorize",
            "token_endpoint": f"{issuer}/token",
            "registration_endpoint": f"{issuer}/register",
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none"],
            "authorization_response_iss_parameter_supported": True,
        }
        changed = {**known, **self.metadata}
        return {name: value for name, value in changed.items() if value is not None}

    def _grant(self, fields: dict[str, str], issuer: str) -> tuple[int, Any]:
        if fields["grant_type"] == "refresh_token":
            scope = self.refreshable.pop(fields["refresh_token"], None)
            if scope is None:
                return 400, {"error": "invalid_grant", "error_description": fields["refresh_token"]}
        else:
            asked = self._codes[fields["code"]]
            digest = hashlib.sha256(fields["code_verifier"].encode()).digest()
            assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == asked["code_challenge"]
            assert all(fields[name] == asked[name] for name in ("client_id", "redirect_uri", "resource"))
            scope = self.granted(asked.get("scope", ""))
        number = next(self._numbers)
        self.tokens[f"sesame-access-{number}"] = (issuer, frozenset(scope.split()))
        answer: dict[str, Any] = {"access_token": f"sesame-access-{number}", "token_type": "bearer"}
        if self.life is not None:
            answer["expires_in"] = self.life
        if self.with_refresh:
            answer["refresh_token"] = f"sesame-refresh-{number}"
            self.refreshable[f"sesame-refresh-{number}"] = scope
        return 200, answer

    # The door.

    async def _guard(self, scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope["headers"])
        token = headers.get(b"authorization", b"").decode().removeprefix("Bearer ")
        issuer, scopes = self.tokens.get(token, ("", frozenset()))
        body = b"" if scope["type"] == "websocket" else await read_body(receive)
        if issuer != self.issuer:
            self.requests["401"] += 1
            await self._refuse(scope, send, 401, {"error": "invalid_token"} if token else {}, self.scope)
            return
        message = json.loads(body) if body else {}
        needed = self.needed.get(message.get("params", {}).get("name", ""), "")
        if not frozenset(needed.split()) <= scopes:
            self.requests["403"] += 1
            await self._refuse(scope, send, 403, {"error": "insufficient_scope"}, needed)
            return
        if scope["type"] == "websocket":
            await self.app(scope, receive, send)
            return
        taken = False

        async def give() -> Any:
            nonlocal taken
            if taken:
                return await receive()
            taken = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, give, send)

    async def _refuse(
        self, scope: Any, send: Any, status: int, parameters: dict[str, str], wanted: str | None
    ) -> None:
        if self.has_hint:
            where = f"{self.origin}/.well-known/oauth-protected-resource/mcp"
            parameters = {"resource_metadata": where, **parameters}
        if wanted is not None:
            parameters = {**parameters, "scope": wanted}
        kind = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
        await reply(send, status, {}, {"www-authenticate": render_challenge("Bearer", parameters)}, kind)


async def read_body(receive: Any) -> bytes:
    body = b""
    while True:
        event = await receive()
        body += event.get("body", b"")
        if not event.get("more_body"):
            return body


async def reply(
    send: Any, status: int, document: Any, headers: dict[str, str] | None = None, kind: str = "http.response"
) -> None:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    given = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    raw = [(name.encode(), value.encode()) for name, value in given.items()]
    await send({"type": f"{kind}.start", "status": status, "headers": raw})
    await send({"type": f"{kind}.body", "body": body, "more_body": False})


@asynccontextmanager
async def open_world(**options: Any) -> AsyncIterator[World]:
    """Serve a world while the block lasts, for at most HANG_SECONDS seconds."""
    world = World(**options)
    world.app = asgi_app(make_server(world.calls), sse=True)
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = None
    config.keep_alive_timeout = config.ssl_handshake_timeout = HANG_SECONDS

    async def serve(task_status: Any) -> None:  # noqa: ASYNC128  # hypercorn starts it
        await hypercorn.trio.serve(
            world, config, shutdown_trigger=trio.sleep_forever, task_status=task_status
        )

    with trio.fail_after(HANG_SECONDS):
        async with trio.open_nursery() as nursery:
            (world.origin,) = await nursery.start(serve)
            yield world
            nursery.cancel_scope.cancel()
