"""Tokens for development."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.issuer import describe_all, refuse
from trio_mcp import StaticTokens
from trio_mcp.session.principal import Principal


async def test_each_token_has_its_principal() -> None:
    reader = Principal("reader", scopes={"read"})
    tokens = StaticTokens({"token-of-ada": "ada", "token-of-reader": reader})
    assert await tokens.verify("token-of-ada") == Principal("ada")
    assert await tokens.verify("token-of-reader") is reader
    assert (await tokens.verify("token-of-ada")).scopes is None


@pytest.mark.parametrize(
    "token", ["", "token-of-ad", "token-of-adaa", "Token-of-ada", "ada", "é", "\udc80"], ids=ascii
)
async def test_any_other_token_is_refused(token: str, caplog: pytest.LogCaptureFixture) -> None:
    tokens = StaticTokens({"token-of-ada": "ada"})
    assert await refuse(tokens, token, caplog) == "the access token is not known"


async def test_tokens_are_not_kept_and_not_shown() -> None:
    tokens = StaticTokens({"token-of-ada": "ada"})
    assert "token-of-ada" not in repr(tokens) + repr(vars(tokens))
    assert "development" in repr(tokens)
    assert tokens.is_for_development


@pytest.mark.parametrize(
    "token", ["", "with space", "naïve", "a=b", "line\n", "tok,en", 7, b"token"], ids=ascii
)
def test_a_token_that_no_client_can_send_is_refused(token: Any) -> None:
    with pytest.raises(ValueError, match="token 2 is none that a client can send") as caught:
        StaticTokens({"good": "ada", token: "ada"})
    assert not token or str(token) not in describe_all(caught.value)


@pytest.mark.parametrize(
    ("tokens", "error"),
    [({}, ValueError), ({"a": 1}, TypeError), ({"a": ""}, ValueError), (["a"], TypeError), ("a", TypeError)],
)
def test_settings_that_make_no_sense_are_refused(tokens: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        StaticTokens(tokens)
