"""An agreed connection, and how requests are made over it.

Owns what every request of a client needs: the session, the agreement, the `_meta` that goes with
each request; and the requests that several helpers make. Refuses to know calls of tools, handles and
handlers.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, TypeVar

import msgspec
import trio

from trio_mcp.client.call_answer import read_created
from trio_mcp.client.changes import Change, ToolsListChanged
from trio_mcp.client.header_mirroring import mirror_tools
from trio_mcp.client.list_reader import ListReader, PageReader
from trio_mcp.client.negotiation import Agreement, modern_meta
from trio_mcp.client.outcome import unwrap
from trio_mcp.client.prompts import read_prompt_page
from trio_mcp.client.resource_subscriptions import ResourceSubscriptions
from trio_mcp.client.result_cache import ResultCache
from trio_mcp.client.result_validation import ResultValidation
from trio_mcp.client.server_requests import Answering
from trio_mcp.client.session import ClientSession
from trio_mcp.client.task_snapshot import TaskNews, TaskSnapshot, read_snapshot, read_task, read_task_page
from trio_mcp.errors import NotSupportedByEra, ProtocolError, RemoteProtocolError, TaskNotFound
from trio_mcp.outgoing.transport import MirroringTransport
from trio_mcp.wire.errors import INVALID_PARAMS
from trio_mcp.wire.frames import Response
from trio_mcp.wire.idempotency import declares_keys
from trio_mcp.wire.messages import (
    LOGGING_LEVELS,
    META_LOG_LEVEL,
    Implementation,
    ListToolsResult,
    LoggingLevel,
    Params,
    SetLevelParams,
    TaskIdParams,
    Tool,
)
from trio_mcp.wire.prompts import Prompt
from trio_mcp.wire.tolerant import UNREADABLE, read_tolerantly

logger = logging.getLogger("trio_mcp.client")

T = TypeVar("T")


def check_level(level: str) -> None:
    """Raise ValueError for what is no level of MCP logging."""
    if level not in LOGGING_LEVELS:
        raise ValueError(f"log_level must be one of {', '.join(LOGGING_LEVELS)}, not {level!r}")


class Link:
    """One connection after its negotiation; `Client` and its helpers share it.

    `meta` goes with every request, and is empty in the legacy eras. `mirror` is the transport if
    it mirrors arguments of tools into headers (modern HTTP).
    """

    def __init__(
        self,
        session: ClientSession,
        agreement: Agreement,
        client_info: Implementation,
        log_level: LoggingLevel | None,
        mirror: MirroringTransport | None = None,
    ) -> None:
        self.session = session
        self.answering = session.answering
        """Who answers what the server asks within a call of this link."""
        self.agreement = agreement
        self.era = agreement.era
        self.mirror = mirror if agreement.era.modern else None
        # Only modern servers say for how long a result is fresh.
        self.cache = ResultCache(session.settings.cache_bytes if agreement.era.modern else 0)
        session.routes.on_change = self._note_change
        self.validation = ResultValidation(self.list_tools) if session.settings.validate_results else None
        self.knows_keys = declares_keys(agreement.capabilities)
        self.repeatable: frozenset[str] = frozenset()
        """The tools that do no harm if they run twice, as far as they are listed and say so."""
        self.subscriptions = ResourceSubscriptions(self.request, session.send_and_forget)
        self.meta: dict[str, Any] = {}
        if agreement.era.modern:
            self.meta = modern_meta(agreement.era, client_info, session.answering.capabilities(modern=True))
            if log_level is not None:
                self.meta[META_LOG_LEVEL] = log_level

    def __repr__(self) -> str:
        return f"<Link {self.era.version} over {self.session!r}>"

    def on_behalf(self, answering: Answering, meta: Mapping[str, Any]) -> Link:
        """The same connection for the calls of somebody else, whose questions `answering` answers.

        `meta` goes with each of these calls in place of that of this link.
        """
        other = copy(self)
        other.answering = answering
        other.meta = dict(meta)
        return other

    async def request(self, method: str, params: Params) -> msgspec.Raw:
        """Send a request and wait for its result; checkpoints. Raises ConnectionLost and ProtocolError."""
        if self.meta:
            params.meta = self.meta
        call = self.session.begin(method, params)
        try:
            return unwrap(await call.wait())
        finally:
            self.session.end(call)

    async def set_log_level(self, level: LoggingLevel) -> None:
        """See `ServerReader.set_log_level`."""
        check_level(level)
        if self.era.modern:
            self.meta[META_LOG_LEVEL] = level
            await trio.lowlevel.checkpoint()
        else:
            await self.request("logging/setLevel", SetLevelParams(level=level))

    async def list_tools(
        self, *, refresh: bool = False, read_page: PageReader[Tool] | None = None
    ) -> list[Tool]:
        """See `Client.list_tools`; `read_page` reads each page in place of what most clients need."""
        tools = await self.list_pages("tools/list", "tools", read_page or _read_tool_page, refresh=refresh)
        self.repeatable = frozenset(tool.name for tool in tools if _is_repeatable(tool))
        if self.validation is not None:
            self.validation.note_tools(tools)
        return tools if self.mirror is None else mirror_tools(tools, self.mirror)

    def _note_change(self, change: Change) -> None:
        self.cache.note_change(change)
        if isinstance(change, ToolsListChanged):
            self.repeatable = frozenset()
            if self.validation is not None:
                self.validation.forget()

    async def list_prompts(self, *, refresh: bool) -> list[Prompt]:
        """See `Client.list_prompts`."""
        return await self.list_pages("prompts/list", "prompts", read_prompt_page, refresh=refresh)

    async def list_tasks(self) -> list[TaskSnapshot]:
        """See `Client.list_tasks`."""
        if self.era.tasks != "legacy":
            raise NotSupportedByEra(f"protocol {self.era.version} cannot list tasks")
        return await self.list_pages("tasks/list", "tasks", _read_snapshots)

    async def fetch_task(self, task_id: str) -> TaskNews:
        """Ask for the state of a task (tasks/get); checkpoints. Raises as `Client.fetch_task`."""
        return read_task(await self._request_for_task("tasks/get", task_id))

    async def cancel_task(self, task_id: str) -> None:
        """See `Client.cancel_task`."""
        try:
            await self._request_for_task("tasks/cancel", task_id)
        except TaskNotFound:
            # 2025-11-25 has the same code for a task that has ended, so ask whether there is one.
            await self.fetch_task(task_id)

    def abandon_task(self, task_id: str) -> None:
        """Ask the server to cancel a task, and do not wait for its answer."""
        params = TaskIdParams(task_id=task_id)
        if self.meta:
            params.meta = self.meta
        self.session.send_and_forget("tasks/cancel", params)

    def abandon_created(self, answer: Response) -> None:
        """Abandon the task, if any, that a call has made whose caller has left."""
        try:
            snapshot = read_created(answer.result)
        except RemoteProtocolError:
            return
        if snapshot is not None:
            self.abandon_task(snapshot.id)

    async def _request_for_task(self, method: str, task_id: str) -> msgspec.Raw:
        if self.era.tasks == "none":
            raise NotSupportedByEra(f"protocol {self.era.version} has no tasks")
        try:
            return await self.request(method, TaskIdParams(task_id=task_id))
        except ProtocolError as error:
            if error.code == INVALID_PARAMS:
                raise TaskNotFound(error.message) from None
            raise

    async def list_pages(
        self, method: str, what: str, read_page: PageReader[T], *, refresh: bool = False
    ) -> list[T]:
        """Read every page of a list; see `ListReader`."""
        max_pages = self.session.settings.max_pages
        reader = ListReader(self.request, self.cache, method, what, read_page, max_pages)
        return await reader.read(refresh=refresh)


def _is_repeatable(tool: Tool) -> bool:
    hints = tool.annotations
    return hints is not None and (hints.read_only_hint is True or hints.idempotent_hint is True)


def _read_tool_page(raw: msgspec.Raw) -> tuple[Sequence[Tool], str | None]:
    try:
        page = msgspec.json.decode(raw, type=ListToolsResult)
    except (msgspec.MsgspecError, RecursionError):
        page = _read_flawed_page(raw)
    return page.tools, page.next_cursor


def _read_flawed_page(raw: msgspec.Raw) -> ListToolsResult:
    """Read what is readable of a page: one bad tool does not hide the others."""
    try:
        page: ListToolsResult = read_tolerantly(raw, ListToolsResult, "the server's list of tools")
        return page
    except UNREADABLE as error:
        raise RemoteProtocolError(f"the server sent a malformed list of tools: {error}") from None


def _read_snapshots(raw: msgspec.Raw) -> tuple[Sequence[TaskSnapshot], str | None]:
    page = read_task_page(raw)
    snapshots = []
    for index, task in enumerate(page.tasks):
        try:
            snapshots.append(read_snapshot(task))
        except RemoteProtocolError as error:
            logger.warning("task %d in the server's list is left out: %s", index, error)
    return snapshots, page.next_cursor
