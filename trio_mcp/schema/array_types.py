"""NumPy's and pandas' types as annotations: numbers, arrays, dates, columns and tables.

Owns what JSON value becomes which. It is imported when the first hint of either is met, whose library is
imported already.
"""

from __future__ import annotations

import datetime
import functools
import sys
import typing
from typing import Any, Final

from trio_mcp.schema.library_types import LibraryType
from trio_mcp.schema.problems import UnsupportedAnnotationError

_ARRAY: Final = {"type": "array"}
# The kinds of a dtype, and the type of their items in JSON.
_ITEMS: Final[dict[str, Any]] = {"b": bool, "i": int, "u": int, "f": float, "U": str}
_SHAPE: Final = "the items of an array are numbers, or texts, or bools, and its lists of one length"
_SIGNED: Final = {"u": "i"}
_DATES: Final = {"format": "date-time"}


def read_array_type(origin: Any, args: tuple[Any, ...], *, outgoing: bool) -> LibraryType | None:
    """How a type of NumPy or of pandas looks in JSON; None for one that has no form."""
    numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
    if numpy is not None and issubclass(origin, numpy.ndarray):
        return _read_array(origin, args, numpy)
    if numpy is not None and issubclass(origin, numpy.generic):
        return _read_scalar(origin, numpy, outgoing=outgoing)
    if pandas is not None:
        return _read_pandas(origin, pandas, outgoing=outgoing)
    return None


def _read_scalar(kind: Any, numpy: Any, *, outgoing: bool) -> LibraryType | None:
    if issubclass(kind, numpy.datetime64):
        # A result says as many digits as its unit has.
        form: Any = str if outgoing else datetime.datetime
        return LibraryType(kind, form, _make_datetime(numpy), _DATES)
    if issubclass(kind, numpy.timedelta64):
        return LibraryType(kind, datetime.timedelta, kind)
    if _is_abstract(kind, numpy):
        return None
    for parent, item in (
        (numpy.bool_, bool),
        (numpy.integer, int),
        (numpy.floating, float),
        (numpy.str_, str),
    ):
        if issubclass(kind, parent):
            return LibraryType(kind, item, kind, _bounds(kind, numpy))
    return None


def _bounds(kind: Any, numpy: Any) -> dict[str, int]:
    try:
        info = numpy.iinfo(kind)
    except ValueError:
        return {}
    # Not every host reads numbers of 64 bits.
    return {"minimum": int(info.min), "maximum": int(info.max)} if info.bits <= 32 else {}


def _make_datetime(numpy: Any) -> Any:
    def make(moment: datetime.datetime) -> Any:
        if moment.tzinfo is not None:  # NumPy knows no time zones
            moment = moment.astimezone(datetime.UTC).replace(tzinfo=None)
        return numpy.datetime64(moment)

    return make


def _read_array(origin: Any, args: tuple[Any, ...], numpy: Any) -> LibraryType:
    """An array of a known number of dimensions is that many lists within each other."""
    dtype = None
    sizes: tuple[Any, ...] = (..., ...)
    if args:
        scalars = [arg for arg in typing.get_args(args[1]) if isinstance(arg, type)]
        dtype = numpy.dtype(scalars[0]) if scalars and not _is_abstract(scalars[0], numpy) else None
        sizes = typing.get_args(args[0])
    if dtype is not None and dtype.kind not in _ITEMS:
        raise UnsupportedAnnotationError(f"an array of {dtype.name} has no JSON form")
    form: Any = list
    if sizes and ... not in sizes:
        form = Any if dtype is None else _ITEMS[dtype.kind]
        for _ in sizes:
            form = list[form]
    return LibraryType(origin, form, functools.partial(_make_array, numpy=numpy, dtype=dtype))


def _is_abstract(kind: Any, numpy: Any) -> bool:
    return kind in (
        numpy.generic,
        numpy.number,
        numpy.integer,
        numpy.signedinteger,
        numpy.unsignedinteger,
        numpy.inexact,
        numpy.floating,
    )


def _make_array(value: Any, *, numpy: Any, dtype: Any) -> Any:
    """The array of nested lists; raises ValueError for values that it would change."""
    try:
        array = numpy.array(value)
    except ValueError:
        raise ValueError(_SHAPE) from None
    if array.size == 0:
        return array.astype(dtype or array.dtype)
    kind = array.dtype.kind
    if kind not in _ITEMS or _kind_of(value) not in (kind, _SIGNED.get(kind)):
        raise ValueError(_SHAPE)
    if dtype is None or dtype == array.dtype:
        return array
    name = numpy.dtype(dtype).name
    if (array.dtype.kind == "b") != (dtype.kind == "b") or not numpy.can_cast(array, dtype, "same_kind"):
        raise ValueError(f"expected an array of {name}, got one of {array.dtype.name}")
    made = array.astype(dtype)
    if dtype.kind in "iu" and not (made == array).all():
        raise ValueError(f"a number is out of the range of {name}")
    return made


def _kind_of(value: Any) -> str:
    """The kind of the items of nested lists; empty if they are of several types."""
    kinds = set()
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending += item
        else:
            kinds.add(next((k for k, cls in _ITEMS.items() if type(item) is cls), "O"))
    if kinds == {"i", "f"}:
        return "f"
    return kinds.pop() if len(kinds) == 1 else ""


def _read_pandas(kind: Any, pandas: Any, *, outgoing: bool) -> LibraryType | None:
    if kind is pandas.Timestamp:
        form: Any = str if outgoing else datetime.datetime  # a result may have nanoseconds
        return LibraryType(kind, form, kind, _DATES)
    if kind is pandas.Timedelta:
        return LibraryType(kind, str if outgoing else datetime.timedelta, kind, {"format": "duration"})
    if kind is pandas.DataFrame:
        return LibraryType(kind, list[dict[str, Any]], kind)
    if kind is pandas.Series or (isinstance(kind, type) and issubclass(kind, pandas.Index)):
        return LibraryType(kind, list, kind)
    return None
