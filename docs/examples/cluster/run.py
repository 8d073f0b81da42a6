"""Three replicas, two workers, Redis and nginx on this machine, on free loopback ports.

    python docs/examples/cluster/run.py            says what to try, and ends everything on Ctrl-C
    python docs/examples/cluster/run.py --check    tries it: kills a replica and a worker, and ends

The replicas take calls, tell progress and answer; the workers do the work. Needs the programs redis-server
(or valkey-server) and nginx, and trio_mcp with the extras `cli`, `http` and `redis`.
"""

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from trio_mcp import MCPError, open_client

HERE = Path(__file__).parent
REPLICAS = 3
WORKERS = 2

START_SECONDS = 60
"""How long everything may take to answer, on a busy machine."""

CHECK_SECONDS = 180
"""How long --check may take: the lease of a killed worker is 15 seconds, and the count takes 20."""


class Cluster:
    """The processes that run, with a log file for each, and where they listen."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.processes: dict[str, trio.Process] = {}
        self.store = ""
        self.proxy = ""
        self.replicas: list[str] = []

    async def start(self, nursery: trio.Nursery, name: str, *command: object) -> None:
        """Start a process, which ends with the nursery; its output goes to NAME.log."""
        log = (self.directory / f"{name}.log").open("wb")
        run = partial(
            trio.run_process,
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=False,
            # Ctrl-C is for this program, which ends the others in order.
            start_new_session=True,
        )
        with log:
            self.processes[name] = await nursery.start(run)

    async def wait_listening(self, name: str, port: int) -> None:
        """Wait until a process accepts connections; raises RuntimeError with its log if it has ended."""
        while True:
            try:
                async with await trio.open_tcp_stream("127.0.0.1", port):
                    return
            except OSError:
                if self.processes[name].returncode is not None:
                    raise RuntimeError(f"{name} has ended:\n{self.read_log(name)}") from None
            await trio.sleep(0.05)

    async def wait_said(self, name: str, words: str) -> None:
        """Wait until a process has written `words`; raises RuntimeError with its log if it has ended."""
        while words not in self.read_log(name):
            if self.processes[name].returncode is not None:
                raise RuntimeError(f"{name} has ended:\n{self.read_log(name)}")
            await trio.sleep(0.05)

    def read_log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text(errors="replace")


def find_ports(count: int) -> list[int]:
    """Ports that are free now. Another program could take one before it is used; then the start fails."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def find_programs() -> Mapping[str, str]:
    """The programs that are needed, beside Python; raises SystemExit if one is missing."""
    places = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    found = {
        "redis": shutil.which("redis-server", path=places) or shutil.which("valkey-server", path=places),
        "nginx": shutil.which("nginx", path=places),
    }
    missing = [name for name, program in found.items() if program is None]
    if missing:
        raise SystemExit(
            f"{' and '.join(missing)} must be installed, such as by: apt install redis-server nginx"
        )
    return {name: program for name, program in found.items() if program is not None}


@asynccontextmanager
async def open_cluster(directory: Path) -> AsyncIterator[Cluster]:
    """Start everything; when the block ends, replicas and workers end first, then nginx and Redis."""
    programs = find_programs()
    redis, proxy, *ports = find_ports(2 + REPLICAS)
    cluster = Cluster(directory)
    cluster.store = f"redis://127.0.0.1:{redis}"
    cluster.proxy = f"http://127.0.0.1:{proxy}/mcp"
    cluster.replicas = [f"http://127.0.0.1:{port}/mcp" for port in ports]
    async with trio.open_nursery() as lower, trio.open_nursery() as upper:
        with trio.fail_after(START_SECONDS):
            await start_redis(cluster, lower, programs["redis"], redis)
            command = [sys.executable, "-m", "trio_mcp.cli"]
            served = [HERE / "server.py", "--tasks", cluster.store]
            for number, port in enumerate(ports, 1):
                address = ["--http", f"127.0.0.1:{port}", "--queue-only"]
                await cluster.start(upper, f"replica-{number}", *command, "run", *served, *address)
            for number in range(1, WORKERS + 1):
                options = ["--max-running", "10", "--drain", "1"]
                await cluster.start(upper, f"worker-{number}", *command, "worker", *served, *options)
            await start_nginx(cluster, lower, programs["nginx"], proxy, ports)
            for number, port in enumerate(ports, 1):
                await cluster.wait_listening(f"replica-{number}", port)
            for number in range(1, WORKERS + 1):
                await cluster.wait_said(f"worker-{number}", "Ctrl-C")
        try:
            yield cluster
        finally:
            upper.cancel_scope.cancel()
            lower.cancel_scope.cancel()


