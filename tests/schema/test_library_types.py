"""Types of NumPy, of pandas and of Python's library that msgspec does not know, as hints and as results."""

import collections
import decimal
import fractions
import ipaddress
import re
import subprocess
import sys
import zoneinfo
from typing import Any

import numpy
import pandas
import pytest
from numpy.typing import NDArray

from trio_mcp.errors import ArgumentError, ReturnError, ToolDefinitionError
from trio_mcp.schema.parameters import Parameters, read_parameters
from trio_mcp.schema.returns import Returns, read_returns

MATRIX = numpy.ndarray[tuple[int, int], numpy.dtype[numpy.int32]]
FRAME = pandas.DataFrame(
    {
        "a": [1, 2],
        "b": [1.5, None],
        "t": [pandas.Timestamp("2020-01-01"), None],
        "s": ["x", None],
    }
)
ROWS = [
    {"a": 1, "b": 1.5, "t": "2020-01-01T00:00:00", "s": "x"},
    {"a": 2, "b": None, "t": None, "s": None},
]


class Context:
    pass


def parameters_for(annotation: Any, **defaults: Any) -> Parameters:
    def tool(value): ...

    tool.__annotations__ = {"value": annotation}
    if defaults:
        tool.__defaults__ = (defaults["default"],)
    return read_parameters(tool, Context)


def convert(annotation: Any, text: bytes) -> Any:
    return parameters_for(annotation).convert(b'{"value": ' + text + b"}")["value"]


def returns_for(annotation: Any) -> Returns:
    def tool(): ...

    tool.__annotations__ = {"return": annotation}
    return read_returns(tool)


def build(value: Any) -> Any:
    return returns_for(Any).to_builtins(value)


@pytest.mark.parametrize(
    ("annotation", "schema", "text", "expected"),
    [
        (
            collections.deque[int],
            {"type": "array", "items": {"type": "integer"}},
            b"[1, 2]",
            collections.deque([1, 2]),
        ),
        (
            collections.OrderedDict[str, int],
            {"type": "object", "additionalProperties": {"type": "integer"}},
            b'{"b": 1, "a": 2}',
            collections.OrderedDict(b=1, a=2),
        ),
        (
            collections.Counter[str],
            {"type": "object", "additionalProperties": {"type": "integer"}},
            b'{"a": 2}',
            collections.Counter(a=2),
        ),
        (
            collections.Counter,
            {"type": "object", "additionalProperties": {"type": "integer"}},
            b"{}",
            collections.Counter(),
        ),
        (
            ipaddress.IPv4Address,
            {"type": "string", "format": "ipv4"},
            b'"10.0.0.1"',
            ipaddress.IPv4Address("10.0.0.1"),
        ),
        (ipaddress.IPv6Network, {"type": "string"}, b'"::/8"', ipaddress.IPv6Network("::/8")),
        (re.Pattern[str], {"type": "string", "format": "regex"}, b'"a+"', re.compile("a+")),
        (fractions.Fraction, {"type": "string"}, b'"1/3"', fractions.Fraction(1, 3)),
        (zoneinfo.ZoneInfo, {"type": "string"}, b'"UTC"', zoneinfo.ZoneInfo("UTC")),
        (numpy.int8, {"type": "integer", "minimum": -128, "maximum": 127}, b"3", numpy.int8(3)),
        (numpy.int64, {"type": "integer"}, b"3.0", numpy.int64(3)),
        (numpy.float32, {"type": "number"}, b"0.5", numpy.float32(0.5)),
        (numpy.bool_, {"type": "boolean"}, b"true", numpy.True_),
        (numpy.str_, {"type": "string"}, b'"a"', numpy.str_("a")),
        (
            numpy.datetime64,
            {"type": "string", "format": "date-time"},
            b'"2020-01-01T02:00:00+02:00"',
            numpy.datetime64("2020-01-01T00:00:00", "us"),
        ),
        (
            numpy.timedelta64,
            {"type": "string", "format": "duration"},
            b'"PT1H"',
            numpy.timedelta64(3600000000, "us"),
        ),
        (
            pandas.Timestamp,
            {"type": "string", "format": "date-time"},
            b'"2020-01-01T00:00:00Z"',
            pandas.Timestamp("2020-01-01", tz="UTC"),
        ),
        (pandas.Timedelta, {"type": "string", "format": "duration"}, b'"PT1H"', pandas.Timedelta("1h")),
        (
            decimal.Decimal,
            {"type": ["string", "number"], "format": "decimal"},
            b'"1.50"',
            decimal.Decimal("1.50"),
        ),
    ],
)
def test_an_argument_becomes_a_value_of_its_type(annotation, schema, text, expected):
    assert parameters_for(annotation).schema["properties"]["value"] == schema
    value = convert(annotation, text)
    assert value == expected
    assert type(value) is type(expected)
    assert convert(list[annotation] | None, b"[" + text + b"]") == [expected]


