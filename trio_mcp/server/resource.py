"""One resource, or one template of them: a function, how it is listed, and how it is read.

Owns how the parts of a URI become arguments, and how what the function returns becomes contents
(MCP server features, "Resources"). Knows nothing of requests.
"""

from __future__ import annotations

import base64
import inspect
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import attrs
import msgspec
import trio

from trio_mcp.errors import ResourceDefinitionError, ReturnError
from trio_mcp.outgoing.policy import ServerPolicy
from trio_mcp.schema.docstrings import read_docstring
from trio_mcp.schema.parameters import Parameters, read_parameters
from trio_mcp.schema.returns import Returns, read_returns
from trio_mcp.schema.signatures import Subject, read_return_annotation, unwrap
from trio_mcp.server.completers import Completer, add_completer
from trio_mcp.server.context import Context
from trio_mcp.server.functions import (
    NO_SCOPES,
    call_function,
    check_bound,
    check_policy,
    find_injected,
    find_name,
    is_generator,
    read_icons,
    read_part,
    read_scopes,
)
from trio_mcp.server.tags import NO_TAGS, read_tags
from trio_mcp.session.settings import CacheHint
from trio_mcp.wire.content import Annotations, Icon, ResourceContents
from trio_mcp.wire.resources import ReadResourceResult, Resource, ResourceTemplate
from trio_mcp.wire.uri_template import UriTemplate, parse_template

_BYTES: Final = (bytes, bytearray, memoryview)
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:.")


@attrs.frozen
class ResourceDefinition:
    """A resource of a server, or a template; `listing` is what clients see of it.

    `uri` is its URI or its template; `template` is None for a single resource.
    """

    uri: str
    listing: Resource | ResourceTemplate
    template: UriTemplate | None
    function: Callable[..., Any]
    parameters: Parameters
    returns: Returns
    is_async: bool
    lists: frozenset[str]
    """The variables whose parameters take lists."""
    cache: CacheHint | None = None
    """How long clients may keep what they read; None for what the server says."""
    progress: ServerPolicy | None = None
    completers: dict[str, Completer] = attrs.field(factory=dict)
    scopes: frozenset[str] = NO_SCOPES
    """What a client must be allowed to list, read and complete it, and to subscribe to it."""
    tags: frozenset[str] = NO_TAGS

    @property
    def shows_errors(self) -> bool | None:
        """Whether clients see what an unexpected exception said; None if the server decides."""
        return None

    @property
    def variable_names(self) -> Sequence[str]:
        """The variables of a template; a single resource has none."""
        return () if self.template is None else tuple(self.template.names)

    def add_completer(self, name: str, function: Callable[..., Any]) -> None:
        """Let `function` complete a variable; raises ResourceDefinitionError if it cannot."""
        subject = Subject(f"resource {self.uri!r}", ResourceDefinitionError)
        add_completer(self.completers, self.variable_names, name, function, subject, "variable")

    def find_completer(self, name: str) -> Completer | None:
        """What completes a variable; None if nothing does."""
        return self.completers.get(name)

    def match(self, uri: str) -> Mapping[str, str | list[str]] | None:
        """The values of the variables in `uri`, or None if it names another resource."""
        if self.template is None:
            return {} if uri == self.uri else None
        return self.template.match(uri, self.lists)

    async def read(
        self,
        context: Context,
        uri: str,
        values: Mapping[str, str | list[str]],
        limiter: trio.CapacityLimiter,
    ) -> list[ResourceContents] | ReadResourceResult:
        """Convert the values, run the function, convert what it returns.

        Returns the contents, or a result that is complete already, as of a resource of another server.
        A sync function runs in a worker thread, which is abandoned if the request is cancelled. Raises
        ArgumentError, ReturnError and what the function raises.
        """
        kwargs = self.parameters.convert_uri_values(values)
        if self.parameters.context_name is not None:
            kwargs[self.parameters.context_name] = context
        value = await call_function(self.function, kwargs, limiter, is_async=self.is_async)
        return make_contents(value, uri, self.listing.mime_type, self.returns)


