"""The requests of authorization: forms and JSON to endpoints that a policy allows, with bounded answers.

Owns their caps of time and size, and which redirects are followed. Refuses to know grants and documents. No
message of an exception holds what was sent.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import unquote_plus, urlencode, urljoin

import attrs
import msgspec
import trio

from trio_mcp.errors import AuthorizationError, DiscoveryError
from trio_mcp.oauth.url_policy import UrlPolicy
from trio_mcp.printable import printable
from trio_mcp.transports.http.address import Address, may_have_proxy
from trio_mcp.transports.http.h11_client import H11Client
from trio_mcp.transports.http.response import UnreachableError
from trio_mcp.transports.http.server_url import prepare_context
from trio_mcp.wire.authorization import OAuthErrorBody
from trio_mcp.wire.http import JSON

REQUEST_SECONDS: Final = 30.0
"""How long one request may take, with its redirects."""

MAX_ANSWER_BYTES: Final = 1024 * 1024
"""The largest answer: far more than any document of OAuth."""

MAX_REDIRECTS: Final = 3

SECRET_FIELDS: Final = frozenset(
    {
        *("code", "code_verifier", "refresh_token", "client_secret", "token", "password"),
        *("assertion", "client_assertion", "subject_token", "actor_token"),
    }
)
"""The fields of forms that hold secrets."""

FORM: Final = "application/x-www-form-urlencoded"
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MAX_DESCRIPTION: Final = 300


@attrs.frozen
class OAuthAnswer:
    """The answer to one request; `headers` have lower-case names."""

    status: int
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)
    secrets: tuple[str, ...] = attrs.field(default=(), repr=False)
    """What was sent and may not be repeated, although the answer may do so."""

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


async def post_form(
    url: str,
    fields: Mapping[str, str] | Sequence[tuple[str, str]],
    *,
    headers: Mapping[str, str] | None = None,
    policy: UrlPolicy,
    what: str = "the endpoint",
) -> OAuthAnswer:
    """Post a form; checkpoints. `headers` have lower-case names, and `what` names the endpoint in messages.

    Raises AuthorizationError if there is no answer, DiscoveryError if `policy` does not allow `url`.
    """
    pairs = list(fields.items() if isinstance(fields, Mapping) else fields)
    sent = {"content-type": FORM, "accept": JSON, **(headers or {})}
    answer = await _ask("POST", url, sent, urlencode(pairs).encode(), policy, what)
    return attrs.evolve(answer, secrets=_find_secrets(pairs, sent))


def _find_secrets(pairs: Sequence[tuple[str, str]], headers: Mapping[str, str]) -> tuple[str, ...]:
    """The secrets in a request, as they were sent and as they are known to the peer."""
    found = [value for name, value in pairs if name in SECRET_FIELDS]
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme == "Basic":
        password = b64decode(credentials).decode().partition(":")[2]
        found += [credentials, password, unquote_plus(password)]
    return tuple(value for value in found if value)


async def post_json(url: str, document: object, *, policy: UrlPolicy, what: str) -> OAuthAnswer:
    """Post a document; as `post_form`."""
    sent = {"content-type": JSON, "accept": JSON}
    return await _ask("POST", url, sent, msgspec.json.encode(document), policy, what)


async def get_json(url: str, *, policy: UrlPolicy, what: str) -> OAuthAnswer:
    """Get a document, by redirects within its origin if need be; as `post_form`."""
    return await _ask("GET", url, {"accept": JSON}, b"", policy, what)


def read_refusal(answer: OAuthAnswer, what: str, issuer: str | None = None) -> AuthorizationError:
    """The error that says how an endpoint of OAuth refused (RFC 6749, 5.2)."""
    try:
        body = msgspec.json.decode(answer.body, type=OAuthErrorBody)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return AuthorizationError(f"{what} answered {answer.status}", issuer=issuer)
    said = f"{body.error}: {body.error_description}" if body.error_description else body.error
    for secret in answer.secrets:
        said = said.replace(secret, "...")
    said = printable(said[:_MAX_DESCRIPTION])
    return AuthorizationError(f"{what} answered {answer.status}: {said}", error=body.error, issuer=issuer)


async def _ask(
    method: str, url: str, headers: Mapping[str, str], body: bytes, policy: UrlPolicy, what: str
) -> OAuthAnswer:
    with trio.move_on_after(REQUEST_SECONDS):
        for _ in range(MAX_REDIRECTS + 1):
            address = policy.check(url, what)
            try:
                answer = await _ask_once(method, url, address, headers, body, policy, what)
            except OSError as error:
                raise AuthorizationError(f"{what} {address.origin} cannot be asked: {error}") from None
            except UnreachableError as error:
                raise AuthorizationError(f"{what} cannot be asked: {error}") from None
            location = answer.headers.get("location")
            if answer.status not in _REDIRECTS or location is None:
                return answer
            url = urljoin(url, location)
            if method != "GET" or policy.check(url, what).origin != address.origin:
                raise DiscoveryError(f"{what} of {address.origin} redirects, which is not followed")
        raise DiscoveryError(f"{what} of {address.origin} redirects more than {MAX_REDIRECTS} times")
    raise AuthorizationError(f"{what} gave no answer within {REQUEST_SECONDS:g} seconds")


async def _ask_once(
    method: str,
    url: str,
    address: Address,
    headers: Mapping[str, str],
    body: bytes,
    policy: UrlPolicy,
    what: str,
) -> OAuthAnswer:
    if may_have_proxy(address):
        return await _ask_by_proxy(method, url, address, headers, body, policy, what)
    pinned = await policy.resolve(address, what)
    context = prepare_context(address, policy.ssl_context)
    client = H11Client(url, pinned, context, None, MAX_ANSWER_BYTES)
    try:
        response = await client.ask(method, headers, body, None)
        try:
            return _bounded(
                response.answer.code, response.answer.headers, await response.answer.read_body(), what
            )
        finally:
            response.body.close()
    finally:
        client.pool.close()


async def _ask_by_proxy(
    method: str,
    url: str,
    address: Address,
    headers: Mapping[str, str],
    body: bytes,
    policy: UrlPolicy,
    what: str,
) -> OAuthAnswer:
    """Ask through httpx2, which knows proxies: the proxy resolves the host, and decides what it reaches."""
    from trio_mcp.transports.http.httpx_client import HttpxClient

    client = HttpxClient(
        url,
        limit=MAX_ANSWER_BYTES,
        headers=None,
        auth=None,
        http_client=None,
        ssl_context=policy.ssl_context,
        origins={address.origin},
    )
    try:
        async with client.ask(method, headers, body, None) as answer:
            return _bounded(answer.code, answer.headers, await answer.read_body(), what)
    finally:
        await client.aclose()


def _bounded(status: int, headers: Mapping[str, str], body: bytes | None, what: str) -> OAuthAnswer:
    if body is None:
        raise AuthorizationError(f"{what} gave an answer longer than {MAX_ANSWER_BYTES:,} bytes")
    return OAuthAnswer(status, headers, body)
