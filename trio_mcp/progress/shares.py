"""How one reporter is divided among its stages.

Owns the plan, the weights, how much of each share is done, and whose message is the newest. Refuses to
know what a stage is, and sends nothing: a stage is only a key here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Final, Generic, TypeVar

from msgspec import Struct

from trio_mcp.progress.checks import check_number, check_positive, check_stage_name
from trio_mcp.progress.exact_sum import ExactSum

S = TypeVar("S", bound=Hashable)

DEFAULT_WEIGHT: Final = 1
"""A stage without a weight is one step of its parent, as `increment()` is."""

KEPT_SHARES: Final = 256
"""So many shares of failed stages wait for a retry, so that endless failures need no endless memory."""


class Share(Struct, eq=False):
    """A part of a reporter: what it counts for there, and how much of that is done.

    `done` never falls. A stage that fails gives its share back with `done` as it is, and the
    stage that takes the share next goes on from there.
    """

    name: str
    weight: float
    done: float = 0
    taken: bool = False


class Shares(Generic[S]):
    """The shares of one reporter, which belong to stages of the type `S`.

    `weights` and `done` are the sums over all of them, `open` the open stages in the order
    in which they were opened.
    """

    __slots__ = ("_failed", "_largest", "_planned", "_speakers", "done", "open", "weights")

    def __init__(self) -> None:
        self.weights = ExactSum()
        self.done = ExactSum()
        self.open: dict[S, None] = {}
        self._planned: dict[str, Share] = {}
        self._failed: dict[str, Share] = {}  # at most KEPT_SHARES
        self._largest: float = 0
        # Who has set a message, the newest last; None is the reporter itself.
        self._speakers: OrderedDict[S | None, None] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Shares: {self.done.value} of {self.weights.value} done, {len(self.open)} open>"

    @property
    def expected(self) -> float:
        """What the shares will probably add up to, for a stage that has no total of its own.

        Without a plan this includes one more share, as large as the largest so far: otherwise a
        stage would count as complete as soon as its first part is done.
        """
        return self.weights.value + (0 if self._planned else self._largest)

    @property
    def newest_speaker(self) -> S | None:
        """The stage that spoke last; None if the reporter itself did."""
        return next(reversed(self._speakers), None)

    def plan(self, weights: Mapping[str, float]) -> None:
        """Declare stages; raises ValueError and declares none if one of them cannot be."""
        checked = {
            check_stage_name(name): check_positive(weight, "the weight") for name, weight in weights.items()
        }
        for name in checked:
            if name in self._planned:
                raise ValueError(f"stage {name!r} is planned already")
        grown = sum(checked.values(), self.weights.value)
        check_number(grown, "the sum of the weights")
        for name, weight in checked.items():
            self._planned[name] = Share(name, weight)
            self.weights.add(weight)

    def claim(self, name: str, weight: float | None) -> Share:
        """The share of the stage `name`; raises ValueError if there is none or it is taken."""
        share = self._planned.get(name)
        if share is None:
            share = self._claim_unplanned(name, weight)
        elif weight is not None and weight != share.weight:
            raise ValueError(f"stage {name!r} is planned with weight {share.weight}, not {weight}")
        elif share.taken:
            state = "open" if share.done < share.weight else "open or complete"
            raise ValueError(f"stage {name!r} of the plan is {state} already")
        share.taken = True
        return share

    def _claim_unplanned(self, name: str, weight: float | None) -> Share:
        failed = self._failed.get(name)
        if failed is not None and weight in (None, failed.weight):
            return self._failed.pop(name)
        if weight is None:
            if self._planned:
                names = ", ".join(map(repr, self._planned))
                raise ValueError(f"stage {name!r} needs a weight: it is not among the planned {names}")
            weight = DEFAULT_WEIGHT
        check_number(self.weights.value + weight, "the sum of the weights")
        self.weights.add(weight)
        self._largest = max(self._largest, weight)
        return Share(name, weight)

    def give_back(self, share: Share) -> None:
        """Keep the share of a stage that failed, for the next stage of the same name."""
        share.taken = False
        if share.name in self._planned:
            return
        self._failed.pop(share.name, None)
        self._failed[share.name] = share
        if len(self._failed) > KEPT_SHARES:
            del self._failed[next(iter(self._failed))]

    def note_speaker(self, speaker: S | None) -> None:
        """Note that the message of `speaker` is the newest."""
        self._speakers[speaker] = None
        self._speakers.move_to_end(speaker)

    def forget(self, stage: S) -> None:
        """Note that `stage` has ended: it is no longer open and its message no longer counts."""
        self.open.pop(stage, None)
        self._speakers.pop(stage, None)
