"""How the progress of one request flows, settled before its handler starts.

Owns the order of the settings: what `choose_progress` returns, else the policy of the tool, the prompt or
the resource, else the server's. Knows neither methods nor handlers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs
import trio

from trio_mcp.outgoing.policy import (
    SERVER_POLICIES,
    Heartbeat,
    ProgressCall,
    ServerPolicy,
    reports_policy,
)
from trio_mcp.session.request import ServerRequest
from trio_mcp.session.settings import ServerSettings

if TYPE_CHECKING:  # a server without heartbeats starts without this module
    from trio_mcp.outgoing.heartbeats import Heartbeats


class ProgressChoice:
    """Settles the policies of one running server; heartbeats wait in `nursery`."""

    def __init__(self, settings: ServerSettings, nursery: trio.Nursery) -> None:
        self._settings = settings
        self._nursery = nursery
        self._heartbeats: Heartbeats | None = None
        self._is_closed = False
        self.for_all: Final = settings.choose_progress is not None or isinstance(settings.progress, Heartbeat)
        """Whether every request needs to be settled; otherwise only one that has a policy of its own."""

    def settle(
        self, request: ServerRequest, own: ServerPolicy | None, name: str, *, is_tool: bool = False
    ) -> None:
        """Apply the policy to `request`, of the tool, prompt or resource `name` with the policy `own`.

        Raises TypeError if `choose_progress` returns none, and what that raises.
        """
        policy = own or self._settings.progress
        if self._settings.choose_progress is not None:
            policy = self._choose(request, policy, name, is_tool=is_tool)
        call_queue = request.call_queue
        if not isinstance(policy, Heartbeat):
            call_queue.apply_policy(policy)
            return
        call_queue.apply_policy(policy.policy or reports_policy(self._settings.progress))
        if call_queue.has_token and not self._is_closed:
            self._find_heartbeats().begin(call_queue, request.progress, policy.every)

    def close(self) -> None:
        """Begin no more heartbeats, because the server ends."""
        self._is_closed = True

    def _choose(
        self, request: ServerRequest, policy: ServerPolicy, name: str, *, is_tool: bool
    ) -> ServerPolicy:
        assert self._settings.choose_progress is not None
        if isinstance(policy, Heartbeat) and policy.policy is None:
            policy = attrs.evolve(policy, policy=reports_policy(self._settings.progress))
        chosen = self._settings.choose_progress(
            ProgressCall(
                tool=name if is_tool else "",
                policy=policy,
                client_info=request.meta.client_info,
                principal=request.connection.owner,
                session_state=None if request.session is None else request.session.state,
                method=request.method,
                name=name,
            )
        )
        if not isinstance(chosen, SERVER_POLICIES):
            raise TypeError(f"choose_progress must return a policy, not {chosen!r}")
        return chosen

    def _find_heartbeats(self) -> Heartbeats:
        if self._heartbeats is None:
            from trio_mcp.outgoing.heartbeats import Heartbeats

            self._heartbeats = Heartbeats(self._nursery)
        return self._heartbeats
