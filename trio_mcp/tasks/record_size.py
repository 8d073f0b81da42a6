"""How large a record is, as the caps of stores count it.

Owns that one measure. Encodes nothing large.
"""

from __future__ import annotations

import msgspec

from trio_mcp.tasks.record import TaskRecord


def record_size(record: TaskRecord) -> int:
    """The bytes of the values in `record` that come from the handler; nothing large is encoded."""
    size = _text_size(record.status_message)
    if record.progress is not None:
        size += _text_size(record.progress.message)
        for stage in record.progress.stages or ():
            size += sum(map(_text_size, (*stage.path, stage.message)))
    if record.outcome is not None:
        outcome = record.outcome
        size += 0 if outcome.result is None else len(outcome.result)
        if outcome.error is not None:
            data = outcome.error.data
            size += _text_size(outcome.error.message) + (len(data) if isinstance(data, msgspec.Raw) else 0)
    if record.inputs:
        size += len(
            msgspec.json.encode(record.inputs, enc_hook=dict)
        )  # dict, if it is a Mapping of another kind
    return size


def _text_size(text: str | None) -> int:
    if text is None:
        return 0
    # A str knows whether it is ASCII, and then needs no copy to be measured.
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