def test_a_defaultdict_has_the_empty_value_of_its_annotation():
    value = convert(collections.defaultdict[str, list[int]], b'{"a": [1]}')
    assert value["a"] == [1]
    assert value["b"] == []
    assert convert(collections.defaultdict[str, Any], b"{}").default_factory is None


@pytest.mark.parametrize(
    ("annotation", "schema", "text", "expected"),
    [
        (numpy.ndarray, {"type": "array"}, b"[[1, 2], [3, 4]]", numpy.array([[1, 2], [3, 4]])),
        (numpy.ndarray, {"type": "array"}, b'["a"]', numpy.array(["a"])),
        (NDArray[numpy.float64], {"type": "array"}, b"[1, 2]", numpy.array([1.0, 2.0])),
        (NDArray[numpy.floating], {"type": "array"}, b"[1.5]", numpy.array([1.5])),
        (NDArray[numpy.int8], {"type": "array"}, b"[]", numpy.array([], numpy.int8)),
        (
            MATRIX,
            {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
            b"[[1], [2]]",
            numpy.array([[1], [2]], numpy.int32),
        ),
    ],
)
def test_nested_lists_become_an_array(annotation, schema, text, expected):
    assert parameters_for(annotation).schema["properties"]["value"] == schema
    value = convert(annotation, text)
    assert value.dtype == expected.dtype
    assert value.tolist() == expected.tolist()


def test_lists_become_a_table_or_a_column():
    frame = convert(pandas.DataFrame, b'[{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]')
    assert frame.a.tolist() == [1, 2]
    assert convert(pandas.Series, b"[1, 2]").sum() == 3
    assert convert(pandas.Index, b'["x"]').tolist() == ["x"]


SHAPE = "value: the items of an array are numbers, or texts, or bools, and its lists of one length"


@pytest.mark.parametrize(
    ("annotation", "text", "message"),
    [
        (numpy.int8, b"300", "value: not a valid int8: Python integer 300 out of bounds for int8"),
        (numpy.int8, b"true", "value: expected int, got bool"),
        (numpy.ndarray, b"[[1], [2, 3]]", SHAPE),
        (numpy.ndarray, b'[1, "a"]', SHAPE),
        (numpy.ndarray, b"[1, true]", SHAPE),
        (numpy.ndarray, b"[null]", SHAPE),
        (numpy.ndarray, b"{}", "value: expected array, got object"),
        (NDArray[numpy.float64], b'["1"]', "value: expected an array of float64, got one of str32"),
        (NDArray[numpy.int8], b"[1.5]", "value: expected an array of int8, got one of float64"),
        (NDArray[numpy.int8], b"[300]", "value: a number is out of the range of int8"),
        (MATRIX, b"[[1], 2]", "value[1]: expected array, got int"),
        (pandas.DataFrame, b"[1]", "value[0]: expected object, got int"),
        (pandas.Timestamp, b'"soon"', "value: invalid RFC3339 encoded datetime"),
        (collections.deque[int], b'["a"]', "value[0]: expected int, got str"),
        (ipaddress.IPv4Address, b'"10.0"', "value: Expected 4 octets in '10.0'"),
        (
            list[re.Pattern],
            b'["("]',
            "value[0]: not a valid Pattern: missing ), unterminated subpattern at position 0",
        ),
        (fractions.Fraction, b'"1/0"', "value: not a valid Fraction: Fraction(1, 0)"),
        (
            zoneinfo.ZoneInfo,
            b'"No/Where"',
            "value: not a valid ZoneInfo: 'No time zone found with key No/Where'",
        ),
    ],
)
def test_what_would_be_changed_is_refused(annotation, text, message):
    with pytest.raises(ArgumentError) as caught:
        convert(annotation, text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        (numpy.complex128, "complex128 has no JSON form"),
        (numpy.number, "number has no JSON form"),
        (NDArray[numpy.complex128], "an array of complex128 has no JSON form"),
        (pandas.Categorical, "Categorical has no JSON form"),
        (range, "range"),
        (re.Pattern[bytes], "Pattern"),
    ],
)
def test_a_type_without_a_form_is_refused(annotation, reason):
    with pytest.raises(ToolDefinitionError, match=f"tool 'tool', parameter 'value': .*{reason}"):
        parameters_for(annotation)


