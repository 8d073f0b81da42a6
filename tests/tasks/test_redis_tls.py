"""Tasks in a Redis server that speaks TLS."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import trio
import trustme

from tests.support.limits import HANG_SECONDS
from tests.support.redis_server import PROGRAMS, RedisServer, run_redis_server
from tests.tasks.store_cases import NOW, completed, held, make_record, put, read_until
from trio_mcp import RedisTaskStore, TaskStoreError


@attrs.frozen
class Place:
    """A server, the port at which it speaks TLS, and the file of the authority that has signed for it."""

    server: RedisServer
    port: int
    authority: Path

    @property
    def url(self) -> str:
        return f"rediss://127.0.0.1:{self.port}/0"


@pytest.fixture(scope="module", params=PROGRAMS)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    files = [directory / name for name in ("authority.pem", "certificate.pem", "key.pem")]
    authority.cert_pem.write_to_path(files[0])
    files[1].write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(files[2])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    with run_redis_server(request.param) as server:
        said = server.command(
            *("CONFIG", "SET", "tls-ca-cert-file", str(files[0]), "tls-cert-file", str(files[1])),
            *("tls-key-file", str(files[2]), "tls-auth-clients", "no", "tls-port", str(port)),
        )
        if said != "+OK":
            pytest.skip(f"this {request.param}-server was built without TLS: {said or 'it has ended'}")
        yield Place(server, port, files[0])


@pytest.fixture
def _trusted(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(place.authority))


async def fail_to_open(url: str, seconds: float = HANG_SECONDS) -> str:
    with trio.fail_after(2 * HANG_SECONDS), pytest.raises(TaskStoreError) as refusal:
        async with RedisTaskStore(url, timeout=seconds).open():
            raise AssertionError("it was opened")
    return str(refusal.value)


@pytest.mark.usefixtures("_trusted")
async def test_a_task_is_kept_and_followed_over_tls(place: Place) -> None:
    one, other = (RedisTaskStore(place.url, timeout=HANG_SECONDS) for _ in range(2))
    async with one.open(), other.open():
        record = await held(one, make_record(status_message="x" * 100_000))
        async with other.subscribe(record.id) as changes:
            final = completed(record)
            assert not await put(one, final)
            assert await read_until(changes, final.version) == final
        assert await other.get(record.id, NOW) == final


async def test_a_server_whose_certificate_nobody_trusts_is_refused(place: Place) -> None:
    assert "certificate verify failed" in await fail_to_open(place.url)


@pytest.mark.usefixtures("_trusted")
async def test_a_certificate_is_good_for_the_host_of_the_url_only(place: Place) -> None:
    said = await fail_to_open(place.url.replace("127.0.0.1", "localhost"))
    assert "not valid for 'localhost'" in said


async def test_a_url_that_is_wrong_about_tls_is_refused(place: Place) -> None:
    # A server without TLS waits for the end of what it takes for a command.
    said = await fail_to_open(place.server.url.replace("redis:", "rediss:"), seconds=0.5)
    assert "is it a Redis server with TLS?" in said
    assert "cannot be used" in await fail_to_open(place.url.replace("rediss:", "redis:"))
