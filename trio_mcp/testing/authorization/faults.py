"""Misbehaviour that a test asks the authorization server for.

Owns what can go wrong, and how often. Refuses to know how a request is answered otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import trio

from trio_mcp.testing.authorization.exchange import Answer, OAuthProblem


@attrs.define(kw_only=True)
class Fault:
    """How one endpoint misbehaves; with `error` it answers with that OAuth error, in its own way.

    `status`, `headers` and `body` replace its answer. `delay` is in seconds, and `gate` is an event for which
    the endpoint waits before it answers. After `times` requests (None: never) the endpoint behaves again.
    """

    status: int | None = None
    headers: Mapping[str, str] = attrs.field(factory=dict)
    body: bytes = b""
    error: str | None = None
    delay: float = 0.0
    gate: trio.Event | None = None
    times: int | None = None


@attrs.define
class Faults:
    """What goes wrong until it is taken back; nothing, as it is made.

    `endpoints` holds faults by the name of the endpoint: "oauth_metadata", "openid_metadata", "jwks",
    "authorize", "token", "register", "introspect", "revoke".
    """

    endpoints: dict[str, Fault] = attrs.field(factory=dict)
    metadata: dict[str, Any] = attrs.field(factory=dict)
    """Members that replace those of the metadata; None takes one away."""
    token: dict[str, Any] = attrs.field(factory=dict, repr=False)
    """Members that replace those of an answer with a token; None takes one away."""
    redirect: dict[str, str | None] = attrs.field(factory=dict, repr=False)
    """Parameters that replace those of the authorization response ("iss", "state", "code"); None: absent."""

    def clear(self) -> None:
        """Behave from now on."""
        for faults in (self.endpoints, self.metadata, self.token, self.redirect):
            faults.clear()

    async def meet(self, endpoint: str) -> Answer | None:
        """Misbehave at `endpoint` before it answers; checkpoints if it has a fault.

        Returns the answer that replaces the endpoint's own. Raises OAuthProblem for a fault with `error`.
        """
        fault = self.endpoints.get(endpoint)
        if fault is None:
            return None
        if fault.times is not None:
            if fault.times <= 0:
                return None
            fault.times -= 1
        if fault.gate is not None:
            await fault.gate.wait()
        await trio.sleep(fault.delay)
        if fault.error is not None:
            raise OAuthProblem(fault.error, "a fault that was asked for", fault.status or 400, fault.headers)
        if fault.status is None:
            return None
        return Answer(fault.status, {"content-type": "text/plain", **fault.headers}, fault.body)


def replace_members(members: Mapping[str, Any], faults: Mapping[str, Any]) -> dict[str, Any]:
    """The members with the faults applied."""
    return {name: value for name, value in {**members, **faults}.items() if value is not None}
