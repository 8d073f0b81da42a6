"""To whom a client passes the notifications of a server.

Owns the tables of subscriptions and of listeners to a task. Refuses to know progress and log
messages, which are no matter of subscription.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from trio_mcp.wire.frames import Notification, RequestId, as_number
from trio_mcp.wire.messages import META_SUBSCRIPTION_ID


class _AddressedMeta(msgspec.Struct):
    subscription_id: int | str | None = msgspec.field(name=META_SUBSCRIPTION_ID, default=None)


class _Addressed(msgspec.Struct, rename="camel"):
    """The members of a notification that say for which request, task or subscription it is."""

    request_id: int | str | None = None
    task_id: str | None = None
    meta: _AddressedMeta | None = msgspec.field(name="_meta", default=None)


class NotificationRoutes:
    """Finds who waits for a notification; `cancel` ends the answering of a server's request by its id."""

    def __init__(self, cancel: Callable[[RequestId | None], bool]) -> None:
        self._cancel = cancel
        self._subscriptions: dict[RequestId, Callable[[Notification], None]] = {}
        self._task_listeners: dict[str, list[Callable[[msgspec.Raw], None]]] = {}

    def __len__(self) -> int:
        return len(self._subscriptions) + len(self._task_listeners)

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

    def pass_on(self, frame: Notification) -> bool:
        """Pass a notification to those who wait for it; return False if nobody does."""
        if isinstance(frame.params, msgspec.UnsetType):
            return False
        try:
            params = msgspec.json.decode(frame.params, type=_Addressed)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return False
        if frame.method == "notifications/cancelled" and self._cancel(params.request_id):
            return True
        if frame.method == "notifications/tasks/status" and params.task_id is not None:
            for listener in list(self._task_listeners.get(params.task_id, ())):
                listener(frame.params)
            return True
        ident = None if params.meta is None else params.meta.subscription_id
        receive = None if ident is None else self._subscriptions.get(as_number(ident))
        if receive is None:
            return False
        receive(frame)
        return True
