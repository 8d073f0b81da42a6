"""A user's browser at the authorization server, as far as the dance of OAuth needs one.

Owns the following of redirects and the filling in of the login page. It runs in memory.
"""

from __future__ import annotations

import html
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import urlencode

from trio_mcp.testing.authorization.exchange import FORM, Answer

_INPUT: Final = re.compile(r'name="(transaction|granted)" value="([^"]*)"')

Ask = Callable[[str, str, Mapping[str, str], bytes], Awaitable[Answer]]
"""Makes a request: method, URL, headers, body."""


async def visit(
    ask: Ask, url: str, user: str, password: str, *, scopes: frozenset[str] | None, deny: bool
) -> str:
    """Open an authorization URL, log in and decide; checkpoints. Returns the URL of the client's callback.

    `scopes` None: grant all that is asked for. Raises ValueError with the text of the page if the server
    sends the browser nowhere.
    """
    answer = await ask("GET", url, {}, b"")
    if answer.status == 200:
        fields = [(name, html.unescape(value)) for name, value in _INPUT.findall(answer.body.decode())]
        form = [
            (name, value) for name, value in fields if name != "granted" or scopes is None or value in scopes
        ]
        form += [("user", user), ("password", password), ("decision", "deny" if deny else "allow")]
        answer = await ask("POST", url.partition("?")[0], {"content-type": FORM}, urlencode(form).encode())
    if answer.status != 302:
        page = re.sub(r"<[^>]*>", " ", answer.body.decode("utf-8", "replace"))
        raise ValueError(f"the server shows a page ({answer.status}): {' '.join(page.split())}")
    return answer.headers["location"]
