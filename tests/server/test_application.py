"""The tables of methods: what the revisions name is what the application serves."""

from __future__ import annotations

from trio_mcp import Server, open_server
from trio_mcp.wire.eras import ERAS


async def test_every_method_of_a_revision_is_in_one_of_the_two_tables():
    async with open_server(Server("tables")) as running:
        application = running.application
        named = {method for era in ERAS.values() for method in era.requests}
        assert {*application.immediate, *application.handlers} == named
        assert not set(application.immediate) & set(application.handlers)
