"""Middleware around every request of a client: what it is given, and in which order requests run.

Owns that with middleware each request runs in a task of its own, also one that is otherwise answered by the
reader of the wire, and that those which change a session are done before later ones of it begin. Refuses to
know what the methods do. It is imported when a server with such middleware starts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

import trio

from trio_mcp.server.layers import Layers
from trio_mcp.server.request_facts import RequestFacts
from trio_mcp.session.connection import ServerConnection
from trio_mcp.session.request import ServerRequest
from trio_mcp.session.server_session import NeedsTask
from trio_mcp.wire.messages import Params, Result

if TYPE_CHECKING:
    from trio_mcp.server.child_caller import ChildCaller

Method: TypeAlias = Callable[[ServerRequest], Awaitable[Result]]
ImmediateMethod: TypeAlias = Callable[[ServerRequest], Result]

ORDERED: Final = frozenset({"initialize", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"})
"""Methods that change a session: what the same client sends later begins when they are done."""


class RequestContext(RequestFacts):
    """What middleware around requests is given: the facts of the request, its method and its parameters."""

    __slots__ = ("_method", "params")

    def __init__(
        self,
        request: ServerRequest,
        params: Params,
        method: Method,
        lifespan: Any,
        calls: ChildCaller,
    ) -> None:
        self._request = request
        self._run = None
        self._lifespan = lifespan
        self._calls = calls
        self._state = request.state
        self._method = method
        self.params = params
        """The parameters, decoded; the arguments of a tool in them are still JSON."""

    @property
    def method(self) -> str:
        """The method of the request, for example "tools/list"."""
        return self._request.method

    def require_scopes(self, *scopes: str) -> None:
        """Refuse this request unless its token allows all `scopes`; see `Context.require_scopes`."""
        self._request.connection.require(scopes)

    def replace(self, *, params: Params) -> RequestContext:
        """The same request with other parameters, of the same type, for `call_next`.

        Raises TypeError for parameters of another type.
        """
        if type(params) is not type(self.params):
            raise TypeError(
                f"the parameters of {self.method} are a {type(self.params).__name__}, not {params!r:.100}"
            )
        return RequestContext(self._request, params, self._method, self._lifespan, self._calls)


CallNext: TypeAlias = Callable[[RequestContext], Awaitable[Result]]
RequestMiddleware: TypeAlias = Callable[[RequestContext, CallNext], Awaitable[Result]]
"""An async function of the context and of `call_next`, which answers the request."""


async def _answer(context: RequestContext) -> Result:
    request = context._request
    request.params = context.params
    return await context._method(request)


def make_request_layers() -> Layers[RequestContext, Result]:
    """Layers around the requests to one server."""
    return Layers(_answer, RequestContext, Result)


class _Order:
    """Which requests wait for earlier ones of the same client."""

    def __init__(self) -> None:
        self._last: dict[ServerConnection, trio.Event] = {}  # of the newest that changes the session
        self._ends: dict[ServerRequest, trio.Event] = {}
        self._waits: dict[ServerRequest, trio.Event] = {}

    def note(self, request: ServerRequest) -> None:
        """Note that the request has come; called in the order in which requests come."""
        if self._last:
            before = self._last.get(request.connection.home)
            if before is not None:
                self._waits[request] = before
        if request.method in ORDERED:
            self._last[request.connection.home] = self._ends[request] = trio.Event()

    def take_wait(self, request: ServerRequest) -> trio.Event | None:
        """What the request waits for, or None."""
        return self._waits.pop(request, None) if self._waits else None

    def end(self, request: ServerRequest) -> None:
        """Let those behind it begin."""
        done = self._ends.pop(request, None)
        if done is not None:
            done.set()
            home = request.connection.home
            if self._last.get(home) is done:
                del self._last[home]


class LayeredMethods:
    """The methods of one running server with `layers` around them, as its sessions look them up."""

    def __init__(
        self,
        layers: Layers[RequestContext, Result],
        immediate: Mapping[str, ImmediateMethod],
        handlers: Mapping[str, Method],
        lifespan: Any,
        calls: ChildCaller,
    ) -> None:
        self._layers = layers
        self._methods = {**handlers, **{name: _in_task(method) for name, method in immediate.items()}}
        self._lifespan = lifespan
        self._calls = calls
        self._order = _Order()
        self.immediate: Final = dict.fromkeys(self._methods, self.defer)
        """They are asked in the order in which requests come, and say that each needs a task."""
        self.handlers: Final = dict.fromkeys(self._methods, self._handle)

    def defer(self, request: ServerRequest) -> NoReturn:
        """Note the turn of `request`, and raise NeedsTask."""
        self._order.note(request)
        raise NeedsTask

    async def _handle(self, request: ServerRequest) -> Result:
        before = self._order.take_wait(request)
        try:
            if before is not None:
                await before.wait()
            method = self._methods[request.method]
            context = RequestContext(request, request.params, method, self._lifespan, self._calls)
            return await self._layers.run(context)
        finally:
            if request.method in ORDERED:
                self._order.end(request)


def _in_task(method: ImmediateMethod) -> Method:
    async def answer(request: ServerRequest) -> Result:
        await trio.lowlevel.checkpoint_if_cancelled()
        return method(request)

    return answer
