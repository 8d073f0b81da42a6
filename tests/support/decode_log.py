"""Writes down what a program decodes from JSON: `install` before anything of trio_mcp is imported."""

from __future__ import annotations

from typing import Any

import msgspec

_decode = msgspec.json.decode
_Decoder = msgspec.json.Decoder


class DecodeLog:
    """The JSON texts that were decoded, in order, each with the type that it was decoded to."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str]] = []

    def note(self, data: Any, kind: Any) -> None:
        text = data.encode() if isinstance(data, str) else bytes(data)
        self.entries.append((getattr(kind, "__name__", str(kind)), text.decode()))

    def install(self) -> None:
        """Let all decoders that msgspec makes from now on write here."""
        log = self

        class Decoder:
            def __init__(self, type: Any = Any, **options: Any) -> None:  # noqa: A002  # as msgspec has it
                self._type = type
                self._inner = _Decoder(type, **options)

            def __class_getitem__(cls, item: Any) -> Any:
                return cls

            def decode(self, data: Any) -> Any:
                log.note(data, self._type)
                return self._inner.decode(data)

            def decode_lines(self, data: Any) -> Any:
                log.note(data, self._type)
                return self._inner.decode_lines(data)

        def decode(data: Any, *, type: Any = Any, **options: Any) -> Any:  # noqa: A002  # likewise
            log.note(data, type)
            return _decode(data, type=type, **options)

        msgspec.json.Decoder = Decoder  # type: ignore[misc, assignment]
        msgspec.json.decode = decode  # type: ignore[assignment]
