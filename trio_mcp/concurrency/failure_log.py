"""The failures of a program's own functions in the log: a traceback once, and then how often.

Owns when the same failure is told again. Refuses to know whose function has failed.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Final, TypeAlias

import trio
from msgspec import Struct

MAX_FAILURES: Final = 256
"""Kinds of failures that are remembered; the one that was seen longest ago gives way."""

TRACEBACK_SECONDS: Final = 60.0
"""A failure that repeats itself gets a traceback no more often."""

FailureKind: TypeAlias = tuple[str, type[BaseException], str, int]
"""What failed, what it raised, and the file and line where."""


class _Seen(Struct):
    """How often one kind of failure has come since its traceback at `told`."""

    told: float
    logger: logging.Logger
    times: int = 1


class FailureLog:
    """Logs failures, and remembers which it has logged. For the Trio thread only."""

    def __init__(self) -> None:
        self._seen: OrderedDict[FailureKind, _Seen] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def __repr__(self) -> str:
        return f"<FailureLog: {len(self)} kinds of failures seen>"

    def log(
        self, logger: logging.Logger, subject: str, failure: BaseException, ending: str = "failed"
    ) -> None:
        """Log `failure` of `subject` with its traceback; if the same was logged within a minute, count it.

        Counts are logged when they are 10, 100, 1,000 and so on, and with the next traceback.
        """
        kind = _kind_of(subject, failure)
        seen = self._find_recent(kind)
        if seen is None:
            self._remember(kind, logger)
            logger.error("%s %s", subject, ending, exc_info=failure)
        else:
            seen.times += 1
            if _is_power_of_ten(seen.times):
                _log_count(kind, seen)
            self._seen.move_to_end(kind)

    def is_new(self, logger: logging.Logger, subject: str, failure: BaseException) -> bool:
        """Whether `failure`, for which the caller has a line of its own, needs its traceback there."""
        kind = _kind_of(subject, failure)
        seen = self._find_recent(kind)
        if seen is None:
            self._remember(kind, logger)
            return True
        self._seen.move_to_end(kind)
        return False

    def close(self) -> None:
        """Log how often each failure has come, because nothing more is logged here."""
        for kind, seen in self._seen.items():
            if seen.times > 1 and not _is_power_of_ten(seen.times):
                _log_count(kind, seen)
        self._seen.clear()

    def _find_recent(self, kind: FailureKind) -> _Seen | None:
        """What is known of a failure whose traceback is not due again."""
        seen = self._seen.get(kind)
        return None if seen is None or trio.current_time() - seen.told >= TRACEBACK_SECONDS else seen

    def _remember(self, kind: FailureKind, logger: logging.Logger) -> None:
        before = self._seen.pop(kind, None)
        if before is not None and before.times > 1:
            _log_count(kind, before)
        self._seen[kind] = _Seen(trio.current_time(), logger)
        if len(self._seen) > MAX_FAILURES:
            forgotten, seen = self._seen.popitem(last=False)
            if seen.times > 1:
                _log_count(forgotten, seen)


def _log_count(kind: FailureKind, seen: _Seen) -> None:
    subject, error, file, line = kind
    text = "%s failed %d times with %s at %s:%d; its traceback was logged once"
    seen.logger.error(text, subject, seen.times, error.__name__, file, line)


def _kind_of(subject: str, failure: BaseException) -> FailureKind:
    place = failure.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    if place is None:
        return subject, type(failure), "an unknown place", 0
    return subject, type(failure), place.tb_frame.f_code.co_filename, place.tb_lineno


def _is_power_of_ten(number: int) -> bool:
    text = str(number)
    return number > 1 and text.rstrip("0") == "1"
