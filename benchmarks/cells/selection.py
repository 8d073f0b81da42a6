"""Which cells a run is to have, of what size, and who takes part in them."""

from dataclasses import dataclass

from cells.cell import OURS
from cells.checkout import THIS, Checkout
from cells.peers import is_here


@dataclass(frozen=True)
class Selection:
    """What `make_cells` of each module with cells is asked for."""

    only: str = ""
    """A text that the names of the cells contain."""
    updates: int = 10_000
    """In one burst."""
    is_full: bool = False
    is_quick: bool = False
    """A smoke test: every kind of worker once, and little work."""
    checkout: Checkout = THIS
    """The version that takes part as trio_mcp."""
    has_rivals: bool = True

    def admits(self, contestant: str) -> bool:
        return contestant == OURS or (self.has_rivals and is_here(contestant.split()[0]))
