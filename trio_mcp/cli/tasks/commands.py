"""The commands of `trio-mcp tasks` and their options.

Owns their command lines and the texts of --help, as `cli/commands.py` does for the
other commands.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Final, TypeAlias

from cyclopts import App, Parameter

from trio_mcp.cli.options import (
    CwdOption,
    EnvOption,
    ProtocolOption,
    QuietSwitch,
    StructuredSwitch,
    Switch,
    TargetArgument,
)
from trio_mcp.cli.running import run_work
from trio_mcp.cli.targets import read_target
from trio_mcp.cli.tasks.cancel import cancel_task
from trio_mcp.cli.tasks.listing import LISTING_PROTOCOL, list_tasks
from trio_mcp.cli.tasks.result import print_task_result
from trio_mcp.cli.tasks.watch import watch_tasks

FAREWELL: Final = "Stopped waiting."

# An id may begin with a hyphen.
IdArgument: TypeAlias = Annotated[str, Parameter(name="ID", help="The task's id.", allow_leading_hyphen=True)]

tasks = App(
    name="tasks",
    help="""List, watch and cancel background tasks, and print their results.

These commands are for servers that run already, behind a URL, or keep their tasks in a durable store:
a server over stdio lives only as long as the command that starts it, and with it the tasks that it
keeps in memory.""",
)


@tasks.command(
    name="list",
    usage="Usage: trio-mcp tasks list [OPTIONS] TARGET\n       trio-mcp tasks list [OPTIONS] -- COMMAND...",
)
def list_(
    target: TargetArgument,
    /,
    *,
    json: Annotated[Switch, Parameter(help="Print JSON; lengths of time are in seconds.")] = False,
    protocol: ProtocolOption = LISTING_PROTOCOL,
    env: EnvOption = (),
    cwd: CwdOption = None,
) -> int:
    """List the tasks of this connection.

    Only protocol 2025-11-25 can list tasks, and there a task belongs to the connection that made it.
    This connection is always new, so most servers have nothing to list on it.
    """
    return run_work(partial(list_tasks, read_target(target, env, cwd), protocol=protocol, as_json=json))


@tasks.command(
    usage="Usage: trio-mcp tasks watch [OPTIONS] TARGET ID...\n"
    "       trio-mcp tasks watch [OPTIONS] ID... -- COMMAND..."
)
def watch(
    target: TargetArgument,
    task_id: IdArgument,
    /,
    *more: Annotated[str, Parameter(name="IDS", help="More tasks.", allow_leading_hyphen=True)],
    protocol: ProtocolOption = "auto",
    env: EnvOption = (),
    cwd: CwdOption = None,
) -> int:
    """Show several tasks at once, until all have ended.

    Ctrl-C stops the watching and cancels nothing, but a server over stdio ends with the command.
    Exit status: 0 all completed, 1 any other end, 2 anything else failed.
    """
    work = partial(watch_tasks, read_target(target, env, cwd), [task_id, *more], protocol=protocol)
    return run_work(work, farewell=FAREWELL)


@tasks.command(
    usage="Usage: trio-mcp tasks result [OPTIONS] TARGET ID\n"
    "       trio-mcp tasks result [OPTIONS] ID -- COMMAND..."
)
def result(
    target: TargetArgument,
    task_id: IdArgument,
    /,
    *,
    structured: StructuredSwitch = False,
    protocol: ProtocolOption = "auto",
    env: EnvOption = (),
    cwd: CwdOption = None,
    quiet: QuietSwitch = False,
) -> int:
    """Wait for a task, and print its result as "trio-mcp call" does.

    Ctrl-C stops the waiting and cancels nothing, but a server over stdio ends with the command.
    Exit status: 0 success, 1 the tool failed or the task was cancelled, 2 anything else failed.
    """
    work = partial(
        print_task_result,
        read_target(target, env, cwd),
        task_id,
        protocol=protocol,
        structured=structured,
        quiet=quiet,
    )
    return run_work(work, farewell=FAREWELL)


@tasks.command(
    usage="Usage: trio-mcp tasks cancel [OPTIONS] TARGET ID\n"
    "       trio-mcp tasks cancel [OPTIONS] ID -- COMMAND..."
)
def cancel(
    target: TargetArgument,
    task_id: IdArgument,
    /,
    *,
    protocol: ProtocolOption = "auto",
    env: EnvOption = (),
    cwd: CwdOption = None,
) -> int:
    """Cancel a task.

    Exit status: 0 it is cancelled, or asked to end and still at work; 1 it has ended otherwise.
    """
    return run_work(partial(cancel_task, read_target(target, env, cwd), task_id, protocol=protocol))
