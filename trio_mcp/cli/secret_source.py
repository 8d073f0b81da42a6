"""Secrets on the command line: named by where they are, so that no list of processes shows them.

Owns `env:NAME` and `file:PATH`. No message holds a secret.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from trio_mcp.cli.status import CommandError

ENV: Final = "env:"
FILE: Final = "file:"

MAX_SECRET_BYTES: Final = 64 * 1024
"""A longer file is most likely another one: no header holds so much."""


def read_secret(text: str, option: str, *, may_be_plain: bool = False) -> str:
    """The secret that `text` names: `env:NAME`, `file:PATH` or, if it `may_be_plain`, the text itself.

    A file may end with a newline, which is not part of the secret. Raises CommandError.
    """
    if text.startswith(ENV):
        name = text.removeprefix(ENV)
        secret = os.environ.get(name, "")
        if not secret:
            raise CommandError(f"{option}: there is no environment variable {name!r}, or it is empty")
        return secret
    if text.startswith(FILE):
        return _read_file(text.removeprefix(FILE), option)
    if not may_be_plain:
        # The text is not shown: it may be the secret itself.
        raise CommandError(f"{option} needs env:NAME or file:PATH, so that no list of processes shows it")
    if not text:
        raise CommandError(f"{option} is empty")
    return text


def _read_file(name: str, option: str) -> str:
    try:
        with Path(name).expanduser().open("rb") as file:
            data = file.read(MAX_SECRET_BYTES + 1)
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no path"
        raise CommandError(f"{option}: cannot read {name!r}: {reason}") from None
    if len(data) > MAX_SECRET_BYTES:
        raise CommandError(f"{option}: {name!r} is longer than {MAX_SECRET_BYTES:,} bytes")
    try:
        secret = data.decode().strip("\r\n")
    except UnicodeDecodeError:
        raise CommandError(f"{option}: {name!r} is no text in UTF-8") from None
    if not secret:
        raise CommandError(f"{option}: {name!r} is empty")
    return secret
