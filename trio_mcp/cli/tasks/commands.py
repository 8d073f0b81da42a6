"""The commands of `trio-mcp tasks` and their options.

Owns their command lines and the texts of --help, as `cli/commands.py` does for the
other commands.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Final, TypeAlias

from cyclopts import App, Parameter

from trio_mcp.cli.access import find_target
from trio_mcp.cli.options import (
    AuthOption,
    CwdOption,
    EnvOption,
    ProtocolOption,
    QuietSwitch,
    StructuredSwitch,
    Switch,
    TargetArgument,
)
from trio_mcp.cli.running import run_work
from trio_mcp.cli.status import CommandError
from trio_mcp.cli.tasks.cancel import cancel_task
from trio_mcp.cli.tasks.listing import LISTING_PROTOCOL, list_stored, list_tasks
from trio_mcp.cli.tasks.purge import purge_tasks
from trio_mcp.cli.tasks.result import print_task_result
from trio_mcp.cli.tasks.source import ServerPlace, StorePlace, TaskPlace
from trio_mcp.cli.tasks.watch import watch_tasks

TAKING_STORE: Final = frozenset({"list", "watch", "result", "cancel"})
"""The commands whose TARGET may be replaced by --store."""

NO_TARGET: Final = ""
"""What these commands get as TARGET then."""

FAREWELL: Final = "Stopped waiting."

# An id may begin with a hyphen.
IdArgument: TypeAlias = Annotated[str, Parameter(name="ID", help="The task's id.", allow_leading_hyphen=True)]

StoreOption: TypeAlias = Annotated[
    str | None,
    Parameter(
        name="--store",
        help="The store, in place of TARGET: sqlite:PATH, redis://HOST, rediss://, valkey:// or valkeys://.",
        show_default=False,
    ),
]

tasks = App(
    name="tasks",
    help="""List, watch and cancel background tasks, and print their results.

