"""The pages that the authorization server shows to a user.

Owns their HTML. All text of others is escaped, and the pages load nothing and cannot be framed.
"""

from __future__ import annotations

from collections.abc import Collection
from html import escape
from typing import Final
from urllib.parse import urlsplit

from trio_mcp.testing.authorization.exchange import NO_STORE, Answer, OAuthProblem

_HEADERS: Final = {
    "content-type": "text/html; charset=utf-8",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    **NO_STORE,
}

_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head><body>
<h1>{title}</h1>
<p><strong>This authorization server is for development only.</strong></p>
{content}
</body></html>
"""


def _page(title: str, content: str, status: int) -> Answer:
    return Answer(status, _HEADERS, _PAGE.format(title=escape(title), content=content).encode())


def show_failure(problem: OAuthProblem) -> Answer:
    """A page for a request that cannot be answered to its client."""
    text = f"<p>{escape(problem.error)}: {escape(problem.description)}</p>"
    status = problem.status if problem.status != 401 else 400
    return _page("This request cannot be granted", text, status)


def show_login(
    key: str, client_name: str, redirect_uri: str, scopes: Collection[str], failure: str = ""
) -> Answer:
    """The page on which a user logs in and grants scopes to a client; `key` names the request."""
    boxes = "".join(
        f'<p><label><input type="checkbox" name="granted" value="{escape(scope)}" checked> '
        f"{escape(scope)}</label></p>"
        for scope in sorted(scopes)
    )
    split = urlsplit(redirect_uri)
    target = split.hostname or f"{split.scheme}:"
    content = f"""<p>{escape(failure)}</p>
<p>The client <strong>{escape(client_name)}</strong> asks for access.
Your answer goes to <strong>{escape(target)}</strong>.</p>
<form method="post" action="">
<input type="hidden" name="transaction" value="{escape(key)}">
{boxes}
<p><label>User <input name="user" autocomplete="username"></label></p>
<p><label>Password <input name="password" type="password" autocomplete="current-password"></label></p>
<p><button name="decision" value="allow">Allow</button>
<button name="decision" value="deny" formnovalidate>Deny</button></p>
</form>"""
    return _page("Log in", content, 401 if failure else 200)
