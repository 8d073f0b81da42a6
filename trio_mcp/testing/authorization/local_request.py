"""GET requests to this machine, as the authorization server and the user's browser make them.

Owns that no other machine is asked: any page in the developer's browser could make the server ask addresses
inside the network. Redirects are not followed.
"""

from __future__ import annotations

import ssl
from typing import Final

import trio

from trio_mcp.testing.authorization.exchange import Answer
from trio_mcp.transports.http.address import parse_address
from trio_mcp.transports.http.h11_client import H11Client
from trio_mcp.wire.origin import is_loopback_host

MAX_BYTES: Final = 64 * 1024  # of an answer; a metadata document of a client has at most 5 kB
REQUEST_SECONDS: Final = 30.0


async def get_local(url: str, accept: str) -> Answer:
    """GET a URL of this machine; checkpoints.

    Raises ValueError for another machine and for an answer that is too large, UnreachableError, and
    trio.TooSlowError.
    """
    address = parse_address(url)
    if not is_loopback_host(address.host):
        raise ValueError("only this machine is asked")
    tls = ssl.create_default_context() if address.scheme == "https" else None
    client = H11Client(url, address, tls, None, MAX_BYTES)
    try:
        with trio.fail_after(REQUEST_SECONDS):
            asked = await client.ask("GET", {"accept": accept}, b"", None)
            try:
                body = await asked.answer.read_body()
            finally:
                asked.body.close()
    finally:
        client.pool.close()
    if body is None:
        raise ValueError(f"the answer is larger than {MAX_BYTES} bytes")
    return Answer(asked.answer.code, asked.answer.headers, body)
