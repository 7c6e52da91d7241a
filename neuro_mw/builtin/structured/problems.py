"""What is wrong with a value: in one form for the model that is asked again, in another for errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

MOST = 8  # problems that are told of one value


class Problem(NamedTuple):
    """``path`` and ``message`` are for errors: names that are not in the schema are "*". ``told`` is for the model."""

    path: str
    message: str
    told: str


class UnfitError(Exception):
    """A text is not the value that is wanted."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(dict.fromkeys(problems))
        super().__init__(f"{len(self.problems)} problems")


def of_all(message: str) -> UnfitError:
    """What is wrong with all of it."""
    return UnfitError([Problem("", message, message)])


def problem(path: Iterable[Any], message: str, names: frozenset[str], told: str | None = None) -> Problem:
    """What is wrong at a place.

    >>> problem(["scores", "Bob", 0], "not a number", frozenset({"scores"}))
    Problem(path='scores.*.0', message='not a number', told='scores.Bob.0: not a number')
    """
    steps = list(path)
    shown = [str(step) if isinstance(step, int) or step in names else "*" for step in steps]
    where = ".".join(map(str, steps)) or "the value"
    return Problem(".".join(shown), message, f"{where}: {told or message}")


def names_in(schema: Any) -> frozenset[str]:
    """All names of properties that a JSON schema knows.

    >>> sorted(names_in({"properties": {"a": {"items": {"required": ["b"]}}}}))
    ['a', 'b']
    """
    names: set[str] = set()
    waiting = [schema]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            properties, required = one.get("properties"), one.get("required")
            names.update(properties if isinstance(properties, Mapping) else ())
            names.update(name for name in (required if isinstance(required, list) else ()) if isinstance(name, str))
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
    return frozenset(names)
