"""Looks for secrets in everything that a test makes anybody say.

The fixture `leaks` notes the secrets that every `DevAuthorizationServer` of the test gives out or is sent,
and what a test adds. At the end it searches the records of all loggers at DEBUG, standard output and error,
the traceback of each exception of ours with all that led to it, and the reprs of our objects.
"""

from __future__ import annotations

import base64
import gc
import io
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec
import pytest

from trio_mcp import MCPError
from trio_mcp.testing.authorization import DevAuthorizationServer
from trio_mcp.testing.authorization import server as authorization_server

SECRET = frozenset(
    {
        "access_token",
        "assertion",
        "client_assertion",
        "client_secret",
        "code",
        "code_verifier",
        "id_token",
        "refresh_token",
        "state",
        "subject_token",
        "token",
    }
)
"""The names of parameters and members that hold secrets."""

SHORTEST = 8
"""A shorter text, such as a made-up code, could stand anywhere by chance."""


class Leaks:
    """The secrets of a test, and what was said during it."""

    def __init__(self) -> None:
        self.secrets: set[str] = set()
        self.errors: list[BaseException] = []
        self._shown: list[Any] = []
        self.log = io.StringIO()

    def note(self, *secrets: str) -> None:
        """Search for these texts as well; of a JSON Web Token, also for its claims and its signature."""
        for secret in secrets:
            parts = secret.split(".")[1:] if secret.count(".") == 2 else []
            self.secrets.update(text for text in (secret, *parts) if len(text) >= SHORTEST)

    def note_parameters(self, encoded: str) -> None:
        """Search for the secrets of a query or a form."""
        for name, values in parse_qs(encoded).items():
            if name in SECRET:
                self.note(*values)

    def note_members(self, body: bytes) -> None:
        """Search for the secrets of a JSON object."""
        try:
            members = msgspec.json.decode(body, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return
        self.note(*(value for name, value in members.items() if name in SECRET and isinstance(value, str)))

    def note_credentials(self, header: str) -> None:
        """Search for what an Authorization header holds."""
        scheme, _, given = header.partition(" ")
        self.note(given)
        if scheme.lower() == "basic":
            self.note(unquote(base64.b64decode(given).decode().partition(":")[2]))

    def show(self, *objects: Any) -> None:
        """Search the reprs of these objects, which may be gone at the end."""
        self._shown += objects

    def find(self, said: str) -> list[str]:
        """The secrets in a text."""
        return sorted(secret for secret in self.secrets if secret in said)

    def check(self, printed: str) -> None:
        """Fail if a secret was said anywhere."""
        places = {"a log": self.log.getvalue(), "the output": printed}
        for number, error in enumerate(self.errors):
            places[f"error {number}, {type(error).__name__}"] = describe(error)
        for thing in [*self._shown, *filter(is_ours, gc.get_objects())]:
            places[f"a {type(thing).__qualname__} at {id(thing)}"] = show(thing)
        told = [f"{place}: {said[:1000]}" for place, said in places.items() if self.find(said)]
        if told:
            pytest.fail("secrets were said:\n" + "\n".join(told))


def is_ours(thing: Any) -> bool:
    """Whether an object is of a class of trio_mcp."""
    module = type(thing).__module__
    return isinstance(module, str) and module.startswith("trio_mcp.")


def show(thing: Any) -> str:
    """The repr of an object; "" if it has none, as one that is not whole yet or no more."""
    try:
        return repr(thing)
    except Exception:
        return ""


def describe(error: BaseException) -> str:
    """All that may be printed of an exception."""
    return f"{''.join(traceback.format_exception(error))} {error!r} {error} {error.args}"


def patch_server(leaks: Leaks, patch: pytest.MonkeyPatch) -> None:
    """Have `leaks` note what authorization servers for development give out and are sent."""
    read_request, send_answer = authorization_server.read_request, authorization_server.send_answer
    issue_token, add_client = DevAuthorizationServer.issue_token, DevAuthorizationServer.add_client

    async def read(*args: Any) -> Any:
        request = await read_request(*args)
        leaks.note_parameters(request.query)
        leaks.note_parameters(request.body.decode("latin-1"))
        leaks.note_credentials(request.headers.get("authorization", ""))
        return request

    async def send(send: Any, answer: Any, **options: Any) -> None:
        leaks.note_members(answer.body)
        leaks.note_parameters(urlsplit(answer.headers.get("location", "")).query)
        await send_answer(send, answer, **options)

    def issue(*args: Any, **options: Any) -> str:
        token = issue_token(*args, **options)
        leaks.note(token)
        return token

    def add(server: DevAuthorizationServer, client_id: str, **options: Any) -> None:
        leaks.note(options.get("secret") or "")
        add_client(server, client_id, **options)

    patch.setattr(authorization_server, "read_request", read)
    patch.setattr(authorization_server, "send_answer", send)
    patch.setattr(DevAuthorizationServer, "issue_token", issue)
    patch.setattr(DevAuthorizationServer, "add_client", add)


@contextmanager
def watch_all() -> Iterator[Leaks]:
    """Note secrets, records of all loggers and our exceptions during the block."""
    leaks = Leaks()

    def make_error(cls: type[MCPError], *args: Any, **options: Any) -> MCPError:
        error: MCPError = Exception.__new__(cls, *args, **options)
        leaks.errors.append(error)
        return error

    handler = logging.StreamHandler(leaks.log)
    loggers = [one for one in logging.root.manager.loggerDict.values() if isinstance(one, logging.Logger)]
    levels = {logger: (logger.level, logger.propagate) for logger in (logging.root, *loggers)}
    with pytest.MonkeyPatch.context() as patch:
        patch_server(leaks, patch)
        patch.setattr(MCPError, "__new__", make_error, raising=False)
        for logger in levels:
            logger.setLevel(logging.DEBUG if logger is logging.root else logging.NOTSET)
            logger.propagate = True
        logging.root.addHandler(handler)
        try:
            yield leaks
        finally:
            logging.root.removeHandler(handler)
            for logger, (level, propagates) in levels.items():
                logger.setLevel(level)
                logger.propagate = propagates


@pytest.fixture
def leaks(capfd: pytest.CaptureFixture[str]) -> Iterator[Leaks]:
    """Fails the test if anybody has said a secret of it; see the module."""
    with watch_all() as leaks:
        yield leaks
    leaks.check("".join(capfd.readouterr()))
