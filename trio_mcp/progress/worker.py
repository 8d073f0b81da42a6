"""The end of a worker pipe that another process holds.

Owns what is written into the pipe, and that a report which nobody reads any more raises
RequestCancelled. Does not use Trio: it blocks the process that reports, and no other.
"""

from __future__ import annotations

import errno
import os
import select
from typing import Any

import attrs
import msgspec

from trio_mcp.errors import RequestCancelled
from trio_mcp.progress.checks import check_message, check_number, check_positive

_NOBODY = frozenset({errno.ENOENT, errno.ENXIO, errno.EPIPE})


@attrs.frozen
class WorkerProgress:
    """Reports progress from another process; `ProgressHelper.open_worker_pipe` makes it.

    It can be pickled, and so handed to a process of multiprocessing or concurrent.futures.
    `path` is the pipe in the file system: a process that is started in another way makes
    its own with `WorkerProgress(path)`.

    Several processes may report by the same pipe. Each report is a cancellation check: it
    raises RequestCancelled if the pipe's block has ended. It blocks while the pipe is
    full. Not to be used in the thread that Trio runs in.
    """

    path: str

    def report_progress(
        self, progress: float, total: float | None = None, message: str | None = None
    ) -> None:
        """Say how far along the work is; a total or message of None stays as it is.

        Raises as `Context.report_progress`, and RequestCancelled.
        """
        values: dict[str, Any] = {"progress": check_number(progress, "progress")}
        if total is not None:
            values["total"] = check_positive(total, "total")
        if message is not None:
            values["message"] = message
        self._send(values)

    def increment(self, by: float = 1) -> None:
        """Add `by`, a finite number larger than 0; the increments of several processes add up."""
        self._send({"increment": check_positive(by, "the increment")})

    def set_total(self, total: float) -> None:
        """Set what the count grows towards, a finite number larger than 0."""
        self._send({"total": check_positive(total, "total")})

    def set_message(self, message: str | None) -> None:
        """Set the message; None clears it. A message that does not fit into one write of a pipe is cut."""
        self._send({"message": message})

    def check_cancelled(self) -> None:
        """Raise RequestCancelled if nobody reads reports any more."""
        os.close(self._open())

    def _send(self, values: dict[str, Any]) -> None:
        check_message(values.get("message"))
        descriptor = self._open()
        try:
            os.write(descriptor, _encode(values))
        except OSError as error:
            raise _describe(error) from None
        finally:
            os.close(descriptor)

    def _open(self) -> int:
        try:
            # Without waiting for a reader, since there may never be one again.
            descriptor = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            raise _describe(error) from None
        os.set_blocking(descriptor, True)
        return descriptor


def _encode(values: dict[str, Any]) -> bytes:
    """One line, short enough to be written whole: lines of several processes never mix (POSIX, PIPE_BUF)."""
    while True:
        line = msgspec.json.encode(values) + b"\n"
        if len(line) <= select.PIPE_BUF:
            return line
        message = values["message"]  # no other value can be so long
        values = {**values, "message": message[: len(message) * 3 // 4]}


def _describe(error: OSError) -> Exception:
    if error.errno in _NOBODY:
        return RequestCancelled("the request was cancelled or has ended")
    return error
