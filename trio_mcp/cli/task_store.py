"""The option --tasks: the store in which a served file keeps its tasks.

Owns which stores go with which way of serving.
"""

from __future__ import annotations

from trio_mcp.cli.status import CommandError
from trio_mcp.errors import TaskStoreError
from trio_mcp.server.server import Server
from trio_mcp.tasks.store_url import store_from_url


def use_store(server: Server, url: str | None) -> None:
    """Let `server` keep its tasks in the store at `url`, in place of its own; None leaves it that.

    Raises CommandError for a URL that names no store, and if its extra is missing.
    """
    if url is None:
        return
    try:
        server.task_store = store_from_url(url)
    except (TaskStoreError, ImportError) as error:  # an extra may be missing, which the message names
        raise CommandError(str(error)) from None


def require_shared(server: Server) -> None:
    """Raise CommandError unless other processes can take tasks from the store of `server`."""
    store = server.task_store
    if store is None or not store.is_shared:
        raise CommandError(
            "--queue-only leaves the tasks to workers, which need a store that they can share: "
            "say --tasks redis://HOST or valkey://HOST"
        )


def require_durable(server: Server) -> None:
    """Raise CommandError unless the store of `server` may have tasks when this process opens it."""
    store = server.task_store
    if store is None or store.sweep_interval is None:
        raise CommandError(
            "a worker needs a store that others fill: say --tasks redis://HOST, valkey://HOST or sqlite:PATH"
        )
