"""URI templates: what they expand to (RFC 6570), what they match, and which ones are refused."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_mcp.wire.uri_template import MAX_URI_CHARACTERS, parse_template

VALUES = {
    "var": "value",
    "hello": "Hello World!",
    "half": "50%",
    "path": "/foo/bar",
    "empty": "",
    "x": "1024",
    "y": "768",
    "undef": None,
    "list": ["red", "green", "blue"],
    "none": [],
}


@pytest.mark.parametrize(
    ("template", "uri"),
    [
        ("{var}", "value"),
        ("{hello}", "Hello%20World%21"),
        ("{half}", "50%25"),
        ("O{empty}X", "OX"),
        ("O{undef}X", "OX"),
        ("{x,y}", "1024,768"),
        ("{+hello}", "Hello%20World!"),
        ("{+half}", "50%25"),
        ("{+path}/here", "/foo/bar/here"),
        ("{+x,hello,y}", "1024,Hello%20World!,768"),
        ("{#hello}", "#Hello%20World!"),
        ("{#path,x}", "#/foo/bar,1024"),
        ("X{.var}", "X.value"),
        ("X{.x,y}", "X.1024.768"),
        ("{/var,x}/here", "/value/1024/here"),
        ("{/list*}", "/red/green/blue"),
        ("{;x,y}", ";x=1024;y=768"),
        ("{;x,y,empty}", ";x=1024;y=768;empty"),
        ("{?x,y}", "?x=1024&y=768"),
        ("{?x,y,empty}", "?x=1024&y=768&empty="),
        ("{?x,undef}", "?x=1024"),
        ("{?undef}", ""),
        ("{?x,list*}", "?x=1024&list=red&list=green&list=blue"),
        ("{?list*}", "?list=red&list=green&list=blue"),
        ("{?list}", "?list=red,green,blue"),
        ("{?none}", ""),
        ("?fixed=yes{&x}", "?fixed=yes&x=1024"),
        ("caf\xe9://{var}", "caf%C3%A9://value"),
    ],
)
def test_expansion_follows_rfc_6570(template, uri):
    assert parse_template(template).expand(VALUES) == uri


@pytest.mark.parametrize(
    ("template", "uri", "values"),
    [
        ("users://{id}/profile", "users://7/profile", {"id": "7"}),
        ("users://{id}/profile", "users://7/8/profile", None),
        ("users://{id}/profile", "users:///profile", None),
        ("users://{id}/profile", "users://7/profile/", None),
        ("users://{id}/profile", "users://7/profile?x=1", None),
        ("users://{id}", "users://a@b.example", {"id": "a@b.example"}),
        ("users://{id}", "users://a%20b", {"id": "a b"}),
        ("users://{id}", "users://\xe9", {"id": "\xe9"}),
        ("users://{id}", "users://%C3%A9", {"id": "\xe9"}),
        ("users://{id}", "users://a?b", None),
        ("x://{a}-{b}", "x://1-2-3", {"a": "1", "b": "2-3"}),
        ("x://{a}.json", "x://b.json.json", {"a": "b.json"}),
        ("x://{a,b}", "x://1,2", {"a": "1", "b": "2"}),
        ("x://{a,b}", "x://1", None),
        ("files://{+path}", "files://a/b%2Fc", {"path": "a/b/c"}),
        ("files://{path*}", "files://a/b/c.txt", {"path": "a/b/c.txt"}),
        ("files://{path*}", "files://", None),
        ("files://{path*}/info/{id}", "files://a/info/b/info/7", {"path": "a/info/b", "id": "7"}),
        ("files://{path*}/{a}/{b}", "files://1/2/3/4", {"path": "1/2", "a": "3", "b": "4"}),
        ("files://{path*}/{a}/{b}", "files://1/2", None),
        ("x://{host}{/path*}", "x://h/a/b", {"host": "h", "path": "a/b"}),
        ("x://{host}{/path*}", "x://h", {"host": "h"}),
        ("x://h{/a,b}", "x://h/1/2", {"a": "1", "b": "2"}),
        ("x://h{/a,b}", "x://h/1", {"a": "1"}),
        ("x://h{/a}/end", "x://h/1/end", {"a": "1"}),
        ("x://h{/a}/end", "x://h/end", {}),
        ("x://{name}{.ext}", "x://file.tar.gz", {"name": "file", "ext": "tar.gz"}),
        ("x://{name}{.ext}", "x://file", {"name": "file"}),
        ("x://h{;a,b}/end", "x://h;b=2;a/end", {"a": "", "b": "2"}),
        ("x://h{;a}", "x://h;z=1", None),
        ("x://h{?q,r}", "x://h", {}),
        ("x://h{?q,r}", "x://h?r=2&q=1", {"q": "1", "r": "2"}),
        ("x://h{?q,r}", "x://h?q=a%26b%3Dc", {"q": "a&b=c"}),
        ("x://h{?q}", "x://h?z=1", None),
        ("x://h{?q}", "x://h?q=1&q=2", None),
        ("x://h?k=v{&q}", "x://h?k=v&q=1", {"q": "1"}),
        ("x://h?k=v{&q}", "x://h?k=v", {}),
        ("x://h?k=v{&q}", "x://h?k=vq", None),
        ("x://h{#part}", "x://h#a/b", {"part": "a/b"}),
        ("x://h{?q}{#part}", "x://h?q=1#p", {"q": "1", "part": "p"}),
        ("x://h{#part}", "x://h", {}),
    ],
)
def test_what_matches_and_with_which_values(template, uri, values):
    assert parse_template(template).match(uri) == values


@pytest.mark.parametrize(
    ("template", "uri", "items"),
    [
        ("x://{v*}", "x://a,b%2Cc", ["a", "b,c"]),
        ("x://{v}", "x://a,b", ["a", "b"]),
        ("x://h{/v*}", "x://h/a%2Fb/c", ["a/b", "c"]),
        ("x://h{.v*}", "x://h.a.b", ["a", "b"]),
        ("x://h{;v*}", "x://h;v=a;v=b", ["a", "b"]),
        ("x://h{?v*}", "x://h?v=a&v=b%2Cc", ["a", "b,c"]),
        ("x://h{?w,v*}", "x://h?v=a&v=b", ["a", "b"]),
        ("x://h{?v*}", "x://h?v=a,b", ["a,b"]),
        ("x://h{?v}", "x://h?v=a,b", ["a", "b"]),
    ],
)
def test_a_variable_may_be_a_list(template, uri, items):
    assert parse_template(template).match(uri, {"v"}) == {"v": items}


def test_values_are_decoded_once():
    assert parse_template("x://{v}").match("x://%252e%252e%252F") == {"v": "%2e%2e%2F"}


@pytest.mark.parametrize("uri", ["x://%", "x://%zz", "x://%4", "x://%FF", "x://\ud800", "x://%ED%A0%80"])
def test_what_cannot_be_decoded_matches_nothing(uri):
    assert parse_template("x://{v}").match(uri) is None


def test_a_uri_that_is_too_long_matches_nothing():
    template = parse_template("x://{v}")
    assert template.match("x://" + "a" * (MAX_URI_CHARACTERS - 4)) is not None
    assert template.match("x://" + "a" * (MAX_URI_CHARACTERS - 3)) is None


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("x://{", "brace"),
        ("x://}", "brace"),
        ("x://{{a}}", "brace"),
        ("x://{}", "no name"),
        ("x://{a b}", "no name"),
        ("x://{a,}", "no name"),
        ("x://{a}/{a}", "twice"),
        ("x://{a:3}", "prefix"),
        ("x://{=a}", "operator"),
        ("x://{a,b*}", "only one"),
        ("x://{a}{b}", "cannot be known"),
        ("x://{a}{+b}", "cannot be known"),
        ("x://{.a}{b}", "cannot be known"),
        ("x://{;a}{;b}", "cannot be known"),
        ("x://{/a}-{b}", "cannot be known"),
        ("x://{+a}/{+b}", "cannot be matched behind"),
        ("x://{+a}/{b*}", "only one"),
        ("x://{+a}/x{/b}", "cannot be matched behind"),
        ("x://{?q}/more", "at the end"),
        ("x://{#f}{?q}", "at the end"),
        ("x://{?q}{?r}", "second query"),
        ("x://?a=1{?r}", "second query"),
        ("x://{&q}", "no query"),
        ("x://a b", "percent-encoded"),
        ("x://a\0", "percent-encoded"),
    ],
)
def test_a_template_that_is_malformed_or_ambiguous_is_refused(template, words):
    with pytest.raises(ValueError, match=words):
        parse_template(template)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@pytest.mark.parametrize(
    "template",
    [
        "x://{a}/{b}",
        "x://{a}/end{?b}",
        "x://{a,b}",
        "x://{a}{/b}",
        "x://h{/a,b}",
        "x://h{;a,b}",
        "x://h{?a,b}",
        "x://h?k=v{&a,b}",
        "x://{a*}/in/{b}{?c}",
        "x://h{/a*}/in/{b}",
    ],
)
@given(a=TEXTS, b=TEXTS)
def test_matching_gives_back_what_was_expanded(template, a, b):
    parsed = parse_template(template)
    assert parsed.match(parsed.expand({"a": a, "b": b})) == {"a": a, "b": b}


@pytest.mark.parametrize("template", ["x://{v*}", "x://h{/v*}", "x://h{?v*}", "x://h{;v*}", "x://{v}"])
@given(values=st.lists(TEXTS, min_size=1, max_size=4))
def test_matching_gives_back_the_items_of_a_list(template, values):
    parsed = parse_template(template)
    assert parsed.match(parsed.expand({"v": values}), {"v"}) == {"v": values}


@given(value=TEXTS.filter(lambda text: "%" not in text))
def test_matching_gives_back_reserved_characters(value):
    for template in ("x://{+v}", "x://h{#v}", "x://h/{+v}/end"):
        parsed = parse_template(template)
        assert parsed.match(parsed.expand({"v": value})) == {"v": value}


@given(uri=st.text(max_size=40))
def test_no_uri_makes_matching_fail(uri):
    for template in ("{a}", "x://{a}-{b}{.c}{?d*}{#e}", "{a}/{b*}/{c}?q{&d}"):
        parse_template(template).match(uri)
        parse_template(template).match("x://" + quote(uri, errors="replace"))


def test_many_variables_take_linear_time():
    """With backtracking this would take longer than anybody waits."""
    template = parse_template("x://" + "-".join(f"{{v{index}}}" for index in range(40)) + "/end")
    assert template.match("x://" + "-" * (MAX_URI_CHARACTERS - 10)) is None
