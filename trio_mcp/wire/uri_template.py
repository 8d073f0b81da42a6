"""URI templates: parsing, expansion, and the matching of URIs (RFC 6570, levels 1 to 3, and `{name*}`).

Owns which templates can be matched without guessing. A URI is matched in one pass, without backtracking:
at most one expression of a template may hold a "/", what is before it is matched from the left, and what is
behind it from the right. Knows nothing of resources.
"""

from __future__ import annotations

import re
import string
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, TypeAlias
from urllib.parse import quote, unquote

import attrs

MAX_URI_CHARACTERS: Final = 8192
"""A longer URI matches nothing; HTTP servers commonly refuse those as well."""

Value: TypeAlias = str | Sequence[str]

_SEPARATORS: Final = {"": ",", "+": ",", "#": ",", ".": ".", "/": "/", ";": ";", "?": "&", "&": "&"}
_NAMED: Final = frozenset(";?&")
_LATER_OPERATORS: Final = frozenset("=,!@|")  # RFC 6570 reserves them for extensions
_RESERVED: Final = ":/?#[]@!$&'()*+,;="
_ENDS: Final = "/?#"  # what a value of one segment cannot hold unless it is encoded
_EVERY_ASCII: Final = "".join(map(chr, range(128)))
_NAME: Final = re.compile(r"[A-Za-z0-9_](?:\.?[A-Za-z0-9_])*")
_BAD_PERCENT: Final = re.compile("%(?![0-9A-Fa-f]{2})")
_EXPRESSION: Final = re.compile(r"\{([^{}]*)\}")


@attrs.frozen
class Expression:
    """What is between two braces; `exploded` are the variables that have an asterisk."""

    operator: str
    names: tuple[str, ...]
    exploded: frozenset[str]

    def __str__(self) -> str:
        names = (name + "*" * (name in self.exploded) for name in self.names)
        return f"{{{self.operator}{','.join(names)}}}"

    @property
    def spans_segments(self) -> bool:
        """Whether its value may hold a "/"."""
        return self.operator == "+" or (bool(self.exploded) and self.operator in ("", "/"))

    @property
    def prefix(self) -> str:
        """The character that begins what it matches, or nothing."""
        return "" if self.operator == "+" else self.operator

    def expand(self, values: Mapping[str, Value | None]) -> str:
        """What stands in a URI in its place; empty if none of its variables has a value."""
        given = [(name, value) for name in self.names if (value := values.get(name)) is not None]
        # An empty text is a value, an empty list is none.
        pieces = [
            piece for name, value in given if value or value == "" for piece in self._pieces(name, value)
        ]
        return self.prefix + _SEPARATORS[self.operator].join(pieces) if pieces else ""

    def _pieces(self, name: str, value: Value) -> Iterator[str]:
        if isinstance(value, str):
            encoded = [self._encode(value, "/" if self.spans_segments else "")]
        else:
            encoded = [self._encode(item) for item in value]
            if name not in self.exploded:
                encoded = [",".join(encoded)]
        for text in encoded:
            if self.operator not in _NAMED:
                yield text
            elif not text and self.operator == ";":
                yield name
            else:
                yield f"{name}={text}"

    def _encode(self, text: str, safe: str = "") -> str:
        return _encode_literal(text) if self.operator in ("+", "#") else quote(text, safe=safe)


@attrs.frozen(eq=False)
class UriTemplate:
    """A parsed template; `names` are its variables in order."""

    text: str
    names: tuple[str, ...]
    _items: Sequence[str | Expression]
    _path: Sequence[str | Expression]
    _queries: Sequence[Expression]
    _fragment: Expression | None
    _wide: int | None
    """The index in `_path` of the expression that may hold a "/"."""

    def expand(self, values: Mapping[str, Value | None]) -> str:
        """The URI with these values; a variable without a value is left out (RFC 6570, section 3)."""
        return "".join(
            _encode_literal(item) if isinstance(item, str) else item.expand(values) for item in self._items
        )

    def match(self, uri: str, lists: Collection[str] = ()) -> dict[str, str | list[str]] | None:
        """The values of the variables in `uri`, decoded once, or None if it does not match.

        A variable that is left out has no value. Those named in `lists` get the list of their items, the
        others one text. Takes time in proportion to the length of the URI.
        """
        if len(uri) > MAX_URI_CHARACTERS:
            return None
        try:
            uri = quote(uri, safe=_EVERY_ASCII)
        except UnicodeEncodeError:  # a lone surrogate
            return None
        if _BAD_PERCENT.search(uri):
            return None
        found: dict[str, list[str]] = {}
        if not self._match_encoded(uri, found):
            return None
        try:
            return {name: self._decode(name, texts, lists) for name, texts in found.items()}
        except ValueError:  # not UTF-8, or one value that is given twice
            return None

    def _decode(self, name: str, texts: list[str], lists: Collection[str]) -> str | list[str]:
        if name in lists:
            separator = "," if len(texts) == 1 else None
            for item in self._items:
                if isinstance(item, Expression) and name in item.exploded:
                    separator = None if item.operator in _NAMED else _SEPARATORS[item.operator]
            items = texts if separator is None else texts[0].split(separator)
            return [unquote(text, errors="strict") for text in items]
        if len(texts) > 1:
            raise ValueError(f"{name} has several values")
        return unquote(texts[0], errors="strict")

    def _match_encoded(self, uri: str, found: dict[str, list[str]]) -> bool:
        if self._fragment is not None:
            uri, mark, fragment = uri.partition("#")
            if mark and not _assign(
                self._fragment.names, fragment.split(",", len(self._fragment.names) - 1), found
            ):
                return False
        query = ""
        if self._queries:
            uri, query = self._split_query(uri)
        return _match_path(self._path, self._wide, uri, found) and (
            not query or _match_pairs([n for q in self._queries for n in q.names], query.split("&"), found)
        )

    def _split_query(self, uri: str) -> tuple[str, str]:
        """What is matched as a path, and the values of the query; one that is part of the template stays."""
        if self._queries[0].operator == "?":
            path, _, query = uri.partition("?")
            return path, query
        last = self._path[-1]
        assert isinstance(last, str), "the parser has seen the literal question mark"
        start = uri.find("?") + len(last) - last.index("?")
        return (uri[:start], uri[start + 1 :]) if uri[start : start + 1] == "&" else (uri, "")


