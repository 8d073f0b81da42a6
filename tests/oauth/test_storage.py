"""Where tokens are kept: every storage passes the same tests, and none shows what it holds."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

import keyring.errors
import pytest
import trio
from keyring.backend import KeyringBackend

from tests.support.limits import HANG_SECONDS
from trio_mcp.errors import TokenStorageError
from trio_mcp.oauth.file_storage import MAX_FILE_BYTES, FileStorage
from trio_mcp.oauth.keyring_storage import KeyringStorage
from trio_mcp.oauth.storage import MemoryStorage, TokenStorage

SECRET = "s3cret-refresh-token"

# What a process does that shares the file with this one: it adds one to a number, under the lock, many times.
ADD = """
import sys, trio
from trio_mcp.oauth.file_storage import FileStorage

async def main(path, times, name):
    storage = FileStorage(path)
    for number in range(times):
        async with storage.lock("sum"):
            found = await storage.load("sum")
            await storage.save("sum", str(int(found or 0) + 1))
        await storage.save(f"{name}-{number}", name)

trio.run(main, sys.argv[1], int(sys.argv[2]), sys.argv[3])
"""


class FakeKeyring(KeyringBackend):
    """A keyring in memory, whose values may be as long as `limit`."""

    priority = 1  # type: ignore[assignment]

    def __init__(self, limit: int = 100_000) -> None:
        super().__init__()
        self.values: dict[tuple[str, str], str] = {}
        self.limit = limit
        self.failure: Exception | None = None

    def get_password(self, service: str, username: str) -> str | None:
        self._fail()
        return self.values.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._fail()
        if len(password) > self.limit:
            raise keyring.errors.PasswordSetError(f"too long: {password}")
        self.values[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        self._fail()
        if self.values.pop((service, username), None) is None:
            raise keyring.errors.PasswordDeleteError

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure


def read(path: Path) -> bytes:
    return path.read_bytes()


def write(path: Path, content: bytes, mode: int = 0o600) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def files_in(path: Path) -> list[Path]:
    return sorted(path.iterdir())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "tokens.json"


@pytest.fixture(params=["memory", "file", "keyring", "keyring-in-parts"])
def storage(request: pytest.FixtureRequest, path: Path) -> TokenStorage:
    makers: dict[str, Callable[[], TokenStorage]] = {
        "memory": MemoryStorage,
        "file": lambda: FileStorage(path),
        "keyring": lambda: KeyringStorage(backend=FakeKeyring(), lock_directory=path.parent),
        "keyring-in-parts": lambda: KeyringStorage(
            backend=FakeKeyring(limit=100), lock_directory=path.parent, part_characters=5
        ),
    }
    return makers[request.param]()


async def test_what_is_saved_is_loaded_until_it_is_deleted(storage: TokenStorage) -> None:
    assert await storage.load("a") is None
    await storage.save("a", SECRET)
    await storage.save("b", "ü")
    assert await storage.load("a") == SECRET
    await storage.save("a", SECRET * 2)
    assert await storage.load("a") == SECRET * 2
    await storage.save("a", "x")
    assert await storage.load("a") == "x"
    await storage.delete("a")
    await storage.delete("a")
    assert await storage.load("a") is None
    assert await storage.load("b") == "ü"


async def test_one_holder_at_a_time_is_let_into_the_block(storage: TokenStorage) -> None:
    holders: list[int] = []
    most = 0

    async def hold(number: int) -> None:
        nonlocal most
        async with storage.lock("a"):
            holders.append(number)
            most = max(most, len(holders))
            await storage.save("a", str(number))
            await trio.lowlevel.checkpoint()
            assert await storage.load("a") == str(number)
            holders.remove(number)

    with trio.fail_after(HANG_SECONDS):
        async with storage.lock("b"), trio.open_nursery() as nursery:  # another key is no obstacle
            for number in range(5):
                nursery.start_soon(hold, number)
    assert most == 1


async def test_a_wait_for_a_lock_can_be_cancelled(storage: TokenStorage) -> None:
    async with storage.lock("a"):
        with trio.move_on_after(0) as scope:
            async with storage.lock("a"):
                pytest.fail("two hold it")
    assert scope.cancelled_caught
    with trio.fail_after(HANG_SECONDS):
        async with storage.lock("a"):
            pass


async def test_a_lock_is_released_if_its_block_fails(storage: TokenStorage) -> None:
    with pytest.raises(ZeroDivisionError):
        async with storage.lock("a"):
            raise ZeroDivisionError
    with trio.fail_after(HANG_SECONDS):
        async with storage.lock("a"):
            pass


async def test_no_storage_shows_what_it_holds(
    storage: TokenStorage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await storage.save("a", SECRET)
    assert SECRET not in repr(storage) + str(storage) + caplog.text


# files


async def test_two_processes_lose_no_change_of_one_file(path: Path) -> None:
    times = 15
    with trio.fail_after(HANG_SECONDS):
        async with trio.open_nursery() as nursery:
            for name in ("one", "two"):
                command = [sys.executable, "-c", ADD, str(path), str(times), name]
                nursery.start_soon(trio.run_process, command)
    values = json.loads(read(path))
    assert values.pop("sum") == str(2 * times)
    assert values == {f"{name}-{number}": name for name in ("one", "two") for number in range(times)}
    assert {each.suffix for each in files_in(path.parent)} == {".json", ".lock"}, "nothing else is left"


async def test_the_lock_of_a_process_that_was_killed_is_free(path: Path) -> None:
    program = (
        "import sys, trio\n"
        "from trio_mcp.oauth.file_storage import FileStorage\n"
        "async def main():\n"
        "    async with FileStorage(sys.argv[1]).lock('a'):\n"
        "        print('held', flush=True)\n"
        "        await trio.sleep_forever()\n"
        "trio.run(main)"
    )
    storage = FileStorage(path)
    with trio.fail_after(HANG_SECONDS):
        async with trio.open_nursery() as nursery:
            start = [sys.executable, "-c", program, str(path)]
            process = await trio.lowlevel.open_process(start, stdout=-1)
            assert process.stdout is not None
            assert await process.stdout.receive_some()
            with trio.move_on_after(0) as scope:
                async with storage.lock("a"):
                    pytest.fail("two hold it")
            assert scope.cancelled_caught
            process.kill()
            nursery.start_soon(process.wait)
            async with storage.lock("a"):
                pass
        await process.stdout.aclose()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes")
async def test_only_its_owner_can_read_the_file(path: Path) -> None:
    umask = os.umask(0)
    try:
        async with FileStorage(path).lock("a"):
            await FileStorage(path).save("a", SECRET)
    finally:
        os.umask(umask)
    assert mode_of(path.parent) == 0o700
    assert {mode_of(each) for each in files_in(path.parent)} == {0o600}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes")
async def test_a_file_that_others_could_read_is_made_private_with_a_warning(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(path, json.dumps({"a": SECRET}).encode(), 0o644)
    assert await FileStorage(path).load("a") == SECRET
    assert mode_of(path) == 0o600
    assert "could be read by other users" in caplog.text
    assert SECRET not in caplog.text


async def test_a_link_to_the_file_goes_on_being_one(path: Path, tmp_path: Path) -> None:
    real = tmp_path / "real.json"
    write(real, b"{}")
    os.mkdir(path.parent)
    os.symlink(real, path)
    await FileStorage(path).save("a", SECRET)
    assert os.readlink(path) == str(real)
    assert json.loads(read(real)) == {"a": SECRET}


@pytest.mark.parametrize("content", [f"{SECRET}", f'{{"a": ["{SECRET}"]}}', f'{{"a": "{SECRET}"', "\xff"])
async def test_what_is_no_file_of_tokens_is_named_and_kept(path: Path, content: str) -> None:
    write(path, content.encode("latin-1"))
    storage = FileStorage(path)
    for act in (storage.load("a"), storage.save("a", "new"), storage.delete("a")):
        with pytest.raises(TokenStorageError, match="remove it to log in anew") as failure:
            await act
        assert str(path) in str(failure.value)
        assert SECRET not in str(failure.value)
    assert read(path) == content.encode("latin-1")


async def test_a_file_that_cannot_be_used_is_an_error_of_the_storage(path: Path) -> None:
    os.makedirs(path)
    storage = FileStorage(path)
    for act in (storage.load("a"), storage.save("a", SECRET)):
        with pytest.raises(TokenStorageError, match="directory") as failure:
            await act
        assert SECRET not in str(failure.value)
    file = path / "file"
    write(file, b"")
    with pytest.raises(TokenStorageError, match=r"file"):
        await FileStorage(file / "tokens.json").save("a", SECRET)


async def test_a_file_that_is_too_large_is_not_read(path: Path) -> None:
    write(path, b"")
    os.truncate(path, MAX_FILE_BYTES + 1)
    with pytest.raises(TokenStorageError, match="more than"):
        await FileStorage(path).load("a")


async def test_a_save_that_fails_leaves_the_old_values(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = FileStorage(path)
    await storage.save("a", "old")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(TokenStorageError, match="No space left"):
        await storage.save("a", SECRET)
    assert await storage.load("a") == "old"
    assert {each.suffix for each in files_in(path.parent)} == {".json", ".lock"}


# keyrings


async def test_parts_of_a_long_value_leave_the_keyring_with_it(path: Path) -> None:
    backend = FakeKeyring(limit=60)
    storage = KeyringStorage("service", backend=backend, lock_directory=path, part_characters=10)
    await storage.save("a", SECRET * 3)
    assert len(backend.values) == 1 + len(SECRET) * 3 / 10
    await storage.save("a", SECRET[::-1])
    assert len(backend.values) == 3
    await storage.delete("a")
    assert not backend.values


async def test_a_keyring_that_fails_is_an_error_without_what_it_was_given(path: Path) -> None:
    backend = FakeKeyring(limit=5)
    storage = KeyringStorage(backend=backend, lock_directory=path, part_characters=None)
    with pytest.raises(TokenStorageError, match="PasswordSetError") as failure:
        await storage.save("a", SECRET)
    assert SECRET not in str(failure.value)
    assert failure.value.__cause__ is None
    backend.failure = keyring.errors.NoKeyringError("no backend")
    with pytest.raises(TokenStorageError, match="NoKeyringError"):
        await storage.load("a")


async def test_without_the_library_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(ModuleNotFoundError, match=r"trio-mcp\[keyring\]"):
        KeyringStorage()
