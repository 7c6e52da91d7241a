"""What kinds of value a JSON schema has at its root: by them JSON is told from the prose round it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

_TYPES = frozenset({"object", "array", "string", "number", "boolean", "null"})
_OF_OBJECTS = ("properties", "required", "additionalProperties", "patternProperties", "propertyNames")
_OF_ARRAYS = ("items", "prefixItems", "contains")


class Kinds(NamedTuple):
    """The brackets that a value may begin with, and whether it may be a string, a number, true, false or null."""

    openings: str
    scalar: bool


def kinds_of(schema: Any) -> Kinds:
    """The kinds of value that a schema takes.

    >>> kinds_of({"type": "array"})
    Kinds(openings='[', scalar=False)
    """
    types = _types(schema, schema, 0)
    openings = "{" * ("object" in types) + "[" * ("array" in types)
    return Kinds(openings, scalar=bool(types - {"object", "array"}))


def _types(schema: Any, root: Any, depth: int) -> frozenset[str]:
    if not isinstance(schema, Mapping) or depth > 20:
        return _TYPES
    found = _own_types(schema)
    if isinstance(ref := schema.get("$ref"), str):
        found &= _types(_at(ref, root), root, depth + 1)
    for one in _list(schema.get("allOf")):
        found &= _types(one, root, depth + 1)
    for name in ("anyOf", "oneOf"):
        if choices := _list(schema.get(name)):
            found &= frozenset().union(*(_types(one, root, depth + 1) for one in choices))
    return found


def _own_types(schema: Mapping[str, Any]) -> frozenset[str]:
    given = schema.get("type")
    if given is not None:
        names = {given} if isinstance(given, str) else set(_list(given))
        return frozenset("number" if name == "integer" else name for name in names)
    if "const" in schema or "enum" in schema:
        values = [schema["const"]] if "const" in schema else _list(schema["enum"])
        return frozenset(_type_of(value) for value in values)
    if any(name in schema for name in _OF_OBJECTS):
        return frozenset({"object"})
    return frozenset({"array"}) if any(name in schema for name in _OF_ARRAYS) else _TYPES


def _type_of(value: Any) -> str:
    if isinstance(value, Mapping):
        return "object"
    return "array" if isinstance(value, list) else "string"  # one of the scalars, whichever


def _at(ref: str, root: Any) -> Any:
    """What a reference within the schema points to; None for another one."""
    if not ref.startswith("#"):
        return None
    for step in ref[1:].split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        root = root.get(name) if isinstance(root, Mapping) else None
    return root


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
