"""A JSON schema, compiled: checked once, run with an end on any value."""

from __future__ import annotations

from itertools import islice
from typing import Any

from .errors import TooMuchError, UnusableError
from .plain_schemas import plain_check
from .resources import check, specifications
from .validators import MOST_REFERENCES, bounded, references

_SHOWN = 200  # characters of what is said of a schema


def load() -> None:
    """Import what checking takes, tenths of a second the first time."""
    import re2  # noqa: F401
    from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it has no types

    bounded(Draft202012Validator)


class CompiledSchema:
    """One schema, compiled: of the draft that its ``$schema`` names, by default 2020-12.

    Without `any_draft` it has to be one that is known, else 2020-12 stands for it. `formats` is jsonschema's judge of
    formats; without one they are notes. The schema is kept: it must not be changed. ``plain`` is a quick yes, see
    `plain_check`.

    Raises UnusableError where it is no schema, or has a pattern that RE2 cannot run (such as one that looks ahead) or a
    reference that leads out of it: nothing is ever fetched.

    >>> schema = CompiledSchema({"type": "object", "properties": {"n": {"type": "integer"}}})
    >>> schema.plain({"n": 1}), [error.validator for error in schema.errors({"n": "x"}, 1)]
    (True, ['type'])
    """

    __slots__ = ("_validator", "plain")

    def __init__(self, schema: Any, *, any_draft: bool = False, formats: Any = None) -> None:
        from jsonschema import FormatChecker
        from jsonschema.exceptions import SchemaError  # type: ignore[import-untyped]  # as above

        if not isinstance(schema, dict | bool):
            raise UnusableError(f"it is of type {type(schema).__name__}")
        try:
            kind = _draft_of(schema, any_draft=any_draft)
            kind.check_schema(schema, format_checker=FormatChecker(formats=()))  # RE2 reads the patterns
            check(schema)
            self._validator = bounded(kind)(schema, registry=specifications(), format_checker=formats)
            self.plain = plain_check(schema, formats=formats is not None)
        except SchemaError as error:
            said = f"at {error.json_path[:_SHOWN]} it breaks the rule {error.validator!r}"
            raise UnusableError(said, error.message, error.absolute_path) from None
        except RecursionError:
            raise UnusableError("it is nested too deeply") from None
        except UnusableError:
            raise
        except Exception as error:  # a $schema or $id that is no URL, and the like
            raise UnusableError(f"it cannot be read ({type(error).__name__})", str(error)) from error

    def errors(self, value: Any, most: int) -> list[Any]:
        """The first so many of the ValidationErrors of a JSON value.

        Raises TooMuchError where that would take too long, UnusableError where the schema turns out to be none: older
        drafts do not say all that a schema must not be.
        """
        token = references.set([MOST_REFERENCES])
        try:
            return list(islice(self._validator.iter_errors(value), most))
        except RecursionError:
            raise TooMuchError from None
        except (TooMuchError, UnusableError):
            raise
        except Exception as error:
            raise UnusableError(f"it cannot be run ({type(error).__name__})") from error
        finally:
            references.reset(token)


def _draft_of(schema: Any, *, any_draft: bool) -> Any:
    from jsonschema import Draft202012Validator
    from jsonschema.validators import validator_for  # type: ignore[import-untyped]  # as above

    if not isinstance(schema, dict) or "$schema" not in schema:
        return Draft202012Validator
    name, default = schema["$schema"], Draft202012Validator if any_draft else None
    kind = validator_for(schema, default=default) if any_draft or isinstance(name, str) else None
    if kind is None:
        raise UnusableError("its $schema names no draft of JSON Schema that is known", repr(name), ["$schema"])
    return kind
