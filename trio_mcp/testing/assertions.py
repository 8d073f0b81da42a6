"""The assertion about progress that a handler has collected.

Owns its rules and its messages.
"""

from __future__ import annotations

from collections.abc import Sequence

_ANY = object()


def assert_progress(
    updates: Sequence[tuple[float, float | None, str | None]],
    *,
    count: int | None = None,
    first: float | None = None,
    last: float | None = None,
    total: object = _ANY,
) -> None:
    """Check `updates`, each (progress, total, message), as a progress handler collected them.

    Progress must never decrease. `count` is the number of updates, `first` and `last` are
    values of progress, `total` is the total of every update; each is checked only if it is
    given. Raises AssertionError, which names the first update that is wrong.
    """
    if count is not None and len(updates) != count:
        raise AssertionError(f"{len(updates)} updates instead of {count}")
    for index in range(1, len(updates)):
        if updates[index][0] < updates[index - 1][0]:
            raise AssertionError(f"update {index} goes back: {updates[index - 1]} -> {updates[index]}")
    for name, wanted, index in (("first", first, 0), ("last", last, -1)):
        if wanted is not None and (not updates or updates[index][0] != wanted):
            found = updates[index] if updates else "nothing"
            raise AssertionError(f"the {name} progress is {found}, not {wanted}")
    if total is not _ANY:
        for index, update in enumerate(updates):
            if update[1] != total:
                raise AssertionError(f"update {index} has the total {update[1]}, not {total}")
