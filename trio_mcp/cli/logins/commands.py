"""The commands `trio-mcp login`, `logout` and `whoami`, and their options.

Owns their command lines and the texts of --help, as `cli/commands.py` does for the other commands. What they
do is imported when one of them runs: every other command starts without it.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal, TypeAlias

from cyclopts import Parameter

from trio_mcp.cli.options import ProtocolOption, Switch
from trio_mcp.cli.running import run_work
from trio_mcp.cli.secret_source import read_secret
from trio_mcp.cli.status import CommandError
from trio_mcp.cli.targets import read_target

UrlArgument: TypeAlias = Annotated[
    str, Parameter(name="URL", help="The server's URL (http, https, ws, wss), or mcp.json:NAME.")
]


def check_port(type_: object, value: int) -> None:
    """Raise ValueError unless `value` is a port, or 0."""
    if not 0 <= value <= 65_535:
        raise ValueError("It must be from 0 to 65535.")


def login(
    url: UrlArgument,
    /,
    *,
    scope: Annotated[
        tuple[str, ...],
        Parameter(
            name="--scope",
            help="A scope to ask for beside those that the server wants; may be given several times.",
            negative="",
            consume_multiple=False,
            show_default=False,
        ),
    ] = (),
    client_id: Annotated[
        str | None,
        Parameter(help="The id of a client that was registered beforehand [default: registers one itself]."),
    ] = None,
    client_secret: Annotated[
        str | None,
        Parameter(help="The secret of that client: env:NAME or file:PATH. It is kept with the tokens."),
    ] = None,
    client_metadata_url: Annotated[
        str | None,
        Parameter(help="The https URL of a client metadata document, which is the client's id then."),
    ] = None,
    issuer: Annotated[
        str | None, Parameter(help="The only authorization server to trust [default: as the server says].")
    ] = None,
    port: Annotated[
        int,
        Parameter(
            help="The port of the redirect URI http://127.0.0.1:PORT/callback [default: any free one].",
            show_default=False,
            validator=check_port,
        ),
    ] = 0,
    storage: Annotated[
        Literal["file", "keyring"],
        Parameter(help="Where tokens are kept: a file that only you can read, or the system's keyring."),
    ] = "file",
    no_browser: Annotated[Switch, Parameter(help="Open no browser, only print the address.")] = False,
    allow_private: Annotated[
        Switch, Parameter(help="Let the server name an authorization server in a private network.")
    ] = False,
    protocol: ProtocolOption = "auto",
) -> int:
    """Log in to a server with OAuth; the other commands use the tokens, and renew them, from then on.

    The address to open is printed, and opened in the browser. An earlier login to the server is replaced.
    Exit status: 0 logged in, 2 not, 130 cancelled.

    Examples: trio-mcp login https://example.com/mcp, trio-mcp login https://example.com/mcp --client-id my-id
    --client-secret env:MY_SECRET --port 8400
    """
    if client_secret is not None and client_id is None:
        raise CommandError("--client-secret belongs to a --client-id, which is not given")
    secret = None if client_secret is None else read_secret(client_secret, "--client-secret")
    server = _read_url(url)
    from trio_mcp.cli.logins.book import Login
    from trio_mcp.cli.logins.login import log_in

    chosen = Login(
        place=storage,
        client_id=client_id,
        has_secret=secret is not None,
        client_metadata_url=client_metadata_url,
        issuer=issuer,
        scopes=tuple(name for text in scope for name in text.split()),
        port=port,
        opens_browser=not no_browser,
        allows_private=allow_private,
    )
    return run_work(partial(log_in, server, chosen, secret, protocol=protocol))


def logout(url: UrlArgument, /) -> int:
    """Log out of a server: its tokens are revoked, if its authorization server can do that, and forgotten.

    Exit status: 0 logged out, 2 you were not logged in.
    """
    server = _read_url(url)
    from trio_mcp.cli.logins.logout import log_out

    return run_work(partial(log_out, server))


def whoami(
    url: Annotated[str | None, Parameter(name="URL", help="The server's URL [default: all].")] = None,
    /,
    *,
    json: Annotated[Switch, Parameter(help="Print JSON; times are in Unix seconds.")] = False,
) -> int:
    """Show where you are logged in: server, issuer, client, scopes and expiry. No token is shown.

    Exit status: 0, or 2 if you are not logged in to the URL.
    """
    server = None if url is None else _read_url(url)
    from trio_mcp.cli.logins.whoami import show_logins

    return run_work(partial(show_logins, server, as_json=json))


def _read_url(text: str) -> str:
    """The URL that `text` is, or that a file with `mcpServers` has for it; raises CommandError."""
    command = read_target(text)
    target = command if isinstance(command, str) else getattr(command, "target", None)
    if not isinstance(target, str):
        raise CommandError(f"{text!r} is no server with a URL, and only those have logins")
    if "@" in target.partition("://")[2].partition("/")[0]:
        raise CommandError("this URL has credentials of its own: log in with the URL without them")
    from trio_mcp.wire.authorization import canonical_resource

    try:
        canonical_resource(target)
    except ValueError as error:
        raise CommandError(f"{target!r} is no URL of a server: {error}") from None
    return target
