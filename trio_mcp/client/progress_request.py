"""A request other than tools/call that may report progress, ask for input and take long.

Owns the loop over its rounds, in which the server asks for input (MCP multi round-trip requests), and its
timeouts. Refuses to know what the result means. Calls of tools, which may become tasks, are in `tool_call`.
"""

from __future__ import annotations

from msgspec import UNSET, Raw

from trio_mcp.client.call_answer import Questions, read_questions
from trio_mcp.client.link import Link
from trio_mcp.client.outcome import unwrap
from trio_mcp.client.pending_call import PendingCall
from trio_mcp.client.round_answers import MAX_ROUNDS, answer_round
from trio_mcp.client.timeouts import CallDeadline, CallTimer, paused, read_timeouts, run_within
from trio_mcp.errors import ProtocolError, RemoteProtocolError
from trio_mcp.handlers.sink import Handler, ProgressHandler, ProgressSink, open_handler
from trio_mcp.wire.messages import CompleteParams, GetPromptParams, ReadResourceParams


class ProgressRequest:
    """A request that is to be made once; `what` is what messages and progress sinks call it.

    Raises ValueError for bad timeouts.
    """

    __slots__ = ("_floor", "_handler", "_idle", "_link", "_longest", "_method", "_params", "_what")

    def __init__(
        self,
        link: Link,
        method: str,
        params: CompleteParams | GetPromptParams | ReadResourceParams,
        what: str,
        handler: ProgressHandler | ProgressSink | None,
        idle_timeout: float | None,
        max_timeout: float | None,
    ) -> None:
        self._link = link
        self._method = method
        self._params = params
        self._what = what
        self._handler = handler
        self._idle, self._longest = read_timeouts(idle_timeout, max_timeout)
        self._floor: float | None = None  # the progress that earlier rounds have delivered

    async def run(self) -> Raw:
        """Make the request and wait for its result; checkpoints.

        Raises ConnectionLost, ProtocolError, CallTimeout, ProgressOverflow and RemoteProtocolError.
        """
        async with open_handler(self._handler, self._what) as handler:
            settings = self._link.session.settings
            return await run_within(self._run, handler, settings, self._what, self._idle, self._longest)

    async def _run(self, handler: Handler | None, timer: CallTimer | None) -> Raw:
        for _ in range(MAX_ROUNDS + 1):
            deadline = CallDeadline.find(timer)
            raw = await self._ask(handler, timer, deadline)
            if raw is None:
                await deadline.wait()
            if timer is not None:
                timer.resume()  # the answer has suspended it
            questions = read_questions(raw)
            if questions is None:
                return raw
            if isinstance(self._params, CompleteParams):
                raise RemoteProtocolError("the server asked for input to complete an argument")
            with paused(timer):
                await self._answer(questions, self._params)
            if timer is not None:
                timer.resume()
        raise RemoteProtocolError(f"the server asked more than {MAX_ROUNDS} times for one request")

    def _begin(
        self, handler: Handler | None, timer: CallTimer | None, *, wants_progress: bool
    ) -> PendingCall:
        session = self._link.session
        return session.begin(self._method, self._params, handler, timer, wants_progress=wants_progress)

    async def _answer(self, questions: Questions, params: GetPromptParams | ReadResourceParams) -> None:
        await answer_round(self._link.answering, questions, params)

    async def _ask(
        self, handler: Handler | None, timer: CallTimer | None, deadline: CallDeadline
    ) -> Raw | None:
        """Send the request once and wait for the server's answer; checkpoints.

        Returns None if the server has given up at `deadline`.
        """
        link = self._link
        self._params.meta = deadline.add_to(link.meta) or UNSET
        wants_progress = handler is not None or (timer is not None and timer.has_idle)
        call = self._begin(handler, timer, wants_progress=wants_progress)
        call.floor = self._floor
        try:
            return unwrap(await call.wait())
        except ProtocolError as error:
            if deadline.was_met_by(error):
                return None
            raise
        finally:
            link.session.end(call)
            if call.newest is not None:
                self._floor = call.newest[0]
