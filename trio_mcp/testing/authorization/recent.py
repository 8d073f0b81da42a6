"""A mapping with a cap, which forgets what was put into it first.

Owns the cap of everything that the authorization server remembers. Refuses to know what that is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

Value = TypeVar("Value")

MAX_REMEMBERED: Final = 10_000
"""How many clients, codes, tokens or proofs are remembered: more than a test needs, a few megabytes."""


class Recent(Generic[Value]):
    """Values by text; beyond `cap` the oldest is forgotten."""

    def __init__(self, cap: int = MAX_REMEMBERED) -> None:
        self._cap = cap
        self._values: OrderedDict[str, Value] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Recent: {len(self._values)} of at most {self._cap}>"  # the keys are secrets

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[Value]:
        return iter(list(self._values.values()))

    def put(self, key: str, value: Value) -> None:
        """Remember `value` as the newest one."""
        self._values.pop(key, None)
        self._values[key] = value
        if len(self._values) > self._cap:
            self._values.popitem(last=False)

    def get(self, key: str) -> Value | None:
        """What is remembered under `key`, or None."""
        return self._values.get(key)

    def take(self, key: str) -> Value | None:
        """Forget what is remembered under `key`, and return it, or None."""
        return self._values.pop(key, None)
