"""The options and arguments that several commands of `trio-mcp` have.

Owns their texts in --help and their validation.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from cyclopts import Parameter

from trio_mcp.client.negotiation import find_era
from trio_mcp.wire.messages import LoggingLevel


def check_seconds(type_: Any, value: float | None) -> None:
    """Raise ValueError unless `value` is a number of seconds."""
    if value is not None and not value > 0:
        raise ValueError("It must be a number of seconds larger than 0.")


def check_not_negative(type_: Any, value: float | None) -> None:
    """Raise ValueError unless `value` is a number of seconds or 0."""
    if value is not None and not value >= 0:
        raise ValueError("It must be a number of seconds, or 0.")


def check_number(type_: Any, value: int | None) -> None:
    """Raise ValueError unless `value` is at least 1."""
    if value is not None and value < 1:
        raise ValueError("It must be a number larger than 0.")


def check_protocol(type_: Any, value: str) -> None:
    """Raise ValueError for a protocol revision that does not exist."""
    find_era(value)


TargetArgument: TypeAlias = Annotated[
    str,
    Parameter(
        help='The server: a file (server.py, or server.py:NAME; see "trio-mcp run"), a command line '
        'with a space in it ("npx some-server"), a URL (http, https, ws, wss), or a server of a file with '
        "mcpServers (mcp.json:NAME). A command can also stand at the end, after --, in place of TARGET."
    ),
]
EnvOption: TypeAlias = Annotated[
    tuple[str, ...],
    Parameter(
        name="--env",
        help="A variable NAME=VALUE for the environment of the server that is started, beside those that "
        "it inherits; may be given several times.",
        negative="",
        consume_multiple=False,
        show_default=False,
    ),
]
CwdOption: TypeAlias = Annotated[
    str | None,
    Parameter(name="--cwd", help="The directory in which the server is started.", show_default=False),
]
AuthOption: TypeAlias = Annotated[
    str | None,
    Parameter(
        name="--auth",
        help="The access token for a server with a URL: env:NAME or file:PATH, or the token itself, which "
        'lists of processes show then [default: that of "trio-mcp login"].',
        show_default=False,
    ),
]
GuardOption: TypeAlias = Annotated[
    tuple[str, ...],
    Parameter(
        name="--auth",
        help="With --http, who verifies access tokens: jwks:URL,issuer=ISSUER[,audience=NAME...], "
        "introspect:URL,client_id=ID,client_secret=env:NAME[,audience=NAME...], or for development "
        "static:env:NAME[,name=WHO][,scopes=A B]; given several times, any of them.",
        negative="",
        consume_multiple=False,
        show_default=False,
    ),
]
PublicUrlOption: TypeAlias = Annotated[
    str | None,
    Parameter(
        name="--url",
        help="With --http, the URL by which clients know the server, if a proxy stands before it. Tokens "
        "must be for it, unless --auth names an audience.",
        show_default=False,
    ),
]
ProtocolOption: TypeAlias = Annotated[
    str,
    Parameter(help='Protocol revision to speak, such as "2025-06-18".', validator=check_protocol),
]
TasksOption: TypeAlias = Annotated[
    str | None,
    Parameter(
        help="Keep the background tasks in this store: sqlite:PATH, redis://HOST, rediss://, valkey://, "
        "valkeys:// or memory: [default: the store of the file's Server].",
        show_default=False,
    ),
]
Switch: TypeAlias = Annotated[bool, Parameter(negative="", show_default=False)]
StructuredSwitch: TypeAlias = Annotated[
    Switch, Parameter(help="Print the structured content as JSON, also if there is text.")
]
LogLevelOption: TypeAlias = Annotated[LoggingLevel, Parameter(help="Lowest level of log messages to show.")]
QuietSwitch: TypeAlias = Annotated[Switch, Parameter(help="Show no progress and no log messages.")]
IdleTimeoutOption: TypeAlias = Annotated[
    float | None, Parameter(help="Longest time without progress, in seconds.", validator=check_seconds)
]
MaxTimeoutOption: TypeAlias = Annotated[
    float | None,
    Parameter(
        help="Longest time in all, in seconds [default: ten times the idle timeout].",
        validator=check_seconds,
    ),
]
