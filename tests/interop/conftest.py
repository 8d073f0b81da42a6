"""The environments of other implementations, and HTTP servers that run as long as the tests."""

import select
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.environments import find_environment
from tests.support.limits import HANG_SECONDS


@pytest.fixture(scope="session")
def environment() -> Callable[[str], Path]:
    """Finds the directory of an environment by its name."""
    return find_environment


@pytest.fixture(scope="session")
def serve() -> Iterator[Callable[..., str]]:
    """Starts the server of a command, once, and returns the URL on its first line of output."""
    urls: dict[Sequence[Any], str] = {}
    with ExitStack() as servers:

        def find(*command: Any) -> str:
            if command not in urls:
                urls[command] = servers.enter_context(serving(command))
            return urls[command]

        yield find


@contextmanager
def serving(command: Sequence[Any]) -> Iterator[str]:
    """Run a server during the block; it must end by itself and without errors when its stdin ends."""
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        try:
            ready, _, _ = select.select([process.stdout], [], [], HANG_SECONDS)
            url = process.stdout.readline().strip() if ready else ""
            if not url:
                errors.seek(0)
                pytest.fail(f"{command} did not start: {errors.read()}")
            yield url
            process.communicate(timeout=HANG_SECONDS)
            errors.seek(0)
            assert (process.returncode, errors.read()) == (0, "")
        finally:
            process.kill()
            process.communicate()
