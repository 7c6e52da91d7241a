"""What an answer has to be: a type that pydantic validates, or a JSON schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, Protocol

from neuro_mw import ConfigError

from .._dotted import named
from ..json_schemas.reading import read
from .kinds import Kinds, kinds_of
from .messages import of_schema
from .problems import MOST, Problem, UnfitError, names_in, of_all, problem

_EXPECTED = "a pydantic model or another type, 'package.module:Name' of one, or a JSON schema"
_NO_TYPES = (  # pydantic would take a function, and call it with the answer
    str, bytes, int, float, list, tuple, set, frozenset, ModuleType, FunctionType, BuiltinFunctionType, MethodType,
    partial,
)  # fmt: skip
_MOST_VALUES = 100_000  # of one answer: more than the longest answers of models have


class Schema(Protocol):
    """What an answer has to be. ``json`` is it as JSON schema, where there is one."""

    json: dict[str, Any] | None
    kinds: Kinds

    def value(self, text: str) -> Any:
        """The value of a JSON text, as plain data. Raises UnfitError."""
        ...


def schema_of(given: Any) -> Schema:
    """What the option ``schema`` stands for. Raises ConfigError where that is nothing to validate with."""
    found = named(given, key="schema", expected=_EXPECTED) if isinstance(given, str) else given
    if isinstance(found, Mapping):
        from .json_schema import JSONSchema

        return JSONSchema(plain_schema(found))
    if found is None or isinstance(found, _NO_TYPES) or hasattr(type(found), "model_fields"):
        raise ConfigError(f"it is {_what(given)}", key="schema", expected=_EXPECTED)
    return TypeSchema(found)


def plain_schema(given: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a JSON schema. Raises ConfigError where it is no JSON."""
    try:
        made: dict[str, Any] = json.loads(json.dumps(given, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"it is no JSON: {error}", key="schema", expected=_EXPECTED) from None
    return made


def parsed(text: str) -> Any:
    """The value of a JSON text, read to the letter. Raises UnfitError that says where it is none."""
    if not text.strip():
        raise of_all("there is no JSON")
    try:
        data = read(text, _MOST_VALUES)
        if "\\u" in text or not text.isascii():
            json.dumps(data, ensure_ascii=False).encode()
    except UnicodeError:
        raise of_all("it is no JSON: it has half of a surrogate pair") from None
    except ValueError as error:
        raise of_all(f"it is no JSON: {error}") from None
    return data


class TypeSchema:
    """A type, which pydantic validates: a model, a dataclass, a TypedDict, a list of them.

    >>> TypeSchema(dict[str, int]).value('{"a": "1"}')
    {'a': 1}
    """

    def __init__(self, kind: Any) -> None:
        from pydantic import TypeAdapter

        try:
            self._adapter = TypeAdapter(kind)
            self._adapter.rebuild(raise_errors=True)
            self._adapter.validator.title  # noqa: B018  # raises where a name in it is not defined
        except Exception as error:
            said = f"pydantic cannot validate {_what(kind)}: {error}"
            raise ConfigError(said, key="schema", expected=_EXPECTED) from error
        self.json: dict[str, Any] | None
        try:
            self.json = self._adapter.json_schema()
        except Exception:  # noqa: BLE001  # not every type has one, and a type may make its own
            self.json = None
        self.kinds = kinds_of(self.json)
        self._names = names_in(self.json)

    def value(self, text: str) -> Any:
        """See `Schema`."""
        from pydantic import ValidationError

        data = parsed(text)
        try:
            made = self._adapter.validate_json(text)
        except ValidationError as error:
            raise self._unfit(error, data) from None
        except Exception as error:  # noqa: BLE001  # a validator of the type's own may raise anything, of the answer
            raise of_all(f"a validator of the schema raised {type(error).__name__}") from None
        try:
            found = self._adapter.dump_python(made, mode="json", by_alias=True, round_trip=True, warnings=False)
            json.dumps(found, allow_nan=False)  # a type may make infinity of a text
            return found
        except Exception as error:  # noqa: BLE001  # as above, of a serializer
            raise of_all(f"the value cannot be written as JSON: {type(error).__name__}") from None

    def _unfit(self, error: Any, data: Any) -> UnfitError:
        found = error.errors(include_url=False, include_input=False)
        problems = [self._problem(one, data) for one in found[:MOST]]
        return UnfitError(_and_more(problems, len(found)))

    def _problem(self, one: Mapping[str, Any], data: Any) -> Problem:
        said = str(one["msg"])
        message = of_schema(one["type"], said, one.get("ctx"))
        path = _path_in(data, one["loc"], missing=one["type"] == "missing")
        return problem(path, message, self._names, said.removeprefix("Value error, "))


def _path_in(data: Any, steps: Any, *, missing: bool) -> list[Any]:
    """Those of pydantic's steps that are keys of the data, and a key that is missing; others name members of unions."""
    path = []
    for index, step in enumerate(steps):
        is_index = isinstance(data, list) and isinstance(step, int)
        if step < len(data) if is_index else isinstance(data, Mapping) and step in data:
            data = data[step]
        elif not (missing and index == len(steps) - 1):
            continue
        path.append(step)
    return path


def _and_more(problems: list[Problem], count: int) -> list[Problem]:
    more = f"and {count - MOST} more problems"
    return problems if count <= MOST else [*problems, Problem("", more, more)]


def _what(value: Any) -> str:
    return repr(value) if isinstance(value, str | type) else f"of type {type(value).__name__}"
