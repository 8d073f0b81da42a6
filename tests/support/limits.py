"""The one limit on real time in tests."""

from __future__ import annotations

from typing import Final

HANG_SECONDS: Final = 120
"""Only a hang takes so long, also on a machine that is busy with other work."""