def _match_path(
    items: Sequence[str | Expression], wide: int | None, text: str, found: dict[str, list[str]]
) -> bool:
    """Match what is before the query; `wide` is the index of the expression that may hold a "/"."""
    first, left, right = len(items), 0, len(text)
    while first and (wide is None or first > wide + 1):
        item = items[first - 1]
        if isinstance(item, str):
            if not text.endswith(item, 0, right):
                return False
            right -= len(item)
        elif wide is None:
            break  # from here on, from the left
        else:
            before = items[first - 2]
            assert isinstance(before, str), "the parser allows nothing else there"
            start = 1 + max(text.rfind(end, 0, right) for end in _ENDS)
            cut = text.rfind(before, max(0, start - len(before)), right - 1)
            if cut < 0 or not _assign_simple(item, text[cut + len(before) : right], found):
                return False
            right = cut + len(before)
        first -= 1
    for index in range(first if wide is None else wide):
        end = _match_item(items[: first if wide is None else wide + 1], index, text, left, right, found)
        if end < 0:
            return False
        left = end
    if wide is None:
        return left == right
    return left <= right and _match_wide(items[wide], text[left:right], found)


def _match_item(
    items: Sequence[str | Expression],
    index: int,
    text: str,
    left: int,
    right: int,
    found: dict[str, list[str]],
) -> int:
    """Match one item at `left`; the end of what it matches, or -1."""
    item = items[index]
    if isinstance(item, str):
        return left + len(item) if text.startswith(item, left, right) else -1
    behind = items[index + 1] if index + 1 < len(items) else None
    ends = _ENDS
    for later in items[index + 1 :]:
        if isinstance(later, str):
            break
        ends += later.prefix
    if item.operator == "":
        value = _run(text, left, right, ends)
        if isinstance(behind, str):
            cut = text.find(behind, left + 1, min(left + len(value) + len(behind), right))
            if cut < 0:
                return -1
            value = text[left:cut]
        return left + len(value) if _assign_simple(item, value, found) else -1
    if not text.startswith(item.prefix, left, right):
        return -1 if item.operator == "/" and behind is not None and isinstance(behind, str) else left
    if item.operator == "/":
        for position, name in enumerate(item.names):
            if not text.startswith("/", left, right):
                return -1 if isinstance(behind, str) else left
            is_last = position + 1 == len(item.names)
            value = _run(text, left + 1, right, ends if is_last else _ENDS)
            found[name] = [value]
            left += 1 + len(value)
        return left
    value = _run(text, left + 1, right, ends)
    if item.operator == ";":
        matches = _match_pairs(item.names, value.split(";"), found)
    else:
        pieces = [value] if item.exploded else value.split(".", len(item.names) - 1)
        matches = _assign(item.names[: len(pieces)], pieces, found)
    return left + 1 + len(value) if matches else -1


def _match_wide(item: str | Expression, text: str, found: dict[str, list[str]]) -> bool:
    assert isinstance(item, Expression)
    if item.operator == "/":
        if text:
            found[item.names[0]] = [text[1:]]
        return not text or text[0] == "/"
    return bool(text) and _assign(item.names, text.split(",", len(item.names) - 1), found)


def _match_pairs(names: Collection[str], pairs: Sequence[str], found: dict[str, list[str]]) -> bool:
    """Assign the values of `name=value`, in any order; False for a name that is not among `names`."""
    for pair in pairs:
        name, _, value = pair.partition("=")
        if name not in names:
            return False
        found.setdefault(name, []).append(value)
    return True


