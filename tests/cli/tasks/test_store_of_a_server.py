"""`trio-mcp tasks --store` on the file of a server that runs, and after its end."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from tests.cli.command import read_until, run, start, start_in_terminal
from tests.support.limits import HANG_SECONDS

pytestmark = pytest.mark.slow

SERVER = Path(__file__).parents[1] / "task_server.py"


def test_the_file_of_a_server_is_read_while_it_runs_and_changed_afterwards(tmp_path: Path) -> None:
    store, pipe = f"sqlite:{tmp_path / 'tasks.db'}", tmp_path / "pipe"
    os.mkfifo(pipe)
    with start("run", SERVER, "--http", ":0", "--tasks", store, "--no-access-log") as server:
        assert server.stderr is not None
        try:
            told = read_until(server.stderr.fileno(), "Ctrl-C")
            (url,) = re.findall(r" at (\S+);", told)
            with start("call", url, "count", f"file={pipe}", "--task") as call:
                assert call.stderr is not None
                begun = read_until(call.stderr.fileno(), "half of it")
                (ident,) = re.findall(r"task (\S+)", begun)

                listed = run("tasks", "list", "--store", store)
                assert listed.returncode == 0, listed.stderr
                (row,) = [line for line in listed.stdout.splitlines() if line.split()[:1] == [ident]]
                assert row.split()[1] == "working"
                assert " count " in row

                refused = run("tasks", "cancel", "--store", store, ident)
                assert (refused.returncode, refused.stdout) == (2, "")
                assert refused.stderr.startswith(f"trio-mcp: task store {tmp_path / 'tasks.db'}: ")
                assert "has it open" in refused.stderr

                terminal = start_in_terminal("tasks", "watch", "--store", store, ident, columns=100)
                read_until(terminal.screen, "half of it")
                pipe.write_text("go on")
                shown, _, status = terminal.finish()
                assert status == 0
                assert "10/10" in shown
                assert "completed" in shown
                printed, _ = call.communicate(timeout=HANG_SECONDS)
                assert printed == b"counted 10\n"

            result = run("tasks", "result", "--store", store, ident)
            assert (result.stdout, result.returncode) == ("counted 10\n", 0)
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=HANG_SECONDS)
        finally:
            server.kill()
    again = run("tasks", "result", "--store", store, ident)
    assert (again.stdout, again.returncode) == ("counted 10\n", 0), "the result outlives its server"
    assert run("tasks", "purge", "--store", store, "--yes").stdout == "1 ended task forgotten\n"
    assert run("tasks", "list", "--store", store).stdout == "no tasks\n"
