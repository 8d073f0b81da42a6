"""Functions that run in the worker processes of tests; a worker imports only this module."""

from __future__ import annotations

import os
import time

from trio_mcp import RequestCancelled, WorkerProgress


def count(worker: WorkerProgress, steps: int) -> int:
    """Report each step, with a total and a message."""
    for step in range(1, steps + 1):
        worker.report_progress(step, steps, f"step {step}")
    return os.getpid()


def add(worker: WorkerProgress, steps: int) -> None:
    """Add to a count to which other workers add as well."""
    for _ in range(steps):
        worker.increment()


def report_until_cancelled(worker: WorkerProgress) -> str:
    """Report until cancellation is raised, for at most a minute."""
    ended = time.monotonic() + 60
    step = 0
    while time.monotonic() < ended:
        step += 1
        try:
            worker.report_progress(step)
            worker.check_cancelled()
        except RequestCancelled:
            return "told"
    return "never told"
