"""One connection to a Redis or Valkey server, which is made again when it is lost.

Owns the connecting, how long an answer may take, and the words in which failures are told. Sends no
command a second time: whether one whose answer was lost was carried out is not known. Knows no task.

A command that is cancelled stays in the queue of the connection, which takes its answer when that comes. All
commands share the connection, and wait for none but those before them.
"""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias

import trio

from trio_mcp.concurrency.nursery import open_unwrapping_nursery
from trio_mcp.errors import TaskStoreError
from trio_mcp.tasks.redis_address import RedisAddress
from trio_mcp.tasks.redis_connection import open_connection
from trio_mcp.tasks.redis_library import (
    AuthenticationError,
    AuthorizationError,
    BaseConnection,
    BusyLoadingError,
    ConnectionFailedError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    anyio,
)
from trio_mcp.tasks.redis_scripts import Script

MAX_UNANSWERED: Final = 10_000
"""Commands that wait for an answer, cancelled ones included: a few MiB if the server stands still."""

_FIRST_DELAY, _LAST_DELAY = 0.05, 2.0
"""Seconds before a lost connection is made again, doubled each time; a random part of them is left out."""

_PARTS: Final = 5
"""Parts of the time that an answer may take; see `_wait_answers`."""

Argument: TypeAlias = bytes | str | int | float

# What coredis raises, itself or from the libraries below it, if a connection fails.
_FAILURES: Final = (
    RedisError,
    OSError,
    ValueError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
    AssertionError,
)


class ServerAwayError(TaskStoreError):
    """The server cannot be reached now, or did not answer in time.

    `was_sent` says whether the command was sent, so that it may have been carried out all the same.
    """

    def __init__(self, message: str, *, was_sent: bool = False) -> None:
        super().__init__(message)
        self.was_sent = was_sent


