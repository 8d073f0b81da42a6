"""Which cells a run has, how large they are, and who takes part in them."""

from contextlib import ExitStack
from dataclasses import dataclass, field

from cells.cell import OURS
from cells.checkout import THIS, Checkout
from cells.peers import is_here


@dataclass(frozen=True)
class Selection:
    """The argument of each module's `make_cells`."""

    only: str = ""
    """A text that the name of each selected cell contains."""
    updates: int = 10_000
    """The number of updates in one burst."""
    is_full: bool = False
    is_quick: bool = False
    """For a smoke test: every kind of worker, with little work."""
    checkout: Checkout = THIS
    """The version of trio_mcp that takes part."""
    has_rivals: bool = True
    at_end: ExitStack = field(default_factory=ExitStack)
    """Ends what the cells need besides workers, after these have ended."""

    def admits(self, contestant: str) -> bool:
        """Whether the contestant takes part: always ours, and a rival if it is wanted and installed."""
        return contestant == OURS or (self.has_rivals and is_here(contestant.split()[0]))
