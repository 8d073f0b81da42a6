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

    Raises CommandError for a URL that names no store.
    """
    if url is None:
        return
    try:
        server.task_store = store_from_url(url)
    except TaskStoreError as error:
        raise CommandError(str(error)) from None
