"""A server that says what a test wants, for what no real server would say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import msgspec
import trio

from tests.conftest import LEGACY, MODERN
from trio_mcp.outgoing.transport import FrameTransport
from trio_mcp.wire.codec import decode_lines
from trio_mcp.wire.frames import Request

SERVER_INFO = {"name": "fake", "version": "9"}
INITIALIZED = {"protocolVersion": LEGACY, "capabilities": {"tools": {}}, "serverInfo": SERVER_INFO}
DISCOVERED = {"resultType": "complete", "supportedVersions": [MODERN], "capabilities": {}, "ttlMs": 0}


def result(value: dict[str, Any]) -> Callable[[Any], dict[str, Any]]:
    return lambda request: {"id": request.id, "result": value}


def error(code: int, data: Any = None) -> Callable[[Any], dict[str, Any]]:
    return lambda request: {"id": request.id, "error": {"code": code, "message": "no", "data": data}}


def silence(request: Any) -> None:
    return None


@attrs.frozen
class Later:
    """An answer after `seconds`."""

    seconds: float
    answer: dict[str, Any]


@attrs.define
class FakeServer:
    """Answers each method by a rule; `asked` is what it was asked, in order.

    A rule returns an answer or a list of them, as dicts or bytes, `Later`, "close", or None for no answer.
    """

    rules: dict[str, Callable[[Any], Any]]
    asked: list[str] = attrs.field(factory=list)
    _transport: FrameTransport | None = None

    async def send(self, *messages: dict[str, Any]) -> None:
        """Send what nobody has asked for to the client that has connected last."""
        assert self._transport is not None, "a client has connected"
        for message in messages:
            data = msgspec.json.encode({"jsonrpc": "2.0", **message})
            await self._transport.send_frames(decode_lines(data))

    async def close(self) -> None:
        """Close the connection of that client."""
        assert self._transport is not None, "a client has connected"
        await self._transport.aclose()

    async def serve(self, transport: FrameTransport) -> None:
        self._transport = transport
        while True:  # noqa: ASYNC913  # ends with the transport
            try:
                frames: Sequence[Any] = await transport.receive_frames()
            except (trio.EndOfChannel, trio.ClosedResourceError):
                return
            for frame in frames:
                self.asked.append(getattr(frame, "method", "an answer"))
                if not isinstance(frame, Request):
                    continue
                rule = self.rules.get(frame.method, error(-32601))
                answers = rule(frame)
                if isinstance(answers, Later):
                    await trio.sleep(answers.seconds)
                    answers = answers.answer
                if answers is None:
                    continue
                for answer in answers if isinstance(answers, list) else [answers]:
                    if answer == "close":
                        await transport.aclose()
                        return
                    data = (
                        answer
                        if isinstance(answer, bytes)
                        else msgspec.json.encode({"jsonrpc": "2.0", **answer})
                    )
                    await transport.send_frames(decode_lines(data))
