"""The directory helper: what it serves, and that no client leaves the directory."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.conftest import Wire
from trio_mcp import (
    Client,
    ProtocolError,
    ResourceDefinitionError,
    ResourceError,
    ResourceNotFound,
    Server,
    open_client,
)
from trio_mcp.server.directory import Directory

SECRET = "the secret outside"
posix = pytest.mark.skipif(sys.platform == "win32", reason="links and FIFOs need POSIX")


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A directory with files, beside a file with a secret."""
    (tmp_path / "secret.txt").write_text(SECRET)
    (tmp_path / "docs-secret").mkdir()
    (tmp_path / "docs-secret" / "a.txt").write_text(SECRET)
    root = tmp_path / "docs"
    (root / "guide" / "deep").mkdir(parents=True)
    (root / "readme.md").write_text("# Read me")
    (root / "guide" / "deep" / "caf\xe9 au lait.txt").write_text("coffee", encoding="utf-8")
    (root / "picture.png").write_bytes(b"\x89PNG\x00")
    (root / "archive.tar.gz").write_bytes(b"\x1f\x8b\x00")
    (root / "broken.txt").write_bytes(b"\xff\xfe")
    (root / "plain").write_text("no extension")
    (root / ".env").write_text(SECRET)
    return root


@pytest.fixture
def server(docs: Path) -> Server:
    server = Server("files")
    server.add_directory("files://docs", docs, max_bytes=1000)
    return server


@pytest.mark.parametrize(
    ("path", "mime_type", "data"),
    [
        ("readme.md", "text/markdown", "# Read me"),
        ("guide/deep/caf%C3%A9%20au%20lait.txt", "text/plain", "coffee"),
        ("picture.png", "image/png", b"\x89PNG\x00"),
        ("archive.tar.gz", "application/gzip", b"\x1f\x8b\x00"),
        ("broken.txt", "text/plain", b"\xff\xfe"),
        ("plain", "text/plain", "no extension"),
    ],
)
async def test_files_are_read_as_what_they_are(wire: Wire, server, path, mime_type, data):
    async with wire.open(server) as client:
        result = await client.read_resource(f"files://docs/{path}")
        (template,) = await client.list_resource_templates()
    assert result.data == data
    assert result.contents[0].mime_type == mime_type
    assert result.contents[0].uri == f"files://docs/{path}"
    assert (template.uri_template, template.name) == ("files://docs/{path*}", "docs")


async def refuses(client: Client, uri: str) -> bool:
    with pytest.raises(ProtocolError) as caught:
        await client.read_resource(uri)
    return caught.value.message == "Resource not found"


ATTACKS = [
    "..",
    "../secret.txt",
    "../docs-secret/a.txt",
    "guide/../../secret.txt",
    "guide/../readme.md",
    "./readme.md",
    "guide//deep",
    "%2e%2e/secret.txt",
    "..%2Fsecret.txt",
    "..%5Csecret.txt",
    "%252e%252e%252fsecret.txt",
    "%2Fetc%2Fpasswd",
    "/etc/passwd",
    "//etc/passwd",
    "C:/Windows/win.ini",
    "C:readme.md",
    "%5C%5Chost%5Cshare",
    "readme.md%00",
    "readme.md%00.png",
    "readme.md::$DATA",
    "CON",
    "con.txt",
    "guide/NUL",
    "aux%20.txt",
    "com1",
    "LPT%C2%B9.md",
    "conin$",
    "...",
    ".%20",
    "..%20/secret.txt",
    "~root",
    "%0a",
    "guide",
    "guide/deep",
    ".env",
    "guide/.env",
    "missing.txt",
    "readme.md/more",
    "a/" * 2000 + "b",
    "a" * 5000,
    "?path=../secret.txt",
    "%ff",
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack[:30])
async def test_nothing_outside_is_read(server: Server, attack: str) -> None:
    async with open_client(server) as client:
        assert await refuses(client, f"files://docs/{attack}")


async def test_attacks_are_refused_over_every_transport(wire: Wire, server: Server) -> None:
    async with wire.open(server) as client:
        for attack in ("../secret.txt", "%2e%2e/secret.txt", "%2Fetc%2Fpasswd", "readme.md%00", "CON"):
            assert await refuses(client, f"files://docs/{attack}")


