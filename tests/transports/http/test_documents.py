"""Documents that are fetched over real connections."""

from __future__ import annotations

import ssl

import pytest
import trio
import trustme

from tests.transports.http.test_http_connection import Peer, raw_server
from trio_mcp.transports.http.documents import DocumentFetcher
from trio_mcp.transports.http.response import UnreachableError


async def test_a_document_is_read_whole() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.reply(b'{"keys": []}', b"HTTP/1.1 200 OK\r\nX-Kind: Keys\r\n")

    async with raw_server(script) as server:
        document = await DocumentFetcher()(server.url)
    assert (document.status, document.body) == (200, b'{"keys": []}')
    assert document.headers["x-kind"] == "Keys"
    (request,) = server.requests
    assert request.line.startswith("GET /mcp ")
    assert "application/json" in request.headers["accept"]
    assert "keys" not in repr(document), "a document may hold secrets"


async def test_a_form_is_posted() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.reply(b"{}", b"HTTP/1.1 401 Unauthorized\r\n")

    async with raw_server(script) as server:
        form = {"Content-Type": "application/x-www-form-urlencoded", "Authorization": "Basic eA=="}
        document = await DocumentFetcher()(server.url, method="POST", headers=form, body=b"token=t")
    assert document.status == 401
    (request,) = server.requests
    assert (request.line.split()[0], request.body) == ("POST", b"token=t")
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert request.headers["authorization"] == "Basic eA=="


async def test_a_certificate_that_is_not_publicly_trusted_needs_a_context() -> None:
    authority = trustme.CA()
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(serving)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.reply(b"{}")

    async with raw_server(script, tls=serving) as server:
        assert (await DocumentFetcher(ssl_context=trusting)(server.url)).status == 200


async def test_a_document_that_is_too_large_is_not_read() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.reply(b"x" * 101)

    async with raw_server(script) as server:
        with pytest.raises(UnreachableError, match="more than 100 bytes"):
            await DocumentFetcher(limit=100)(server.url)


async def test_a_server_that_does_not_answer_is_given_up() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.wait_end()

    async with raw_server(script) as server:
        with pytest.raises(UnreachableError, match=r"has not answered within 0\.05 seconds"):
            await DocumentFetcher(seconds=0.05)(server.url)


async def test_a_redirect_to_another_origin_is_not_followed() -> None:
    reached = trio.Event()

    async def answer(peer: Peer) -> None:
        reached.set()
        await peer.read_request()
        await peer.reply(b"{}")

    async with raw_server(answer) as other:

        async def redirect(peer: Peer) -> None:
            await peer.read_request()
            await peer.reply(b"", b"HTTP/1.1 302 Found\r\nlocation: %b\r\n" % other.url.encode())

        async with raw_server(redirect) as server:
            with pytest.raises(UnreachableError):
                await DocumentFetcher()(server.url)
    assert not reached.is_set()


async def test_nobody_at_the_address_is_an_unreachable_server() -> None:
    async with raw_server(lambda peer: peer.wait_end()) as server:
        pass
    with pytest.raises(UnreachableError):
        await DocumentFetcher()(server.url)


@pytest.mark.parametrize("options", [{"seconds": 0}, {"limit": 0}, {"seconds": -1}])
def test_settings_that_make_no_sense_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        DocumentFetcher(**options)  # type: ignore[arg-type]
