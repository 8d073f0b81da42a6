"""A place for the logins of each test, and the servers of `world.py`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest

from tests.cli.logins.world import World, open_world


@pytest.fixture
def opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., AbstractAsyncContextManager[World]]:
    """`open_world`, with a home of its own; nobody sits at the terminal."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.stdin", None)
    return partial(open_world, tmp_path, capsys)
