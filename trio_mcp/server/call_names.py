"""The names of calls with an idempotency key: whose the key is, and which calls are the same.

Owns what a key must be, and the two digests by which a store knows a call. Carries out nothing.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import attrs
import msgspec

from trio_mcp.errors import ProtocolError
from trio_mcp.session.request import ServerRequest
from trio_mcp.wire.errors import INVALID_PARAMS
from trio_mcp.wire.idempotency import find_problem
from trio_mcp.wire.messages import META_IDEMPOTENCY_KEY

UNGUESSED_CHARACTERS: Final = 22
"""So many characters of base64 hold 128 random bits; a UUID is longer."""


@attrs.frozen
class CallName:
    """A call by its key: `key` is what the store knows it by, `digest` that of its arguments."""

    key: str
    digest: str


def name_call(request: ServerRequest, tool: str, arguments: msgspec.Raw | None) -> CallName:
    """Name the call of a request with a key; raises ProtocolError for a key that is none, or too weak.

    A key belongs to a principal. Without one the key itself admits, as the id of a task does. Over a network
    it must therefore be one that nobody guesses; whoever started the server as a subprocess, or serves it in
    memory, may use any.
    """
    key = request.meta.values[META_IDEMPOTENCY_KEY]
    problem = find_problem(key)
    if problem is not None:
        raise ProtocolError(INVALID_PARAMS, problem)
    connection = request.connection
    whose = ["local"]
    owner = connection.owner
    if owner is not None:
        whose = ["principal", owner]
    elif connection.peer is not None or connection.headers:
        whose = ["bearer"]
        if len(key) < UNGUESSED_CHARACTERS:
            raise ProtocolError(
                INVALID_PARAMS,
                f"an idempotency key of a client that is not authenticated must have at least "
                f"{UNGUESSED_CHARACTERS} characters, and be one that nobody can guess, such as a random UUID",
            )
    try:
        digest = _digest({} if arguments is None else msgspec.json.decode(arguments))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(INVALID_PARAMS, f"the arguments cannot be read: {error}") from None
    return CallName(_digest([*whose, tool, key]), digest)


def _digest(value: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()
