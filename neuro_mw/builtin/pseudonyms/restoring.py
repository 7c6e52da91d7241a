"""The way back: placeholders in an answer, however it is cut, become what they stand for. One pass, nothing twice."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from neuro_mw import Finish, Part, ReasoningDelta, TextDelta

from ..guardrails.actions import Replacement
from ..guardrails.answer import AnswerStep
from ..guardrails.attached import Attached
from ..guardrails.fields import FieldsFilter
from ..guardrails.filters import Filter
from ..guardrails.rules import AnyRule, Match, Rule
from ..guardrails.ruleset import RuleSet
from ..guardrails.view import View
from .fakes import is_cut
from .names import FAKE, heads, rules_for
from .options import Style

_NONE = RuleSet([])
_CUT = Rule("pseudonymize.cut", "x")  # what ends like a fake, and is a value that the model made
_CHANNELS = ("output", "reasoning", "tool_arguments")


class Placeholders(RuleSet):
    """The rules that find placeholders, read as they are. In most texts there are none, and that is seen at once.

    ``may_hold`` searches for what is in each text that holds one, or ends with the beginning of one.
    """

    def __init__(self, style: Style, kinds: Collection[str]) -> None:
        super().__init__(rules_for(style, kinds), normalize=False)
        self.has_fakes = style == "fake"
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
        if not self._has_head(view.norm, start):
            return iter(())
        found = super().matches(view, start, stop, skips)
        return self._whole_ones(view, found) if self.has_fakes else found

    @staticmethod
    def _whole_ones(view: View, found: Iterator[tuple[int, int, AnyRule]]) -> Iterator[tuple[int, int, AnyRule]]:
        """The same; the end of a longer value is told from a fake."""
        for begin, end, rule in found:
            cut = rule.id.startswith(FAKE) and is_cut(rule.type, view.norm[begin - 1 : begin])
            yield begin, end, _CUT if cut else rule


class Originals(Replacement):
    """What each placeholder of a call stands for; notes those that stand for nothing."""

    def __init__(self, originals: Mapping[str, str], own: Collection[str]) -> None:
        super().__init__("", {})
        self._originals, self._own = originals, own
        self.unknown: set[str] = set()
        """What looks like a placeholder, and is neither one nor out of the request."""

    def __call__(self, match: Match, text: str) -> str:
        """The original; where there is none, the text as it is."""
        original = None if match.rule is _CUT else self._originals.get(text)
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
        self._has_fakes = known.has_fakes
        self._unseen: dict[type, str] = {}
        """The last character of what left unseen, by channel: there the end of a value is told from a fake."""

    def feed(self, part: Part) -> Part | list[Part]:  # type: ignore[override]  # one part costs the chain less than a list
        """The parts that may leave."""
        kind: Any = type(part)
        if kind is TextDelta or kind is ReasoningDelta:
            if not self._queue and not self._apart:
                return self._quickly(part, kind)
        elif isinstance(part, Finish):
            return self._restored(part)
        return [*self._let_go(), *self._slowly(part)]

    def _quickly(self, part: Any, kind: type[TextDelta | ReasoningDelta]) -> Part | list[Part]:
        """The same where nothing else is held: most texts hold nothing, or end with what the next one makes clear."""
        text: str = part.text
        if self._end is not None:
            if type(self._end) is not kind:
                return [*self._let_go(), *self._slowly(part)]
            text, self._end = self._end.text + text, None
        found = self._may_hold(text)
        if found is None:
            if self._has_fakes and text:
                self._unseen[kind] = text[-1]
            return part if text is part.text else kind(text)
        if found.lastgroup != "end":
            return self._slowly(kind(text))
        self._end, leaving = kind(found[0]), text[: found.start()]
        if self._has_fakes and leaving:
            self._unseen[kind] = leaving[-1]
        return [kind(leaving)] if leaving else []

    def _slowly(self, part: Part) -> list[Part]:
        """The same, as guardrails have it."""
        if self._unseen and (char := self._unseen.pop(type(part), "")):
            channel = "output" if type(part) is TextDelta else "reasoning"
            run: Any = self._runs.get(channel) or self._begin(channel, channel, self._plan)
            run.passed(char)
        return super().feed(part)

    def _let_go(self) -> list[Part]:
        """What of the end may leave, now that others come behind it."""
        end, self._end = self._end, None
        return [] if end is None else self._slowly(end)

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

    def _restored(self, finish: Finish) -> Finish:
        """What inner layers say of the answer: it may hold what the model wrote. A block's reason is said in logs."""
        attached = Attached(lambda text: self._plan.whole(text, Counter()))
        given: dict[Any, Any] = dict(finish.metadata)
        if finish.blocked is not None:
            given[None] = finish.blocked.detail
        made = attached.of(given)[0]
        if all(made[id] is value for id, value in given.items()):
            return finish
        block = finish.blocked
        if block is not None:
            block = replace(block, detail=made.pop(None))
        return replace(finish, metadata=made, blocked=block)


class _Fields(FieldsFilter):
    """Provider fields, of which all may leave: tokens' probabilities tell nothing but placeholders."""

    _all_names = True

    def _may_not_leave(self, key: str) -> bool:
        return False

    def _too_deep(self, fields: dict[str, Any]) -> dict[str, Any]:
        return fields  # so deep, it is nothing that a model wrote
