"""What every log record of this package goes through before a handler sees it.

Owns the cleaning of records: much of what is logged was said by a peer. Installs no handler and sets no
level: whether and where records are written is decided by the program.
"""

from __future__ import annotations

import logging
from typing import Final

from trio_mcp.printable import printable

MESSAGE_CHARACTERS: Final = 4096
"""A longer message is cut: a peer may send megabytes as an error."""

LAYERS: Final = (
    "access",
    "authorization",
    "client",
    "handlers",
    "instruments",
    "oauth",
    "outgoing",
    "progress",
    "proxy",
    "requests",
    "server",
    "session",
    "tasks",
    "transports",
    "wire",
)
"""Who logs: each layer to the logger `trio_mcp.<name>`, HTTP requests to "access", and middleware
logs requests to "requests"."""

_formatter: Final = logging.Formatter()


class PrintableFilter(logging.Filter):
    """Makes the text of records safe to be shown: messages have one line, tracebacks several."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Clean `record`, which is changed only if it has to be; always True."""
        message = record.getMessage()
        clean = printable(message)
        if len(clean) > MESSAGE_CHARACTERS:
            clean = f"{clean[:MESSAGE_CHARACTERS]}... ({len(message):,} characters)"
        if clean != message:
            record.msg, record.args = clean, ()
        if record.exc_info and record.exc_info[0] is not None and record.exc_text is None:
            traceback = _formatter.formatException(record.exc_info)
            clean = printable(traceback, lines=True)
            if clean != traceback:
                record.exc_text = clean  # formatters use it in place of the exception
        return True


def clean_records() -> None:
    """Let every record of this package go through a `PrintableFilter`."""
    own = PrintableFilter()
    logging.getLogger("trio_mcp").addFilter(own)
    for layer in LAYERS:  # a logger's filters do not see the records of its children
        logging.getLogger(f"trio_mcp.{layer}").addFilter(own)
