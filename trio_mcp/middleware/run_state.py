"""State that middleware keeps for one Trio run, since one server may run in several threads at once.

Owns that clocks, events and limiters of one run never reach another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import trio

T = TypeVar("T")


class RunState(Generic[T]):
    """The state of the present Trio run, which `make` makes when it is first asked for."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._value: trio.lowlevel.RunVar[T] = trio.lowlevel.RunVar("trio_mcp middleware")

    def find(self) -> T:
        """The state of this run; raises RuntimeError outside of Trio."""
        try:
            return self._value.get()
        except LookupError:
            value = self._make()
            self._value.set(value)
            return value
