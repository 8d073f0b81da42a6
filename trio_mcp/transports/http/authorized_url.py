"""The URL of a server that wants a token: each request carries one, and is sent again with a better one.

Owns when a refused request is sent again. Refuses to know where tokens come from.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Final

import attrs
import trio

from trio_mcp.errors import MCPError
from trio_mcp.transports.http.authorizer import MOST_REFUSALS, REFUSALS, AnswerTaker, Authorizer, Refusal
from trio_mcp.transports.http.endpoint import HttpEndpoint
from trio_mcp.transports.http.response import HttpResponse, UnauthorizedError

if TYPE_CHECKING:
    import httpx2

READ_SECONDS: Final = 10.0
"""How long the body of a refusal may take; it is only for display."""


@attrs.define(eq=False)
class AuthorizedUrl:
    """An endpoint whose requests carry what `authorizer` gives them.

    A request that was answered with 401 or 403 was not carried out, so it is sent again if the authorizer
    says so. `pausing` is entered while the authorizer deals with a refusal, which may take as long as a
    person takes.
    """

    _server: HttpEndpoint
    _authorizer: Authorizer
    pausing: Callable[[], AbstractContextManager[None]] = nullcontext
    _taker: AnswerTaker | None = attrs.field(init=False)

    @_taker.default
    def _find_taker(self) -> AnswerTaker | None:
        return self._authorizer if isinstance(self._authorizer, AnswerTaker) else None

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def origin(self) -> str:
        return self._server.origin

    @property
    def limit(self) -> int:
        return self._server.limit

    @property
    def general_client(self) -> httpx2.AsyncClient | None:
        return self._server.general_client

    @asynccontextmanager
    async def ask(
        self,
        method: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        sent: trio.Event | None = None,
        *,
        is_repeatable: bool = False,
    ) -> AsyncIterator[HttpResponse]:
        """As `ServerUrl.ask`; raises UnauthorizedError as well, if the server wants a token and none is got.

        The end of a session is never worth a new token.
        """
        refused: HttpResponse | None = None
        for attempt in range(MOST_REFUSALS):
            with _raising_unauthorized():
                presented = await self._authorizer.headers(method, self.url)
            asking = self._server.ask(
                method, {**headers, **presented}, body, sent, is_repeatable=is_repeatable
            )
            async with asking as answer:
                if answer.code not in REFUSALS or method == "DELETE":
                    if self._taker is not None:
                        self._taker.note_answer(self.url, answer.headers)
                    yield answer
                    return
                refused = await _take_whole(answer)
            refusal = Refusal(answer.code, answer.headers, presented, method, self.url, attempt, body)
            with self.pausing(), _raising_unauthorized():
                if not await self._authorizer.answer(refusal):
                    break
        assert refused is not None, "only a refusal ends the loop"
        yield refused

    async def aclose(self) -> None:
        """Close all connections; bounded, checkpoints."""
        await self._server.aclose()


@contextmanager
def _raising_unauthorized() -> Iterator[None]:
    try:
        yield
    except MCPError as error:
        raise UnauthorizedError(error) from None


async def _take_whole(answer: HttpResponse) -> HttpResponse:
    """The same answer with the body that has come, so that its connection can be used again; checkpoints."""
    body = b""
    with trio.move_on_after(READ_SECONDS):
        body = await answer.read_body() or b""

    async def chunks() -> AsyncIterator[bytes]:  # noqa: ASYNC124, ASYNC900  # it holds no resource
        yield body

    return answer.with_chunks(chunks())
