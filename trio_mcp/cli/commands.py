"""The commands of `trio-mcp` and their options.

Owns the command line and the texts of --help. Each command calls a module of its own
for what it does.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Annotated, Final, TypeAlias

from cyclopts import App, CycloptsError, Parameter

from trio_mcp.background_log import log_in_background
from trio_mcp.cli.access import find_target
from trio_mcp.cli.bench.command import USAGE as BENCH_USAGE
from trio_mcp.cli.bench.command import bench
from trio_mcp.cli.call import CallOptions, call_tool
from trio_mcp.cli.complete import complete as complete_argument
from trio_mcp.cli.demo.run import run_demo
from trio_mcp.cli.listing import list_offers, list_servers
from trio_mcp.cli.logins.commands import login, logout, whoami
from trio_mcp.cli.network import read_address, serve_network, serve_stdio_queueing
from trio_mcp.cli.options import (
    AuthOption,
    CwdOption,
    EnvOption,
    GuardOption,
    IdleTimeoutOption,
    LogLevelOption,
    MaxTimeoutOption,
    ProtocolOption,
    PublicUrlOption,
    QuietSwitch,
    StructuredSwitch,
    Switch,
    TargetArgument,
    TasksOption,
    check_not_negative,
    check_number,
    check_seconds,
)
from trio_mcp.cli.output import prepare_streams, print_error, print_note
from trio_mcp.cli.prompt import get_prompt
from trio_mcp.cli.read import read_resource
from trio_mcp.cli.request_options import RequestOptions
from trio_mcp.cli.running import Interrupt, run_serving, run_work
from trio_mcp.cli.server_auth import read_entrance
from trio_mcp.cli.server_file import load_server, read_place
from trio_mcp.cli.status import FAILED, INTERRUPTED, SUCCEEDED, CommandError
from trio_mcp.cli.targets import move_command, read_config
from trio_mcp.cli.task_store import require_durable, require_shared, use_store
from trio_mcp.cli.tasks.commands import fill_target
from trio_mcp.cli.tasks.commands import tasks as task_commands
from trio_mcp.cli.worker import serve_worker
from trio_mcp.errors import TaskStoreError
from trio_mcp.server.signals import ENDING, find_free, run_until_signal
from trio_mcp.transports.asgi.access_log import access_log_shown
from trio_mcp.version import __version__

CONNECTING: Final = frozenset(
    {
        *((name,) for name in ("list", "call", "read", "prompt", "complete", "bench")),
        *(("tasks", name) for name in ("list", "watch", "result", "cancel")),
    }
)
"""The commands that have a TARGET."""

KeyValueArgument: TypeAlias = Annotated[
    str,
    Parameter(
        name="KEY=VALUE",
        help="An argument of the tool. VALUE is read as JSON, or as text if it is not JSON or the tool wants "
        "text; a KEY given several times makes a list.",
    ),
]
TtlOption: TypeAlias = Annotated[
    float | None,
    Parameter(
        help="How long the server is asked to keep the task, in seconds (protocol 2025-11-25).",
        validator=check_seconds,
    ),
]
DEFAULTS: Final = RequestOptions()

app = App(
    name="trio-mcp",
    version=__version__,
    help="Serve the Model Context Protocol, list what servers offer, and use it with live progress.",
)
app.command(task_commands)
app.command(bench, usage=BENCH_USAGE)
app.command(login, usage="Usage: trio-mcp login [OPTIONS] URL")
app.command(logout, usage="Usage: trio-mcp logout URL")
app.command(whoami, usage="Usage: trio-mcp whoami [--json] [URL]")


@app.command(
    usage="Usage: trio-mcp run FILE[:NAME] [--http ADDRESS [--sse] [--auth VERIFIER] [--url URL]]\n"
    "                    [--ws ADDRESS] [--tasks URL]"
)
def run(
    file: Annotated[str, Parameter(help="The file; with :NAME if it has more than one Server.")],
    /,
    *,
    http: Annotated[
        str | None,
        Parameter(
            help="Serve over HTTP at this address, such as :8000 (this machine only) or 0.0.0.0:8000. The "
            "endpoint is /mcp."
        ),
    ] = None,
    sse: Annotated[
        Switch, Parameter(help="With --http, serve the HTTP+SSE of 2024-11-05 as well, at /sse.")
    ] = False,
    auth: GuardOption = (),
    url: PublicUrlOption = None,
    ws: Annotated[str | None, Parameter(help="Serve over WebSocket at this address.")] = None,
    access_log: Annotated[
        bool,
        Parameter(
            negative="--no-access-log", help="Show a line for each HTTP request and WebSocket on stderr."
        ),
    ] = True,
    tasks: TasksOption = None,
    queue_only: Annotated[
        Switch,
        Parameter(help='Run no task here: leave them to "trio-mcp worker", which shares the store.'),
    ] = False,
    proxy: Annotated[
        Switch,
        Parameter(
            help="Serve what another server offers: FILE is then a URL, a command line with a space in it, a "
            "Python file, or a file with mcpServers (mcp.json for all of them, mcp.json:NAME for one)."
        ),
    ] = False,
) -> int:
    """Serve the Server of a Python file over stdin and stdout, or over the network.

    The file is imported: it needs a Server at module level, and its own "main" block
    does not run.

    Examples: trio-mcp run server.py, trio-mcp run server.py --http :8000 --ws :8001,
    trio-mcp run server.py --http :8000 --tasks sqlite:tasks.db,
    trio-mcp run server.py --http :8000 --auth static:env:MY_TOKEN,
    trio-mcp run --proxy https://example.com/mcp
    """
    if sse and http is None:
        raise CommandError("--sse needs --http: HTTP+SSE is served at the same address")
    entrance = read_entrance(auth, url, http, ws, sse=sse)
    if proxy:
        # Imported here: a server of a file starts sooner without.
        from trio_mcp.cli.proxying import load_proxy

        server = load_proxy(file)
    else:
        server = load_server(read_place(file))
    use_store(server, tasks)
    if queue_only:
        require_shared(server)
    if http is not None or ws is not None:
        addresses = [None if text is None else read_address(text) for text in (http, ws)]
        serve = partial(serve_network, server, *addresses, sse=sse, access_log=access_log, entrance=entrance)
        return _run_until_signal(partial(serve, runs_tasks=not queue_only))
    if sys.stdin.isatty():
        print_note(f"{server.name} serves MCP over stdin and stdout; Ctrl-C ends it.")
    if queue_only:
        return _run_until_signal(partial(serve_stdio_queueing, server))
    try:
        server.run()
    except TaskStoreError as error:
        raise CommandError(str(error)) from None
    return SUCCEEDED


@app.command(usage="Usage: trio-mcp worker FILE[:NAME] [--tasks URL] [--max-running N] [--drain SECONDS]")
def worker(
    file: Annotated[str, Parameter(help="The file; with :NAME if it has more than one Server.")],
    /,
    *,
    tasks: TasksOption = None,
    max_running: Annotated[
        int | None,
        Parameter(
            help="Tasks that run at once [default: max_running of the server's TaskSettings].",
            show_default=False,
            validator=check_number,
        ),
    ] = None,
    drain: Annotated[
        float | None,
        Parameter(
            help="How long tasks may go on when the worker is asked to end, in seconds [default: 30].",
            show_default=False,
            validator=check_not_negative,
        ),
    ] = None,
) -> int:
    """Run queued tasks of the tools of a Python file's Server, and serve no client.

    On Ctrl-C or SIGTERM it takes no more tasks. What still runs after --drain goes back into the queue, or
    fails as interrupted, as its tool says. A second signal ends it at once.

    Example: trio-mcp worker server.py --tasks redis://localhost --max-running 20
    """
    server = load_server(read_place(file))
    use_store(server, tasks)
    require_durable(server)
    return _run_until_signal(partial(serve_worker, server, max_running=max_running, drain=drain))


def _run_until_signal(serve: Callable[[], Awaitable[int]]) -> int:
    """Serve until a signal comes or `serve` ends, and return the exit status."""
    numbers = find_free((signal.SIGINT, *ENDING))  # before Trio takes SIGINT
    return run_serving(partial(_end_on_signal, serve, numbers), farewell="Stopped.")


async def _end_on_signal(serve: Callable[[], Awaitable[int]], numbers: Sequence[int]) -> int:
    """Serve until one of the signals comes; a second signal ends the process at once. Checkpoints.

    Once nothing is served any more, the rest of the log is written: the farewell is the last line.
    """
    with access_log_shown(), log_in_background():
        received = await run_until_signal(serve, numbers)
    if received is not None:
        print_note("Stopped.")
    return INTERRUPTED if received == signal.SIGINT else SUCCEEDED


@app.command(
    name="list", usage="Usage: trio-mcp list [OPTIONS] TARGET\n       trio-mcp list [OPTIONS] -- COMMAND..."
)
def list_(
    target: TargetArgument,
    /,
    *,
    json: Annotated[Switch, Parameter(help="Print JSON, with complete schemas and descriptions.")] = False,
    protocol: ProtocolOption = "auto",
    env: EnvOption = (),
    cwd: CwdOption = None,
    auth: AuthOption = None,
) -> int:
    """List the tools, resources, templates and prompts of a server.

    Of a .json file with mcpServers all servers are listed, of FILE.json:NAME only that one.

    Examples: trio-mcp list server.py, trio-mcp list mcp.json, trio-mcp list -- npx some-server
    """
    servers = read_config(target)
    if servers is not None and len(servers) > 1 and not env and cwd is None and auth is None:
        return run_work(partial(list_servers, servers, protocol=protocol, as_json=json))
    command = find_target(target, env, cwd, auth)
    return run_work(partial(list_offers, command, protocol=protocol, as_json=json))


@app.command(
    usage="Usage: trio-mcp call [OPTIONS] TARGET TOOL [KEY=VALUE...]\n"
    "       trio-mcp call [OPTIONS] TOOL [KEY=VALUE...] -- COMMAND..."
)
def call(
    target: TargetArgument,
    tool: Annotated[str, Parameter(help="The tool's name.")],
    /,
    *arguments: KeyValueArgument,
    json: Annotated[str | None, Parameter(help="Arguments as a JSON object.")] = None,
    structured: StructuredSwitch = False,
    idle_timeout: IdleTimeoutOption = None,
    max_timeout: MaxTimeoutOption = None,
    protocol: ProtocolOption = "auto",
    env: EnvOption = (),
    cwd: CwdOption = None,
    auth: AuthOption = None,
    log_level: LogLevelOption = "info",
    quiet: QuietSwitch = False,
    task: Annotated[Switch, Parameter(help="Run the tool as a background task, and wait for it.")] = False,
    ttl: TtlOption = None,
) -> int:
    """Call a tool: its progress goes to stderr, its result to stdout.

    Forms that the server sends are filled in at the terminal; without a terminal they are declined.
    Ctrl-C cancels the tool and waits for the server to end, a second one does not wait.
    Exit status: 0 success, 1 the tool failed, 2 anything else failed, 124 timeout,
    130 cancelled.

    Examples: trio-mcp call server.py add a=1 b=2, trio-mcp call add a=1 b=2 -- npx some-server
    """
    options = CallOptions(
        json=json,
        structured=structured,
        idle_timeout=idle_timeout,
        max_timeout=max_timeout,
        protocol=protocol,
        log_level=log_level,
        quiet=quiet,
        task=task,
        ttl=ttl,
        interrupt=Interrupt(),
    )
    work = partial(call_tool, find_target(target, env, cwd, auth), tool, arguments, options)
    return run_work(work, interrupt=options.interrupt)


@app.command(
    usage="Usage: trio-mcp read [OPTIONS] TARGET URI\n       trio-mcp read [OPTIONS] URI -- COMMAND..."
)
def read(
    target: TargetArgument,
    uri: Annotated[str, Parameter(help="The resource's URI.")],
    /,
    *,
    output: Annotated[
        str | None,
        Parameter(name=("--output", "-o"), help="Write the content to this file."),
    ] = None,
    options: RequestOptions = DEFAULTS,
) -> int:
    """Read a resource: its progress goes to stderr, its contents to stdout.

    Bytes are not written to a terminal. Exit status: 0 success, 2 failure, 124 timeout, 130 cancelled.

    Examples: trio-mcp read server.py config://app, trio-mcp read server.py logo://shop -o logo.png
    """
    return run_work(partial(read_resource, target, uri, output, options))


@app.command(
    usage="Usage: trio-mcp prompt [OPTIONS] TARGET PROMPT [KEY=VALUE...]\n"
    "       trio-mcp prompt [OPTIONS] PROMPT [KEY=VALUE...] -- COMMAND..."
)
def prompt(
    target: TargetArgument,
    name: Annotated[str, Parameter(name="PROMPT", help="The prompt's name.")],
    /,
    *arguments: Annotated[str, Parameter(name="KEY=VALUE", help="An argument of the prompt, as text.")],
    options: RequestOptions = DEFAULTS,
) -> int:
    """Get the messages of a prompt: progress goes to stderr, the messages to stdout.

    Exit status: 0 success, 2 failure, 124 timeout, 130 cancelled.

    Examples: trio-mcp prompt server.py review text=hello, trio-mcp prompt review -- npx some-server
    """
    return run_work(partial(get_prompt, target, name, arguments, options))


@app.command(
    usage="Usage: trio-mcp complete [OPTIONS] TARGET PROMPT|TEMPLATE KEY=VALUE [KEY=VALUE...]\n"
    "       trio-mcp complete [OPTIONS] PROMPT|TEMPLATE KEY=VALUE [KEY=VALUE...] -- COMMAND..."
)
def complete(
    target: TargetArgument,
    owner: Annotated[str, Parameter(name="PROMPT|TEMPLATE", help="A prompt's name, or a resource template.")],
    argument: Annotated[
        str, Parameter(name="KEY=VALUE", help="What is completed; VALUE is what has been typed so far.")
    ],
    /,
    *context: Annotated[
        str, Parameter(name="CONTEXT", help="Other arguments that have a value already, as KEY=VALUE.")
    ],
    options: RequestOptions = DEFAULTS,
) -> int:
    """Complete an argument of a prompt or a variable of a resource template, one value per line.

    Exit status: 0 success, also without values; 2 failure, 124 timeout, 130 cancelled.

    Examples: trio-mcp complete server.py plan city=P country=France,
    trio-mcp complete server.py "users://{name}" name=a
    """
    return run_work(partial(complete_argument, target, owner, [argument, *context], options))


@app.command
def demo(
    directory: Annotated[
        str | None, Parameter(help="Directory to count [default: Python's standard library].")
    ] = None,
    /,
    *,
    task: Annotated[Switch, Parameter(help="Run it as a background task, and watch that task.")] = False,
) -> int:
    """See progress arrive: a server process counts and hashes the files of a directory tree."""
    interrupt = Interrupt()
    return run_work(partial(run_demo, directory, interrupt, as_task=task), interrupt=interrupt)


def run_command(arguments: Sequence[str]) -> int:
    """Run one command line, without the program's name, and return its exit status."""
    prepare_streams()
    try:
        arguments = fill_target(arguments)
        words = next((n for n in (1, 2) if tuple(arguments[:n]) in CONNECTING), 0)
        if words:
            arguments = move_command(arguments, words)
        status = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except (CycloptsError, CommandError) as error:
        print_error(str(error))
        return error.status if isinstance(error, CommandError) else FAILED
    return SUCCEEDED if status is None else int(status)
