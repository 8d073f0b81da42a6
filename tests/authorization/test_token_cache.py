"""What is remembered of tokens."""

from __future__ import annotations

from tests.support.issuer import Clock
from trio_mcp.authorization.token_cache import TokenCache, digest_token


def test_it_is_forgotten_at_its_time() -> None:
    clock = Clock(0)
    cache: TokenCache[str] = TokenCache(10, clock)
    cache.keep(b"a", "found", until=5)
    clock.now = 4.9
    assert cache.find(b"a") == "found"
    clock.now = 5
    assert cache.find(b"a") is None
    assert len(cache) == 0


def test_what_is_over_already_is_not_kept() -> None:
    cache: TokenCache[str] = TokenCache(10, Clock(5))
    cache.keep(b"a", "found", until=5)
    assert len(cache) == 0


def test_it_is_forgotten_if_the_clock_is_set_back() -> None:
    clock = Clock(1000)
    cache: TokenCache[str] = TokenCache(10, clock)
    cache.keep(b"a", "found", until=1060)
    clock.now = 400
    assert cache.find(b"a") is None


def test_what_was_used_longest_ago_makes_room() -> None:
    cache: TokenCache[int] = TokenCache(3, Clock(0))
    for number in range(3):
        cache.keep(b"%d" % number, number, until=5)
    assert cache.find(b"0") == 0
    cache.keep(b"3", 3, until=5)
    assert [cache.find(b"%d" % number) for number in range(4)] == [0, None, 2, 3]
    cache.keep(b"2", 20, until=5)
    assert (cache.find(b"2"), len(cache)) == (20, 3)


def test_a_digest_says_nothing_and_takes_any_text() -> None:
    assert digest_token("a") != digest_token("b")
    assert all(len(digest_token(text)) == 32 for text in ("", "a" * 10_000, "\u00e9", "\udc80"))
