"""JSON-RPC frames to JSON bytes and back.

Owns the rules of a well-formed JSON-RPC 2.0 message (MCP base protocol, "Messages").
Refuses to know methods, except that progress notifications, the hot path, are encoded and
decoded in bulk (`progress_codec.py`). A message that cannot be decoded becomes a `Malformed` frame with the
error code that JSON-RPC names for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from trio_mcp.wire.batch_members import MAX_MEMBERS, read_members
from trio_mcp.wire.errors import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    PARSE_ERROR,
    ProtocolError,
)
from trio_mcp.wire.frames import (
    Batch,
    Decoded,
    ErrorObject,
    ErrorResponse,
    InFrame,
    Malformed,
    MessageKind,
    Notification,
    OutFrame,
    ProgressRun,
    Request,
    RequestId,
    Response,
)
from trio_mcp.wire.progress_codec import (
    PROGRESS_METHOD,
    PROGRESS_NAME,
    decode_burst,
    group_progress,
    make_notifications,
    merge_progress,
    read_progress,
)
from trio_mcp.wire.value_count import MAX_VALUES, has_too_many_values

ERROR_LENGTH: Final = 1000
"""The most characters of an error's message: many quote what a peer sent, and a batch has many of them."""

UNENCODABLE: Final = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)
"""What `encode_value` raises for values that JSON cannot hold."""

_SAFE: Final = 2**53


class _Envelope(Struct, frozen=True):
    jsonrpc: Any = UNSET
    id: Any = UNSET
    method: Any = UNSET
    params: Raw | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET


_encoder = msgspec.json.Encoder()
_envelope_decoder = msgspec.json.Decoder(_Envelope)
_error_decoder = msgspec.json.Decoder(ErrorObject)


def encode_value(value: Any) -> Raw:
    """Encode one JSON payload; raises one of `UNENCODABLE` for a value that JSON cannot hold."""
    return Raw(_encoder.encode(value))


def make_error(error: ProtocolError) -> ErrorObject:
    """The error object of `error`; never raises, whatever the author of `error` put into it."""
    code, message = error.code, error.message
    if type(code) is not int:
        return ErrorObject(INTERNAL_ERROR, f"an error with the code {code!r}, which is no integer")
    text = message if isinstance(message, str) else repr(message)
    if len(text) > ERROR_LENGTH:
        text = f"{text[:ERROR_LENGTH]}... ({len(text)} characters)"
    text = text.encode(errors="backslashreplace").decode()
    if error.data is None:
        return ErrorObject(code, text)
    try:
        return ErrorObject(code, text, encode_value(error.data))
    except UNENCODABLE as problem:
        return ErrorObject(INTERNAL_ERROR, f"an error whose data is not JSON: {problem}")


def encode_lines(frames: Iterable[OutFrame]) -> bytes:
    """Encode `frames` in order, a newline after each message."""
    messages: list[Struct | list[Any]] = []
    for frame in frames:
        if type(frame) is ProgressRun:
            messages.extend(make_notifications(frame))
        elif type(frame) is Batch:
            messages.append(list(frame.frames))
        else:
            messages.append(frame)
    return _encoder.encode_lines(messages)


def encode_message(frame: OutFrame) -> bytes:
    """Encode one frame that is one message."""
    return encode_lines([frame])[:-1]


def encode_messages(frames: Iterable[OutFrame]) -> list[bytes]:
    """Encode `frames` in order, one byte string for each message."""
    return encode_lines(frames).splitlines()


def decode_lines(data: bytes, max_values: int = MAX_VALUES) -> list[InFrame]:
    """Decode newline-separated messages; blank lines are skipped, nothing is lost.

    A run of progress notifications of one token becomes one `ProgressRun` frame. A message that holds
    more than `max_values` values comes back as `Malformed`.
    """
    is_counted = len(data) <= max_values or not has_too_many_values(data, max_values)
    if data.find(b"\n", 0, -1) == -1 and PROGRESS_NAME not in data:
        # One message that is no progress, as calls and their answers are.
        if not data or data.isspace():
            return []
        line = data.removesuffix(b"\n")
        return [decode_counted(line) if is_counted else refuse_values(line, max_values)]
    try:
        if is_counted:
            # A burst is all progress: one typed pass over it costs half of the general one.
            return group_progress(decode_burst(data))
    except Exception:  # not a burst: every line is decoded, and answered, by itself
        pass
    if is_counted and (frames := _decode_ended_burst(data)) is not None:
        return frames
    lines = [line for line in data.split(b"\n") if line.strip()]
    if is_counted:
        return merge_progress([decode_counted(line) for line in lines])
    return merge_progress([decode_message(line, max_values) for line in lines])


