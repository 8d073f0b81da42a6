"""No Authorization header, however odd, is anything but let in, refused or asked to be mended."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from trio_mcp import Bearer, InvalidToken, Principal
from trio_mcp.session.permit import Permit
from trio_mcp.transports.asgi.guard import Denial, GuardedRequest
from trio_mcp.wire.authorization import parse_challenges

SCHEMES = st.sampled_from(["Bearer", "bearer", "BEARER", "Basic", "DPoP", "Bearer,", ""])
LATIN = st.text(st.characters(max_codepoint=255), max_size=30)
HEADERS = LATIN | st.builds(
    lambda scheme, blank, rest: scheme + blank + rest,
    SCHEMES,
    st.sampled_from([" ", "  ", "\t", ""]),
    LATIN | st.just("good"),
)


async def verify(token: str) -> Principal:
    if token != "good":
        raise InvalidToken(f'no such token: \x00\r\n"\\ {"é" * 3}')
    return Principal("ann")


bearer = Bearer(verify, realm='a "realm"\r\n', scopes=["read"])


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """The outcome of what never waits."""
    try:
        work.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


@given(HEADERS, LATIN, st.binary(max_size=20))
@example("Bearer good", "localhost:8000", b"")
@example("Bearer good, Bearer good", "localhost", b"")
def test_any_header_host_and_query(header: str, host: str, query: bytes) -> None:
    scope = {"type": "http", "path": "/mcp", "query_string": query, "scheme": "http"}
    outcome = run(bearer.admit(GuardedRequest(scope, {"authorization": header, "host": host}, "/mcp")))
    if isinstance(outcome, Permit):
        scheme, *rest = header.split()
        assert (scheme.lower(), rest) == ("bearer", ["good"])
        return
    assert isinstance(outcome, Denial)
    assert outcome.status in (400, 401)
    sent = outcome.headers["www-authenticate"]
    assert sent.isascii()
    assert sent.isprintable()
    (challenge,) = parse_challenges(sent)
    assert challenge.scheme == "bearer"
    assert set(challenge.parameters) <= {"realm", "error", "error_description", "scope", "resource_metadata"}
    assert challenge.parameters.get("resource_metadata", "http://").startswith("http://")


@given(LATIN, LATIN, st.sampled_from(["", "/api", "/mcp"]))
def test_any_path_and_host_of_metadata(path: str, host: str, root: str) -> None:
    scope = {"type": "http", "path": "/" + path, "root_path": root, "scheme": "https"}
    for asked in (scope, {**scope, "path": "/.well-known/oauth-protected-resource" + path}):
        found = bearer.find_metadata(asked, ["/mcp", "/sse"])
        assert found in (None, "", "/mcp", "/sse")
        described = bearer.describe(GuardedRequest(asked, {"host": host}, found or "/mcp"))
        assert isinstance(described, Denial) or described.startswith(b'{"resource":"https://')
