"""The way back: placeholders in an answer, however it is cut, become what they stand for. One pass, nothing twice."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from neuro_mw import Finish, Part, ReasoningDelta, TextDelta

from ..guardrails.actions import Replacement
from ..guardrails.answer import AnswerStep
from ..guardrails.fields import FieldsFilter
from ..guardrails.filters import Filter
from ..guardrails.rules import AnyRule, Match
from ..guardrails.ruleset import RuleSet
from ..guardrails.view import View
from .names import heads, rules_for
from .options import Style

_NONE = RuleSet([])
_CHANNELS = ("output", "reasoning", "tool_arguments")


class Placeholders(RuleSet):
    """The rules that find placeholders, read as they are. In most texts there are none, and that is seen at once.

    ``may_hold`` searches for what is in each text that holds one, or ends with the beginning of one.
    """

    def __init__(self, style: Style, kinds: Collection[str]) -> None:
        super().__init__(rules_for(style, kinds), normalize=False)
        head, begun = heads(style, kinds)
        self._has_head, self.may_hold = head.search, begun.search

    def hold(self, view: View, start: int) -> int:
        """As rule sets do; but the end of a tag is the end of whatever it ends, so nothing more is waited for."""
        if view.norm.endswith((">", "&gt;")) or not self.may_hold(view.norm, start):
            return len(view)
        return super().hold(view, start)

    def matches(
        self, view: View, start: int, stop: int, skips: dict[int, int] | None = None
    ) -> Iterator[tuple[int, int, AnyRule]]:
        """As rule sets do, where there can be any."""
        return super().matches(view, start, stop, skips) if self._has_head(view.norm, start) else iter(())


class Originals(Replacement):
    """What each placeholder of a call stands for; notes those that stand for nothing."""

    def __init__(self, originals: Mapping[str, str], own: Collection[str]) -> None:
        super().__init__("", {})
        self._originals, self._own = originals, own
        self.unknown: set[str] = set()
        """What looks like a placeholder, and is neither one nor out of the request."""

    def __call__(self, match: Match, text: str) -> str:
        """The original; where there is none, the text as it is."""
        original = self._originals.get(text)
        if original is None:
            if text not in self._own:
                self.unknown.add(text)
            return text
        return original


class Restoring(AnswerStep):
    """The step of guardrails, with originals for what it finds."""

    def __init__(self, known: Placeholders, originals: Originals) -> None:
        self._plan, self._may_hold = Filter(_NONE, known, _NONE, originals), known.may_hold
        super().__init__(dict.fromkeys(_CHANNELS, self._plan), defaultdict(Counter))
        self._fields = _Fields(self._plan, Counter(), Counter())
        self._end: TextDelta | ReasoningDelta | None = None
        """What may be the beginning of a placeholder, where that is all that is held."""

    def feed(self, part: Part) -> Part | list[Part]:  # type: ignore[override]  # one part costs the chain less than a list
        """The parts that may leave."""
        kind: Any = type(part)
        if kind is TextDelta or kind is ReasoningDelta:
            if not self._queue and not self._apart:
                return self._quickly(part, kind)
        elif isinstance(part, Finish):
            try:
                metadata = self._restored(part.metadata)
            except RecursionError:  # so deep, it is nothing that a model wrote
                return part
            return part if metadata is part.metadata else replace(part, metadata=metadata)
        return [*self._let_go(), *super().feed(part)]

    def _quickly(self, part: Any, kind: type[TextDelta | ReasoningDelta]) -> Part | list[Part]:
        """The same where nothing else is held: most texts hold nothing, or end with what the next one makes clear."""
        text: str = part.text
        if self._end is not None:
            if type(self._end) is not kind:
                return [*self._let_go(), *super().feed(part)]
            text, self._end = self._end.text + text, None
        found = self._may_hold(text)
        if found is None:
            return part if text is part.text else kind(text)
        if found.lastgroup != "end":
            return super().feed(kind(text))
        self._end = kind(found[0])
        return [kind(text[: found.start()])] if found.start() else []

    def _let_go(self) -> list[Part]:
        """What of the end may leave, now that others come behind it."""
        end, self._end = self._end, None
        return [] if end is None else super().feed(end)

    def finish(self) -> list[Part]:
        """All that was held."""
        return [*self._let_go(), *super().finish()]

    def abort(self) -> None:
        """Drop what was held."""
        self._end = None
        super().abort()

    def held(self) -> list[Part]:
        """What is held, as it came."""
        return super().held() if self._end is None else [self._end]

    def _restored(self, value: Any) -> Any:
        """What inner layers say of the answer: it may hold what the model wrote."""
        if isinstance(value, str):
            made: Any = self._plan.whole(value, Counter())
            return value if made == value else made
        if type(value) is dict:
            made = {key: self._restored(one) for key, one in value.items()}
            return made if any(made[key] is not one for key, one in value.items()) else value
        if type(value) in (list, tuple):
            made = [self._restored(one) for one in value]
            changed = any(new is not old for new, old in zip(made, value, strict=True))
            return type(value)(made) if changed else value
        return value


class _Fields(FieldsFilter):
    """Provider fields, of which all may leave: tokens' probabilities tell nothing but placeholders."""

    def _may_not_leave(self, key: str) -> bool:
        return False
