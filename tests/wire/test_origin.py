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


@pytest.mark.parametrize(
    "origin",
    [
        *("http://evil.example, http://localhost", "http://localhost, http://evil.example"),
        *("http://localhost,http://localhost", "http://localhost http://localhost", "null, http://localhost"),
        *("http://evil.example#http://localhost", "http://evil.example?http://localhost"),
        *("http://evil.example/http://localhost", "http://evil.example\\http://localhost"),
        *(
            "http://evil.example@localhost",
            "http://user:word@localhost",
            "http://localhost#",
            "http://localhost?",
        ),
        *(
            "http://localhost/",
            "http://localhost/path",
            " http://localhost",
            "http://localhost ",
            "http:localhost",
        ),
        *(
            "http://localhost\t",
            "http://localhost\n",
            "http://local\u212aost",
            "http://localhos%74",
            "://localhost",
        ),
        *(
            "http:////localhost",
            "http:///localhost",
            "http:/localhost",
            "http//localhost",
            "1http://localhost",
        ),
        *("http://localhost:", "http://localhost:*", "http://localhost:080", "http://localhost:65536"),
        *("http://localhost:-1", "http://localhost:+1", "http://localhost:\u0661", "http://localhost:1:2"),
        *(
            "http://[::1",
            "http://::1",
            "http://[::1]x",
            "http://[::1%25lo]",
            "http://[[::1]]",
            "http://[127.0.0.1]",
        ),
        *("http://localhost.", "http://.localhost", "http://127.1", "http://0x7f000001", "http://2130706433"),
        *(
            "java script://localhost",
            "http://evil.example:http://localhost",
            "blob:http://localhost",
            "http://*",
        ),
    ],
)
def test_an_origin_is_a_scheme_a_host_and_a_port_and_nothing_else(origin):
    assert LOOPBACK.refusal("localhost", origin) == f"the origin {origin!r} is not allowed here"


@pytest.mark.parametrize(
    "host",
    [
        *(
            "localhost, evil.example",
            "localhost,localhost",
            "evil.example#localhost",
            "localhost#",
            "localhost?",
        ),
        *("localhost ", " localhost", "localhost:080", "localhost:65536", "localhost:\u0661", "localhost\\"),
        *(
            "localhost.",
            "localhos%74",
            "[::1%25lo]",
            "[::1]:",
            "[127.0.0.1]",
            "http://localhost",
            "localhost:1:2",
        ),
    ],
)
def test_a_host_is_a_name_and_a_port_and_nothing_else(host):
    assert LOOPBACK.refusal(host, None) == f"the host {host!r} is not allowed here"


def test_the_default_port_of_a_scheme_may_be_named_or_left_out():
    door = Doorkeeper(None, {"https://app.example", "http://dev.example:80", "any.example"})
    allowed = [
        *(
            "https://app.example:443",
            "http://dev.example",
            "HTTP://DEV.EXAMPLE:80",
            "https://any.example:443",
        ),
        "http://any.example:80",
    ]
    refused = [
        "https://app.example:80",
        "http://dev.example:443",
        "http://any.example:443",
        "foo://any.example:80",
    ]
    assert [origin for origin in allowed + refused if door.refusal(None, origin) is None] == allowed


def test_an_address_may_be_written_in_any_way_and_a_name_in_any_script():
    door = Doorkeeper({"[0:0:0:0:0:0:0:1]:*"}, {"https://b\u00fccher.example", "https://[2001:DB8::0:1]"})
    assert door.refusal("[::1]", "https://xn--bcher-kva.example") is None
    assert door.refusal("[::0001]:80", "https://[2001:db8::1]") is None
    assert door.refusal("[::2]", None) is not None
    assert door.refusal("[::1]", "https://b\u00fccher.example") is not None  # no header is so


@pytest.mark.parametrize(
    "entry", ["null://", "a b", "name:70000", "name:1:*", "x y://name", "https://name#", "%41"]
)
def test_entries_are_read_as_strictly_as_headers(entry):
    with pytest.raises(ValueError, match="is none of"):
        Doorkeeper(None, {entry})