async def start_redis(cluster: Cluster, nursery: trio.Nursery, program: str, port: int) -> None:
    """Start Redis so that it loses nothing: it writes each second what has changed, and evicts nothing."""
    options = {
        "--port": port,
        "--bind": "127.0.0.1",
        "--dir": cluster.directory,
        "--appendonly": "yes",
        "--save": "",
        "--maxmemory-policy": "noeviction",
    }
    words = [str(word) for option in options.items() for word in option]
    await cluster.start(nursery, "redis", program, *words)
    await cluster.wait_listening("redis", port)


async def start_nginx(
    cluster: Cluster, nursery: trio.Nursery, program: str, port: int, replicas: list[int]
) -> None:
    """Start nginx with the configuration beside this file."""
    text = (HERE / "nginx.conf").read_text()
    servers = "\n".join(f"server 127.0.0.1:{each} max_fails=1 fail_timeout=5s;" for each in replicas)
    for word, value in (("DIRECTORY", cluster.directory), ("PORT", port), ("REPLICAS", servers)):
        text = text.replace(word, str(value))
    file = cluster.directory / "nginx.conf"
    file.write_text(text)
    await cluster.start(nursery, "nginx", program, "-p", cluster.directory, "-e", "stderr", "-c", file)
    await cluster.wait_listening("nginx", port)


async def check(cluster: Cluster) -> None:
    """Call through nginx, watch through a replica, kill a replica and the worker, and get the result."""
    with trio.fail_after(CHECK_SECONDS):
        async with open_client(cluster.proxy) as client:
            task = await client.call_tool("count", {"to": 40, "seconds": 0.5}, task=True)
        assert task.id is not None, "the tool always makes a task"
        print(f"called through nginx: task {task.id}")

        async with open_client(cluster.replicas[1]) as other:
            async with other.watch_task(task.id) as snapshots:
                async for snapshot in snapshots:
                    if (snapshot.current or 0) >= 5:
                        break
                else:
                    raise RuntimeError("replica 2 tells no more of the task")
            print(f"watched through replica 2: {snapshot.current:g} of {snapshot.total:g}")
            if snapshot.is_final:
                raise RuntimeError(
                    "the task has ended too early: nothing can be shown on such a slow machine"
                )
            worker = int(re.findall(r"process (\d+)", snapshot.message or "")[0])
            (name,) = [name for name, process in cluster.processes.items() if process.pid == worker]
            for victim in ("replica-1", name):
                cluster.processes[victim].send_signal(signal.SIGKILL)
            print("killed replica 1 and the worker that ran the task; its lease ends within 15 seconds")

            seen: list[float] = []  # also what was reported before
            result = await other.await_task(
                task.id, progress_handler=lambda current, *_: seen.append(current)
            )
        print(f"the other worker has {result.data.partition(' in process')[0]}")
        if seen != sorted(seen):
            raise RuntimeError(f"progress went back: {seen}")

        for _ in range(REPLICAS):  # each request goes to another replica
            async with open_client(cluster.proxy) as client:
                assert (await client.fetch_task(task.id)).status == "completed"
        print("nginx answers without replica 1")


def explain(cluster: Cluster) -> None:
    """Say what there is to try."""
    command = "trio-mcp"
    print(f"""
{REPLICAS} replicas behind {cluster.proxy}
    {' '.join(cluster.replicas)}
{WORKERS} workers, and the tasks in {cluster.store}; logs are in {cluster.directory}

Try, in another terminal:
    {command} call {cluster.proxy} count to=60 --task
    {command} tasks list --store {cluster.store}
    {command} tasks watch {cluster.replicas[1]} ID
    {command} tasks cancel --store {cluster.store} ID
    kill -9 {cluster.processes['worker-1'].pid}        a worker: the other one goes on within 15 seconds
    kill -9 {cluster.processes['replica-1'].pid}        a replica: nobody notices

Ctrl-C ends everything.
""", flush=True)  # fmt: skip


async def run(*, checks: bool) -> None:
    """Run the cluster until it is checked, or until Ctrl-C or SIGTERM."""
    with (
        tempfile.TemporaryDirectory(prefix="trio-mcp-cluster-") as directory,
        trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals,
    ):
        async with trio.open_nursery() as nursery:

            async def serve() -> None:
                async with open_cluster(Path(directory)) as cluster:
                    if checks:
                        await check(cluster)
                    else:
                        explain(cluster)
                        await trio.sleep_forever()
                nursery.cancel_scope.cancel()

            nursery.start_soon(serve)
            async for _ in signals:
                nursery.cancel_scope.cancel()
                break
    print("everything has ended")


def main() -> None:
    parser = argparse.ArgumentParser(description="Run a small cluster on this machine.")
    parser.add_argument("--check", action="store_true", help="try it, and end")
    options = parser.parse_args()
    try:
        trio.run(partial(run, checks=options.check))
    except* (RuntimeError, MCPError) as failure:
        error: BaseException = failure
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
