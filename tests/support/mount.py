"""A server that offers nothing but what is mounted in it: it behaves as the mounted one served alone."""

from __future__ import annotations

from trio_mcp import Server


def mount_in_another(server: Server) -> Server:
    """A server of the same name and settings, in which `server` is mounted without a prefix."""
    info = server.info
    outer = Server(
        info.name,
        version=info.version,
        title=info.title,
        description=info.description,
        icons=info.icons,
        website_url=info.website_url,
        instructions=server.instructions,
        settings=server.settings,
        task_settings=server.task_settings,
        task_store=server.task_store,
    )
    outer.mount(server)
    return outer
