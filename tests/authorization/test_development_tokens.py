"""Tokens for development on a server that others can reach: it serves, and says once that it should not."""

from __future__ import annotations

import pytest

from tests.authorization.tokens import Tokens, bearing, make_principal
from tests.support.asgi_host import finish, open_host
from trio_mcp import AnyOf, Bearer, Server, StaticTokens, asgi_app

server = Server("protected", version="1")
WARNING = "other machines can reach this server, and it takes tokens that are for development only"


@pytest.mark.parametrize(
    ("address", "host", "resource", "is_warned"),
    [
        (("127.0.0.1", 8000), "localhost:8000", None, False),
        (("::1", 8000), "[::1]:8000", None, False),
        (("127.0.0.1", 8000), "localhost:8000", "https://albums.example/mcp", True),
        (("127.0.0.1", 8000), "albums.example", None, True),
        (("192.168.1.2", 8000), "192.168.1.2:8000", None, True),
        (("192.168.1.2", 8000), "localhost:8000", None, True),
        (("/run/albums", None), "localhost", None, False),
    ],
)
async def test_a_server_that_others_reach_warns_once_of_tokens_for_development(
    address, host, resource, is_warned, caplog
):
    verify = AnyOf(StaticTokens({"t0ken": "ann"}))
    app = asgi_app(server, auth=Bearer(verify, resource=resource), allowed_hosts=["*"])
    async with open_host(app) as opened:
        opened.address = address
        for _ in range(2):
            answer = await finish(opened.modern("tools/list", headers={**bearing("t0ken"), "host": host}))
            assert answer.status == 200
    assert [record.message for record in caplog.records] == ([WARNING] if is_warned else [])


async def test_other_verifiers_are_not_warned_of(caplog):
    bearer = Bearer(Tokens({"good": make_principal()}))
    async with open_host(asgi_app(server, auth=bearer, allowed_hosts=["*"])) as opened:
        opened.address = ("192.168.1.2", 8000)
        headers = {**bearing("good"), "host": "albums.example"}
        assert (await finish(opened.modern("tools/list", headers=headers))).status == 200
    assert caplog.records == []