def define_resource(
    uri: str,
    function: Callable[..., Any],
    *,
    name: str | None,
    title: str | None,
    description: str | None,
    mime_type: str | None,
    size: int | None,
    annotations: Annotations | Mapping[str, Any] | None,
    icons: Sequence[Icon | Mapping[str, Any]] | None,
    meta: Mapping[str, Any] | None,
    cache: CacheHint | None,
    progress: ServerPolicy | None = None,
    scopes: Collection[str] = (),
    tags: str | Iterable[str] = (),
    refuse_unknown: bool = True,
) -> ResourceDefinition:
    """Make a resource of `function`, or a template if `uri` has variables.

    Raises ResourceDefinitionError if it cannot be one.
    """
    template = _read_uri(uri)
    subject = Subject(f"resource {uri!r}", ResourceDefinitionError)
    inner, name = _read_function(function, name, subject)
    injected = find_injected(function, subject)
    if injected is not None:
        function = injected.function
    parameters = read_parameters(function, Context, subject, refuse_unknown=refuse_unknown)
    returns = read_returns(function, (ResourceContents, *_BYTES), subject, refuse_unknown=refuse_unknown)
    mime_type = mime_type or _guess_type(read_return_annotation(function, subject), returns)
    _check_names(template, parameters, subject)
    if not isinstance(cache, (CacheHint, type(None))):
        raise subject.flaw(f"cache must be a CacheHint, not {cache!r}")
    check_policy(progress, subject)
    shown: dict[str, Any] = {
        "name": name,
        "title": title,
        "description": description or read_docstring(function).description,
        "mime_type": mime_type,
        "annotations": read_part(annotations, Annotations, "annotations", subject),
        "icons": read_icons(icons, subject),
        "meta": None if meta is None else dict(meta),
    }
    listing: Resource | ResourceTemplate
    if not template.names:
        if size is not None and (type(size) is not int or size < 0):
            raise subject.flaw(f"size must be a number of bytes, not {size!r}")
        listing = Resource(uri=uri, size=size, **shown)
    elif size is not None:
        raise subject.flaw("a template has no size, because its resources differ")
    else:
        listing = ResourceTemplate(uri_template=uri, **shown)
    is_async = injected is not None or inspect.iscoroutinefunction(inner)
    return ResourceDefinition(
        uri,
        listing,
        template if template.names else None,
        function,
        parameters,
        returns,
        is_async,
        parameters.lists,
        cache,
        progress,
        scopes=read_scopes(scopes, subject),
        tags=read_tags(tags, subject),
    )


def _read_uri(uri: Any) -> UriTemplate:
    if not isinstance(uri, str):
        raise ResourceDefinitionError(
            f'a resource needs its URI, as in @server.resource("config://app"): {uri!r}'
        )
    try:
        template = parse_template(uri)
    except ValueError as error:
        raise ResourceDefinitionError(f"resource {uri!r}: {error}") from None
    if not uri.startswith("{") and not _SCHEME.match(uri):
        raise ResourceDefinitionError(f"resource {uri!r} is no URI: it needs a scheme, as in 'config://app'")
    return template


def _read_function(
    function: Callable[..., Any], name: str | None, subject: Subject
) -> tuple[Callable[..., Any], str]:
    """The function that decides whether a read is async, and the name of the resource."""
    if not callable(function):
        raise subject.flaw(f"{function!r} is no function")
    inner = unwrap(function)
    name = find_name(function, name, subject.flaw)
    if not isinstance(name, str) or not name.strip():
        raise subject.flaw(f"the name must be text that is not empty, not {name!r}")
    if is_generator(inner):
        raise subject.flaw("it is a generator: return a value, and report progress instead")
    check_bound(function, "resource", subject)
    return inner, name


def _check_names(template: UriTemplate, parameters: Parameters, subject: Subject) -> None:
    """Refuse a variable that the function does not take, and a parameter that no variable gives."""
    properties = parameters.schema["properties"]
    unused = [name for name in template.names if name not in properties]
    if unused:
        raise subject.flaw(f"the function has no parameter {unused[0]!r}")
    missing = [name for name in parameters.schema.get("required", ()) if name not in template.names]
    if missing:
        raise subject.flaw(f"the URI has no variable for the parameter {missing[0]!r}")


def _guess_type(annotation: Any, returns: Returns) -> str | None:
    if annotation is str:
        return "text/plain"
    if annotation in _BYTES:
        return "application/octet-stream"
    return None if returns.schema is None else "application/json"


def make_contents(value: Any, uri: str, mime_type: str | None, returns: Returns) -> list[ResourceContents]:
    """The contents of a resource whose function returned `value`.

    Text and bytes stay what they are, ResourceContents are complete, and everything else becomes JSON.
    Raises ReturnError if `value` does not fit the annotation or JSON.
    """
    given = [value] if isinstance(value, ResourceContents) else value
    if isinstance(given, (list, tuple)) and given and all(isinstance(i, ResourceContents) for i in given):
        for contents in given:
            if (contents.text is None) == (contents.blob is None):
                raise ReturnError(f"the contents of {contents.uri!r} need either a text or a blob")
        return list(given)
    if isinstance(value, _BYTES):
        blob = base64.b64encode(value).decode()
        return [ResourceContents(uri=uri, mime_type=mime_type or "application/octet-stream", blob=blob)]
    if value is None:
        raise ReturnError(
            "the function returned None: return text, bytes or a JSON value, or raise ResourceNotFound"
        )
    built = returns.to_builtins(value)
    if isinstance(value, str) and isinstance(built, str):
        return [ResourceContents(uri=uri, mime_type=mime_type or "text/plain", text=built)]
    text = msgspec.json.encode(built).decode()
    return [ResourceContents(uri=uri, mime_type=mime_type or "application/json", text=text)]
