"""The entrance of an endpoint that has a guard: what the guard says becomes permits and responses.

Owns how a denial is sent over HTTP and WebSocket, and the request for metadata. The guard decides; an
endpoint without one has no entrance.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Final

import attrs

from trio_mcp.session.permit import Permit
from trio_mcp.transports.asgi.access import Access
from trio_mcp.transports.asgi.call import HttpCall
from trio_mcp.transports.asgi.guard import Denial, Guard, GuardedRequest
from trio_mcp.transports.asgi.refusals import Refusals
from trio_mcp.transports.asgi.reply import Reply, error_body
from trio_mcp.transports.asgi.request import read_headers
from trio_mcp.transports.asgi.types import Scope, Send
from trio_mcp.wire.websocket import POLICY_VIOLATION

METADATA_METHODS: Final = "GET, HEAD, OPTIONS"

HTTP_RESPONSE: Final = "websocket.http.response"
"""The ASGI extension of a host that can answer a WebSocket's handshake with a response."""

MAX_REASON: Final = 123
"""In bytes, what the frame that closes a WebSocket has room for (RFC 6455, 5.5)."""

_ANY_ORIGIN: Final = {"access-control-allow-origin": "*"}
_KEPT: Final = {"cache-control": "public, max-age=300"}
"""Metadata change seldom, and a client that reads them anew costs little."""


class Entrance:
    """Asks `guard` about each request; of the endpoint's `paths`, the first is that of Streamable HTTP."""

    def __init__(self, guard: Guard, access: Access, refusals: Refusals, paths: Sequence[str]) -> None:
        self._guard = guard
        self._access = access
        self._refusals = refusals
        self._paths = paths

    async def admit(self, call: HttpCall, *, is_sse: bool) -> HttpCall | None:
        """`call` with its permit, or None after it was denied; checkpoints if somebody is asked."""
        if call.scope["method"] == "OPTIONS":
            return call  # what a browser asks before its request has no token (Fetch, "CORS-preflight fetch")
        request = GuardedRequest(call.scope, call.headers, self._paths[-1 if is_sse else 0])
        permit = await self._guard.admit(request)
        if isinstance(permit, Denial):
            await self._refusals.deny(call.reply, permit)
            return None
        call.reply.demand = partial(self._demand, request, permit)
        return attrs.evolve(call, permit=permit, headers=self.without_secrets(call.headers))

    def without_secrets(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """The headers for everybody behind the entrance."""
        secret = self._guard.secret_header
        if secret is None or secret not in headers:
            return headers
        return {name: value for name, value in headers.items() if name != secret}

    def _demand(
        self, request: GuardedRequest, permit: Permit | None, scopes: Collection[str]
    ) -> Denial | None:
        denial = self._guard.demand(request, permit, scopes)
        if denial is not None:
            self._refusals.counts[denial.kind] += 1
        return denial

    async def admit_websocket(
        self, scope: Scope, headers: Mapping[str, str], send: Send
    ) -> Permit | Denial | None:
        """The permit of a WebSocket, or why it was denied; checkpoints if somebody is asked."""
        permit = await self._guard.admit(GuardedRequest(scope, headers, self._paths[0]))
        if not isinstance(permit, Denial):
            return permit
        self._refusals.counts[permit.kind] += 1
        if HTTP_RESPONSE not in (scope.get("extensions") or ()):
            reason = permit.reason.encode("ascii", "replace")[:MAX_REASON].decode()
            await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": reason})
            return permit
        body = error_body(permit.code, permit.reason)
        shown = {"content-type": "application/json", "content-length": str(len(body)), **permit.headers}
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in shown.items()]
        await send({"type": f"{HTTP_RESPONSE}.start", "status": permit.status, "headers": raw})
        await send({"type": f"{HTTP_RESPONSE}.body", "body": body, "more_body": False})
        return permit

    def find_metadata(self, scope: Scope) -> str | None:
        """The path whose metadata a request for another path wants, or None."""
        return self._guard.find_metadata(scope, self._paths)

    async def serve_metadata(self, scope: Scope, send: Send, path: str) -> None:
        """Say who issues tokens for `path`, and for which scopes (RFC 9728); needs no token. Checkpoints."""
        headers, method = read_headers(scope), scope["method"]
        reply = Reply(send, _ANY_ORIGIN)
        asked_by_nobody = {name: value for name, value in headers.items() if name != "origin"}
        refusal = self._access.refusal(
            scope, asked_by_nobody
        )  # only the host counts: every page may know this
        if refusal is not None:
            await self._refusals.refuse(reply, "door", 403, refusal)
        elif method == "OPTIONS":
            await reply.answer(204, headers=self._access.preflight_headers(headers, METADATA_METHODS))
        elif method not in ("GET", "HEAD"):
            reason = f"{method} is not for metadata"
            await self._refusals.refuse(reply, "method", 405, reason, headers={"allow": METADATA_METHODS})
        else:
            described = self._guard.describe(GuardedRequest(scope, headers, path))
            if isinstance(described, Denial):
                await self._refusals.deny(reply, described)
            else:
                await reply.answer(200, described, _KEPT)
