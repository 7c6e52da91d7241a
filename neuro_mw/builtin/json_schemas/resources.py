"""The schemas within a schema, and those that they refer to: none of them may be elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .errors import UnusableError
from .patterns import compiled


def specifications() -> Any:
    """What references may lead to beside the schema itself: the drafts."""
    from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]  # it has no types

    return REGISTRY


def check(schema: Any) -> None:
    """Raise UnusableError for a reference that leads nowhere, and for patterns that would not run in linear time."""
    schemas = list(_resources(schema))
    of_names = [one["patternProperties"] for one in schemas if isinstance(one.get("patternProperties"), dict)]
    if of_names and any("unevaluatedProperties" in one for one in schemas):  # jsonschema would run them itself
        raise UnusableError("it has both patternProperties and unevaluatedProperties")
    patterns = [one["pattern"] for one in schemas if isinstance(one.get("pattern"), str)]
    for pattern in [*patterns, *(name for names in of_names for name in names)]:
        compiled(pattern)


def _resources(schema: Any) -> Iterator[Mapping[str, Any]]:
    from referencing import Resource
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    root = Resource.from_contents(schema, default_specification=DRAFT202012)
    waiting, seen = [(root, specifications().resolver_with_root(root))], set()
    while waiting:
        resource, resolver = waiting.pop()
        one = resource.contents
        if not isinstance(one, Mapping) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [(sub, resolver.in_subresource(sub)) for sub in resource.subresources()]
        for name in ("$ref", "$dynamicRef"):
            ref = one.get(name)
            try:
                there = resolver.lookup(ref) if isinstance(ref, str) else None
            except Unresolvable:
                said = "it has a reference that leads nowhere: what is not in it is never fetched"
                raise UnusableError(said, f"{name} {ref!r}") from None
            if there is not None:
                waiting.append((Resource.from_contents(there.contents, DRAFT202012), there.resolver))
