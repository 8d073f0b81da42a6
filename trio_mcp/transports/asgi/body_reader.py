"""Reads the body of a request, or refuses the request.

Owns the refusals that a body can lead to, and the count of what is held of all bodies.
"""

from __future__ import annotations

import trio

from trio_mcp.transports.asgi.body import Body, TooLongError, WastefulBodyError, read_body
from trio_mcp.transports.asgi.call import HttpCall
from trio_mcp.transports.asgi.refusals import Refusals
from trio_mcp.transports.asgi.request import accepts, is_longer
from trio_mcp.transports.asgi.settings import HttpSettings
from trio_mcp.transports.buffered_bytes import BufferClaim, BufferedBytes, TooMuchBufferedError
from trio_mcp.wire.errors import PARSE_ERROR
from trio_mcp.wire.http import EVENT_STREAM, JSON


class BodyReader:
    """Reads the bodies of all requests to one endpoint, within the caps that they share."""

    def __init__(self, settings: HttpSettings, refusals: Refusals) -> None:
        self._settings = settings
        self._refusals = refusals
        self._buffered = BufferedBytes(settings.max_buffered_bytes, settings.max_buffered_bytes_per_peer)

    def claim(self, peer: str) -> BufferClaim:
        """What a message of `peer` holds behind its arrival, until the block that it opens ends."""
        return self._buffered.claim(peer)

    async def read(self, call: HttpCall, *, is_answered: bool = True) -> Body | None:
        """Read the body; None if the request was refused or the client has gone. Checkpoints.

        If the response `is_answered`, so that it may be an event stream, the client must accept that.
        """
        accepted, reply = call.headers.get("accept", "*/*"), call.reply
        if is_answered and not (accepts(accepted, JSON) and accepts(accepted, EVENT_STREAM)):
            reason = f"the client must accept {JSON} and {EVENT_STREAM}"
            await self._refusals.refuse(reply, "accept", 406, reason)
            return None
        if call.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
            await self._refusals.refuse(reply, "content type", 415, f"the body must be {JSON}")
            return None
        limit, timeout = self._settings.max_body_bytes, self._settings.body_timeout
        try:
            if is_longer(call.headers.get("content-length", ""), limit):
                raise TooLongError
            with trio.move_on_after(timeout):
                return await read_body(
                    call.receive, limit, self._settings.max_values, self._buffered, call.peer
                )
        except WastefulBodyError:
            reason = "the body comes in pieces that carry nothing"
            await self._refusals.refuse(reply, "tiny pieces", 400, reason, PARSE_ERROR)
        except TooLongError:
            reason = f"the body is longer than {limit} bytes"
            await self._refusals.refuse(reply, "body", 413, reason, PARSE_ERROR)
        except TooMuchBufferedError as error:
            await self._refusals.refuse_overload(reply, "buffered", str(error))
        else:
            reason = f"the body did not arrive within {timeout:g} seconds"
            await self._refusals.refuse(reply, "slow body", 408, reason, PARSE_ERROR)
        return None
