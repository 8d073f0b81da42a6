"""A process that must not outlive the one that has started it, even if that one is killed.

Needs only the standard library, since it runs in the environments of other projects.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


@contextmanager
def run_beside(command: Sequence[str]) -> Iterator[None]:
    """Run a process that has called `end_with_parent`, for as long as the block lasts."""
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        try:
            yield
        finally:
            process.terminate()


def end_with_parent() -> None:
    """End this process when its standard input ends, which is a pipe from its parent."""
    threading.Thread(target=_wait_end, daemon=True).start()


def _wait_end() -> None:
    # Not through the object sys.stdin, whose lock would be held when the interpreter ends.
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(0)
