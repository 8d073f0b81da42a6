"""An OpenAPI document as it is given: read, and looked up by its references.

Owns which versions and forms are read, and how a `$ref` is followed. Refuses to know what the parts of a
document mean.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

import attrs
import msgspec

from trio_mcp.errors import DefinitionError

_VERSION: Final = re.compile(r"3\.[012](\..*)?$")
_MAX_HOPS: Final = 64
"""A chain of references that is longer leads in a circle."""

# What a text without quotes is, besides null; all else that YAML 1.1 reads as something else is a text.
_DATE: Final = "tag:yaml.org,2002:timestamp"
_PLAIN_VALUES: Final = {
    "tag:yaml.org,2002:bool": (re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), "tTfF"),
    "tag:yaml.org,2002:int": (re.compile(r"[-+]?(?:0|[1-9][0-9]*)$"), "-+0123456789"),
    "tag:yaml.org,2002:float": (
        re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$"),
        "-+0123456789.",
    ),
}


@attrs.frozen
class Document:
    """A document of OpenAPI 3.0, 3.1 or 3.2."""

    root: dict[str, Any] = attrs.field(repr=False)
    version: str

    @property
    def is_3_0(self) -> bool:
        """Whether its schemas are those of OpenAPI 3.0, which are no JSON Schemas."""
        return self.version.startswith("3.0")

    @property
    def title(self) -> str:
        """The name of the API."""
        return self._read_info("title") or "OpenAPI"

    @property
    def api_version(self) -> str | None:
        """The version of the API, if the document gives one."""
        return self._read_info("version")

    def _read_info(self, key: str) -> str | None:
        info = self.root.get("info")
        value = info.get(key) if isinstance(info, dict) else None
        return value.strip() or None if isinstance(value, str) else None

    def look_up(self, reference: str) -> Any:
        """What a reference such as "#/components/schemas/Pet" leads to; raises DefinitionError for others."""
        if not reference.startswith("#"):
            raise DefinitionError(
                f"the reference {reference!r} leads out of the document: bundle it into one document first"
            )
        if reference != "#" and not reference.startswith("#/"):
            raise DefinitionError(f"the reference {reference!r} is no path within the document")
        found: Any = self.root
        for step in reference.split("/")[1:]:
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            try:
                found = found[int(name)] if isinstance(found, list) else found[name]
            except (KeyError, ValueError, IndexError, TypeError):
                raise DefinitionError(f"the reference {reference!r} leads nowhere in the document") from None
        return found

    def resolve(self, value: Any) -> dict[str, Any]:
        """`value`, or what it refers to; raises DefinitionError unless that is an object of the document."""
        for _ in range(_MAX_HOPS):
            if not isinstance(value, dict):
                raise DefinitionError(f"{_shorten(value)} should be an object")
            reference = value.get("$ref")
            if not isinstance(reference, str):
                return value
            value = self.look_up(reference)
        raise DefinitionError("references lead in a circle")


def read_document(given: Mapping[str, Any] | str | bytes) -> Document:
    """The document that is `given` as a dict, or as the text of JSON or YAML.

    Raises DefinitionError for what is none, for versions before 3.0, and for YAML without the package PyYAML.
    """
    root = given if isinstance(given, Mapping) else _read_text(given)
    if not isinstance(root, Mapping):
        raise DefinitionError(f"an OpenAPI document is an object, not {_shorten(root)}")
    root = _plain(root)
    if "swagger" in root:
        raise DefinitionError(f"the document is Swagger {root['swagger']}: convert it to OpenAPI 3 first")
    version = root.get("openapi")
    if not isinstance(version, str) or not _VERSION.match(version):
        raise DefinitionError(f"an OpenAPI document has openapi: 3.0, 3.1 or 3.2, not {_shorten(version)}")
    return Document(root, version)


def _read_text(given: Any) -> Any:
    if not isinstance(given, (str, bytes)):
        raise DefinitionError(f"an OpenAPI document is a dict or a text, not {_shorten(given)}")
    try:
        text = given.decode("utf-8-sig") if isinstance(given, bytes) else given.removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise DefinitionError(f"the document is not in UTF-8: {error}") from None
    if text.lstrip().startswith("{"):
        try:
            return msgspec.json.decode(text)
        except (ValueError, RecursionError) as error:
            raise DefinitionError(f"the document is no JSON: {error}") from None
    return _read_yaml(text)


def _read_yaml(text: str) -> Any:
    try:
        # By name, because it is no dependency, and has no types.
        yaml: Any = importlib.import_module("yaml")
    except ImportError:
        raise DefinitionError("to read a document in YAML, install pyyaml, or give it as a dict") from None
    try:
        return yaml.load(text, Loader=_make_loader(yaml))
    except (yaml.YAMLError, RecursionError) as error:
        raise DefinitionError(f"the document is neither JSON nor YAML: {error}") from None


def _make_loader(yaml: Any) -> Any:
    """A safe loader that reads the YAML of JSON, as OpenAPI asks for: there "on" and 12:30 are texts."""
    base = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    loader: Any = type("Loader", (base,), {})
    loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in known if tag not in _PLAIN_VALUES and tag != _DATE]
        for first, known in base.yaml_implicit_resolvers.items()
    }
    for tag, (pattern, first) in _PLAIN_VALUES.items():
        loader.add_implicit_resolver(tag, pattern, list(first))
    return loader


def _plain(value: Any) -> Any:
    """A copy in which keys are texts and values those of JSON: other readers of YAML make ints and dates.

    What YAML lets occur several times by an alias is copied once.
    """
    copies: dict[int, Any] = {}

    def copy(value: Any) -> Any:
        if isinstance(value, Mapping):
            if id(value) not in copies:
                made: dict[str, Any] = {}
                copies[id(value)] = made
                made.update((_as_key(key), copy(item)) for key, item in value.items())
            return copies[id(value)]
        if isinstance(value, (list, tuple)):
            if id(value) not in copies:
                items: list[Any] = []
                copies[id(value)] = items
                items.extend(copy(item) for item in value)
            return copies[id(value)]
        return value.isoformat() if hasattr(value, "isoformat") else value

    try:
        return copy(value)
    except RecursionError:
        raise DefinitionError("the document is nested too deeply") from None


def _as_key(key: Any) -> str:
    if isinstance(key, bool):  # "on", "yes" and the like in YAML
        return "true" if key else "false"
    return key if isinstance(key, str) else str(key)


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
