"""The members of a JSON-RPC batch, of which there may be only so many.

Owns the cap, which is applied while the array is read: what is beyond it is never decoded. Refuses to
know what a member means.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

MAX_MEMBERS: Final = 128
"""The most messages of one batch: each may have an answer, and a tiny one a hundred times as long."""


@cache  # made when the first batch comes: most servers never meet one
def _decoder() -> msgspec.json.Decoder[Any]:
    fields = [(f"member{number}", Raw | UnsetType, UNSET) for number in range(MAX_MEMBERS)]
    struct = msgspec.defstruct("Members", fields, array_like=True, forbid_unknown_fields=True)
    return msgspec.json.Decoder(struct)


def read_members(data: bytes) -> list[Raw]:
    """The members of an array; raises msgspec.ValidationError at the first that is beyond the cap.

    Raises msgspec.DecodeError for what is not JSON.
    """
    struct = _decoder().decode(data)
    members = (getattr(struct, name) for name in struct.__struct_fields__)
    return [member for member in members if member is not UNSET]
