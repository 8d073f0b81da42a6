"""Where the requests of authorization may go: nobody leads the client into its own network."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

import pytest
import trio

from trio_mcp.errors import AuthorizationError, DiscoveryError
from trio_mcp.oauth.requests import get_json
from trio_mcp.oauth.url_policy import Reach, UrlPolicy, find_reach

INTERNET = UrlPolicy.for_server("https://mcp.example.com/mcp")
PRIVATE = UrlPolicy.for_server("https://10.0.0.5/mcp")
LOOPBACK = UrlPolicy.for_server("http://localhost:8000/mcp")


@pytest.mark.parametrize(
    ("address", "reach"),
    [
        ("93.184.216.34", Reach.INTERNET),
        ("2606:2800:220:1:248:1893:25c8:1946", Reach.INTERNET),
        ("10.0.0.1", Reach.PRIVATE),
        ("172.16.0.1", Reach.PRIVATE),
        ("192.168.1.1", Reach.PRIVATE),
        ("100.64.0.1", Reach.PRIVATE),
        ("fd00::1", Reach.PRIVATE),
        ("127.0.0.1", Reach.LOOPBACK),
        ("127.9.9.9", Reach.LOOPBACK),
        ("::1", Reach.LOOPBACK),
        ("::ffff:127.0.0.1", Reach.LOOPBACK),
        ("::ffff:10.0.0.1", Reach.PRIVATE),
        ("64:ff9b::7f00:1", Reach.LOOPBACK),
        ("2002:0a00:0001::", Reach.PRIVATE),
        ("169.254.169.254", Reach.NEVER),
        ("::ffff:169.254.169.254", Reach.NEVER),
        ("fe80::1%eth0", Reach.NEVER),
        ("224.0.0.1", Reach.NEVER),
        ("0.0.0.0", Reach.NEVER),  # nothing is bound
        ("::", Reach.NEVER),
    ],
)
def test_how_far_an_address_is(address: str, reach: Reach) -> None:
    assert find_reach(address) is reach


@pytest.mark.parametrize(
    ("policy", "url", "allowed"),
    [
        (INTERNET, "https://as.example.com/token", True),
        (INTERNET, "https://93.184.216.34/token", True),
        (INTERNET, "http://as.example.com/token", False),
        (INTERNET, "https://127.0.0.1/token", False),
        (INTERNET, "https://localhost/token", False),
        (INTERNET, "http://localhost:8080/token", False),
        (INTERNET, "https://[::1]/token", False),
        (INTERNET, "https://10.0.0.1/token", False),
        (INTERNET, "https://169.254.169.254/latest/meta-data", False),
        (INTERNET, "https://user:word@as.example.com/token", False),
        (INTERNET, "https://as.example.com/token#x", False),
        (INTERNET, "file:///etc/passwd", False),
        (INTERNET, "javascript:alert(1)", False),
        (INTERNET, "not a URL", False),
        (PRIVATE, "https://10.0.0.9/token", True),
        (PRIVATE, "http://10.0.0.9/token", False),
        (PRIVATE, "https://127.0.0.1/token", False),
        (LOOPBACK, "http://127.0.0.1:9000/token", True),
        (LOOPBACK, "https://10.0.0.9/token", True),
        (LOOPBACK, "https://as.example.com/token", True),
        (LOOPBACK, "http://as.example.com/token", False),
        (LOOPBACK, "http://169.254.169.254/latest/meta-data", False),
        (UrlPolicy(allow_private=True), "http://10.0.0.9/token", True),
        (UrlPolicy(allow_private=True), "http://93.184.216.34/token", False),
    ],
)
def test_what_a_server_may_name(policy: UrlPolicy, url: str, allowed: bool) -> None:
    if allowed:
        assert policy.check(url, "the token endpoint").host
        return
    with pytest.raises(DiscoveryError, match="the token endpoint") as refused:
        policy.check(url, "the token endpoint")
    assert "word" not in str(refused.value)


class Names(trio.abc.HostnameResolver):
    """A name server with fixed answers."""

    def __init__(self, names: Mapping[str, list[str]]) -> None:
        self._names = names
        self.asked: list[Any] = []

    async def getaddrinfo(self, host: Any, port: Any, *args: Any, **options: Any) -> list[Any]:
        await trio.lowlevel.checkpoint()
        name = host.decode() if isinstance(host, bytes) else host
        self.asked.append(name)
        if name not in self._names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in self._names[name]]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("addresses", "pinned"),
    [
        (["93.184.216.34"], ("93.184.216.34",)),
        (["93.184.216.34", "93.184.216.34", "8.8.8.8"], ("93.184.216.34", "8.8.8.8")),
        (["10.0.0.1"], None),
        (["93.184.216.34", "127.0.0.1"], None),
        (["169.254.169.254"], None),
    ],
)
async def test_a_name_is_judged_by_its_addresses_and_pinned_to_them(
    addresses: list[str], pinned: tuple[str, ...] | None
) -> None:
    names = Names({"as.example.com": addresses})
    trio.socket.set_custom_hostname_resolver(names)
    address = INTERNET.check("https://as.example.com/token", "the token endpoint")
    if pinned is not None:
        resolved = await INTERNET.resolve(address, "the token endpoint")
        assert (resolved.host, resolved.pinned) == ("as.example.com", pinned)
        return
    with pytest.raises(DiscoveryError, match="must not"):
        await INTERNET.resolve(address, "the token endpoint")


async def test_the_origin_of_the_server_itself_may_be_asked_wherever_it_is() -> None:
    trio.socket.set_custom_hostname_resolver(Names({"mcp.example.com": ["10.0.0.7"]}))
    address = INTERNET.check("https://mcp.example.com/.well-known/x", "the metadata")
    assert (await INTERNET.resolve(address, "the metadata")).pinned == ("10.0.0.7",)


async def test_plain_http_goes_to_private_addresses_only() -> None:
    policy = UrlPolicy(allow_private=True)
    names = Names({"as.internal": ["10.0.0.7"], "as.example.com": ["93.184.216.34"]})
    trio.socket.set_custom_hostname_resolver(names)
    inside = policy.check("http://as.internal/token", "the token endpoint")
    assert (await policy.resolve(inside, "the token endpoint")).pinned == ("10.0.0.7",)
    outside = policy.check("http://as.example.com/token", "the token endpoint")
    with pytest.raises(DiscoveryError, match="must be https"):
        await policy.resolve(outside, "the token endpoint")


async def test_a_host_without_an_address_is_an_error_of_authorization() -> None:
    trio.socket.set_custom_hostname_resolver(Names({}))
    with pytest.raises(AuthorizationError, match=r"as\.example\.com cannot be asked"):
        await get_json("https://as.example.com/x", policy=INTERNET, what="the metadata")
