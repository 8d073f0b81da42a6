"""Which published type a message has: by its method, and an answer by the method of its request.

Owns the tables of names, as the schemas of the protocol have them, and the revisions that have each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from tests.interop.published_wire import Message, Side

MODERN: Final = "2026-07-28"
TASKS: Final = "2025-11-25"
ELICITATION: Final = "2025-06-18"

_EVERYWHERE: Final = {
    "tools/list": "ListTools",
    "tools/call": "CallTool",
    "prompts/list": "ListPrompts",
    "prompts/get": "GetPrompt",
    "completion/complete": "Complete",
    "resources/list": "ListResources",
    "resources/templates/list": "ListResourceTemplates",
    "resources/read": "ReadResource",
}
_LEGACY: Final = {
    **_EVERYWHERE,
    "initialize": "Initialize",
    "ping": "Ping",
    "logging/setLevel": "SetLevel",
    "resources/subscribe": "Subscribe",
    "resources/unsubscribe": "Unsubscribe",
}
_LEGACY_TASKS: Final = {
    "tasks/get": "GetTask",
    "tasks/result": "GetTaskPayload",
    "tasks/list": "ListTasks",
    "tasks/cancel": "CancelTask",
}
_MODERN: Final = {
    **_EVERYWHERE,
    "server/discover": "Discover",
    "subscriptions/listen": "SubscriptionsListen",
}
_QUESTIONS: Final = {"sampling/createMessage": "CreateMessage", "roots/list": "ListRoots", "ping": "Ping"}
_EMPTY: Final = {"ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"}

_NOTIFICATIONS: Final = {
    "notifications/cancelled": "CancelledNotification",
    "notifications/progress": "ProgressNotification",
    "notifications/message": "LoggingMessageNotification",
    "notifications/resources/updated": "ResourceUpdatedNotification",
    "notifications/resources/list_changed": "ResourceListChangedNotification",
    "notifications/tools/list_changed": "ToolListChangedNotification",
    "notifications/prompts/list_changed": "PromptListChangedNotification",
}
_LEGACY_NOTIFICATIONS: Final = {
    **_NOTIFICATIONS,
    "notifications/initialized": "InitializedNotification",
    "notifications/roots/list_changed": "RootsListChangedNotification",
}
_MODERN_NOTIFICATIONS: Final = {
    **_NOTIFICATIONS,
    "notifications/subscriptions/acknowledged": "SubscriptionsAcknowledgedNotification",
}

_TASK: Final = ("taskId", "status", "createdAt", "lastUpdatedAt", "ttlMs")
EXTENSION_REQUESTS: Final = {
    "tasks/get": (("taskId",), ("resultType", *_TASK)),
    "tasks/update": (("taskId", "inputResponses"), ("resultType",)),
    "tasks/cancel": (("taskId",), ("resultType",)),
}
"""Of the tasks extension: what the parameters and the result of each request must have."""

EXTENSION_NOTIFICATIONS: Final = {"notifications/tasks": _TASK}


def requests_of(revision: str, side: str) -> Mapping[str, str]:
    """The requests that a side may make in a revision, with the beginning of the names of their types."""
    if side == "server":
        if revision == MODERN:
            return {}
        elicitation = {"elicitation/create": "Elicit"} if revision >= ELICITATION else {}
        return {**_QUESTIONS, **elicitation}
    if revision == MODERN:
        return _MODERN
    return {**_LEGACY, **_LEGACY_TASKS} if revision >= TASKS else _LEGACY


def notifications_of(revision: str) -> Mapping[str, str]:
    """The notifications of a revision, with the names of their types."""
    if revision == MODERN:
        return _MODERN_NOTIFICATIONS
    tasks = {"notifications/tasks/status": "TaskStatusNotification"} if revision >= TASKS else {}
    return {**_LEGACY_NOTIFICATIONS, **tasks}


class Naming:
    """Names the type of each message of one connection; what has none is among the `problems`.

    With `only` one side's messages are named.
    """

    def __init__(self, revision: str, messages: Sequence[Message], only: Side | None = None) -> None:
        self.problems: list[str] = []
        self._revision = revision
        self._requests: dict[tuple[str, Any], Any] = {
            (message.side, message.json["id"]): message.json
            for message in messages
            if "method" in message.json and "id" in message.json
        }
        self._messages = [message for message in messages if only in (None, message.side)]
        self.named = [pair for message in self._messages for pair in self._name(message)]

    def find_nulls(self) -> list[str]:
        """What is null in the messages and must not be."""
        return [
            f"{path} is null: {message.json}"
            for message in self._messages
            for path in find_nulls(message.json)
        ]

    def _name(self, message: Message) -> Iterator[tuple[str, Any]]:
        body = message.json
        if "method" not in body:
            yield from self._name_answer(message)
            return
        method = body["method"]
        is_request = "id" in body
        if self._revision == MODERN and self._is_extension(body, is_request=is_request):
            yield "JSONRPCRequest" if is_request else "JSONRPCNotification", body
            return
        names = (
            {key: f"{name}Request" for key, name in requests_of(self._revision, message.side).items()}
            if is_request
            else notifications_of(self._revision)
        )
        if method in names:
            yield names[method], body
        else:
            self.problems.append(f"{self._revision} has no {method!r} that a {message.side} may send: {body}")

    def _is_extension(self, body: Any, *, is_request: bool) -> bool:
        """Whether the message is one of the tasks extension; what it lacks is a problem."""
        method = body["method"]
        if is_request and method in EXTENSION_REQUESTS:
            self._require(body, body["params"], EXTENSION_REQUESTS[method][0])
            return True
        if not is_request and method in EXTENSION_NOTIFICATIONS:
            self._require(body, body["params"], EXTENSION_NOTIFICATIONS[method])
            return True
        return False

    def _require(self, body: Any, holder: Any, members: Sequence[str]) -> None:
        missing = [member for member in members if member not in holder]
        if missing:
            self.problems.append(f"{', '.join(missing)} must not be absent: {body}")

    def _name_answer(self, message: Message) -> Iterator[tuple[str, Any]]:
        body = message.json
        if "error" in body:
            yield "JSONRPCErrorResponse", body
            return
        yield "JSONRPCResultResponse", body
        asker = "server" if message.side == "client" else "client"
        request = self._requests.get((asker, body["id"]))
        if request is None:
            self.problems.append(f"an answer to no request: {body}")
            return
        name = self._result_name(asker, request, body["result"])
        if name is not None:
            yield name, body["result"]

    def _result_name(self, asker: str, request: Any, result: Any) -> str | None:
        method = request["method"]
        if self._revision == MODERN and method in EXTENSION_REQUESTS:
            self._require(result, result, EXTENSION_REQUESTS[method][1])
            return "Result"
        if self._revision == MODERN and result.get("resultType") == "task":
            self._require(result, result, _TASK)
            return "Result"
        if self._revision == MODERN and result.get("resultType") == "input_required":
            return "InputRequiredResult"
        if method in _EMPTY:
            return "EmptyResult"
        if method == "tasks/result":  # what the task answers instead of its call
            return "CallToolResult"
        if method == "tools/call" and self._revision != MODERN and "task" in request["params"]:
            return "CreateTaskResult"
        name = requests_of(self._revision, asker).get(method)
        return None if name is None else f"{name}Result"


_FREE: Final = frozenset(
    {"arguments", "structuredContent", "data", "_meta", "inputSchema", "outputSchema", "requestedSchema"}
)
"""What may be any JSON."""

_NULLABLE: Final = frozenset({"ttl", "ttlMs"})


def find_nulls(value: Any, path: str = "") -> Iterator[str]:
    """The paths of members that are null; the schemas allow it for very few."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if inner is None and key not in _NULLABLE:
                yield f"{path}.{key}"
            elif key not in _FREE:
                yield from find_nulls(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from find_nulls(inner, f"{path}[{number}]")


def as_line(question: Any) -> bytes:
    """A line of JSON for the program that knows the types."""
    return msgspec.json.encode(question) + b"\n"
