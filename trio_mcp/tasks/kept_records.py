"""Which records one process keeps, for whom each counts, and which gives way first.

Owns the count of each payer and the order in which tasks ended. Stores nothing and deletes nothing.
"""

from __future__ import annotations

from collections import Counter

from trio_mcp.tasks.record import Owner


class KeptRecords:
    """The records of this process that its store keeps. Each costs one entry, and two if it has ended."""

    __slots__ = ("_counts", "_ended", "_ended_of", "_payers")

    def __init__(self) -> None:
        self._payers: dict[str, Owner] = {}
        self._counts: Counter[Owner] = Counter()
        self._ended: dict[str, None] = {}  # in the order of their ends
        self._ended_of: dict[Owner, dict[str, None]] = {}  # the same of each payer, never an empty dict

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._payers

    def __len__(self) -> int:
        return len(self._payers)

    def count(self, payer: Owner) -> int:
        """How many records are kept for `payer`."""
        return self._counts[payer]

    def add(self, task_id: str, payer: Owner) -> None:
        """Note a record that is about to be stored."""
        self._payers[task_id] = payer
        self._counts[payer] += 1

    def note_end(self, task_id: str) -> None:
        """Note that a task has ended, so that its record may give way; one that is not kept is ignored."""
        payer = self._payers.get(task_id)
        if payer is not None:
            self._ended[task_id] = None
            self._ended_of.setdefault(payer, {})[task_id] = None

    def discard(self, task_id: str) -> None:
        """Forget a record; one that is not kept is ignored."""
        payer = self._payers.pop(task_id, None)
        if payer is None:
            return
        self._counts[payer] -= 1
        if not self._counts[payer]:
            del self._counts[payer]
        if task_id in self._ended:
            del self._ended[task_id]
            ended = self._ended_of[payer]
            del ended[task_id]
            if not ended:
                del self._ended_of[payer]

    def oldest_ended(self, payer: Owner | None) -> str | None:
        """The task of `payer`, or of all if that is None, that ended first; None if none has ended."""
        return next(iter(self._ended if payer is None else self._ended_of.get(payer, ())), None)