@posix
async def test_links_are_followed_inside_the_directory_only(server: Server, docs: Path) -> None:
    (docs / "inside.md").symlink_to(docs / "readme.md")
    (docs / "out.txt").symlink_to(docs.parent / "secret.txt")
    (docs / "relative.txt").symlink_to("../secret.txt")
    (docs / "up").symlink_to(docs.parent, target_is_directory=True)
    (docs / "prefix").symlink_to(docs.parent / "docs-secret", target_is_directory=True)
    (docs / "chain.txt").symlink_to(docs / "out.txt")
    (docs / "circle").symlink_to(docs / "circle")
    (docs / "dangling").symlink_to(docs / "nothing")
    (docs / "shown.txt").symlink_to(docs / ".env")
    async with open_client(server) as client:
        assert (await client.read_resource("files://docs/inside.md")).text == "# Read me"
        for path in ("out.txt", "relative.txt", "up/secret.txt", "up/docs/readme.md/x", "prefix/a.txt"):
            assert await refuses(client, f"files://docs/{path}")
        for path in ("chain.txt", "circle", "dangling", "shown.txt"):
            assert await refuses(client, f"files://docs/{path}")


@posix
def test_a_link_that_appears_after_the_check_is_not_followed(docs: Path, monkeypatch) -> None:
    """Whoever can write into the directory exchanges a file or a directory between check and opening."""
    directory = Directory(docs, 1000, hidden=False)
    (docs / "guide" / "secret.txt").write_text("harmless")

    def exchange_file() -> None:
        (docs / "readme.md").unlink()
        (docs / "readme.md").symlink_to(docs.parent / "secret.txt")

    def exchange_directory() -> None:
        (docs / "guide").rename(docs / "old")
        (docs / "guide").symlink_to(docs.parent, target_is_directory=True)

    real = Path.resolve
    for path, exchange in (("readme.md", exchange_file), ("guide/secret.txt", exchange_directory)):

        def resolve(self: Path, strict: bool = False, exchange=exchange) -> Path:
            found = real(self, strict=strict)
            exchange()
            return found

        with monkeypatch.context() as patch:
            patch.setattr(Path, "resolve", resolve)
            with pytest.raises(ResourceNotFound):
                directory.read("files://docs/x", path)
        assert real(docs / path).read_text() == SECRET  # the exchange did happen


@posix
async def test_what_is_no_regular_file_is_not_opened_for_long(server: Server, docs: Path) -> None:
    os.mkfifo(docs / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        before = Path.cwd()
        os.chdir(docs)  # the path of a socket must be short
        try:
            listener.bind("socket")
        finally:
            os.chdir(before)
        async with open_client(server) as client:
            assert await refuses(client, "files://docs/fifo")
            assert await refuses(client, "files://docs/socket")


async def test_a_file_that_is_too_large_is_refused_with_its_reason(server: Server, docs: Path) -> None:
    (docs / "fits.txt").write_text("x" * 1000)
    (docs / "large.txt").write_text("x" * 1001)
    async with open_client(server) as client:
        assert len((await client.read_resource("files://docs/fits.txt")).text) == 1000
        with pytest.raises(ProtocolError, match="larger than 1,000 bytes"):
            await client.read_resource("files://docs/large.txt")


async def test_hidden_files_are_read_if_they_are_wanted(docs: Path) -> None:
    server = Server("files")
    server.add_directory("files://", docs, name="all", hidden=True)
    async with open_client(server) as client:
        assert (await client.read_resource("files://.env")).text == SECRET
        assert (await client.list_resource_templates())[0].uri_template == "files://{path*}"


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="counts descriptors in /dev/fd")
def test_no_descriptor_stays_open(docs: Path) -> None:
    directory = Directory(docs, 3, hidden=False)
    before = len(os.listdir("/dev/fd"))
    for path in ("readme.md", "guide/deep/caf\xe9 au lait.txt", "guide", "missing", "guide/missing"):
        with pytest.raises(ResourceError):
            directory.read("x://y", path)
    assert len(os.listdir("/dev/fd")) == before


NAMES = st.one_of(
    st.sampled_from(["..", ".", "", "guide", "deep", "secret.txt", "docs", "readme.md", "\0", "\\", "~"]),
    st.text(max_size=5),
)


@given(parts=st.lists(NAMES, max_size=6), separator=st.sampled_from(["/", "//", "\\", "/../"]))
@example(parts=["..", "secret.txt"], separator="/")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_no_path_reads_the_secret(docs: Path, parts: list[str], separator: str) -> None:
    path = separator.join(parts)
    try:
        contents = Directory(docs, 1000, hidden=False).read("files://docs", path)
    except ResourceNotFound:
        return
    assert contents.text != SECRET


def test_a_directory_that_does_not_exist_is_refused_at_registration(docs: Path) -> None:
    server = Server("files")
    for path in (docs / "missing", docs / "readme.md", "a\0b"):
        with pytest.raises(ResourceDefinitionError, match="directory"):
            server.add_directory("files://docs", path)
    with pytest.raises(ResourceDefinitionError, match="without variables"):
        server.add_directory("files://{x}", docs)
    with pytest.raises(ResourceDefinitionError, match="max_bytes"):
        server.add_directory("files://docs", docs, max_bytes=0)
    with pytest.raises(ResourceDefinitionError, match="scheme"):
        server.add_directory("docs", docs)
