"""How a handler that is no tool is called: in place if it is async, in a worker thread if not.

`ToolDefinition.call` does the same by itself, because a call of a tool is on the hot path.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import trio


async def call_function(
    function: Callable[..., Any], kwargs: Mapping[str, Any], limiter: trio.CapacityLimiter, *, is_async: bool
) -> Any:
    """Call `function` with `kwargs`, and return what it returns.

    A sync function runs in a worker thread, which is abandoned if the request is cancelled.
    """
    if is_async:
        return await function(**kwargs)
    value = await trio.to_thread.run_sync(
        functools.partial(function, **kwargs), abandon_on_cancel=True, limiter=limiter
    )
    # It may be a lambda around an async function.
    return await value if inspect.isawaitable(value) else value
