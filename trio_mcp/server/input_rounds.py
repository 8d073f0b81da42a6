"""The rounds in which a tool gathers input before its task exists.

Owns the multi round trip of the modern era (MCP patterns, "Multi Round-Trip Requests"): the
`gather` function runs anew in each round, and finds the answers of the rounds before. Knows
nothing of the legacy eras, in which `gather` asks by requests to the client.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Any

import msgspec

from trio_mcp.errors import MCPError, ProtocolError
from trio_mcp.wire.errors import INVALID_PARAMS
from trio_mcp.wire.messages import CallToolParams, InputRequiredResult


class InputNeededError(MCPError):
    """Ends a round, because the client has to answer first; a `gather` function must not catch it."""

    def __init__(self, key: str, request: Mapping[str, Any]) -> None:
        super().__init__(f"the client has to answer {key!r} first; let this exception pass")
        self.key = key
        self.request = request


class StateSeal:
    """Signs the answers that a client carries from round to round, so that it cannot alter them."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def seal(self, params: CallToolParams, answers: Mapping[str, Any]) -> str:
        """The `requestState` for the next round of this very call."""
        body = msgspec.json.encode(answers)
        return base64.urlsafe_b64encode(self._sign(params, body) + body).decode()

    def open(self, params: CallToolParams) -> dict[str, Any]:
        """The answers of the rounds before; raises ProtocolError for a state that is not of this call."""
        if isinstance(params.request_state, msgspec.UnsetType):
            return {}
        try:
            sealed = base64.b64decode(params.request_state.encode(), altchars=b"-_", validate=True)
        except (binascii.Error, UnicodeEncodeError):
            sealed = b""
        signature, body = sealed[:32], sealed[32:]
        if not hmac.compare_digest(signature, self._sign(params, body)):
            raise ProtocolError(INVALID_PARAMS, "requestState was not given out for this call")
        answers: dict[str, Any] = msgspec.json.decode(body)
        return answers

    def _sign(self, params: CallToolParams, body: bytes) -> bytes:
        arguments = b"" if isinstance(params.arguments, msgspec.UnsetType) else bytes(params.arguments)
        call = msgspec.json.encode([params.name, hashlib.sha256(arguments).hexdigest()])
        return hmac.digest(self._key, call + b"\0" + body, "sha256")


class Gathering:
    """One round: the answers of the call so far, and what it asks next."""

    def __init__(self, params: CallToolParams, seal: StateSeal) -> None:
        self._params = params
        self._seal = seal
        self._answers = seal.open(params)
        if not isinstance(params.input_responses, msgspec.UnsetType):
            given = params.input_responses
            for key, answer in given.items():
                if isinstance(answer, dict):
                    self._answers.setdefault(key, answer)  # the first answer counts, that of an earlier round
        self._asked = 0

    def answer(self, key: str | None, method: str, params: Mapping[str, Any]) -> Any:
        """The client's answer; raises InputNeededError if there is none yet."""
        self._asked += 1
        name = f"gather-{self._asked}" if key is None else key
        if name not in self._answers:
            raise InputNeededError(name, {"method": method, "params": dict(params)})
        return self._answers[name]

    def ask(self, needed: InputNeededError) -> InputRequiredResult:
        """The result that ends the round."""
        return InputRequiredResult(
            result_type="input_required",
            input_requests={needed.key: needed.request},
            request_state=self._seal.seal(self._params, self._answers),
        )
