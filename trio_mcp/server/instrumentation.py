"""A running server that has instruments.

Owns which parts of it are replaced by those that tell. It is imported by servers with instruments only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from trio_mcp.instruments import Instruments, ObservedRefusal
from trio_mcp.outgoing.transport import FrameTransport
from trio_mcp.server.definition import Makers, ServerDefinition
from trio_mcp.server.running import RunningServer
from trio_mcp.session.connection import NO_HEADERS
from trio_mcp.session.instrumented_session import InstrumentedSession, served_transport
from trio_mcp.tasks.supervisor import Supervisor
from trio_mcp.transports.kinds import find_kind

if TYPE_CHECKING:
    from trio_mcp.server.running_mounts import RunningMounts
    from trio_mcp.session.principal import Principal


def find_makers(instruments: Sequence[object]) -> Makers:
    """What makes the server, and what the supervisor of its tasks, so that `instruments` are told."""
    told = Instruments(instruments)
    make_supervisor: Callable[..., Supervisor] = Supervisor
    if told.observes_tasks:
        # Imported here: an instrument may have no hook for tasks.
        from trio_mcp.tasks.observed_tasks import ObservedSupervisor

        make_supervisor = partial(ObservedSupervisor, told)
    return partial(InstrumentedServer, told), make_supervisor


class InstrumentedServer(RunningServer):
    """A `RunningServer` that tells `instruments` of its sessions, requests and refusals."""

    def __init__(
        self,
        instruments: Instruments,
        definition: ServerDefinition,
        supervisor: Supervisor,
        nursery: trio.Nursery,
        lifespan: Any,
        mounts: RunningMounts | None = None,
    ) -> None:
        super().__init__(definition, supervisor, nursery, lifespan, mounts)
        self.application.make_session = partial(InstrumentedSession, self.application, instruments)
        self.refusals = ObservedRefusals(instruments)

    async def serve(
        self,
        transport: FrameTransport,
        *,
        principal: Principal | str | None = None,
        headers: Mapping[str, str] = NO_HEADERS,
        peer: str | None = None,
    ) -> None:
        """As that of the base class."""
        token = served_transport.set(find_kind(transport))
        try:
            await super().serve(transport, principal=principal, headers=headers, peer=peer)
        finally:
            served_transport.reset(token)


class ObservedRefusals(Counter[str]):
    """The refusals of a server; each that is counted is told."""

    def __init__(self, instruments: Instruments) -> None:
        super().__init__()
        self._instruments = instruments

    def __setitem__(self, kind: str, count: int) -> None:
        is_more = count > self[kind]
        super().__setitem__(kind, count)
        if is_more:
            self._instruments.refuse(ObservedRefusal(kind=kind))
