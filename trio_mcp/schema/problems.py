"""Readable words for what is wrong with a value: where it is, and what was expected.

Owns the reading of msgspec's messages and the naming of annotations. Knows
nothing of tools or schemas.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Final, Union

import msgspec
from msgspec.structs import replace

# msgspec has no structured errors: the path is the tail of the message.
# `re` compiles these when they are first used: at the first argument that does not fit.
_PLACE: Final = r" - at (?P<key>`key` in )?`\$(?P<path>[^`]*)`\Z"
_STEP: Final = r"\.(?P<field>[^.\[]+)|\[(?P<index>\d+)\]|(?P<key>\[\.\.\.\])"
_QUOTED: Final = r"`([^`]*)`"
_MODULE: Final = r"\b(?:\w+\.)+(?:<locals>\.)?(?=\w)"
_OPENINGS = {
    "Object missing required field ": "missing required field ",
    "Object contains unknown field ": "unexpected field ",
    "Invalid enum value ": "not an allowed value: ",
}


class UnsupportedAnnotationError(Exception):
    """An annotation has no JSON form; becomes a DefinitionError before it leaves this folder."""


class UnseenMetadataError(UnsupportedAnnotationError):
    """A constraint that would have no effect, because pydantic reads the annotation and does not see it."""


class NoAlternativeError(ValueError):
    """No member of a union accepts the value."""


class PartError(ValueError):
    """The failed conversion of a part, from a hook of msgspec.

    msgspec adds the path to the part to the message of any ValueError but its own,
    which it assumes to have a path already.
    """

    def __init__(self, error: msgspec.ValidationError) -> None:
        # Without its own path, which would be read as a path from the whole value.
        super().__init__(read_problem(error).message)
        self.error = error


class Problem(msgspec.Struct, frozen=True):
    """What is wrong with a value (`message`), and the path to the part that it is about.

    A step is the name of a field (str), an index (int), a `Key`, or None for a
    mapping's key that msgspec did not name. If several things are wrong there, they are the `parts`.
    """

    steps: tuple[Any, ...]
    message: str
    parts: tuple[Problem, ...] = ()

    def describe(self, base: str = "") -> str:
        """One line such as `items[0].count: expected int, got str`; `base` is the path so far."""
        where = (base + "".join(map(_step_text, self.steps))).removeprefix(".")
        if self.parts:
            return "; ".join(part.describe(where) for part in self.parts)
        return f"{where}: {self.message}" if where else self.message


class Key(msgspec.Struct, frozen=True):
    """A step to the value of a mapping's key."""

    key: Any


class ProblemsError(ValueError):
    """One or more problems of one part of a value."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        parts = tuple(problems)
        message = "; ".join(problem.describe() for problem in parts)
        super().__init__(message)
        self.problem = parts[0] if len(parts) == 1 else Problem((), message, parts)


def _step_text(step: Any) -> str:
    if step is None:
        return "[...]"
    if isinstance(step, Key):
        return f"[{step.key!r}]"
    return f"[{step}]" if isinstance(step, int) else f".{step}"


def read_problem(error: BaseException) -> Problem:
    """The problem that a conversion error describes.

    Follows the causes that msgspec keeps when one of our hooks failed, so that
    the paths of nested conversions join.
    """
    if isinstance(error, PartError):
        return read_problem(error.error)
    if isinstance(error, ProblemsError):
        return error.problem
    if not isinstance(error, msgspec.ValidationError):
        return Problem((), str(error) or type(error).__name__)
    text = str(error)
    place = re.search(_PLACE, text)
    steps = tuple(_read_steps(place["path"])) if place is not None else ()
    if error.__cause__ is not None:
        inner = read_problem(error.__cause__)
        return replace(inner, steps=steps + inner.steps)
    message = _plain(text if place is None else text[: place.start()])
    return Problem(steps, f"key: {message}" if place is not None and place["key"] else message)


def _read_steps(path: str) -> Iterator[Any]:
    for step in re.finditer(_STEP, path):
        if step["field"] is not None:
            yield step["field"]
        else:
            yield None if step["key"] else int(step["index"])


def _plain(message: str) -> str:
    for opening, words in _OPENINGS.items():
        if message.startswith(opening):
            return words + re.sub(_QUOTED, r"'\1'", message.removeprefix(opening))
    return message[:1].lower() + re.sub(_QUOTED, r"\1", message[1:])


def find_problem(value: Any, convert: Callable[[Any], object], error: BaseException) -> Problem:
    """The problem of `error`, which `convert(value)` raised, with the keys of mappings named.

    msgspec writes `[...]` for a mapping's key. Converting again with half of the
    keys, and half of those, tells which one it was; errors are rare enough for that.
    """
    problem = read_problem(error)
    while None in problem.steps:
        at = problem.steps.index(None)
        key = _find_key(value, problem, at, convert)
        if key is None:
            break
        problem = replace(problem, steps=(*problem.steps[:at], key, *problem.steps[at + 1 :]))
    return problem


def _find_key(value: Any, problem: Problem, at: int, convert: Callable[[Any], object]) -> Key | None:
    steps = problem.steps[:at]

    def fails(some: Sequence[Any]) -> bool:
        try:
            convert(_replaced(value, steps, {key: mapping[key] for key in some}))
        except (ValueError, TypeError) as error:
            found = read_problem(error)
            return found.message == problem.message and found.steps[at + 1 :] == problem.steps[at + 1 :]
        return False

    mapping = value
    for step in steps:
        try:
            mapping = mapping[step.key if isinstance(step, Key) else step]
        except (LookupError, TypeError):
            return None
    keys = list(mapping) if isinstance(mapping, Mapping) else []
    while len(keys) > 1:
        half = len(keys) // 2
        keys = keys[:half] if fails(keys[:half]) else keys[half:]
    return Key(keys[0]) if keys and fails(keys) else None


def _replaced(value: Any, steps: Sequence[Any], new: Any) -> Any:
    """A copy of `value` with `new` at `steps`."""
    if not steps:
        return new
    step = steps[0].key if isinstance(steps[0], Key) else steps[0]
    inside = _replaced(value[step], steps[1:], new)
    if isinstance(value, Mapping):
        return {**value, step: inside}
    return [*value[:step], inside, *value[step + 1 :]]


def name_annotation(annotation: Any) -> str:
    """An annotation as its author would write it, without modules: `list[int]`, `Circle | None`."""
    if annotation is type(None):
        return "None"
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return name_annotation(args[0])
    if origin in (Union, UnionType):
        return " | ".join(map(name_annotation, args))
    if isinstance(origin, type) and args and not isinstance(args[0], list):
        return f"{origin.__name__}[{', '.join(map(name_annotation, args))}]"
    if annotation is ...:
        return "..."
    return annotation.__name__ if isinstance(annotation, type) else re.sub(_MODULE, "", repr(annotation))