TARGET is a server that runs already, behind a URL, or keeps its tasks in a durable store: a server over
stdio lives only as long as the command that starts it, and with it the tasks that it keeps in memory.
With --store in place of TARGET, the store is read and changed without a server.""",
)


@tasks.command(
    name="list",
    usage="Usage: trio-mcp tasks list [OPTIONS] TARGET\n"
    "       trio-mcp tasks list [OPTIONS] -- COMMAND...\n"
    "       trio-mcp tasks list [OPTIONS] --store URL",
)
def list_(
    target: TargetArgument,
    /,
    *,
    store: StoreOption = None,
    owner: Annotated[
        str | None,
        Parameter(help='With --store, whose tasks: a principal, session:ID, or "anybody" for those without.'),
    ] = None,
    json: Annotated[Switch, Parameter(help="Print JSON; lengths of time are in seconds.")] = False,
    protocol: ProtocolOption = LISTING_PROTOCOL,
    env: EnvOption = (),
    cwd: CwdOption = None,
    auth: AuthOption = None,
) -> int:
    """List the tasks of a store, or of a connection to a server.

    With --store all tasks are listed. At a server only protocol 2025-11-25 can list tasks, and there a task
    belongs to the connection that made it: this one is always new, so most servers have nothing to list.
    """
    place = _find(target, store, protocol, env, cwd, auth)
    if isinstance(place, StorePlace):
        return run_work(partial(list_stored, place, owner=owner, as_json=json))
    if owner is not None:
        raise CommandError("--owner needs --store: a server lists the tasks of this connection only")
    return run_work(partial(list_tasks, place, as_json=json))


@tasks.command(
    usage="Usage: trio-mcp tasks watch [OPTIONS] TARGET ID...\n"
    "       trio-mcp tasks watch [OPTIONS] ID... -- COMMAND...\n"
    "       trio-mcp tasks watch [OPTIONS] --store URL ID..."
)
def watch(
    target: TargetArgument,
    task_id: IdArgument,
    /,
    *more: Annotated[str, Parameter(name="IDS", help="More tasks.", allow_leading_hyphen=True)],
    store: StoreOption = None,
    protocol: ProtocolOption = "auto",
    env: EnvOption = (),
    cwd: CwdOption = None,
    auth: AuthOption = None,
) -> int:
    """Show several tasks at once, until all have ended.

    Ctrl-C stops the watching and cancels nothing, but a server over stdio ends with the command.
    Exit status: 0 all completed, 1 any other end, 2 anything else failed.
    """
    work = partial(watch_tasks, _find(target, store, protocol, env, cwd, auth), [task_id, *more])
    return run_work(work, farewell=FAREWELL)


@tasks.command(
    usage="Usage: trio-mcp tasks result [OPTIONS] TARGET ID\n"
    "       trio-mcp tasks result [OPTIONS] ID -- COMMAND...\n"
    "       trio-mcp tasks result [OPTIONS] --store URL ID"
)
def result(
    target: TargetArgument,
    task_id: IdArgument,
    /,
    *,
    store: StoreOption = None,
    structured: StructuredSwitch = False,
    protocol: ProtocolOption = "auto",
    env: EnvOption = (),
    cwd: CwdOption = None,
    auth: AuthOption = None,
    quiet: QuietSwitch = False,
) -> int:
    """Wait for a task, and print its result as "trio-mcp call" does.

    Ctrl-C stops the waiting and cancels nothing, but a server over stdio ends with the command.
    Exit status: 0 success, 1 the tool failed or the task was cancelled, 2 anything else failed.
    """
    place = _find(target, store, protocol, env, cwd, auth)
    work = partial(print_task_result, place, task_id, structured=structured, quiet=quiet)
    return run_work(work, farewell=FAREWELL)


@tasks.command(
    usage="Usage: trio-mcp tasks cancel [OPTIONS] TARGET ID\n"
    "       trio-mcp tasks cancel [OPTIONS] ID -- COMMAND...\n"
    "       trio-mcp tasks cancel [OPTIONS] --store URL ID"
)
def cancel(
    target: TargetArgument,
    task_id: IdArgument,
    /,
    *,
    store: StoreOption = None,
    protocol: ProtocolOption = "auto",
    env: EnvOption = (),
    cwd: CwdOption = None,
    auth: AuthOption = None,
) -> int:
    """Cancel a task, whoever runs it.

    Exit status: 0 it is cancelled, or asked to end and still at work; 1 it has ended otherwise.
    """
    return run_work(partial(cancel_task, _find(target, store, protocol, env, cwd, auth), task_id))


@tasks.command(usage="Usage: trio-mcp tasks purge [OPTIONS] --store URL [ID]")
def purge(
    task_id: Annotated[
        str | None, Parameter(name="ID", help="Forget only this task.", allow_leading_hyphen=True)
    ] = None,
    /,
    *,
    store: Annotated[str, Parameter(name="--store", help="The store; see trio-mcp tasks list.")],
    yes: Annotated[Switch, Parameter(help="Do not ask.")] = False,
) -> int:
    """Forget the tasks of a store that have ended, with their results; or one task, which is stopped first.

    It asks before. Exit status: 0 done, 1 the answer was no, 2 anything else failed.
    """
    return run_work(partial(purge_tasks, StorePlace(store), task_id, is_sure=yes))


def fill_target(arguments: Sequence[str]) -> list[str]:
    """Put `NO_TARGET` where TARGET would stand, if the command line has --store instead of it.

    Raises CommandError if it has both.
    """
    words = list(arguments)
    end = words.index("--") if "--" in words else len(words)
    has_store = any(word == "--store" or word.startswith("--store=") for word in words[:end])
    if words[:1] != ["tasks"] or not TAKING_STORE.intersection(words[1:2]) or not has_store:
        return words
    if end < len(words):
        raise CommandError("--store stands in place of a server: give one of them")
    return [*words[:2], NO_TARGET, *words[2:]]


def _find(
    target: str, store: str | None, protocol: str, env: Sequence[str], cwd: str | None, auth: str | None
) -> TaskPlace:
    if store is None:
        return ServerPlace(find_target(target, env, cwd, auth), protocol)
    if env or cwd is not None:
        raise CommandError("--env and --cwd are for servers that are started here, not for a store")
    if auth is not None:
        raise CommandError("--auth is for a server with a URL, not for a store")
    return StorePlace(store)
