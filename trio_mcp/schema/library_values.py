"""The JSON form of values of libraries that msgspec does not know: NumPy, pandas, and a few of Python's own.

Knows nothing of annotations, and imports no library: whoever returns such a value has imported it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

_TEXTS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "fractions": str,
    "ipaddress": str,
    "re": lambda value: value.pattern if hasattr(value, "pattern") else NotImplemented,
    "zoneinfo": str,
}
"""How the values of modules of Python are written."""


def plain_value(value: Any) -> Any:
    """A nearer form of `value`, such as a list for an array; NotImplemented if there is none.

    Its parts may again be values of a library. Raises ValueError for a value that JSON cannot hold.
    """
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
        return _plain_array(value, numpy)
    pandas = sys.modules.get("pandas")
    if pandas is not None:
        found = _plain_pandas(value, pandas)
        if found is not NotImplemented:
            return found
    write = _TEXTS.get(type(value).__module__)
    return NotImplemented if write is None else write(value)


def _plain_array(value: Any, numpy: Any) -> Any:
    """Lists of Python's numbers and texts, or one of them."""
    kind = value.dtype.kind
    if kind == "M":
        return numpy.datetime_as_string(value).tolist()
    if kind == "m":
        return value.astype("timedelta64[us]").tolist()  # whose items are Python's timedelta
    return value.tolist() if kind in "biufOUT" else NotImplemented


def _plain_pandas(value: Any, pandas: Any) -> Any:
    if value is pandas.NA or value is pandas.NaT:
        return None
    if isinstance(value, pandas.Timestamp):
        return value.isoformat()
    if isinstance(value, pandas.Timedelta):
        return value.isoformat()
    if isinstance(value, pandas.Period):
        return str(value)
    if isinstance(value, pandas.DataFrame):
        return _rows(value, pandas)
    if isinstance(value, pandas.Series):
        if not _numbers_rows(value.index, pandas):
            return _rows(value.to_frame(name="value" if value.name is None else value.name), pandas)
        return _without_missing(value).tolist()
    if isinstance(value, (pandas.Index, pandas.api.extensions.ExtensionArray)):
        return _plain_pandas(pandas.Series(value), pandas)
    return NotImplemented


def _rows(frame: Any, pandas: Any) -> list[Any]:
    """A dict for each row; an index that says more than the number of a row is a column."""
    if not _numbers_rows(frame.index, pandas):
        frame = frame.reset_index()
    if not frame.columns.is_unique or frame.columns.nlevels > 1:
        raise ValueError("a DataFrame whose columns are not of one name each has no JSON form")
    frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    return list(_without_missing(frame).to_dict("records"))


def _numbers_rows(index: Any, pandas: Any) -> bool:
    is_simple = index.nlevels == 1 and index.name is None
    return is_simple and bool(pandas.api.types.is_integer_dtype(index.dtype))


def _without_missing(values: Any) -> Any:
    """With None for what pandas counts as missing, as a NaN, which JSON does not have."""
    return values.astype(object).where(values.notna(), None)
