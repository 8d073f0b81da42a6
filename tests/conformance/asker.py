"""A client of the conformance fixture that sends requests of the modern revision and shows the messages."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Final

import trio

from tests.conftest import MODERN
from tests.interop.published_wire import Message
from tests.support.limits import HANG_SECONDS
from tests.support.raw_peer import RawPeer

TASKS: Final = "io.modelcontextprotocol/tasks"
WITH_TASKS: Final[dict[str, Any]] = {"elicitation": {}, "extensions": {TASKS: {}}}
ANSWERS_ALL: Final[dict[str, Any]] = {"elicitation": {}, "sampling": {}, "roots": {}}


class Asker:
    """Sends requests of the modern revision, and returns their answers; `messages` is all that travelled."""

    def __init__(self, peer: RawPeer) -> None:
        self._peer = peer
        self._ids = itertools.count(1)
        self.messages: list[Message] = []

    async def answer(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        capabilities: Mapping[str, Any] = ANSWERS_ALL,
    ) -> Any:
        """The whole answer."""
        meta = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": capabilities,
        }
        ident = next(self._ids)
        body = {"jsonrpc": "2.0", "id": ident, "method": method, "params": {**(params or {}), "_meta": meta}}
        self.messages.append(Message("client", body))
        await self._peer.send(body)
        while True:
            message = await self._peer.receive()
            self.messages.append(Message("server", message))
            if message.get("id") == ident:
                return message

    async def result(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        capabilities: Mapping[str, Any] = ANSWERS_ALL,
    ) -> Any:
        answer = await self.answer(method, params, capabilities)
        assert "result" in answer, answer
        return answer["result"]

    async def error(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        capabilities: Mapping[str, Any] = ANSWERS_ALL,
    ) -> Any:
        answer = await self.answer(method, params, capabilities)
        assert "error" in answer, answer
        return answer["error"]

    async def call_round(self, name: str, **members: Any) -> Any:
        """The result of one round of a tool that asks."""
        return await self.result("tools/call", {"name": f"test_input_required_result_{name}", **members})

    async def start_task(self, tool: str, /, **arguments: Any) -> Any:
        return await self.result("tools/call", {"name": tool, "arguments": arguments}, WITH_TASKS)

    async def get_task(self, task_id: str) -> Any:
        return await self.result("tasks/get", {"taskId": task_id}, WITH_TASKS)

    async def wait_task(self, task_id: str, status: str, questions: int = 0) -> Any:
        """Poll a task until it has that status, and as many open questions."""
        with trio.fail_after(HANG_SECONDS):
            while True:
                task = await self.get_task(task_id)
                if task["status"] == status and len(task.get("inputRequests", {})) >= questions:
                    return task
