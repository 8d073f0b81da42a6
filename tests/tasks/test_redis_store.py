"""The store in Redis and in Valkey: the suite of all stores, and what only this one promises."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from tests.support.limits import HANG_SECONDS
from tests.support.redis_server import PROGRAMS, RedisServer, run_redis_server
from tests.tasks.store_cases import NewStore
from tests.tasks.store_suite import TaskStoreSuite
from trio_mcp.tasks.redis_store import RedisTaskStore

_numbers = count()


@pytest.fixture(scope="module", params=PROGRAMS)
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with run_redis_server(request.param) as running:
        yield running


class TestRedisTaskStore(TaskStoreSuite):
    @pytest.fixture
    def new_store(self, server: RedisServer) -> NewStore:
        def new(**caps: int) -> RedisTaskStore:
            return RedisTaskStore(server.url, prefix=f"suite-{next(_numbers)}", timeout=HANG_SECONDS, **caps)

        return new
