"""The speed of the machine decides no test: on real time a limit is for hangs only, and no test sleeps.

A test is on virtual time if it takes `autojump_clock` or `mock_clock`, or makes a MockClock; so is a
function that only such tests of its module use. What a tool or a helper sleeps is not judged: other
tests of the module may use it on virtual time.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.support.limits import HANG_SECONDS

TESTS = Path(__file__).parent
# Programs of their own: other implementations, and the conformance suite's server.
APART = {"peers", "conformance"}
CLOCKS = {"autojump_clock", "mock_clock", "MockClock"}
LIMITS = {"fail_after", "move_on_after"}
WAITS = {"run", "communicate", "wait", "join", "result"}
HTTP_CLIENTS = {"Client", "AsyncClient"}

ON_REAL_TIME = {
    ("transports/hypercorn/test_hypercorn.py", "test_a_head_that_arrives_too_slowly_is_dropped"): (
        "a peer sends a byte now and then; however few they are, the head is not complete in time"
    ),
    ("transports/hypercorn/test_hypercorn.py", "test_a_disconnect_is_not_lost_with_a_cancelled_send"): (
        "the send waits for a peer that reads nothing, so it is cancelled at whatever time"
    ),
    ("transports/hypercorn/test_hypercorn.py", "test_file_descriptors_return_to_where_they_were"): (
        "the number of descriptors is looked at until it is right, and only a hang takes long"
    ),
    ("tasks/test_redis_failures.py", "test_a_server_that_stands_still_for_a_while_loses_nothing"): (
        "a server stands still meanwhile, and what is asked then has all the time it needs behind it"
    ),
}
"""Short times that decide nothing, each with its reason."""


def functions(tree: ast.Module) -> dict[str, ast.AST]:
    """The top-level functions and classes by name."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name: node for node in tree.body if isinstance(node, kinds)}


def names_in(node: ast.AST) -> set[str]:
    """The names that a function uses; its parameters are the names of fixtures."""
    nodes = list(ast.walk(node))
    used = {each.id for each in nodes if isinstance(each, ast.Name)}
    return (
        used
        | {each.arg for each in nodes if isinstance(each, ast.arg)}
        | {each.attr for each in nodes if isinstance(each, ast.Attribute)}
    )


def on_real_time(tree: ast.Module) -> list[tuple[str, ast.AST]]:
    """What may run on real time: tests without a virtual clock, and what they use."""
    defined = functions(tree)
    uses = {name: names_in(node) for name, node in defined.items()}
    virtual = {name for name in defined if uses[name] & CLOCKS}
    # A fixture that takes such a clock brings it along.
    while more := {name for name in defined if uses[name] & virtual & fixtures(defined)} - virtual:
        virtual |= more
    tests = {name for name in defined if name.startswith(("test_", "Test"))}
    found = (tests or set(defined)) - virtual
    while more := {name for name in set(defined) - virtual if any(name in uses[by] for by in found)} - found:
        found |= more
    rest: list[ast.stmt] = [node for node in tree.body if getattr(node, "name", None) not in defined]
    return [(name, defined[name]) for name in sorted(found)] + [("<module>", node) for node in rest]


def fixtures(defined: Mapping[str, ast.AST]) -> set[str]:
    decorated = {name: getattr(node, "decorator_list", []) for name, node in defined.items()}
    return {
        name for name, found in decorated.items() if any("fixture" in ast.unparse(each) for each in found)
    }


def short_times(node: ast.AST, constants: Mapping[str, float], *, sleeps: bool) -> Iterator[str]:
    """The limits below HANG_SECONDS in a function, and its sleeps if `sleeps`, in words."""
    for call in ast.walk(node):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
            continue
        name = call.func.attr
        owner = call.func.value
        given = {each.arg for each in call.keywords}
        if name in HTTP_CLIENTS and isinstance(owner, ast.Name) and owner.id == "httpx2":
            is_short = "timeout" not in given  # it has one of five seconds
        elif name in WAITS or name in LIMITS or (sleeps and name == "sleep"):
            times = [*call.args[:1], *(each.value for each in call.keywords if each.arg == "timeout")]
            seconds = [value_of(each, constants) for each in times]
            # A limit of 0 ends what it holds at once, on any machine; a sleep of 0 is a checkpoint.
            is_short = any(each is not None and 0 < each < HANG_SECONDS for each in seconds)
        else:
            continue
        if is_short:
            yield f"line {call.lineno}: {ast.unparse(call)}"


def value_of(node: ast.expr, constants: Mapping[str, float]) -> float | None:
    """The number that stands there, or whose name does; None if that is not to be seen."""
    if isinstance(node, ast.Name):
        return constants.get(node.id)
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return node.value
    return None


def constants_of(tree: ast.Module) -> dict[str, float]:
    return {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name) and isinstance(node.value.value, int | float)
    }


def test_on_real_time_a_limit_is_for_hangs_only() -> None:
    found: dict[tuple[str, str], list[str]] = {}
    for path in sorted(TESTS.rglob("*.py")):
        relative = path.relative_to(TESTS)
        if relative.parts[0] in APART:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        constants = constants_of(tree)
        for name, node in on_real_time(tree):
            if times := list(short_times(node, constants, sleeps=name.startswith("test_"))):
                found.setdefault((relative.as_posix(), name), []).extend(times)
    unexpected = {place: times for place, times in found.items() if place not in ON_REAL_TIME}
    assert not unexpected, "take HANG_SECONDS of tests/support/limits.py, or a virtual clock"
    assert found.keys() == ON_REAL_TIME.keys(), "an exception that is needed no more"