def _decode_ended_burst(data: bytes) -> list[InFrame] | None:
    """Decode a burst and one other message behind it, such as its answer; None if `data` is not that."""
    burst, _, last = data.rstrip().rpartition(b"\n")
    if not burst or burst.count(PROGRESS_NAME) != burst.count(b"\n") + 1:
        return None
    try:
        frames = group_progress(decode_burst(burst))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):  # its lines only hold the name
        return None
    return merge_progress([*frames, decode_counted(last)])


def decode_message(data: bytes, max_values: int = MAX_VALUES) -> Decoded:
    """Decode one message. Never raises: what is not JSON-RPC comes back as `Malformed`.

    So does what holds more than `max_values` values.
    """
    if len(data) > max_values and has_too_many_values(data, max_values):
        return refuse_values(data, max_values)
    return decode_counted(data)


def decode_counted(data: bytes) -> Decoded:
    """Decode one message whose values have been counted before; never raises."""
    try:
        # Raw members are only skipped by the decoder, so UTF-8 is checked here.
        if not data.isascii():
            data.decode()
        envelope = _envelope_decoder.decode(data)
    except Exception as error:  # any failure to decode is an answer, RecursionError too
        return _undecodable(data, error)
    return _read_envelope(envelope)


def refuse_values(data: bytes, max_values: int) -> Malformed:
    """Stand in for the message `data`, which holds more than `max_values` values."""
    try:
        if data.lstrip()[:1] == b"[":
            read_members(data)
    except msgspec.ValidationError:
        return _refuse_batch()  # its number of members is the plainer reason
    except (msgspec.DecodeError, RecursionError):
        pass
    # Here and below id_scan is imported when it is needed: most processes never meet such a message.
    from trio_mcp.wire.id_scan import find_last_id

    frame = refuse_message(data, f"a message must not hold more than {max_values} values")
    ident = find_last_id(data) if frame.lost else UNSET
    return frame if ident is UNSET else Malformed(frame.code, frame.reason, ident, kind=frame.kind)


def _undecodable(data: bytes, error: Exception) -> Decoded:
    start = data.lstrip()[:1]
    if isinstance(error, msgspec.ValidationError) and start == b"[":
        return _read_batch(data)
    if isinstance(error, msgspec.ValidationError) and start != b"{":
        return Malformed(INVALID_REQUEST, "a message must be a JSON object")
    if start == b"[":  # an invalid byte comes before the wrong type
        return _read_unreadable_batch(data, error)
    from trio_mcp.wire.id_scan import find_flaw

    return refuse_message(data, f"not valid JSON: {find_flaw(data, error)}")


def refuse_message(data: bytes, reason: str, *, lost: bool = False) -> Malformed:
    """Stand in for the message `data`, with its id if that can be found in it.

    If it is not found, any request may have lost its answer if the message was `lost`, so that `data`
    is only its beginning, or if it is too long to be searched.
    """
    from trio_mcp.wire.id_scan import scan_message

    scan = scan_message(data)
    lost = (lost or scan.gave_up) and scan.id is UNSET
    return Malformed(PARSE_ERROR, reason, scan.id, lost, scan.kind)


def _read_batch(data: bytes) -> Decoded:
    try:
        members = read_members(data)
    except msgspec.ValidationError:
        return _refuse_batch()
    except Exception as error:  # any failure to decode is an answer, RecursionError too
        return _read_unreadable_batch(data, error)
    return _read_members([bytes(member) for member in members])


def _refuse_batch() -> Malformed:
    return Malformed(INVALID_REQUEST, f"a batch must not hold more than {MAX_MEMBERS} messages")


