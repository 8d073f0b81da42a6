"""How large a value is as JSON, for middleware that counts bytes.

Owns what counts as the size of a result: its encoded text, without what its message adds.
"""

from __future__ import annotations

from typing import Any

from trio_mcp.wire.codec import UNENCODABLE, encode_value


def count_bytes(value: Any) -> int:
    """The bytes of `value` as JSON; 0 for what is none, which fails where it is sent."""
    try:
        return len(bytes(encode_value(value)))
    except UNENCODABLE:
        return 0
