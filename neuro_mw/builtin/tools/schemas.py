"""The schemas of tools, compiled once, and what is wrong with arguments as a model is told."""

from __future__ import annotations

import json
import threading
from copy import copy
from typing import Any

import orjson

from ..json_schemas.compiled import CompiledSchema
from ..json_schemas.errors import TooMuchError, UnusableError

_MOST_SCHEMAS = 256
_MAX_MESSAGE = 200  # characters of what is said of one fault


class Schema(CompiledSchema):
    """One schema. ``format`` is a note only, and a ``$schema`` that is not known is taken for 2020-12.

    >>> schema = Schema({"type": "object", "properties": {"n": {"type": "integer"}}})
    >>> schema.fits({"n": 1}), schema.fits({"n": "x"}), schema.faults({"n": "x"}, 1)
    (True, False, ["at $.n: 'x' is not of type 'integer'"])
    """

    __slots__ = ()

    def __init__(self, schema: Any) -> None:
        super().__init__(schema, any_draft=True)

    def fits(self, value: Any) -> bool:
        """Whether a JSON value fits; not, where that would take too long to say."""
        plain = self.plain
        return (plain is not None and plain(value)) or not self.faults(value, 1)

    def faults(self, value: Any, most: int) -> list[str]:
        """What is wrong with a JSON value, the first so many of it, with texts of the value in it."""
        try:
            found = self.errors(value, most)
        except TooMuchError as error:
            return [str(error)]
        return [f"at {error.json_path}: {error.message}"[:_MAX_MESSAGE] for error in found]


class Schemas:
    """The schemas of tools, compiled: the last 256, each by what stands in it."""

    def __init__(self) -> None:
        self._compiled: dict[bytes, Schema | UnusableError] = {}
        self._lock = threading.Lock()

    def of(self, schema: Any) -> Schema:
        """A schema, compiled from a copy of its own. Raises UnusableError where it is none."""
        try:
            text = orjson.dumps(schema)
        except TypeError:  # such as a number beyond 64 bits, which is fine
            text = _written(schema)
        found = self._compiled.get(text)
        if found is None:
            try:
                found = Schema(json.loads(text))
            except UnusableError as error:
                found = copy(error)  # without the frames that it has gone through
            with self._lock:
                if len(self._compiled) >= _MOST_SCHEMAS:
                    del self._compiled[next(iter(self._compiled))]
                self._compiled[text] = found
        if isinstance(found, UnusableError):
            raise copy(found)
        return found


def _written(schema: Any) -> bytes:
    try:
        return json.dumps(schema, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        raise UnusableError("it is no plain JSON") from None
