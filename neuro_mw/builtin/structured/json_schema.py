"""JSON schemas, of any draft that is known: what is wrong with a value is said by their words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from neuro_mw import ConfigError

from ..json_schemas.compiled import CompiledSchema
from ..json_schemas.errors import TooMuchError, UnusableError
from ..json_schemas.validators import further
from .formats import formats
from .kinds import kinds_of
from .problems import MOST, Problem, UnfitError, names_in, of_all, problem
from .schemas import parsed

_LONGEST = 400  # characters of what is said of a schema that is none
_SHOWN = 200  # characters of what the schema says, or the value, that stand in a problem
_OF_SCHEMAS = ("anyOf", "oneOf", "allOf", "not", "if", "contains", "propertyNames", "dependentSchemas")


class JSONSchema:
    """A JSON schema. Its patterns are RE2's; "date", "date-time", "email", "ipv4", "ipv6" and "uuid" are judged.

    Other formats are annotations, as the standard has it.

    >>> JSONSchema({"type": "object", "required": ["a"]}).value('{"a": 1}')
    {'a': 1}
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        self.json: dict[str, Any] | None = schema
        try:
            self._compiled = CompiledSchema(schema, formats=formats())
            self._compiled.errors(None, 1)  # a reference to itself has no end
        except UnusableError as error:
            path = ".".join(["schema", *map(str, error.path)])
            said = f"{error}: {error.detail}" if error.detail else str(error)
            raise ConfigError(f"it is no JSON schema that can be used: {said[:_LONGEST]}", key=path) from None
        except TooMuchError:
            raise ConfigError("it is nested too deeply, or refers to itself without end", key="schema") from None
        self.kinds = kinds_of(schema)
        self._names = names_in(schema)

    def value(self, text: str) -> Any:
        """The value of a JSON text. Raises UnfitError."""
        from jsonschema.exceptions import best_match  # type: ignore[import-untyped]  # it has no types

        data = parsed(text)
        if self._compiled.plain is not None and self._compiled.plain(data):
            return data
        try:
            found = self._compiled.errors(data, MOST)
            problems = dict.fromkeys(one for error in found for one in self._problems(best_match([error])))
        except Exception as error:  # noqa: BLE001  # a value that is too large, words of older drafts
            raise of_all(f"the schema cannot be applied to it: {type(error).__name__}") from None
        if problems:
            raise UnfitError(list(problems)[:MOST])  # each name that is missing is an error that tells of all
        return data

    def _problems(self, error: Any) -> Iterator[Problem]:
        keyword, wanted, path = error.validator, error.validator_value, list(error.absolute_path)
        if keyword == "required" and isinstance(wanted, list):
            for name in wanted:
                if name not in error.instance:
                    yield problem([*path, name], "it is missing", self._names)
        elif keyword in ("additionalProperties", "unevaluatedProperties") and wanted is False:
            extra = ", ".join(further(error.schema, error.instance))
            said = "it has properties that are not allowed"
            yield problem(path, said, self._names, f"{said}: {extra[:_SHOWN]}")
        elif keyword is None or keyword in _OF_SCHEMAS:
            yield problem(path, f"it does not fit {keyword or 'the schema, which allows nothing'}", self._names)
        else:
            wants = json.dumps(wanted, ensure_ascii=False)
            yield problem(path, f"it does not fit {keyword}: {wants[:_SHOWN]}", self._names)
