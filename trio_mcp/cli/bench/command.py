"""The command `trio-mcp bench` and its options.

Owns its command line and the text of --help, as `cli/commands.py` does for the
other commands.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Final, TypeAlias

from cyclopts import Parameter

from trio_mcp.cli.access import find_target
from trio_mcp.cli.bench.load import Load
from trio_mcp.cli.bench.run import BenchOptions, run_bench
from trio_mcp.cli.options import (
    AuthOption,
    CwdOption,
    EnvOption,
    ProtocolOption,
    Switch,
    TargetArgument,
    check_seconds,
)
from trio_mcp.cli.running import Interrupt, run_work

USAGE: Final = (
    "Usage: trio-mcp bench [OPTIONS] TARGET [TOOL] [KEY=VALUE...]\n"
    "       trio-mcp bench [OPTIONS] [TOOL] [KEY=VALUE...] -- COMMAND..."
)

MAX_CALLS: Final = 1000
"""Each call may need a connection of its own, and many systems allow a process 1,024."""

DEFAULT_ROUNDS: Final = 10
DEFAULT_SECONDS: Final = 10.0


def check_calls(type_: Any, value: int) -> None:
    """Raise ValueError unless `value` calls can run at once."""
    if not 1 <= value <= MAX_CALLS:
        raise ValueError(f"It must be from 1 to {MAX_CALLS:,}.")


def check_rounds(type_: Any, value: int | None) -> None:
    """Raise ValueError for less than one round."""
    if value is not None and value < 1:
        raise ValueError("It must be 1 or more.")


def check_expected(type_: Any, value: int | None) -> None:
    """Raise ValueError for less than no updates."""
    if value is not None and value < 0:
        raise ValueError("It must be 0 or more.")


ToolArgument: TypeAlias = Annotated[
    str | None,
    Parameter(help="The tool's name; may be left out if there is only one, and it needs no arguments."),
]
KeyValueArgument: TypeAlias = Annotated[
    str, Parameter(name="KEY=VALUE", help='Arguments of the tool, as for "trio-mcp call".')
]
CallsOption: TypeAlias = Annotated[
    int, Parameter(name=["--calls", "-n"], help="How many calls run at once.", validator=check_calls)
]
RoundsOption: TypeAlias = Annotated[
    int | None,
    Parameter(
        help=f"How many times each of them is made [default: {DEFAULT_ROUNDS}; with --duration, as many "
        "as fit].",
        validator=check_rounds,
    ),
]
DurationOption: TypeAlias = Annotated[
    float | None,
    Parameter(
        help=f"After how many seconds no new call is made [default: {DEFAULT_SECONDS:g}]. Those that "
        "run may take 5 more.",
        validator=check_seconds,
    ),
]
ExpectOption: TypeAlias = Annotated[
    int | None,
    Parameter(help="How many updates each call must send; other numbers fail.", validator=check_expected),
]


def bench(
    target: TargetArgument,
    tool: ToolArgument = None,
    /,
    *arguments: KeyValueArgument,
    calls: CallsOption = 10,
    rounds: RoundsOption = None,
    duration: DurationOption = None,
    expect: ExpectOption = None,
    json: Annotated[Switch, Parameter(help="Print JSON; times are in seconds.")] = False,
    protocol: ProtocolOption = "auto",
    env: EnvOption = (),
    cwd: CwdOption = None,
    auth: AuthOption = None,
    quiet: Annotated[Switch, Parameter(help="Show nothing while it runs.")] = False,
) -> int:
    """Measure any server: call a tool many times at once, and count its progress.

    The report goes to stdout: calls and updates a second, whether each call's progress strictly
    increased, what is missing, what came after a result, and latencies. The tool is really called,
    with all that it does, so name one that may be called often.
    Ctrl-C stops it and reports what has been measured.
    Exit status: 0 all well; 1 a call failed or none finished, order was broken, updates came after
    a result, or --expect was not met; 2 it could not be measured; 130 interrupted.

    Examples: trio-mcp bench server.py work count=1000, trio-mcp bench http://localhost:8000/mcp work -n 100
    """
    interrupt = Interrupt()
    if rounds is None and duration is None:
        rounds = DEFAULT_ROUNDS
    options = BenchOptions(
        load=Load(calls=calls, rounds=rounds, duration=duration or DEFAULT_SECONDS),
        expect=expect,
        json=json,
        protocol=protocol,
        quiet=quiet,
        interrupt=interrupt,
    )
    work = partial(run_bench, find_target(target, env, cwd, auth), tool, arguments, options)
    return run_work(work, interrupt=interrupt, farewell="Interrupted.")
