"""A request that is answered at once, with the progress and the timeouts of its caller.

Owns what such a request shares with a call of a tool. Refuses to know methods: it serves every request
that never becomes a task.
"""

from __future__ import annotations

import math

import msgspec

from trio_mcp.client.link import Link
from trio_mcp.client.outcome import unwrap
from trio_mcp.client.timeouts import CallDeadline, CallTimer, read_timeouts, start_timer
from trio_mcp.errors import ProtocolError
from trio_mcp.handlers.sink import Handler, ProgressHandler, ProgressSink, open_handler
from trio_mcp.outgoing.policy import Lossless
from trio_mcp.wire.messages import Params


async def request(
    link: Link,
    method: str,
    params: Params,
    name: str,
    progress_handler: ProgressHandler | ProgressSink | None,
    idle_timeout: float | None,
    max_timeout: float | None,
) -> msgspec.Raw:
    """Send a request, deliver its progress, and return its result; checkpoints.

    `name` is what a sink and the messages of timeouts call it. Raises as `Client.call_tool` does, but for
    ToolError.
    """
    idle, longest = read_timeouts(idle_timeout, max_timeout)
    async with open_handler(progress_handler, name) as handler:
        is_lossless = handler is not None and isinstance(link.session.settings.progress, Lossless)
        timer = start_timer(name, idle, longest, is_lossless=is_lossless)
        wants_progress = handler is not None or idle < math.inf
        if timer is None:
            return await _ask(link, method, params, handler, None, wants_progress=wants_progress)
        with timer.scope:
            return await _ask(link, method, params, handler, timer, wants_progress=wants_progress)
        raise timer.explain()


async def _ask(
    link: Link,
    method: str,
    params: Params,
    handler: Handler | None,
    timer: CallTimer | None,
    *,
    wants_progress: bool,
) -> msgspec.Raw:
    deadline = CallDeadline.find(timer)
    params.meta = deadline.add_to(link.meta) or msgspec.UNSET
    call = link.session.begin(method, params, handler, timer, wants_progress=wants_progress)
    try:
        return unwrap(await call.wait())
    except ProtocolError as error:
        if not deadline.was_met_by(error):
            raise
    finally:
        link.session.end(call)
    return await deadline.wait()
