"""Programs that say which values do not fit what the protocol's own project has published."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from tests.interop.published_names import as_line
from tests.support.environments import find_environment

PEERS = Path(__file__).parents[1] / "peers"

HAS_NPM = shutil.which("npm") is not None

Check: TypeAlias = Callable[[str, Sequence[tuple[str, Any]]], list[str]]
"""Says what does not fit of values with the names of their types, in a revision."""


def open_types() -> AbstractContextManager[Check]:
    """Check by the types of the official package."""
    return _open_checker(find_environment("mcp2") / "bin" / "python", PEERS / "published_types.py")


def open_schemas() -> AbstractContextManager[Check]:
    """Check by the JSON schemas that the official conformance suite carries; needs npm."""
    suite = find_environment("conformance")
    node = suite / "node_modules" / "node" / "bin" / "node"
    return _open_checker(node, PEERS / "published_schemas.mjs", suite)


@contextmanager
def _open_checker(*command: Path) -> Iterator[Check]:
    """Run a program that answers lines of questions; it is started once."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def find_problems(revision: str, named: Sequence[tuple[str, Any]]) -> list[str]:
            process.stdin.write(as_line([revision, named]))
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield find_problems
