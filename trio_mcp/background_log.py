"""Logging that never blocks an event loop, for a program that is a server and nothing else.

Owns the bounded queue between those who log and the thread that writes. Decides neither what is logged nor
where to: the handlers that are there do the writing.
"""

from __future__ import annotations

import copy
import logging
import os
import queue
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

CAPACITY: Final = 1_000
"""Records that wait to be written; if there are more, new ones are dropped and counted."""

ATTEMPTS: Final = 10
"""How often a thread that waits in a write is interrupted."""

FLUSH_SECONDS: Final = 1.0
"""How long the end of the program waits for what is queued to be written."""


class QueuedHandler(logging.Handler):
    """Hands records to a thread, which calls `targets`; never waits for it."""

    def __init__(
        self, targets: list[logging.Handler], writer: LogWriter, level: int = logging.NOTSET
    ) -> None:
        super().__init__(level)
        self.targets = targets
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a copy of `record`, with its text made now: its arguments may change later."""
        record = copy.copy(record)
        record.msg, record.args = record.getMessage(), None
        self._writer.put(self.targets, record)


class LogWriter:
    """The queue and its thread, which starts with the first record."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._waiting: queue.Queue[tuple[list[logging.Handler], logging.LogRecord] | None] = queue.Queue(
            capacity
        )
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self.dropped = 0
        """Records that found the queue full, and of which no record has told yet."""

    def put(self, targets: list[logging.Handler], record: logging.LogRecord) -> None:
        """Queue a record, or count it as dropped; does not wait."""
        try:
            self._waiting.put_nowait((targets, record))
        except queue.Full:
            with self._lock:
                self.dropped += 1
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._write, name="trio_mcp log", daemon=True)
                    self._thread.start()

    def close(self, seconds: float = FLUSH_SECONDS) -> bool:
        """Wait until all is written, for at most `seconds`; returns whether it is."""
        if self._thread is None:
            return True
        try:
            self._waiting.put(None, timeout=seconds)
        except queue.Full:
            return False
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def release(self) -> None:
        """Let the thread go that waits in a write to stderr which nobody reads: its output is discarded.

        The interpreter could not end otherwise: it flushes stderr, whose lock the thread holds. Does
        nothing where a thread cannot be interrupted (Windows, and outside the main thread).
        """
        is_main = threading.current_thread() is threading.main_thread()
        if self._thread is None or not is_main or not hasattr(signal, "pthread_kill"):
            return
        with suppress(queue.Empty):
            while True:
                self._waiting.get_nowait()
        self._waiting.put(None)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)
        # The write that waits is interrupted by a signal, and then repeated to where nothing waits.
        before = signal.signal(signal.SIGURG, lambda number, frame: None)
        try:
            for _ in range(ATTEMPTS):
                if self._thread.ident is None or not self._thread.is_alive():
                    return
                with suppress(ProcessLookupError):  # it has just ended
                    signal.pthread_kill(self._thread.ident, signal.SIGURG)
                self._thread.join(FLUSH_SECONDS / ATTEMPTS)
        finally:
            signal.signal(signal.SIGURG, before)

    def _write(self) -> None:
        while (item := self._waiting.get()) is not None:
            targets, record = item
            self._handle(targets, record)
            if self.dropped:  # there was no room behind this record, or one before it
                with self._lock:
                    dropped, self.dropped = self.dropped, 0
                self._handle(targets, _told(dropped))

    def _handle(self, targets: list[logging.Handler], record: logging.LogRecord) -> None:
        for target in targets:
            if record.levelno >= target.level:
                try:
                    target.handle(record)
                except Exception:  # the program's code: its failure costs no more than this record
                    target.handleError(record)


def _told(dropped: int) -> logging.LogRecord:
    text = "%d log records were dropped: they came faster than they could be written"
    return logging.LogRecord("trio_mcp", logging.WARNING, __file__, 0, text, (dropped,), None)


@contextmanager
def log_in_background(capacity: int = CAPACITY) -> Iterator[LogWriter]:
    """Let all logging handlers that are there be called by a thread, while the block lasts.

    For a program that has no other business: handlers of every logger change. At the end, what is queued
    is written for at most `FLUSH_SECONDS`.
    """
    writer = LogWriter(capacity)
    loggers = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    changed: list[tuple[logging.Logger, QueuedHandler]] = []
    for logger in loggers:
        if isinstance(logger, logging.Logger) and logger.handlers:
            queued = QueuedHandler(list(logger.handlers), writer)
            logger.handlers[:] = [queued]
            changed.append((logger, queued))
    last_resort = logging.lastResort
    if last_resort is not None:
        logging.lastResort = QueuedHandler([last_resort], writer, last_resort.level)
    try:
        yield writer
    finally:
        is_written = writer.close()
        if not is_written:
            writer.release()
        logging.lastResort = last_resort
        for logger, queued in changed:
            added = [handler for handler in logger.handlers if handler is not queued]
            logger.handlers[:] = [*queued.targets, *added]
