"""From the URL of a task store to the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from trio_mcp import MemoryTaskStore, RedisTaskStore, SQLiteTaskStore
from trio_mcp.errors import TaskStoreError
from trio_mcp.tasks.store_url import hide_password, is_store_url, read_sqlite_path, store_from_url


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:tasks.db", "tasks.db"),
        ("sqlite:some/where/tasks.db", "some/where/tasks.db"),
        ("sqlite:./tasks with spaces%20.db", "tasks with spaces%20.db"),
        ("SQLite:tasks.db", "tasks.db"),
        ("sqlite:/var/lib/tasks.db", "/var/lib/tasks.db"),
        ("sqlite:///var/lib/tasks.db", "/var/lib/tasks.db"),
        ("sqlite:////var/lib/tasks.db", "/var/lib/tasks.db"),
    ],
)
def test_the_path_of_a_file_is_relative_or_absolute(url: str, path: str) -> None:
    assert read_sqlite_path(url) == Path(path)


def test_a_tilde_is_the_home_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_sqlite_path("sqlite:~/tasks.db") == tmp_path / "tasks.db"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite:", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite://tasks.db", "say sqlite:tasks.db"),
        ("sqlite://host/tasks.db", "names a host"),
        ("sqlite::memory:", "memory:"),
        ("sqlite:tasks.db?mode=ro", "say sqlite:tasks.db"),
    ],
)
def test_a_url_that_names_no_file_says_how_one_is_named(url: str, words: str) -> None:
    with pytest.raises(TaskStoreError) as raised:
        store_from_url(url)
    assert words in str(raised.value)
    assert url in str(raised.value)


def test_memory_is_a_store_of_this_process() -> None:
    store = store_from_url("memory:")
    assert isinstance(store, MemoryTaskStore)
    assert store_from_url("memory:") is not store
    with pytest.raises(TaskStoreError, match="nothing may follow"):
        store_from_url("memory:tasks")


@pytest.mark.parametrize(
    "url", ["", "tasks.db", "postgres://host/tasks", "http://host", "/tasks", ":", "redis"]
)
def test_a_wrong_url_names_what_is_known(url: str) -> None:
    with pytest.raises(TaskStoreError) as raised:
        store_from_url(url)
    for known in ("sqlite:PATH", "redis://", "rediss://", "valkey://", "valkeys://", "memory:"):
        assert known in str(raised.value)
    assert not is_store_url(url)


def test_a_bare_path_is_answered_with_the_url_that_was_meant() -> None:
    with pytest.raises(TaskStoreError, match=r"for a file say sqlite:tasks\.db$"):
        store_from_url("tasks.db")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://:pass@host", "redis://***@host"),
        ("redis://user:p@ss/w:rd?@host/1", "redis://***@host/1"),
        ("user:pass@host", "user:***@host"),
        ("mongo+srv://user:pass@host", "mongo+srv://***@host"),
    ],
)
def test_no_message_shows_a_password(url: str, shown: str) -> None:
    assert hide_password(url) == shown


def test_the_message_of_a_wrong_url_shows_no_password() -> None:
    with pytest.raises(TaskStoreError) as raised:
        store_from_url("postgres://user:secret@host/tasks")
    assert "secret" not in str(raised.value)
    assert "postgres://***@host/tasks" in str(raised.value)


@pytest.mark.parametrize(
    "url", ["redis://h", "rediss://h", "valkey://h", "valkeys://h", "sqlite:x", "memory:"]
)
def test_urls_of_stores_are_told_from_other_texts(url: str) -> None:
    assert is_store_url(url)
    assert is_store_url(url.upper())


def test_a_url_of_sqlite_makes_its_store(tmp_path: Path) -> None:
    store = store_from_url(f"sqlite:{tmp_path / 'tasks.db'}")
    assert isinstance(store, SQLiteTaskStore)
    assert (store.path, store.read_only) == (str(tmp_path / "tasks.db"), False)
    assert not list(tmp_path.iterdir()), "nothing is made before it is opened"
    with pytest.raises(TaskStoreError, match="there is no such file"):
        store_from_url(f"sqlite:{tmp_path / 'tasks.db'}", may_create=False)
    (tmp_path / "tasks.db").touch()
    reader = store_from_url(f"sqlite:{tmp_path / 'tasks.db'}", read_only=True, may_create=False)
    assert isinstance(reader, SQLiteTaskStore)
    assert reader.read_only


@pytest.mark.parametrize("scheme", ["redis", "rediss", "valkey", "valkeys", "REDIS"])
def test_a_url_of_redis_or_valkey_makes_its_store(scheme: str) -> None:
    store = store_from_url(f"{scheme}://user:secret@example.com:7000/3")
    assert isinstance(store, RedisTaskStore)
    assert "secret" not in repr(store)
    assert f"{scheme.lower()}://example.com:7000/3" in repr(store)
