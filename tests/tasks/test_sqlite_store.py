"""The store in a SQLite file: the suite of all stores, and what only this one promises."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.tasks.store_cases import NewStore
from tests.tasks.store_suite import TaskStoreSuite
from trio_mcp.tasks.sqlite_store import SQLiteTaskStore


class TestSQLiteTaskStore(TaskStoreSuite):
    @pytest.fixture
    def new_store(self, tmp_path: Path) -> NewStore:
        numbers = count()

        def new_store(**caps: Any) -> SQLiteTaskStore:
            return SQLiteTaskStore(tmp_path / f"tasks{next(numbers)}.db", **caps)

        return new_store
