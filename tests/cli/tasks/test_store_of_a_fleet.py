"""`trio-mcp tasks --store` on a Redis server, while another process holds the tasks."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import read_until, run, start
from tests.support.limits import HANG_SECONDS
from tests.support.redis_server import RedisServer, run_redis_server

pytestmark = pytest.mark.slow

SERVER = Path(__file__).parents[1] / "task_server.py"
PASSWORD = "open-sesame"


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with run_redis_server(password=PASSWORD) as running:
        yield running


def test_a_task_of_another_process_is_watched_and_cancelled(redis: RedisServer, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    with start("run", SERVER, "--http", ":0", "--tasks", redis.url, "--no-access-log") as server:
        assert server.stderr is not None
        try:
            told = read_until(server.stderr.fileno(), "Ctrl-C")
            (url,) = re.findall(r" at (\S+);", told)
            with start("call", url, "hang", f"marker={marker}", "--task") as call:
                assert call.stderr is not None
                (ident,) = re.findall(r"task (\S+)", read_until(call.stderr.fileno(), "hanging"))
                with start("tasks", "watch", "--store", redis.url, ident) as watch:
                    assert watch.stderr is not None
                    begun = read_until(watch.stderr.fileno(), f"{ident} working  10% 1/10 hanging")

                    cancelled = run("tasks", "cancel", "--store", redis.url, ident)
                    assert (cancelled.stdout, cancelled.returncode) == (f"{ident} is cancelled\n", 0)
                    _, rest = watch.communicate(timeout=HANG_SECONDS)
                    assert watch.returncode == 1
                    assert f"{ident} cancelled  10% 1/10 hanging" in begun + rest.decode()
                _, errors = call.communicate(timeout=HANG_SECONDS)
                assert call.returncode == 1
                assert "cancelled" in errors.decode().splitlines()[-1], "its client is told"
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=HANG_SECONDS)
        finally:
            server.kill()
    assert marker.read_text() == "cleaned up", "the handler has ended"
    listed = run("tasks", "list", "--store", redis.url, "--json")
    assert [task["id"] for task in json.loads(listed.stdout)] == [ident]
    assert run("tasks", "purge", "--store", redis.url, "--yes").stdout == "1 ended task forgotten\n"


@pytest.mark.parametrize("name", ["list", "purge"])
def test_a_server_that_cannot_be_used_is_one_line_without_the_password(redis: RedisServer, name: str) -> None:
    wrong = redis.url.replace(PASSWORD, "not-that-one")
    away = re.sub(r":\d+/0$", ":1/0", redis.url)
    for url in (wrong, away):
        done = run("tasks", name, "--store", url)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert done.stderr.startswith("trio-mcp: redis://127.0.0.1:")
        assert PASSWORD not in done.stderr
        assert "not-that-one" not in done.stderr