def _read_unreadable_batch(data: bytes, error: Exception) -> Decoded:
    from trio_mcp.wire.id_scan import find_flaw, split_batch

    members = split_batch(data)
    if any(member.startswith(b"{") for member in members):
        return _read_members(members)
    return Malformed(PARSE_ERROR, f"not valid JSON: {find_flaw(data, error)}")


def _read_members(members: list[bytes]) -> Decoded:
    if not members:
        return Malformed(INVALID_REQUEST, "a batch must not be empty")
    frames: list[Any] = []
    for member in members:
        if member.lstrip()[:1] == b"[":  # which may hold others, deeper than anything can be read
            frames.append(Malformed(INVALID_REQUEST, "a batch must not hold a batch"))
        else:
            frames.append(decode_counted(member))
    return Batch(frames)


def _read_envelope(envelope: _Envelope) -> Decoded:
    ident = envelope.id
    if type(ident) not in (int, str) and ident is not UNSET:
        ident = _read_integral(ident)
    if envelope.jsonrpc != "2.0":
        kind: MessageKind = "unknown" if envelope.method is UNSET else "request"
        return _refuse('member "jsonrpc" must be "2.0"', ident, kind)
    may_answer = envelope.result is not UNSET or envelope.error is not UNSET
    if envelope.method is UNSET or (envelope.method is None and may_answer and _has_outcome(envelope)):
        return _read_answer(envelope, ident)
    if type(envelope.method) is not str:
        return _refuse('member "method" must be a string', ident, "request")
    if may_answer and _has_outcome(envelope):
        return _refuse("a message has either a method or an outcome, not both", ident)
    params = envelope.params
    if params is not UNSET and len(params) == 4 and bytes(params) == b"null":
        params = UNSET
    if envelope.id is UNSET:
        return _read_notification(envelope.method, params)
    if ident is UNSET:
        return Malformed(INVALID_REQUEST, 'member "id" must be a string or an integer')
    if params is not UNSET and bytes(memoryview(params)[:1]) != b"{":  # which does not copy a long one
        code = INVALID_PARAMS if bytes(memoryview(params)[:1]) == b"[" else INVALID_REQUEST
        return Malformed(code, 'member "params" must be an object', ident, kind="request")
    return Request(ident, envelope.method, params)


def _refuse(reason: str, ident: RequestId | UnsetType, kind: MessageKind = "unknown") -> Malformed:
    return Malformed(INVALID_REQUEST, reason, ident, kind=kind)


def _read_integral(ident: Any) -> RequestId | UnsetType:
    """1.0 is the integer 1 for JSON Schema, and some peers send every number so."""
    return int(ident) if type(ident) is float and ident.is_integer() and abs(ident) < _SAFE else UNSET


def _has_outcome(envelope: _Envelope) -> bool:
    return _is_there(envelope.result) or _is_there(envelope.error)


def _is_there(member: Raw | UnsetType) -> bool:
    """Null is absent."""
    return not isinstance(member, UnsetType) and (len(member) != 4 or bytes(member) != b"null")


def _read_notification(method: str, params: Raw | UnsetType) -> Notification | ProgressRun:
    if method == PROGRESS_METHOD and params is not UNSET:
        return read_progress(params)
    return Notification(method, params)


def _read_answer(envelope: _Envelope, ident: RequestId | UnsetType) -> Decoded:
    has_error = envelope.error is not UNSET
    if has_error and envelope.result is not UNSET:
        has_error = _is_there(envelope.error)
        if has_error and _is_there(envelope.result):
            return _refuse("a message has either a result or an error, not both", ident, "answer")
    if not has_error:
        if envelope.result is UNSET:
            return _refuse("a message has a method, a result or an error", ident)
        if ident is UNSET:
            return _refuse('member "id" must be a string or an integer', ident, "answer")
        return Response(ident, envelope.result)
    try:
        error = _error_decoder.decode(envelope.error)  # type: ignore[arg-type]  # it is there
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
        return _refuse(f'member "error" is no error object: {problem}', ident, "answer")
    return ErrorResponse(error, None if envelope.id is None else ident)
