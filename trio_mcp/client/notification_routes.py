"""To whom a client passes the notifications of a server.

Owns the tables of subscriptions, of listeners to a task and of listeners to changes. Refuses to know progress
and log messages, which are no matter of subscription.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import msgspec

from trio_mcp.client.changes import CHANGE_METHODS, Change, make_change
from trio_mcp.wire.frames import Notification, RequestId, as_number
from trio_mcp.wire.messages import META_SUBSCRIPTION_ID


class ChangeListener(Protocol):
    """Takes the changes that a server tells of."""

    def __call__(self, change: Change, *, is_addressed: bool) -> None:
        """Take a change, which may be addressed to this listener alone; never waits."""


class _AddressedMeta(msgspec.Struct):
    subscription_id: int | str | None = msgspec.field(name=META_SUBSCRIPTION_ID, default=None)


class _Addressed(msgspec.Struct, rename="camel"):
    """The members of a notification that say for which request, task, resource or subscription it is."""

    request_id: int | str | None = None
    task_id: str | None = None
    uri: str | None = None
    meta: _AddressedMeta | None = msgspec.field(name="_meta", default=None)


class NotificationRoutes:
    """Finds who waits for a notification; `cancel` ends the answering of a server's request by its id."""

    def __init__(self, cancel: Callable[[RequestId | None], bool]) -> None:
        self._cancel = cancel
        self._subscriptions: dict[RequestId, Callable[[Notification], None]] = {}
        self._task_listeners: dict[str, list[Callable[[msgspec.Raw], None]]] = {}
        self._change_listeners: list[tuple[RequestId | None, ChangeListener]] = []
        self.on_change: Callable[[Change], None] | None = None
        """Told of every change first, whoever it is for."""
        self.on_log: Callable[[msgspec.Raw | msgspec.UnsetType], None] | None = None
        """Gets the parameters of every log message, in place of the client's log handler."""
        self.on_page: Callable[[msgspec.Raw | msgspec.UnsetType], None] | None = None
        """Gets the parameters that name a page with which a person is done."""

    def __len__(self) -> int:
        return len(self._subscriptions) + len(self._task_listeners) + len(self._change_listeners)

    def is_subscription(self, ident: RequestId) -> bool:
        """Whether a request is a subscription, so that its answer is only its end."""
        return ident in self._subscriptions

    @contextmanager
    def subscribed(self, ident: RequestId, receive: Callable[[Notification], None]) -> Iterator[None]:
        """While the block lasts, `receive` gets the notifications of a subscription (MCP subscriptions)."""
        self._subscriptions[ident] = receive
        try:
            yield
        finally:
            del self._subscriptions[ident]

    @contextmanager
    def listening_for_task(self, task_id: str, receive: Callable[[msgspec.Raw], None]) -> Iterator[None]:
        """While the block lasts, `receive` gets the status notifications of a task (2025-11-25)."""
        listeners = self._task_listeners.setdefault(task_id, [])
        listeners.append(receive)
        try:
            yield
        finally:
            listeners.remove(receive)
            if not listeners:
                self._task_listeners.pop(task_id, None)

    @contextmanager
    def listening_for_changes(self, listener: ChangeListener, ident: RequestId | None) -> Iterator[None]:
        """While the block lasts, `listener` gets the changes of its subscription, and those without one."""
        entry = (ident, listener)
        self._change_listeners.append(entry)
        try:
            yield
        finally:
            self._change_listeners.remove(entry)

    def pass_on(self, frame: Notification) -> bool:
        """Pass a notification to those who wait for it; return False if nobody does."""
        try:
            # The changes of lists need no parameters.
            raw = msgspec.Raw(b"{}") if isinstance(frame.params, msgspec.UnsetType) else frame.params
            params = msgspec.json.decode(raw, type=_Addressed)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return False
        if frame.method == "notifications/cancelled" and self._cancel(params.request_id):
            return True
        if frame.method == "notifications/tasks/status" and params.task_id is not None:
            for listener in list(self._task_listeners.get(params.task_id, ())):
                listener(raw)
            return True
        ident = None if params.meta is None else params.meta.subscription_id
        if frame.method in CHANGE_METHODS:
            change = make_change(frame.method, params.uri)
            return change is not None and self._tell(change, ident)
        receive = None if ident is None else self._subscriptions.get(as_number(ident))
        if receive is None:
            return False
        receive(frame)
        return True

    def _tell(self, change: Change, ident: RequestId | None) -> bool:
        if self.on_change is not None:
            self.on_change(change)
        is_addressed = ident is not None
        found = False
        for own, listener in list(self._change_listeners):
            if ident is None or (own is not None and as_number(ident) == own):
                listener(change, is_addressed=is_addressed)
                found = True
        return found
