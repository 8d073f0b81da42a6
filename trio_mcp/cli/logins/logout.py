"""`trio-mcp logout`: ends a login at the authorization server, and forgets it here.

Owns that it is forgotten here in any case.
"""

from __future__ import annotations

from trio_mcp.cli.access import find_tokens_file
from trio_mcp.cli.logins.book import LoginBook, secret_key
from trio_mcp.cli.logins.flow import load_secret, make_oauth
from trio_mcp.cli.output import print_note
from trio_mcp.cli.status import SUCCEEDED, CommandError
from trio_mcp.errors import AuthorizationError
from trio_mcp.wire.authorization import canonical_resource


async def log_out(url: str) -> int:
    """Revoke and forget the tokens for the server at `url`; checkpoints.

    Raises CommandError if the user is not logged in there, and TokenStorageError.
    """
    server = canonical_resource(url)
    book = LoginBook(find_tokens_file())
    login = (await book.load()).get(server)
    if login is None:
        raise CommandError(f"you are not logged in to {server}")
    storage = book.open_storage(login.place)
    oauth = make_oauth(login, storage, await load_secret(login, server, storage), None)
    try:
        is_revoked = await oauth.log_out(url)
        told = "the tokens were revoked" if is_revoked else "the tokens were not revoked, only forgotten here"
    except AuthorizationError as error:
        told = f"the tokens are forgotten here, but could not be revoked: {error}"
    await storage.delete(secret_key(server))
    await book.remove(server)
    print_note(f"Logged out of {server}: {told}.")
    return SUCCEEDED
