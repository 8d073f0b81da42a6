"""Wires over which servers are served mounted in another one."""

from __future__ import annotations

from typing import Any

import attrs

from tests.conftest import Wire
from tests.support.mount import mount_in_another
from trio_mcp import Server
from trio_mcp.testing import WireRecorder


@attrs.frozen
class MountedWire(Wire):
    """A wire over which every server is served mounted in another one."""

    def target(self, server: Any) -> Any:
        """A target for `open_client` that reaches `server`, which is mounted if it does not run yet."""
        return super().target(mount_in_another(server) if isinstance(server, Server) else server)

    def recorder(self, server: Server) -> WireRecorder:
        """The same target, with a record of all messages."""
        return WireRecorder(self.target(server))
