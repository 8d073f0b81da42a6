"""The entry point of `trio-mcp`: runs a command, or says which package it needs.

Imports nothing at its top that needs the extra `cli`, so that it can say so.
"""

from __future__ import annotations

import sys
from typing import Final

from trio_mcp.cli.status import FAILED, INTERRUPTED

EXTRA: Final = frozenset({"cyclopts", "rich"})


def main() -> None:
    """Run the command line of this process; does not return."""
    try:
        # Imported here, because it needs packages of the extra, which may be missing.
        from trio_mcp.cli.commands import run_command

        status = run_command(sys.argv[1:])
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in EXTRA:
            raise
        print(f"trio-mcp needs {missing}; run: pip install 'trio-mcp[cli]'", file=sys.stderr)
        status = FAILED
    except KeyboardInterrupt:
        status = INTERRUPTED
    sys.exit(status)
