"""Hypercorn's command and nginx work as docs/deployment.md and docs/authorization.md say.

The tests run the pages' own module and nginx configuration; only addresses differ.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx2
import pytest
import trio

from tests.docs.test_examples import ROOT, read_blocks
from tests.support.limits import HANG_SECONDS
from trio_mcp import Bearer, JwtVerifier, OAuth, Server, open_client, serve_http
from trio_mcp.testing import open_authorization_server

BLOCKS = read_blocks(ROOT / "docs" / "deployment.md")
NAME = "mcp.example.com"

requires_nginx = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")


def read_block(language: str, word: str) -> str:
    (text,) = [block.text for block in BLOCKS if block.language == language and word in block.text]
    return text


@contextmanager
def running(command: list[str], directory: Path, pass_fds: Sequence[int] = ()) -> Iterator[None]:
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=directory, pass_fds=pass_fds, env=environ)
    try:
        yield
    finally:
        process.terminate()
        process.wait(HANG_SECONDS)


@pytest.fixture
def hypercorn_port(tmp_path: Path) -> Iterator[int]:
    """The port at which hypercorn's own command serves the page's module."""
    (tmp_path / "app.py").write_text(read_block("python", "# app.py"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.set_inheritable(True)
        fd = listening.fileno()
        command = [sys.executable, "-m", "hypercorn", "-k", "trio", "--bind", f"fd://{fd}", "app:app"]
        with running(command, tmp_path, [fd]):
            yield listening.getsockname()[1]


async def resize(url: str, protocol: str, http: httpx2.AsyncClient | None = None) -> list[float]:
    """Call the page's tool under the page's host name, and return the progress that arrived."""
    updates: list[float] = []
    with trio.fail_after(HANG_SECONDS):
        async with open_client(url, headers={"Host": NAME}, protocol=protocol, http_client=http) as client:
            result = await client.call_tool(
                "resize", {"photos": 3}, progress_handler=lambda *update: updates.append(update[0])
            )
    assert result.data == "3 photos resized"
    return updates


@pytest.mark.parametrize("protocol", ["2026-07-28", "2025-11-25"])
async def test_hypercorn_serves_the_module(hypercorn_port, protocol):
    assert await resize(f"http://127.0.0.1:{hypercorn_port}/mcp", protocol) == [1, 2, 3]


async def test_foreign_names_are_refused(hypercorn_port):
    async with httpx2.AsyncClient(timeout=HANG_SECONDS) as http:
        answer = await http.post(f"http://127.0.0.1:{hypercorn_port}/mcp", timeout=HANG_SECONDS)
    assert answer.status_code == 403


@contextmanager
def running_nginx(directory: Path, site: str, port: int) -> Iterator[Path]:
    """Run nginx with `site` before the server at `port`; gives the Unix socket at which it listens."""
    directory.mkdir()
    path = directory / "listening"
    site = site.replace("listen 80", f"listen unix:{path}").replace("127.0.0.1:8000", f"127.0.0.1:{port}")
    paths = "".join(
        f"{kind}_temp_path {directory / kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = f"daemon off;\npid {directory}/pid;\nerror_log stderr;\nevents {{}}\n"
    (directory / "nginx.conf").write_text(f"{config}http {{\naccess_log off;\n{paths}{site}}}\n")
    nginx = shutil.which("nginx")
    assert nginx is not None
    command = [nginx, "-p", str(directory), "-c", str(directory / "nginx.conf"), "-e", "stderr"]
    with running(command, directory):
        yield path


@pytest.fixture
def nginx_path(hypercorn_port: int, tmp_path: Path) -> Iterator[Path]:
    """The Unix socket of nginx with the page's configuration, before hypercorn."""
    with running_nginx(tmp_path / "nginx", read_block("nginx", "map"), hypercorn_port) as path:
        yield path


async def connect(path: Path) -> trio.SocketStream:
    with trio.fail_after(HANG_SECONDS):
        while True:
            try:
                return await trio.open_unix_socket(path)
            except OSError:
                await trio.sleep(0.02)  # nginx gives no sign when it is ready


@requires_nginx
@pytest.mark.parametrize("protocol", ["2026-07-28", "2025-11-25"])
async def test_event_streams_pass_nginx(nginx_path, protocol):
    await (await connect(nginx_path)).aclose()
    transport = httpx2.AsyncHTTPTransport(uds=str(nginx_path))
    async with httpx2.AsyncClient(timeout=HANG_SECONDS, transport=transport) as http:
        assert await resize(f"http://{NAME}/mcp", protocol, http) == [1, 2, 3]


@requires_nginx
async def test_websockets_pass_nginx(nginx_path):
    async with await connect(nginx_path) as stream:
        lines = (
            "GET /mcp HTTP/1.1",
            f"Host: {NAME}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        )
        await stream.send_all("".join(f"{line}\r\n" for line in (*lines, "")).encode())
        with trio.fail_after(HANG_SECONDS):
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 101 ")


def find_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@requires_nginx
async def test_a_client_gets_its_token_through_nginx(tmp_path):
    # nginx takes the public URL on one port, and the server has another one, which no client sees.
    public, inner = find_free_port(), find_free_port()
    resource = f"http://127.0.0.1:{public}/mcp"
    page = (ROOT / "docs" / "authorization.md").read_text()
    (metadata,) = re.findall(r"^```nginx\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    site, brace, _ = read_block("nginx", "map").rpartition("}")
    site = site.replace("listen 80;", f"listen 80; listen 127.0.0.1:{public};")
    server = Server("albums")

    @server.tool(scopes=["read"])
    def count() -> int:
        return 2

    with running_nginx(tmp_path / "nginx", site + metadata + brace, inner) as path:
        async with open_authorization_server() as issuer, trio.open_nursery() as nursery:
            auth = Bearer(JwtVerifier(issuer.issuer, resource), resource=resource, scopes=["read"])
            await nursery.start(partial(serve_http, server, bind=f"127.0.0.1:{inner}", auth=auth))
            await (await connect(path)).aclose()
            with trio.fail_after(HANG_SECONDS):
                async with open_client(resource, auth=OAuth(open_browser=issuer.open_browser)) as client:
                    assert (await client.call_tool("count")).data == 2
            nursery.cancel_scope.cancel()
    assert issuer.counts["authorize"] == 1