def test_a_default_of_such_a_type_is_shown():
    parameters = parameters_for(NDArray[numpy.float64], default=numpy.ones(2))
    assert parameters.schema["properties"]["value"]["default"] == [1.0, 1.0]
    assert parameters_for(numpy.int64, default=numpy.int64(3)).schema["properties"]["value"]["default"] == 3
    assert parameters_for(collections.deque[int], default=collections.deque([1])).schema["properties"][
        "value"
    ]["default"] == [1]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (numpy.int64(1), 1),
        (numpy.bool_(True), True),
        (numpy.float32(0.5), 0.5),
        (numpy.float64(1.5), 1.5),
        (numpy.str_("a"), "a"),
        (numpy.array([[1, 2]]), [[1, 2]]),
        (numpy.array(3), 3),
        (numpy.array(["a"]), ["a"]),
        (numpy.array([{"a": numpy.int8(1)}], dtype=object), [{"a": 1}]),
        (numpy.ma.masked_array([1, 2], [False, True]), [1, None]),
        (numpy.datetime64("2020-01-01"), "2020-01-01"),
        (numpy.array(["2020-01-01T10"], dtype="datetime64[h]"), ["2020-01-01T10"]),
        (numpy.timedelta64(3, "h"), "PT10800S"),
        ({numpy.int64(3): numpy.arange(2)}, {"3": [0, 1]}),
        (FRAME, ROWS),
        (FRAME[FRAME.a > 1], ROWS[1:]),
        (FRAME.set_index("s").a, [{"s": "x", "a": 1}, {"s": None, "a": 2}]),
        (FRAME.groupby("s").sum(numeric_only=True), [{"s": "x", "a": 1, "b": 1.5}]),
        (pandas.Series([1, 2], index=["x", "y"]), [{"index": "x", "value": 1}, {"index": "y", "value": 2}]),
        (FRAME.b, [1.5, None]),
        (pandas.DataFrame([[1]]), [{"0": 1}]),
        (pandas.Index(["a"]), ["a"]),
        (pandas.Categorical(["a", "b"]), ["a", "b"]),
        (pandas.array([1, None], dtype="Int64"), [1, None]),
        (pandas.Timestamp("2020-01-01"), "2020-01-01T00:00:00"),
        (pandas.Timedelta("1h"), "P0DT1H0M0S"),
        (pandas.Period("2020-01"), "2020-01"),
        ([pandas.NA, pandas.NaT], [None, None]),
        (ipaddress.ip_address("::1"), "::1"),
        (re.compile("a"), "a"),
        (fractions.Fraction(1, 3), "1/3"),
        (zoneinfo.ZoneInfo("UTC"), "UTC"),
        (decimal.Decimal("1.50"), "1.50"),
        ({"a": collections.deque([1]), "b": collections.Counter("aa")}, {"a": [1], "b": {"a": 2}}),
    ],
    ids=str,
)
def test_a_result_of_any_type_becomes_json(value, expected):
    assert build(value) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (numpy.array([1.0, float("nan")]), r"result\[1\]: nan is not JSON"),
        ({"a": numpy.array([1j])}, r"result.a: ndarray has no JSON form"),
        (pandas.DataFrame([[1, 2]], columns=["a", "a"]), "columns are not of one name each"),
        (
            pandas.DataFrame([[1]], columns=pandas.MultiIndex.from_tuples([("a", "b")])),
            "columns are not of one name",
        ),
    ],
)
def test_a_result_that_json_cannot_hold_is_refused(value, message):
    with pytest.raises(ReturnError, match=message):
        build(value)


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (numpy.ndarray, numpy.eye(1), [[1.0]]),
        (numpy.float64, numpy.float64(2), 2.0),
        (MATRIX, numpy.eye(1, dtype="i4"), [[1]]),
        (dict[str, NDArray[numpy.float64]], {"a": numpy.ones(1)}, {"a": [1.0]}),
        (list[numpy.int64], [numpy.int64(1)], [1]),
        (pandas.DataFrame, FRAME, ROWS),
        (pandas.Series, FRAME.a, [1, 2]),
        (pandas.Timestamp, pandas.Timestamp(1, unit="ns"), "1970-01-01T00:00:00.000000001"),
        (numpy.datetime64, numpy.datetime64(1, "ns"), "1970-01-01T00:00:00.000000001"),
        (collections.deque[int], collections.deque([1]), [1]),
        (ipaddress.IPv4Address, ipaddress.ip_address("10.0.0.1"), "10.0.0.1"),
    ],
    ids=str,
)
def test_an_annotated_result_is_checked(annotation, value, expected):
    returns = returns_for(annotation)
    assert returns.to_builtins(value) == expected
    with pytest.raises(ReturnError, match="returned value does not match its annotation"):
        returns.to_builtins({"other": None})


def test_no_library_is_imported_for_a_server_that_has_none():
    program = (
        "import sys\n"
        "from trio_mcp import Server\n"
        "server = Server('a')\n"
        "server.add_tool(lambda x: x, name='a')\n"
        "print(sorted({'numpy', 'pandas', 'pydantic', 'cattrs'} & set(sys.modules)))\n"
        "print([name for name in sys.modules if name[:15] == 'trio_mcp.schema' and name[-6:] == '_types'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]
