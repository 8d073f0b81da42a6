"""Says which values do not fit the published types, for tests in another environment.

Runs where `mcp_types` is installed, the wire types that the protocol's own project generates from the
published schemas of 2025-11-25 and 2026-07-28. Reads questions, each a line of JSON: a revision, and pairs of
the name of a type and a value. Answers each with a line: a list of problems.
"""

import importlib
import json
import sys
from functools import cache

from pydantic import TypeAdapter, ValidationError


@cache
def find_type(revision: str, name: str) -> TypeAdapter:
    """The type of that name; those of older legacy revisions are contained in those of 2025-11-25."""
    package = "_v2026_07_28" if revision == "2026-07-28" else "_v2025_11_25"
    return TypeAdapter(getattr(importlib.import_module(f"mcp_types.{package}"), name))


for line in sys.stdin:
    revision, values = json.loads(line)
    problems = []
    for name, value in values:
        try:
            find_type(revision, name).validate_json(json.dumps(value), strict=True, by_name=False)
        except ValidationError as error:
            problems.append(f"{name}: {error.errors(include_url=False)[:5]} in {value}")
    print(json.dumps(problems), flush=True)
