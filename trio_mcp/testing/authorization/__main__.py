"""`python -m trio_mcp.testing.authorization`: the authorization server for development, by itself.

Owns the options and what is printed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import trio

from trio_mcp.testing.authorization.serving import open_authorization_server
from trio_mcp.testing.authorization.state import AuthorizationSettings


def read_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; exits with a message if it is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m trio_mcp.testing.authorization",
        description="Serve an OAuth authorization server for development. It is NOT for production.",
    )
    parser.add_argument("--bind", default="127.0.0.1:9000", help="a loopback address (%(default)s)")
    parser.add_argument("--path", default="", help='the path of the issuer, such as "/tenant"')
    parser.add_argument("--auto", action="store_true", help="grant every request, without a login page")
    parser.add_argument("--scopes", nargs="*", help="the scopes that there are; by default any")
    return parser.parse_args(arguments)


async def serve(
    arguments: argparse.Namespace, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve until cancelled; checkpoints. `issuer = await nursery.start(serve, arguments)`."""
    async with open_authorization_server(
        bind=arguments.bind,
        path=arguments.path,
        login_page=not arguments.auto,
        scopes_supported=arguments.scopes,
    ) as server:
        print(f"Issuer {server.issuer}, for development only. Ctrl-C ends it.")
        if not arguments.auto:
            names = [f"{user.subject} (password {user.password})" for user in AuthorizationSettings().users]
            print(f"Users: {', '.join(names)}")
        task_status.started(server.issuer)
        await trio.sleep_forever()


def main() -> None:
    """Run the command."""
    arguments = read_arguments()
    try:
        trio.run(serve, arguments)
    except KeyboardInterrupt:
        print("ended")
    except (OSError, ValueError) as error:
        raise SystemExit(f"trio_mcp.testing.authorization: {error}") from None


if __name__ == "__main__":
    main()
