"""Finds the `Server` in a Python file, given as `FILE[:NAME]`.

Owns the import of a file by its path. Refuses to know how the server is served.
"""

from __future__ import annotations

import sys
import traceback
from contextlib import redirect_stdout
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, TracebackType

import attrs

from trio_mcp.cli.status import TOOL_FAILED, CommandError
from trio_mcp.server.server import Server


@attrs.frozen
class Place:
    """Where a server is: a file, and the name of a variable in it or None."""

    path: Path
    name: str | None = None

    def __str__(self) -> str:
        return str(self.path) if self.name is None else f"{self.path}:{self.name}"


def read_place(text: str) -> Place:
    """Read `FILE[:NAME]`; if a file with the whole of that name exists, it is the file."""
    head, colon, name = text.rpartition(":")
    if colon and name.isidentifier() and not Path(text).exists():
        return Place(Path(head), name)
    return Place(Path(text))


def load_server(place: Place) -> Server:
    """Import the file and return its server.

    Raises CommandError if there is no such file, if it is not clear which server is meant,
    and if the import fails; its traceback is then printed on stderr.
    """
    if not place.path.is_file():
        raise CommandError(f"there is no file {str(place.path)!r}")
    return find_server(import_file(place.path), place)


def import_file(path: Path) -> ModuleType:
    """Run the file as a module that is not `__main__`, with its own directory on the path."""
    # A module of that name may be imported already: this is not a fresh interpreter.
    name = path.stem if path.stem not in sys.modules else "trio_mcp_served_file"
    path = path.absolute()
    loader = SourceFileLoader(name, str(path))
    spec = spec_from_file_location(name, path, loader=loader)
    assert spec is not None, "a spec is found wherever a loader is given"
    module = module_from_spec(spec)
    sys.modules[name] = module  # annotations are looked up there
    sys.path.insert(0, str(path.parent))
    try:
        # What the file prints must not mix with the messages on stdout.
        with redirect_stdout(sys.stderr):
            loader.exec_module(module)
    except Exception as error:  # the user's file may raise anything
        traceback.print_exception(type(error), error, _own_frames(error.__traceback__, path))
        raise CommandError(f"{str(path)!r} could not be imported", TOOL_FAILED) from error
    return module


def find_server(module: ModuleType, place: Place) -> Server:
    """Return the server that `place` names, or the only one of the module."""
    found = {name: value for name, value in vars(module).items() if isinstance(value, Server)}
    file = str(place.path)
    if place.name is not None:
        if place.name in found:
            return found[place.name]
        what = "is no Server" if hasattr(module, place.name) else "does not exist"
        raise CommandError(f"{place.name!r} in {file!r} {what}; {_describe(found)}")
    servers = {id(server): server for server in found.values()}
    if len(servers) == 1:
        return next(iter(servers.values()))
    if not servers:
        raise CommandError(f"{file!r} has no Server at module level")
    raise CommandError(
        f"{file!r} has more than one Server: say which, as {' or '.join(_places(found, file))}"
    )


def _describe(found: dict[str, Server]) -> str:
    return f"the file has {', '.join(found)}" if found else "the file has no Server at module level"


def _places(found: dict[str, Server], file: str) -> list[str]:
    return [f"{file}:{name}" for name in found]


def _own_frames(frames: TracebackType | None, path: Path) -> TracebackType | None:
    """Leave out the frames of the import itself, above those of the file."""
    own = frames
    while own is not None and own.tb_frame.f_code.co_filename != str(path):
        own = own.tb_next
    return own
