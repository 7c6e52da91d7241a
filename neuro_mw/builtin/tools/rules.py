"""What may be called: the rules of tool_guard, and what they say of the calls of one answer."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import translate
from typing import Any, Literal

from neuro_mw import MiddlewareError, ToolCall

from ..json_schemas.errors import UnusableError
from .arguments import object_in
from .offers import Offers, Tool
from .schemas import Schemas

Rule = Literal[
    "unknown", "denied", "not_chosen", "arguments", "duplicate", "max_calls", "not_approved", "astray",
]  # fmt: skip

_MOST_NAMED = 50
_LONGEST_NAME = 64
_MOST_FAULTS = 5
_SAY = {
    "denied": "this tool may not be called",
    "not_chosen": "this request lets no call of this tool pass",
    "duplicate": "another call of the answer has the same id",
}


@dataclass(slots=True)
class Verdict:
    """What is said of one call: the rule that it breaks, None where it may leave, and why, where a person said so."""

    call: ToolCall
    rule: Rule | None = None
    why: str = ""


def shown(name: str) -> str:
    r"""A name that a model may have made up, for people: printable, and 64 characters at most.

    >>> print(shown("look"), shown("a\x00b"))
    look a\x00b
    """
    cut = name[: _LONGEST_NAME + 1]
    text = cut if cut.isprintable() else cut.encode("unicode_escape").decode()
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 1]}…"


class Rules:
    """The rules of one guard, compiled."""

    def __init__(
        self, allow: Sequence[str] | None, deny: Sequence[str], max_calls: int | None, *, validate_arguments: bool
    ) -> None:
        self._allow, self._deny = None if allow is None else _any(allow), _any(deny) if deny else None
        self._max_calls = max_calls
        self._free = allow is None and not deny  # whether any tool may be called
        self._schemas = Schemas() if validate_arguments else None

    def judge(self, calls: Sequence[ToolCall], offers: Offers, clashes: Collection[int] = ()) -> list[Verdict]:
        """What the rules say of each call; `clashes` are the places of those that cannot be told apart.

        Raises MiddlewareError where the schema of a tool that was called cannot be used.
        """
        verdicts: list[Verdict] = []
        ids: set[str] = set()
        left = self._max_calls
        for place, call in enumerate(calls):
            rule = self._rule(call, offers)
            if rule is None and (place in clashes or call.id in ids):
                rule = "duplicate"
            if rule is None and left is not None:
                left -= 1
                rule = "max_calls" if left < 0 else None
            if call.id:
                ids.add(call.id)
            verdicts.append(Verdict(call, rule))
        return verdicts

    def permits(self, name: str) -> bool:
        """Whether a tool may be called at all."""
        if self._deny is not None and self._deny(name) is not None:
            return False
        return self._allow is None or self._allow(name) is not None

    def _rule(self, call: ToolCall, offers: Offers) -> Rule | None:
        tool = offers.find(call.name)
        if tool is None:
            return "unknown"
        if not self._free and not self.permits(call.name):
            return "denied"
        if offers.chosen is not None and call.name not in offers.chosen:
            return "not_chosen"
        return None if self._fits(call, tool) else "arguments"

    def _fits(self, call: ToolCall, tool: Tool) -> bool:
        if not isinstance(call.arguments, str):
            return False
        if self._schemas is None or tool.is_text:
            return True
        value = object_in(call.arguments)
        if value is None or tool.schema is None:
            return value is not None
        try:
            return self._schemas.of(tool.schema).fits(value)
        except UnusableError as error:
            raise _unusable(call.name, error) from error

    # --- for the model -----------------------------------------------------------------------------------------------

    def explain(self, verdict: Verdict, offers: Offers) -> str:
        """What a model is told of a call that breaks a rule."""
        rule, call = verdict.rule, verdict.call
        if rule == "unknown":
            names = [name for name in offers.names if self.permits(name)][:_MOST_NAMED]
            return f"there is no such tool; there are: {', '.join(names) or 'none'}"
        if rule == "arguments":
            return self._faults(call, offers.find(call.name))
        if rule == "max_calls":
            return f"an answer may have {self._max_calls} calls at most"
        if rule == "not_approved":
            return verdict.why or "it was not approved"
        return _SAY.get(str(rule), "it was refused")

    def _faults(self, call: ToolCall, tool: Tool | None) -> str:
        value = object_in(call.arguments)
        if value is None or tool is None or self._schemas is None:
            return "its arguments are not one JSON object in which each name stands once"
        try:
            faults = self._schemas.of(tool.schema).faults(value, _MOST_FAULTS)
        except UnusableError as error:
            raise _unusable(call.name, error) from error
        return f"its arguments do not fit the schema of the tool: {'; '.join(faults)}"


def _unusable(name: str, error: UnusableError) -> MiddlewareError:
    said = f"middleware 'tool_guard': the schema of the tool {shown(name)!r} cannot be used: {error}"
    return MiddlewareError(said, middleware="tool_guard")


def _any(globs: Sequence[str]) -> Any:
    """Whether a name matches one of these, as an anchored search; of none, nothing does."""
    return re.compile("|".join(map(translate, globs)) or r"(?!)").match
