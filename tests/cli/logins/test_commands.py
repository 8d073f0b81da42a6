"""The tokens of a login in every kind of command, and the commands as processes."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import TypeAlias

import pytest
import trio

from tests.cli.command import command, environment
from tests.cli.logins.world import World
from trio_mcp.cli.access import find_target
from trio_mcp.cli.bench.load import Load
from trio_mcp.cli.bench.run import BenchOptions, run_bench
from trio_mcp.cli.commands import run_command
from trio_mcp.cli.listing import list_servers
from trio_mcp.cli.running import Interrupt
from trio_mcp.cli.tasks.listing import LISTING_PROTOCOL, list_tasks
from trio_mcp.cli.tasks.source import ServerPlace
from trio_mcp.client.server_entry import ServerEntry

Opened: TypeAlias = Callable[..., AbstractAsyncContextManager[World]]

BROWSER = """#!{python}
import sys, urllib.request
urllib.request.build_opener(urllib.request.ProxyHandler({{}})).open(sys.argv[1]).read()
"""


async def test_a_group_of_servers_uses_the_login_to_each(opened: Opened) -> None:
    async with opened() as world:
        await world.log_in()
        servers = {"mine": ServerEntry(world.url), "other": ServerEntry(f"{world.url}/other")}
        status, output, _ = await world.run(partial(list_servers, servers, protocol="auto", as_json=True))
        found = json.loads(output)["servers"]
        assert [tool["name"] for tool in found["mine"]["tools"]] == ["count", "delete"]
        assert status == 2, "nobody serves the other"


async def test_bench_uses_the_login(opened: Opened) -> None:
    async with opened() as world:
        await world.log_in()
        options = BenchOptions(
            load=Load(calls=2, rounds=2, duration=10.0),
            expect=None,
            json=True,
            protocol="auto",
            quiet=True,
            interrupt=Interrupt(),
        )
        work = partial(run_bench, find_target(world.url, (), None, None), "count", [], options)
        status, output, _ = await world.run(work)
        assert status == 0
        assert json.loads(output)["calls"]["finished"] == 4


async def test_tasks_are_listed_with_the_login(opened: Opened) -> None:
    async with opened() as world:
        place = ServerPlace(find_target(world.url, (), None, None), LISTING_PROTOCOL)
        work = partial(list_tasks, place, as_json=True)
        assert (await world.run(work))[0] == 2
        await world.log_in()
        status, _, errors = await world.run(work)
        assert (status, "trio-mcp login" in errors) == (0, False), errors


async def test_a_websocket_of_the_server_uses_the_same_login(opened: Opened) -> None:
    async with opened() as world:
        await world.log_in()
        world.url = world.url.replace("http:", "ws:")
        status, output, _ = await world.list()
        assert status == 0
        assert "Count your albums." in output


async def test_the_process_logs_in_by_the_browser_and_others_use_it(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    browser = tmp_path / "browser"
    browser.write_text(BROWSER.format(python=sys.executable))
    browser.chmod(browser.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("BROWSER", f"{browser} %s")

    async def run_process(*words: str) -> subprocess.CompletedProcess[bytes]:
        done = await trio.run_process(
            command(*words), capture_stdout=True, capture_stderr=True, check=False, env=environment(120)
        )
        world.printed += [done.stdout.decode(), done.stderr.decode()]
        return done

    async with opened() as world:
        done = await run_process("login", world.url)
        assert done.returncode == 0, done.stderr
        assert done.stdout == b""
        assert f"open this address:\n{world.issuer.issuer}/authorize?".encode() in done.stderr
        assert f"Logged in to {world.url}".encode() in done.stderr
        world.note_secrets()
        done = await run_process("call", world.url, "count")
        assert (done.stdout, done.stderr, done.returncode) == (b"alice has 2 albums\n", b"", 0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["login", "server.py"], "there is no file 'server.py'"),
        (["login", "npx some-server"], "is no server with a URL, and only those have logins"),
        (["whoami", "https://h/a\\b"], "a URL has characters that none may have"),
        (["logout", "https://me:pass@h/mcp"], "this URL has credentials of its own"),
        (["login", "https://h/mcp", "--client-secret", "env:X"], "--client-secret belongs to a --client-id"),
        (
            ["login", "https://h/mcp", "--client-id", "a", "--client-secret", "sesame"],
            "needs env:NAME or file:PATH",
        ),
        (["login", "https://h/mcp", "--client-metadata-url", "http://h/a"], "client_metadata_url= must be"),
        (["login", "https://h/mcp", "--port", "99999"], "It must be from 0 to 65535"),
        (["login", "https://h/mcp", "--storage", "memory"], "memory"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert run_command(words) == 2
    shown = capsys.readouterr().err
    assert message in shown.replace("\n", " ")
    assert "sesame" not in shown
    assert "pass" not in shown


def test_other_commands_start_without_what_logins_need() -> None:
    needless = (
        "trio_mcp.oauth",
        "trio_mcp.authorization",
        "trio_mcp.transports.http",
        "keyring",
        "webbrowser",
    )
    code = (
        "import sys, trio_mcp.cli.commands\n"
        f"print([name for name in sys.modules if name.startswith({needless!r})])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
