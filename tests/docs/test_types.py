"""The tables of docs/types.md: each row is what trio_mcp makes of a hint or of a value."""

from __future__ import annotations

import json
import re
import sys
import types
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy
import pandas
import pytest

from tests.docs.test_examples import ROOT, read_blocks
from trio_mcp.errors import ToolDefinitionError
from trio_mcp.schema.parameters import read_parameters
from trio_mcp.schema.returns import read_returns

PAGE = ROOT / "docs" / "types.md"
CODE = re.compile(r"`([^`]+)`")
HINTS = "| hint | schema | argument | value |"
RESULTS = "| a tool returns | JSON |"
REFUSED = "| hint | the error says |"


class Context:
    pass


@pytest.fixture(scope="module")
def names() -> Iterator[dict[str, Any]]:
    """What the page defines for its tables."""
    block = next(block for block in read_blocks(PAGE) if block.text.startswith("# kinds.py"))
    module = types.ModuleType("kinds")
    sys.modules["kinds"] = module
    exec(compile(block.text, "kinds.py", "exec", dont_inherit=True), vars(module))
    yield vars(module)
    del sys.modules["kinds"]


def rows(header: str) -> Iterator[list[str]]:
    in_table = False
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line == header:
            in_table = True
        elif not line.startswith("|"):
            in_table = False
        elif in_table and not line.startswith("|---"):
            yield [cell.replace(r"\|", "|") for cell in CODE.findall(line)]


def read_hint(annotation: Any) -> Any:
    def tool(value): ...

    tool.__annotations__ = {"value": annotation}
    return read_parameters(tool, Context, dereference=True)


@pytest.mark.parametrize("row", list(rows(HINTS)), ids=lambda row: row[0])
def test_an_argument_becomes_the_value_of_its_row(names, row):
    hint, schema, argument, value = row
    parameters = read_hint(eval(hint, names))
    found = parameters.schema["properties"]["value"]
    assert found == json.loads(schema)
    converted = parameters.convert(f'{{"value": {argument}}}'.encode())["value"]
    expected = eval(value, names)
    assert type(converted) is type(expected)
    if isinstance(expected, numpy.ndarray):
        assert (converted.dtype, converted.tolist()) == (expected.dtype, expected.tolist())
    elif isinstance(expected, (pandas.Series, pandas.DataFrame)):
        assert converted.equals(expected)
    else:
        assert converted == expected


@pytest.mark.parametrize("row", list(rows(RESULTS)), ids=lambda row: row[0])
def test_a_result_becomes_the_json_of_its_row(names, row):
    def tool(): ...

    value, expected = row
    built = read_returns(tool).to_builtins(eval(value, names))
    assert json.loads(msgspec.json.encode(built)) == json.loads(expected)


@pytest.mark.parametrize("row", list(rows(REFUSED)), ids=lambda row: row[0])
def test_a_hint_is_refused_with_the_words_of_its_row(names, row):
    hint, message = row
    with pytest.raises(ToolDefinitionError) as caught:
        read_hint(eval(hint, names))
    assert message in str(caught.value)
    assert str(caught.value).startswith("tool 'tool', parameter 'value': ")


def test_the_page_has_a_row_for_what_people_bring():
    found = [row[0] for row in rows(HINTS)]
    assert len(found) > 60
    assert all(len(row) == 4 for row in rows(HINTS))
    for name in ("Decimal", "Path", "set[int]", "Color", "Album", "Photo", "np.ndarray", "pd.DataFrame"):
        assert name in found
