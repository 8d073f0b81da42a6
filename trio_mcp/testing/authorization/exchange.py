"""One HTTP request and its answer, as the endpoints see them.

Owns the reading of requests, the forms of OAuth (RFC 6749, appendix B), and the shapes of answers. Refuses to
know what an endpoint does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import attrs
import msgspec

from trio_mcp.transports.asgi.types import Receive, Scope, Send

MAX_BODY: Final = 64 * 1024  # bytes; a form with a large assertion has a few thousand
MAX_FIELDS: Final = 100  # of a form
FORM: Final = "application/x-www-form-urlencoded"
NO_STORE: Final = {"cache-control": "no-store", "pragma": "no-cache"}


class OAuthProblem(Exception):  # noqa: N818  # an answer, as `OAuthProblem("invalid_grant")` reads
    """An answer with an OAuth error code; `description` is for the developer and holds no secret."""

    def __init__(
        self, error: str, description: str, status: int = 400, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(f"{error}: {description}")
        self.error = error
        self.description = description
        self.status = status
        self.headers = dict(headers or {})


@attrs.frozen
class Answer:
    """What is answered to a request; `headers` have lower-case names."""

    status: int
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    body: bytes = attrs.field(default=b"", repr=False)

    @property
    def json(self) -> Any:
        """The body, decoded; raises msgspec.DecodeError."""
        return msgspec.json.decode(self.body)

    def with_headers(self, headers: Mapping[str, str]) -> Answer:
        """The same answer with more headers."""
        return attrs.evolve(self, headers={**self.headers, **headers})


class Parameters:
    """The parameters of a request; those without a value count as absent (RFC 6749, section 3.1)."""

    def __init__(self, encoded: str) -> None:
        try:
            pairs = parse_qsl(encoded, keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
        except ValueError:
            raise OAuthProblem("invalid_request", "the parameters cannot be read") from None
        self._pairs = [(name, value) for name, value in pairs if value]

    def all(self, name: str) -> list[str]:
        """Every value of a parameter that may be repeated."""
        return [value for given, value in self._pairs if given == name]

    def one(self, name: str) -> str | None:
        """The value of a parameter, or None; raises OAuthProblem if it is repeated."""
        values = self.all(name)
        if len(values) > 1:
            raise OAuthProblem("invalid_request", f"{name} is repeated")
        return values[0] if values else None

    def need(self, name: str) -> str:
        """The value of a parameter; raises OAuthProblem if it is absent or repeated."""
        value = self.one(name)
        if value is None:
            raise OAuthProblem("invalid_request", f"{name} is missing")
        return value

    def names(self) -> set[str]:
        """The names of all parameters."""
        return {name for name, _ in self._pairs}


@attrs.frozen
class Request:
    """One request; `headers` have lower-case names, and a repeated one has its values joined by commas."""

    method: str
    path: str
    query: str = attrs.field(default="", repr=False)
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    body: bytes = attrs.field(default=b"", repr=False)

    def query_parameters(self) -> Parameters:
        """The parameters of the URL; raises OAuthProblem."""
        return Parameters(self.query)

    def form(self) -> Parameters:
        """The parameters of the body; raises OAuthProblem unless it is a form."""
        media = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media != FORM:
            raise OAuthProblem("invalid_request", f"the content-type must be {FORM}")
        try:
            return Parameters(self.body.decode("ascii"))
        except UnicodeDecodeError:
            raise OAuthProblem("invalid_request", "the form is not percent-encoded") from None


async def read_request(scope: Scope, receive: Receive) -> Request:
    """Read a request with its body; checkpoints. Raises OAuthProblem if it is too large or breaks off."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise OAuthProblem("invalid_request", "the request was broken off")
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            raise OAuthProblem("invalid_request", f"the body is larger than {MAX_BODY} bytes", 413)
        if not message.get("more_body", False):
            break
    query = scope.get("query_string", b"").decode("latin-1")
    return Request(scope["method"], scope["path"], query, headers, bytes(body))


async def serve_lifespan(receive: Receive, send: Send) -> None:
    """Answer the lifespan of an application that has nothing to start; checkpoints."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await send({"type": "lifespan.shutdown.complete"})
            return


async def send_answer(send: Send, answer: Answer, *, with_body: bool = True) -> None:
    """Send an answer; checkpoints."""
    headers = {**answer.headers, "content-length": str(len(answer.body))}
    encoded = [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": encoded})
    await send({"type": "http.response.body", "body": answer.body if with_body else b""})


def answer_json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer in JSON; not stored by caches unless `headers` say otherwise."""
    return Answer(
        status,
        {"content-type": "application/json", **NO_STORE, **(headers or {})},
        msgspec.json.encode(value),
    )


def answer_problem(problem: OAuthProblem) -> Answer:
    """The answer to a direct request that has failed (RFC 6749, section 5.2)."""
    body = {"error": problem.error, "error_description": problem.description}
    return answer_json(body, problem.status, problem.headers)


def answer_redirect(url: str, parameters: Iterable[tuple[str, str | None]]) -> Answer:
    """Send the user's browser to `url`, with those of the parameters that are not None."""
    split = urlsplit(url)
    added = urlencode([(name, value) for name, value in parameters if value is not None])
    query = f"{split.query}&{added}" if split.query else added
    location = urlunsplit((split.scheme, split.netloc, split.path, query, split.fragment))
    return Answer(302, {"location": location, "referrer-policy": "no-referrer", **NO_STORE})
