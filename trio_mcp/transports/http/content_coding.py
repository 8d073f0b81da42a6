"""The content codings of HTTP bodies (RFC 9110, section 8.4), for servers that use one unasked.

Owns gzip and deflate, decoded piece by piece: a small input never becomes a huge output at once.
Refuses to know connections.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from typing import Final

import trio

PIECE_BYTES: Final = 65_536
"""The most that one step decodes: the cap of the body refuses a bomb before it takes more memory."""

_IDENTITY: Final = frozenset({"", "identity"})
_GZIP: Final = frozenset({"gzip", "x-gzip"})
_DEFLATE: Final = "deflate"


def is_identity(coding: str) -> bool:
    """Whether a Content-Encoding leaves the body as it is."""
    return coding.strip().lower() in _IDENTITY


def is_decodable(coding: str) -> bool:
    """Whether `DecodedChunks` decodes a Content-Encoding."""
    coding = coding.strip().lower()
    return coding in _GZIP or coding == _DEFLATE


class DecodedChunks:
    """`chunks` in a coding that is decodable, decoded as they come.

    Raises zlib.error if they are not in that coding.
    """

    def __init__(self, chunks: AsyncIterator[bytes], coding: str) -> None:
        self._chunks = chunks
        self._is_gzip = coding.strip().lower() in _GZIP
        self._inflater: zlib._Decompress | None = None
        self._input = b""
        self._may_have_more = False  # decoded already, and not yet taken

    def __aiter__(self) -> DecodedChunks:
        return self

    async def __anext__(self) -> bytes:
        if self._input:  # a long piece came of little input, and others have a turn before the next
            await trio.lowlevel.checkpoint()
        while True:
            if self._may_have_more and (piece := self._decode()):
                return piece
            data = await anext(self._chunks)
            if self._inflater is None or not self._inflater.eof:  # what follows the end means nothing
                self._input += data
                self._may_have_more = True

    def _decode(self) -> bytes:
        if self._inflater is None:
            if len(self._input) < 2:
                self._may_have_more = False
                return b""
            self._inflater = zlib.decompressobj(self._window_bits())
        piece = self._inflater.decompress(self._input, PIECE_BYTES)
        self._input = self._inflater.unconsumed_tail
        self._may_have_more = bool(piece)
        return piece

    def _window_bits(self) -> int:
        """What zlib is to expect: "deflate" is sent with the header of zlib, as it should be, and without."""
        if self._is_gzip:
            return zlib.MAX_WBITS | 16
        first, second = self._input[:2]
        has_header = first & 0x0F == 8 and (first << 8 | second) % 31 == 0
        return zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS
