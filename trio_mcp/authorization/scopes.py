"""Names of scopes, and which scopes others include.

Owns the checks of what a program configures. Refuses to know requests.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

_FORBIDDEN = '"\\'


def read_names(label: str, scopes: Collection[str]) -> tuple[str, ...]:
    """`scopes` without repetitions, in their order; raises TypeError, and ValueError for a bad name.

    `label` is what the parameter is called (RFC 6749, 3.3).
    """
    if isinstance(scopes, str):
        raise TypeError(f"{label} must be a list of names, not the text {scopes!r}")
    for scope in scopes:
        if not isinstance(scope, str) or not scope or not all("!" <= c <= "~" for c in scope):
            raise ValueError(f"{label}: a scope must be printable ASCII without blanks, not {scope!r}")
        if any(c in _FORBIDDEN for c in scope):
            raise ValueError(f"{label}: a scope must not have quotes or backslashes, as {scope!r} has")
    return tuple(dict.fromkeys(scopes))


def read_implied(implies: Mapping[str, Collection[str]]) -> dict[str, frozenset[str]]:
    """All scopes that each includes, by way of others too; raises as `read_names` does."""
    direct = {scope: read_names(f"implies[{scope!r}]", included) for scope, included in implies.items()}
    closed = {}
    for scope in direct:
        found: dict[str, None] = {}
        pending = [scope]
        while pending:
            one = pending.pop()
            if one not in found:
                found[one] = None
                pending += direct.get(one, ())
        closed[scope] = frozenset(found)
    return closed


def expand(scopes: frozenset[str], implied: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """`scopes`, and all that they include."""
    return scopes.union(*(implied[scope] for scope in scopes & implied.keys()))
