"""The questions of a task whose handler is begun more than once: which is the same as one before.

Owns their names, the answers so far, and the questions that wait since an earlier attempt. A question is
named by what it asks, so the same question of a later attempt has the same key, and a different one has a key
that was never used (SEP-2663).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from trio_mcp.schema.flaws import encode_json
from trio_mcp.tasks.record import InputRequest

DIGEST_CHARACTERS: Final = 12
"""48 bits: the questions of one task do not meet by chance."""

_RANDOM: Final = frozenset({"elicitationId"})
"""What is another in each attempt although the same is asked."""


class QuestionReplay:
    """`answers` are those of all attempts, as JSON values by key.

    `waiting` are questions of an earlier attempt that have none; `dropped` those that this attempt has asked,
    and has ceased to wait for. `abandoned` are the keys of such as are on the record still.
    """

    __slots__ = ("_counts", "abandoned", "answers", "dropped", "waiting")

    def __init__(self, answers: Mapping[str, Any] = {}, waiting: Mapping[str, InputRequest] = {}) -> None:
        self.answers = dict(answers)
        self.waiting = dict(waiting)
        self.dropped: dict[str, InputRequest] = {}
        self.abandoned: set[str] = set()
        self._counts: Counter[str] = Counter()

    def begin_attempt(self) -> None:
        """Count the questions from the beginning."""
        self._counts.clear()
        self.dropped.clear()

    def name(self, request: InputRequest, name: str | None) -> str:
        """The key of a question, of which the handler has given `name` or nothing.

        What is asked again in one attempt gets a number. Raises ValueError for parameters that are not JSON.
        """
        asked = {key: value for key, value in request.params.items() if key not in _RANDOM}
        digest = hashlib.sha256(bytes(encode_json([request.method, asked]))).hexdigest()[:DIGEST_CHARACTERS]
        key = f"{request.method.partition('/')[0] if name is None else name}-{digest}"
        self._counts[key] += 1
        key = key if self._counts[key] == 1 else f"{key}-{self._counts[key]}"
        self.abandoned.discard(key)  # an attempt asks what one before has ceased to wait for
        return key

    def note_asked(self, key: str) -> None:
        """Note that the handler has asked the question `key`, which has no answer yet.

        If it is a new one, the handler has gone another way, and what waits is not asked any more.
        """
        self.dropped.pop(key, None)
        if self.waiting.pop(key, None) is None:
            self.waiting.clear()

    def answer_waiting(self, key: str, value: Any) -> bool:
        """Keep the answer to a question that waits since an earlier attempt; False if none such does."""
        if self.waiting.pop(key, None) is None:
            return False
        self.answers[key] = value
        return True
