"""A quick yes for the schemas that most tools have: it is never wrong about what fits, and leaves all else open."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import ge, gt, le, lt
from typing import Any

Check = Callable[[Any], bool]
"""Whether a value fits for certain; where it says no, it may fit all the same."""

_NOTES = frozenset({
    "$comment", "$defs", "$schema", "default", "definitions", "deprecated", "description", "examples", "readOnly",
    "strict", "title", "writeOnly",
})  # fmt: skip
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,), "null": (type(None),),
    "array": (list,), "object": (dict,),
}  # fmt: skip
_OF_OBJECTS = frozenset({"properties", "required", "additionalProperties"})


def plain_check(schema: Any, *, formats: bool = False) -> Check | None:
    """The check for a schema, or None where it has a word in it that is not known here, or refers to itself.

    ``format`` is a note, but with `formats` a word that is not known.

    >>> check = plain_check({"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}})
    >>> check({"n": 2}), check({"n": 0})
    (True, False)
    """
    return _Reader(schema, _NOTES if formats else _NOTES | {"format"}).check(schema)


class _Reader:
    """Makes the checks of one schema and of what is in it."""

    def __init__(self, root: Any, notes: frozenset[str]) -> None:
        self._root, self._notes = root, notes
        self._open: list[str] = []  # references that are being followed

    def check(self, schema: Any) -> Check | None:
        if schema is True:
            return lambda value: True
        if not isinstance(schema, Mapping):
            return None
        words = {word: said for word, said in schema.items() if word not in self._notes}
        if "$ref" in words:
            return self._referred(words["$ref"]) if len(words) == 1 else None
        checks: list[Check | None] = []
        if not _OF_OBJECTS.isdisjoint(words):
            checks.append(self._object(words))
            if words.get("type") == "object":
                del words["type"]
        checks += [self._word(word, said) for word, said in words.items() if word not in _OF_OBJECTS]
        known = [check for check in checks if check is not None]
        if len(known) < len(checks):
            return None
        return known[0] if len(known) == 1 else _all_of(known)

    def _word(self, word: str, said: Any) -> Check | None:
        if word == "items":
            inner = self.check(said)
            return None if inner is None else lambda value: type(value) is list and all(map(inner, value))
        if word == "anyOf":
            checks = [self.check(one) for one in said]
            known = [check for check in checks if check is not None]
            return None if len(known) < len(checks) else lambda value: any(check(value) for check in known)
        return _MAKERS[word](said) if word in _MAKERS else None

    def _referred(self, path: Any) -> Check | None:
        """The check of ``#/$defs/name``, as pydantic writes it; of no other reference."""
        _, _, place = str(path).partition("#/")
        kind, _, name = place.partition("/")
        if kind not in ("$defs", "definitions") or path != f"#/{kind}/{name}" or not name.isidentifier():
            return None
        if path in self._open or not isinstance(self._root, Mapping) or name not in self._root.get(kind, {}):
            return None
        self._open.append(path)
        found = self.check(self._root[kind][name])
        self._open.pop()
        return found

    def _object(self, words: Mapping[str, Any]) -> Check | None:
        """An object whose further properties are free or forbidden."""
        required, additional = words.get("required", []), words.get("additionalProperties", True)
        if additional not in (True, False) or not isinstance(required, list):
            return None
        checks = {name: self.check(one) for name, one in words.get("properties", {}).items()}
        if None in checks.values():
            return None
        wanted, find = tuple(required), checks.get

        def check(value: Any) -> bool:
            if type(value) is not dict:
                return False
            for name in wanted:
                if name not in value:
                    return False
            for name, one in value.items():
                inner = find(name)
                if inner is None:
                    if not additional:
                        return False
                elif not inner(one):
                    return False
            return True

        return check


def _all_of(checks: list[Check]) -> Check:
    def check(value: Any) -> bool:
        for one in checks:  # noqa: SIM110  # a generator would cost as much again
            if not one(value):
                return False
        return True

    return check


def _type(said: Any) -> Check | None:
    names = [said] if isinstance(said, str) else said
    if not all(isinstance(name, str) and name in _TYPES for name in names):
        return None
    kinds = frozenset(kind for name in names for kind in _TYPES[name])
    if len(kinds) == 1:
        (kind,) = kinds
        return lambda value: type(value) is kind
    return lambda value: type(value) in kinds


def _enum(said: Any) -> Check | None:
    texts = frozenset(one for one in said if isinstance(one, str))  # of all else equality is another in JSON
    return lambda value: type(value) is str and value in texts


def _within(compare: Callable[[Any, Any], bool], *kinds: type, size: bool = False) -> Callable[[Any], Check | None]:
    """The maker for a limit of values of these types, or of their size."""

    def maker(limit: Any) -> Check | None:
        if type(limit) not in (int, float):
            return None
        if size:
            return lambda value: type(value) in kinds and compare(len(value), limit)
        return lambda value: type(value) in kinds and compare(value, limit)

    return maker


_MAKERS: dict[str, Callable[[Any], Check | None]] = {
    "type": _type,
    "enum": _enum,
    "const": lambda said: _enum([said]),
    "minLength": _within(ge, str, size=True),
    "maxLength": _within(le, str, size=True),
    "minItems": _within(ge, list, size=True),
    "maxItems": _within(le, list, size=True),
    "minimum": _within(ge, int, float),
    "maximum": _within(le, int, float),
    "exclusiveMinimum": _within(gt, int, float),
    "exclusiveMaximum": _within(lt, int, float),
}
