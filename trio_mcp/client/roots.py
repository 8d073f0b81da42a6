"""The roots that a client shows to its server (MCP roots).

Owns how they are given, and the answer to roots/list. Refuses to know how questions arrive.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import trio

from trio_mcp.wire.roots import Root

RootLike: TypeAlias = Root | Path | trio.Path | str
Roots: TypeAlias = Sequence[RootLike] | Callable[[], Awaitable[Sequence[RootLike]] | Sequence[RootLike]]
"""Roots, paths or file URIs; or a function that returns them each time, sync or async."""


class RootList:
    """The roots of one client, which may be replaced; raises as `replace` does."""

    def __init__(self, roots: Roots) -> None:
        self._roots = self._check(roots)

    def replace(self, roots: Roots) -> None:
        """Show other roots; raises ValueError for what is no file URI, and TypeError for what is no root."""
        self._roots = self._check(roots)

    async def answer(self) -> dict[str, Any]:
        """The result of roots/list; checkpoints if a function makes it and does."""
        roots: Any = self._roots
        if callable(roots):
            roots = roots()
            if inspect.isawaitable(roots):
                roots = await roots
            roots = [_as_root(root) for root in roots]
        return {"roots": msgspec.to_builtins(roots)}

    def _check(self, roots: Roots) -> Any:
        if callable(roots):
            return roots
        if isinstance(roots, str):
            raise TypeError("roots are a list, also if there is only one")
        return [_as_root(root) for root in roots]


def _as_root(root: Any) -> Root:
    if isinstance(root, (Path, trio.Path)) or (isinstance(root, str) and "://" not in root):
        root = Root(Path(root).absolute().as_uri())
    elif isinstance(root, str):
        root = Root(root)
    if not isinstance(root, Root):
        raise TypeError(f"a root is a Root, a path or a file URI, not {root!r}")
    if not root.uri.startswith("file://"):  # MCP roots, "Root"
        raise ValueError(f"the URI of a root is a file URI, unlike {root.uri!r}")
    return root