class RedisLink:
    """A connection to `address` for as long as `run` runs.

    `seconds` is how long connecting may take, and how long an answer. `greet` is called with each
    new connection before it is used by others; `serve`, if given, beside it, and when it ends, so does the
    connection.

    The connection takes what the server says unasked only while nobody else holds `budget`: whoever reads
    it holds that until all is read, or the rest would pile up.
    """

    budget: anyio.CapacityLimiter

    def __init__(
        self,
        address: RedisAddress,
        seconds: float,
        greet: Callable[[BaseConnection], Awaitable[None]],
        serve: Callable[[BaseConnection], Awaitable[None]] | None = None,
    ) -> None:
        self.address = address
        self.seconds = seconds
        self._greet = greet
        self._serve = serve
        self._connection: BaseConnection | None = None
        self._connected = trio.lowlevel.ParkingLot()
        self._reason = "is not connected"
        self._process = os.getpid()

    def __repr__(self) -> str:
        return f"<RedisLink {self.address} {'up' if self._connection else self._reason}>"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the connection until cancelled; raises TaskStoreError if the first one cannot be made."""
        self.budget = anyio.CapacityLimiter(1)
        delay, has_started = _FIRST_DELAY, False
        while True:
            failure: BaseException | None = None
            try:
                async with open_unwrapping_nursery() as nursery:
                    connection = await self._connect(nursery)
                    delay = _FIRST_DELAY
                    self._connection = connection
                    self._connected.unpark_all()
                    if not has_started:
                        task_status.started()
                        has_started = True
                    if self._serve is not None:
                        await self._serve(connection)
                        nursery.cancel_scope.cancel()
            except* (*_FAILURES, TaskStoreError, trio.TooSlowError) as group:
                failure = _first(group)
            finally:
                self._connection = None
            self._reason = "has closed the connection" if failure is None else self._describe(failure)
            if not has_started:
                raise TaskStoreError(f"{self.address} {self._reason}") from failure
            await trio.sleep(delay * random.uniform(0.5, 1))
            delay = min(2 * delay, _LAST_DELAY)

    async def wait_up(self) -> None:
        """Wait until there is a connection. Checkpoints."""
        await trio.lowlevel.checkpoint()
        while self._connection is None:
            await self._connected.park()

    async def ask(self, *command: Argument) -> Any:
        """Send one command and return the answer; see `ask_all`."""
        return (await self.ask_all([command]))[0]

    async def run_script(self, script: Script, root: bytes, *arguments: Argument) -> Any:
        """Run a script with the one key `root`, and return what it returns; see `ask_all`."""
        return (await self.run_scripts(script, root, [arguments]))[0]

    async def run_scripts(self, script: Script, root: bytes, many: Sequence[Sequence[Argument]]) -> list[Any]:
        """Run a script once with each of the arguments, in one go; returns what it returned each time."""
        try:
            return await self.ask_all([(b"EVALSHA", script.sha, 1, root, *one) for one in many])
        except _NoScriptError:  # a server that has forgotten it ran none of them
            return await self.ask_all([(b"EVAL", script.text, 1, root, *one) for one in many])

    async def ask_all(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """Send commands in one go and return their answers. Checkpoints.

        Raises ServerAwayError if there is no connection or no answer in time, TaskStoreError if the
        server refuses one of them.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._process != os.getpid():
            raise TaskStoreError("a task store must be opened anew in a process that was forked")
        if self._connection is None:
            with trio.move_on_after(self.seconds):
                await self.wait_up()
        connection = self._connection
        if connection is None:
            raise ServerAwayError(f"{self.address} {self._reason}")
        if connection.statistics.requests_pending + len(commands) > MAX_UNANSWERED:
            raise ServerAwayError(f"{self.address} has left {MAX_UNANSWERED} commands without an answer")
        try:
            answers = await self._wait_answers(connection, _create_requests(connection, commands))
        except NoScriptError as error:
            raise _NoScriptError(f"{self.address} does not know a script") from error
        except _FAILURES as error:
            text = f"{self.address} {self._describe(error)}"
            if isinstance(error, RedisError) and not isinstance(error, ConnectionFailedError):
                raise TaskStoreError(text) from error
            raise ServerAwayError(text, was_sent=True) from error
        if answers is not None:
            return answers
        # What still comes over this connection would be an answer to nothing that anybody waits for.
        connection.invalidate("no answer in time")
        raise ServerAwayError(f"{self.address} gave no answer within {self.seconds:g} s", was_sent=True)

    async def _wait_answers(
        self, connection: BaseConnection, requests: Sequence[Awaitable[Any]]
    ) -> list[Any] | None:
        """The answers to commands; None if the server has answered nothing at all for `seconds`.

        The time in which this process stands still, or does not come to read, is not that of the server: a
        part of the time ends no sooner than the process runs again.
        """
        left, resolved = _PARTS, connection.statistics.requests_resolved
        while left:
            with trio.move_on_after(self.seconds / _PARTS):
                return await _gather_answers(requests)
            left -= 1
            if connection.statistics.requests_resolved != resolved:  # each waits for those before it
                left, resolved = _PARTS, connection.statistics.requests_resolved
        return None

    async def _connect(self, nursery: trio.Nursery) -> BaseConnection:
        with trio.fail_after(self.seconds):
            connection = await open_connection(self.address, self.budget)
            await nursery.start(_keep_running, connection, nursery.cancel_scope)
            await self._greet(connection)
        return connection

    def _describe(self, error: BaseException) -> str:
        """What has failed, without the password, and what to do about it."""
        match error:
            case ServerAwayError() | TaskStoreError():
                return str(error)
            case trio.TooSlowError():
                kind = "a Redis server with TLS" if self.address.is_encrypted else "a Redis server"
                return f"gave no answer within {self.seconds:g} s: is it {kind}?"
            case AuthenticationError():
                return f"refuses the user or password of the URL ({error})"
            case AuthorizationError():
                return f"does not allow this user what a task store needs ({error})"
            case ReadOnlyError():
                return "is a read-only replica: name the primary server"
            case BusyLoadingError():
                return "is still loading its data"
            case _ if str(error).startswith("OOM"):
                return f"has no memory left: raise its maxmemory, or let tasks expire sooner ({error})"
            case _ if "DB index" in str(error):
                return f"has no database {self.address.database} ({error})"
        cause = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        return f"cannot be used ({str(cause) or type(cause).__name__})"


async def send_all(connection: BaseConnection, commands: Sequence[Sequence[Argument]]) -> list[Any]:
    """Send commands in one go and return the answers; raises the first failure when all have answered."""
    return await _gather_answers(_create_requests(connection, commands))


def _create_requests(
    connection: BaseConnection, commands: Sequence[Sequence[Argument]]
) -> list[Awaitable[Any]]:
    return [
        connection.create_request(_name(command), *command[1:], decode=False, raise_exceptions=False)
        for command in commands
    ]


async def _gather_answers(requests: Sequence[Awaitable[Any]]) -> list[Any]:
    """May be called again if it was cancelled."""
    answers = [await request for request in requests]
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return answers


class _NoScriptError(TaskStoreError):
    """The server does not know a script by its hash."""


def _name(command: Sequence[Argument]) -> bytes:
    name = command[0]
    assert isinstance(name, bytes)
    return name


async def _keep_running(  # noqa: ASYNC128  # the connection says when it has started
    connection: BaseConnection, scope: trio.CancelScope, *, task_status: trio.TaskStatus[None]
) -> None:
    """Run a connection, and cancel `scope` when it has ended."""
    await connection.run(task_status=task_status)
    scope.cancel()


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
