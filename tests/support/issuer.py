"""An issuer of JWTs that never leaves memory: its keys, its tokens, and the documents that it publishes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import pytest
import trio
from joserfc import jws
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey

from trio_mcp.authorization.verifier import InvalidToken, Verifier
from trio_mcp.transports.http.documents import NO_HEADERS, Document
from trio_mcp.transports.http.response import UnreachableError

ISSUER = "https://issuer.example/realm"
AUDIENCE = "https://mcp.example/mcp"
JWKS_URI = f"{ISSUER}/keys"
NOW = 1_800_000_000


@attrs.define(eq=False)
class Clock:
    """Tells the seconds that the test has set."""

    now: float = NOW

    def __call__(self) -> float:
        return self.now


def make_key(algorithm: str = "ES256", kid: str | None = "k1") -> Key:
    """A new private key for an algorithm."""
    parameters: Any = {} if kid is None else {"kid": kid}
    if algorithm.startswith("HS"):
        return OctKey.generate_key(512, parameters)
    if algorithm.startswith("ES"):
        curve: Any = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}[algorithm]
        return ECKey.generate_key(curve, parameters)
    if algorithm in ("EdDSA", "Ed25519", "Ed448"):
        return OKPKey.generate_key("Ed448" if algorithm == "Ed448" else "Ed25519", parameters)
    return RSAKey.generate_key(2048, parameters)


def public(key: Key, **more: Any) -> dict[str, Any]:
    """The public half of a key, as a JWK."""
    return {**key.as_dict(private=False), **more}


def encode(part: bytes | Mapping[str, Any] | list[Any]) -> str:
    """A part of a JWT; what is not bytes becomes JSON."""
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def claims(without: tuple[str, ...] = (), **changed: Any) -> dict[str, Any]:
    """The claims of a good token, but for those that are changed or left out."""
    good = {
        "iss": ISSUER,
        "sub": "ada",
        "aud": AUDIENCE,
        "exp": NOW + 3600,
        "iat": NOW - 5,
        "client_id": "editor",
        "scope": "read write",
    }
    return {name: value for name, value in {**good, **changed}.items() if name not in without}


def sign(
    key: Key,
    payload: bytes | Mapping[str, Any],
    algorithm: str = "ES256",
    header: Mapping[str, Any] | bytes | None = None,
) -> str:
    """A JWT that `key` has really signed, whatever stands in it."""
    if header is None:
        header = {"typ": "at+jwt"}
    if not isinstance(header, bytes):
        named = {} if key.kid is None else {"kid": key.kid}
        header = {"alg": algorithm, **named, **header}
    signed = f"{encode(header)}.{encode(payload)}"
    signature = jws.JWSRegistry.algorithms[algorithm].sign(signed.encode(), key)
    return f"{signed}.{encode(signature)}"


def sign_with_secret(secret: bytes, payload: Mapping[str, Any], algorithm: str = "HS256") -> str:
    """A JWT whose signature is made with any bytes, also with those of a public key."""
    signed = f"{encode({'alg': algorithm, 'typ': 'at+jwt'})}.{encode(payload)}"
    hashes = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}
    return f"{signed}.{encode(hmac.digest(secret, signed.encode(), hashes[algorithm]))}"


@attrs.define(eq=False)
class FakeWeb:
    """Answers requests for documents, as the test has set them up, and counts them."""

    answers: dict[str, Document | Exception | Callable[[], Document]] = attrs.field(factory=dict)
    asked: Counter[str] = attrs.field(factory=Counter)
    bodies: list[tuple[Mapping[str, str], bytes]] = attrs.field(factory=list)
    gate: trio.Event = attrs.field(factory=trio.Event)
    """Answers wait for it; it is set from the beginning."""
    waiting: int = 0

    def __attrs_post_init__(self) -> None:
        self.gate.set()

    async def __call__(
        self, url: str, *, method: str = "GET", headers: Mapping[str, str] = NO_HEADERS, body: bytes = b""
    ) -> Document:
        self.asked[url] += 1
        self.bodies.append((headers, body))
        self.waiting += 1
        try:
            await trio.lowlevel.checkpoint()
            await self.gate.wait()
        finally:
            self.waiting -= 1
        answer = self.answers.get(url, Document(404))
        if isinstance(answer, Exception):
            raise type(answer)(*answer.args)
        return answer if isinstance(answer, Document) else answer()

    def put(self, url: str, content: Any, status: int = 200, headers: Mapping[str, str] = NO_HEADERS) -> None:
        """Publish a document; what is not bytes becomes JSON."""
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.answers[url] = Document(status, headers, raw)

    def publish(self, *keys: Key | Mapping[str, Any], url: str = JWKS_URI) -> None:
        """Publish a JWK Set."""
        self.put(url, {"keys": [dict(key) if isinstance(key, Mapping) else public(key) for key in keys]})

    def cut(self, url: str = JWKS_URI) -> None:
        """Make a URL unreachable."""
        self.answers[url] = UnreachableError(f"the connection to {url} failed")


def find_leaks(token: str, text: str) -> list[str]:
    """What of a token or another secret stands in a text: all of it, or a long part of a JWT."""
    parts = [token, *(part for part in token.split(".") if len(part) > 20)]
    return [part for part in parts if len(part) > 3 and part in text]


def describe_all(error: BaseException) -> str:
    """All that a log may show of an exception: its traceback, and the repr of whatever led to it."""
    text = "".join(traceback.format_exception(error))
    seen: list[BaseException] = []
    pending: list[BaseException | None] = [error]
    while pending:
        one = pending.pop()
        if one is not None and one not in seen:
            seen.append(one)
            text += f"\n{one!r} {one} {vars(one)}"
            pending += [one.__cause__, one.__context__]
    return text


async def refuse(verifier: Verifier, token: str, caplog: pytest.LogCaptureFixture) -> str:
    """Why a verifier refuses a token; asserts that the token is nowhere to be read."""
    with caplog.at_level(logging.DEBUG), pytest.raises(InvalidToken) as caught:
        await verifier.verify(token)
    shown = f"{describe_all(caught.value)}\n{caplog.text}\n{verifier!r}"
    assert not find_leaks(token, shown)
    return caught.value.reason
