"""Tags of tools, prompts and resources, by which programs enable and disable many of them at once.

Owns which rule decides. Tags are the program's own: no client sees them. Knows nothing of what has them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from trio_mcp.schema.signatures import Subject

NO_TAGS: Final[frozenset[str]] = frozenset()


def read_tags(tags: str | Iterable[str], subject: Subject) -> frozenset[str]:
    """The tags, given as one or several; raises the DefinitionError of `subject` for what is none."""
    if not tags:
        return NO_TAGS
    found = [tags] if isinstance(tags, str) else list(tags)
    for tag in found:
        if not isinstance(tag, str) or not tag:
            raise subject.flaw(f"a tag must be text that is not empty, not {tag!r}")
    return frozenset(found)


class TagRules:
    """What is enabled by its tags, in the order in which the rules were given: the last that applies counts.

    A rule applies to what has one of its tags. Of rules without effect none is kept, so that a program that
    goes on switching does not fill the memory.
    """

    __slots__ = ("_rules",)

    def __init__(self) -> None:
        # A tuple, which is replaced and never changed, because other threads go through it.
        self._rules: tuple[tuple[frozenset[str] | None, bool], ...] = ()

    def __repr__(self) -> str:
        return f"<TagRules: {len(self._rules)}>"

    def add(self, tags: frozenset[str] | None, *, is_enabled: bool) -> None:
        """Let a rule apply from now on; None for one that applies to everything."""
        if tags is None:
            self._rules = () if is_enabled else ((None, False),)
            return
        kept = [rule for rule in self._rules if rule[0] is None or not rule[0] <= tags]
        self._rules = (*kept, (tags, is_enabled))

    def allow(self, tags: frozenset[str]) -> bool:
        """Whether what has these tags is enabled when it is registered."""
        for named, is_enabled in reversed(self._rules):
            if named is None or named & tags:
                return is_enabled
        return True
