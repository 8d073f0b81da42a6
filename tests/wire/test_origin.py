"""The allow-lists of Host and Origin (MCP Streamable HTTP, "Security Warning")."""

import pytest

from trio_mcp.wire.origin import Doorkeeper, is_loopback_host

LOOPBACK = Doorkeeper.for_bind("127.0.0.1")


@pytest.mark.parametrize("host", ["localhost", "LocalHost", "127.0.0.1", "127.8.9.1", "::1", "[::1]"])
def test_loopback_hosts_are_recognized(host):
    assert is_loopback_host(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "10.0.0.1", "localhost.example.com", "example.com"])
def test_other_hosts_are_not_loopback_and_their_bind_allows_all(host):
    assert not is_loopback_host(host)
    assert Doorkeeper.for_bind(host) == Doorkeeper(None, None)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:4100", "[::1]:1", "[::1]"])
@pytest.mark.parametrize("origin", [None, "http://localhost:3000", "HTTPS://127.0.0.1", "http://[::1]:8"])
def test_a_loopback_bind_allows_loopback(host, origin):
    assert LOOPBACK.refusal(host, origin) is None


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "localhost.evil.example", "localhost:80@evil.example", "evil@localhost", "0.0.0.0"),
        *("", ":80", "localhost:", "localhost:*", "localhost:x", "::1", "[::1", "[::1]x", "localhost/"),
    ],
)
def test_a_loopback_bind_refuses_other_hosts(host):
    assert LOOPBACK.refusal(host, None) == f"the host {host!r} is not allowed here"


def test_a_loopback_bind_requires_a_host():
    assert LOOPBACK.refusal(None, None) == "the request has no Host header"


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "", "localhost", "http://localhost.evil.example", "http://"]
)
def test_a_loopback_bind_refuses_other_origins(origin):
    assert LOOPBACK.refusal("localhost", origin) == f"the origin {origin!r} is not allowed here"


def test_another_loopback_address_allows_its_own_name():
    assert Doorkeeper.for_bind("127.0.0.2").refusal("127.0.0.2:80", None) is None
    assert Doorkeeper.for_bind("::1").refusal("[::1]:80", "http://[::1]:80") is None


def test_host_entries_may_have_a_port():
    door = Doorkeeper({"name", "other:80", "any:*"}, None)
    allowed = ["name", "Name", "other:80", "any", "any:1"]
    refused = ["name:80", "other", "other:81"]
    assert [host for host in allowed + refused if door.refusal(host, None) is None] == allowed


def test_origin_entries_may_have_a_scheme():
    door = Doorkeeper(None, {"https://app.example", "http://dev.example:*", "both.example"})
    allowed = [
        "https://app.example",
        "http://dev.example:3000",
        "http://both.example",
        "https://both.example",
    ]
    refused = ["http://app.example", "https://dev.example", "https://app.example:444"]
    assert [origin for origin in allowed + refused if door.refusal(None, origin) is None] == allowed


def test_an_empty_list_allows_nothing():
    assert Doorkeeper(set(), None).refusal("localhost", None) is not None


@pytest.mark.parametrize("entry", ["", "::1", "name:x", "name/path", "https://", "user@name", "http://name"])
def test_malformed_entries_are_refused(entry):
    with pytest.raises(ValueError, match="is none of"):
        Doorkeeper({entry}, None)


def test_a_lone_string_is_refused():
    with pytest.raises(TypeError, match="not one string"):
        Doorkeeper("localhost", None)


def test_an_ipv4_peer_of_an_ipv6_socket_is_loopback_too():
    assert is_loopback_host("::ffff:127.0.0.1")
    assert not is_loopback_host("::ffff:192.0.2.1")
