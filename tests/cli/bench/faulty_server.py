"""A stdio server of 2025-06-18, in plain JSON; each tool makes the mistake that it is named after."""

from __future__ import annotations

import json
import sys
from typing import Any

COUNT = 20
"""How many updates a call without a mistake sends."""

FLOOD = 50_000
"""How many updates a call sends that writes them all at once."""

FAULTS = (
    *("steady", "repeat", "back", "skip", "end_early", "tenths", "fractions", "without_total"),
    *("late", "stray", "fail", "refuse", "never", "leave", "silent", "flood"),
)


def send(**message: Any) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")


def report(token: int | str, progress: float, total: float | None = COUNT) -> None:
    params = {"progressToken": token, "progress": progress}
    send(method="notifications/progress", params=params if total is None else {**params, "total": total})


def flood(token: int | str) -> None:
    params = {"progressToken": token, "progress": "NUMBER", "total": FLOOD}
    message = {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}
    before, after = json.dumps(message).split('"NUMBER"')
    sys.stdout.write("".join([f"{before}{number}{after}\n" for number in range(1, FLOOD + 1)]))


def values(fault: str) -> list[float]:
    numbers: list[float] = list(range(1, COUNT + 1))
    if fault == "repeat":
        numbers.insert(10, 10)
    elif fault == "back":
        numbers[9:11] = [11, 10]
    elif fault == "skip":
        del numbers[4:7]
    elif fault == "end_early":
        del numbers[-2:]
    elif fault == "tenths":
        numbers = [10, 20, 30]
    elif fault == "fractions":
        numbers = [number / 2 for number in numbers]
    elif fault in ("silent", "flood"):
        numbers = []
    return numbers


def call(ident: int | str, fault: str, token: int | str) -> None:
    if fault == "flood":
        flood(token)
    for value in values(fault):
        report(token, value, None if fault == "without_total" else COUNT)
    if fault == "stray":
        report("nobody's", 1)
    if fault == "leave":
        sys.stdout.flush()
        sys.exit(3)
    if fault == "refuse":
        send(id=ident, error={"code": -32000, "message": "not today"})
    elif fault != "never":
        content = [{"type": "text", "text": "it went wrong"}]
        send(id=ident, result={"content": content, "isError": fault == "fail"})
    if fault == "late":
        report(token, COUNT + 1, None)
        report(token, COUNT + 2, None)


def answer(message: dict[str, Any]) -> None:
    ident, params = message["id"], message.get("params", {})
    if message["method"] == "initialize":
        info = {"name": "faulty", "version": "1"}
        send(id=ident, result={"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": info})
    elif message["method"] == "tools/list":
        tools = [{"name": fault, "inputSchema": {"type": "object"}} for fault in FAULTS]
        send(id=ident, result={"tools": tools[: int(sys.argv[1])] if sys.argv[1:] else tools})
    elif message["method"] == "tools/call":
        call(ident, params["name"], params["_meta"]["progressToken"])
    elif message["method"] == "ping":
        send(id=ident, result={})
    else:
        send(id=ident, error={"code": -32601, "message": "no such method"})


if __name__ == "__main__":
    for line in sys.stdin:
        received = json.loads(line)
        if "id" in received:
            answer(received)
        sys.stdout.flush()
