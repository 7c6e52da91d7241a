"""Personal data of one request: first each value is marked where it stands, then its placeholder is put there."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from neuro_mw import Params

from ..guardrails.actions import Replacement
from ..guardrails.channels import CHANNELS, DIRECTIONS
from ..guardrails.filters import Filter
from ..guardrails.messages import RequestFilter
from ..guardrails.rules import Match
from ..guardrails.ruleset import RuleSet
from .names import kind_of
from .table import Value

_NONE = RuleSet([])
_MARK = re.compile("\ue000([0-9a-f]{16})([0-9]+)\ue001")
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")
_INPUT = [name for name in CHANNELS if DIRECTIONS[name] == "input"]


class Personal:
    """The personal data of one request.

    ``finds`` says what is looked for in requests, ``knows`` what looks like a placeholder in answers. Raises
    UnreadableError for what is no plain data, or too deep.
    """

    def __init__(self, params: Params, finds: RuleSet, knows: RuleSet) -> None:
        self._marks = marks = _Marks()
        plan = Filter(_NONE, finds, _NONE, marks, channel="input")
        self._marked = RequestFilter(dict.fromkeys(_INPUT, plan), defaultdict(Counter)).params(params)
        self.values: Collection[Value] = marks.values
        """What was found, each once, in order."""
        self.lookalikes: frozenset[str] = frozenset()
        """What stands in the request and looks like a placeholder, where something was found."""
        if marks.values:
            texts = "\n".join([*_strings(self._marked), *(original for _, original in marks.values)])
            if "\\u" in texts:  # in the arguments of tool calls
                texts += "\n" + _ESCAPED.sub(lambda found: chr(int(found[1], 16)), texts)
            self.lookalikes = frozenset(texts[match.start : match.end] for match in knows.scan(texts))

    def replaced(self, names: Mapping[Value, str]) -> Params:
        """The params that go inward; what holds none of it is the very object that it was."""
        sign, by_number = self._marks.sign, [names[value] for value in self.values]

        def put(text: str) -> str:
            return _MARK.sub(lambda found: by_number[int(found[2])] if found[1] == sign else found[0], text)

        return {key: _with(value, put, sign) for key, value in self._marked.items()}


class _Marks(Replacement):
    """Puts a mark for each value that a detector finds, and keeps the values in order."""

    def __init__(self) -> None:
        super().__init__("", {})
        self.sign = os.urandom(8).hex()  # nobody who writes a request knows it
        self.values: dict[Value, int] = {}

    def __call__(self, match: Match, text: str) -> str:
        number = self.values.setdefault((kind_of(match.rule), text), len(self.values))
        return f"\ue000{self.sign}{number}\ue001"


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, one in value.items():
            if isinstance(key, str):
                yield key
            yield from _strings(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _strings(one)


def _with(value: Any, put: Callable[[str], str], sign: str) -> Any:
    if isinstance(value, str):
        return put(value) if sign in value else value
    if isinstance(value, dict):
        made = {_with(key, put, sign): _with(one, put, sign) for key, one in value.items()}
        same = all(new is old for new, old in zip(made.values(), value.values(), strict=True))
        return value if same and made.keys() == value.keys() else made
    if isinstance(value, list | tuple):
        items = [_with(one, put, sign) for one in value]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    return value
