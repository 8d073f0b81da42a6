"""The names of functions that are running, for annotations that are texts.

With `from __future__ import annotations`, a function or a class within a function names classes that only the
running function knows. Owns the search for them. Evaluates nothing.
"""

from __future__ import annotations

import inspect
from types import FrameType
from typing import Any, Final

_INSIDE: Final = ".<locals>."


def find_local_names(defined: Any, global_names: Any) -> dict[str, Any]:
    """What the functions around `defined`, a function or a class, call their variables, the inner ones first.

    Only those are found that are still running, as they are while a decorator within them is at work.
    `global_names` is the namespace of the module, so that functions of that name elsewhere are not taken.
    """
    path = getattr(defined, "__qualname__", "").split(_INSIDE)[:-1]
    around = {_INSIDE.join(path[: end + 1]) for end in range(len(path))}
    found: dict[str, Any] = {}
    frame: FrameType | None = inspect.currentframe() if around else None
    while frame is not None:
        if frame.f_globals is global_names and frame.f_code.co_qualname in around:
            found = {**frame.f_locals, **found}
        frame = frame.f_back
    return found
