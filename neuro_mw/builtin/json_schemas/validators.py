"""The validators of jsonschema with an end: patterns in linear time, each item looked at once, references counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from fractions import Fraction
from functools import cache
from typing import Any

from .errors import TooMuchError
from .patterns import found

MOST_REFERENCES = 20_000  # that are followed for one value; a schema that refers to itself may ask for any number
references: ContextVar[list[int]] = ContextVar("references")
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")


@cache
def bounded(kind: Any) -> Any:
    """The validators of a draft, bounded."""
    from jsonschema.validators import extend  # type: ignore[import-untyped]  # it has no types

    own: dict[str, Any] = {
        "pattern": _pattern, "patternProperties": _pattern_properties, "additionalProperties": _additional_properties,
        "uniqueItems": _unique_items, "multipleOf": _multiple_of,
    }  # fmt: skip
    own |= {word: _counted(kind.VALIDATORS[word]) for word in _REFERENCES if word in kind.VALIDATORS}
    return extend(kind, {word: check for word, check in own.items() if word in kind.VALIDATORS})


def further(schema: Mapping[str, Any], value: Mapping[str, Any]) -> list[str]:
    """The names in an object that a schema has no property and no pattern for."""
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    return [name for name in value if name not in known and not any(found(one, name) for one in patterns)]


def _counted(follow: Any) -> Callable[..., Iterator[Any]]:
    """A word that refers to another schema, which ends where there are too many."""

    def check(validator: Any, wanted: Any, value: Any, schema: Any) -> Iterator[Any]:
        left = references.get()
        left[0] -= 1
        if left[0] < 0:
            raise TooMuchError
        yield from follow(validator, wanted, value, schema) or ()

    return check


def _error(message: str) -> Any:
    from jsonschema import ValidationError  # type: ignore[import-untyped]  # as above

    return ValidationError(message)


def _pattern(validator: Any, wanted: str, value: Any, schema: Any) -> Iterator[Any]:
    if isinstance(value, str) and not found(wanted, value):
        yield _error(f"{value!r} does not match {wanted!r}")


def _pattern_properties(validator: Any, wanted: Mapping[str, Any], value: Any, schema: Any) -> Iterator[Any]:
    for pattern, inner in wanted.items() if isinstance(value, dict) else ():
        for name, one in value.items():
            if found(pattern, name):
                yield from validator.descend(one, inner, path=name, schema_path=pattern)


def _additional_properties(validator: Any, wanted: Any, value: Any, schema: Any) -> Iterator[Any]:
    extra = further(schema, value) if isinstance(value, dict) else []
    if wanted is False and extra:
        yield _error(f"these properties are not known: {', '.join(map(repr, extra))}")
    elif wanted is not False:
        for name in extra:
            yield from validator.descend(value[name], wanted, path=name)


def _unique_items(validator: Any, wanted: Any, value: Any, schema: Any) -> Iterator[Any]:
    if wanted and isinstance(value, list) and len({_key(one) for one in value}) < len(value):
        yield _error("it has the same item twice")


def _multiple_of(validator: Any, wanted: Any, value: Any, schema: Any) -> Iterator[Any]:
    """As they are written: 19.99 is a multiple of 0.01, which it is not where they are divided as floats."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and Fraction(str(value)) % Fraction(str(wanted)):
        yield _error(f"{value!r} is not a multiple of {wanted!r}")


def _key(value: Any) -> Any:
    """The same for values that are equal in JSON: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, dict):
        return "object", frozenset((name, _key(one)) for name, one in value.items())
    if isinstance(value, list):
        return "array", tuple(map(_key, value))
    return type(value) is bool, value