def _assign_simple(item: Expression, text: str, found: dict[str, list[str]]) -> bool:
    pieces = [text] if len(item.names) == 1 else text.split(",")
    return all(pieces) and _assign(item.names, pieces, found)


def _assign(names: Sequence[str], texts: Sequence[str], found: dict[str, list[str]]) -> bool:
    found.update((name, [text]) for name, text in zip(names, texts, strict=False))
    return len(names) == len(texts)


def _run(text: str, start: int, stop: int, ends: str) -> str:
    """The text from `start` to the first character of `ends`, or to `stop`."""
    found = [cut for end in ends if (cut := text.find(end, start, stop)) >= 0]
    return text[start : min(found, default=stop)]


def _encode_literal(text: str) -> str:
    return _BAD_PERCENT.sub("%25", quote(text, safe=_RESERVED + "%"))


def parse_template(text: str) -> UriTemplate:
    """Parse a template; raises ValueError if it is malformed, or could match a URI in several ways."""
    items = list(_read_items(text))
    expressions = [item for item in items if isinstance(item, Expression)]
    names = [name for expression in expressions for name in expression.names]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"the variable {name!r} is there twice")
    rest = list(items)
    fragment = _pop_last(rest, "#")
    queries: list[Expression] = []
    while (query := _pop_last(rest, "?&")) is not None:
        queries.insert(0, query)
    for item in rest:
        if isinstance(item, Expression) and item.operator in ("?", "&", "#"):
            raise ValueError(f"nothing can be matched behind {item}: put it at the end")
    _check_query(queries, rest)
    return UriTemplate(text, tuple(names), items, rest, queries, fragment, _check_path(rest))


def _pop_last(items: list[str | Expression], operators: str) -> Expression | None:
    """Take the last item away if it is an expression with one of `operators`."""
    last = items[-1] if items else ""
    if not isinstance(last, Expression) or not last.operator or last.operator not in operators:
        return None
    items.pop()
    return last


def _read_items(text: str) -> Iterator[str | Expression]:
    end = 0
    for found in _EXPRESSION.finditer(text):
        yield from _read_literal(text[end : found.start()])
        yield _read_expression(found[1])
        end = found.end()
    yield from _read_literal(text[end:])


def _read_literal(text: str) -> Iterator[str]:
    if "{" in text or "}" in text:
        raise ValueError("a brace has no counterpart")
    for character in text:
        if character in "\"'<>\\^`| " or character in string.whitespace or not character.isprintable():
            raise ValueError(f"{character!r} must be percent-encoded")
    if text:
        yield _encode_literal(text)


def _read_expression(inside: str) -> Expression:
    operator = inside[:1] if inside[:1] in _SEPARATORS else ""
    if inside[:1] in _LATER_OPERATORS and inside:
        raise ValueError(f"{{{inside}}}: the operator {inside[0]!r} has no meaning")
    variables = inside[len(operator) :].split(",")
    for variable in variables:
        if ":" in variable:
            raise ValueError(f"{{{inside}}}: a prefix (:) cannot be matched")
        if not _NAME.fullmatch(variable.removesuffix("*")):
            raise ValueError(f"{{{inside}}}: {variable!r} is no name of a variable")
    exploded = frozenset(name.removesuffix("*") for name in variables if name.endswith("*"))
    if exploded and len(variables) > 1 and operator not in _NAMED:
        raise ValueError(f"{{{inside}}}: a variable with an asterisk must be the only one")
    return Expression(operator, tuple(variable.removesuffix("*") for variable in variables), exploded)


def _check_query(queries: Sequence[Expression], path: Sequence[str | Expression]) -> None:
    last = path[-1] if path else ""
    has_mark = isinstance(last, str) and "?" in last
    for index, query in enumerate(queries):
        if query.operator == "?" and (index or has_mark):
            raise ValueError(f"{query} begins a second query: use {{&{','.join(query.names)}}}")
        if query.operator == "&" and not index and not has_mark:
            raise ValueError(f"{query} has no query to go on: use {{?{','.join(query.names)}}}")


def _check_path(items: Sequence[str | Expression]) -> int | None:
    """The index of the expression that may hold a "/"; raises ValueError if it could match in many ways."""
    wide: int | None = None
    for index, item in enumerate(items):
        before = items[index - 1] if index else ""
        if isinstance(item, str):
            is_last = index + 1 == len(items)
            loose = isinstance(before, Expression) and before.operator != "" and not before.spans_segments
            if loose and not is_last and item[0] not in _ENDS:
                raise ValueError(f"where {before} ends cannot be known before {item!r}: put a '/' there")
            continue
        if isinstance(before, Expression):
            same = item.operator == before.operator == ";"
            if item.prefix == "" or same or before.spans_segments:
                raise ValueError(f"where {before} ends and {item} begins cannot be known")
        if wide is not None and item.operator != "":
            raise ValueError(f"{item} cannot be matched behind {items[wide]}, which may hold any character")
        if item.spans_segments:
            if wide is not None:
                raise ValueError(f"only one expression may hold a '/', not both {items[wide]} and {item}")
            wide = index
    return wide
