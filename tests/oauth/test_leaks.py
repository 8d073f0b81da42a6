"""The search for secrets in all output of a test finds them, wherever they were said."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import attrs
import pytest

from tests.support.leaks import Leaks, watch_all
from trio_mcp import AuthorizationError
from trio_mcp.testing.authorization import DevAuthorizationServer

SECRET = "s3cret-s3cret"


@pytest.fixture
def watched() -> Iterator[Leaks]:
    with watch_all() as leaks:
        leaks.note(SECRET)
        yield leaks


def fails(leaks: Leaks, printed: str = "") -> bool:
    try:
        leaks.check(printed)
    except pytest.fail.Exception:
        return True
    return False


def test_what_was_not_said_is_not_found(watched: Leaks) -> None:
    logging.getLogger("trio_mcp").debug("nothing")
    assert not fails(watched, "nothing")


def test_a_secret_in_the_output_is_found(watched: Leaks) -> None:
    assert fails(watched, f"the token is {SECRET}")


def test_a_secret_in_a_log_of_any_level_is_found(watched: Leaks) -> None:
    logging.getLogger("hypercorn.error").debug("sent %s", SECRET)
    assert fails(watched)


def test_a_secret_in_what_led_to_an_error_is_found(watched: Leaks) -> None:
    def fail() -> None:
        try:
            raise ValueError(SECRET)
        except ValueError as error:
            raise AuthorizationError("it failed") from error

    with pytest.raises(AuthorizationError):
        fail()
    assert fails(watched)


def test_a_secret_in_a_repr_is_found(watched: Leaks) -> None:
    @attrs.frozen
    class Shown:
        token: str

    watched.show(Shown(SECRET))
    assert fails(watched)


async def test_what_an_authorization_server_gives_out_and_is_sent_is_searched_for(watched: Leaks) -> None:
    server = DevAuthorizationServer()
    server.add_client("service", secret="s3cret-of-it", auth_method="client_secret_post")
    form = {"grant_type": "client_credentials", "client_id": "service", "client_secret": "s3cret-of-it"}
    given = (await server.request("POST", "token", form=form)).json["access_token"]
    minted = server.issue_token()
    assert watched.secrets >= {"s3cret-of-it", given, *given.split(".")[1:], minted, *minted.split(".")[1:]}
    assert fails(watched, given.split(".")[1])
