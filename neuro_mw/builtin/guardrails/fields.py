"""What a provider sends beside text, reasoning and tool calls, under the rules for output: refusals, transcripts, ...

Of a field that comes again the later value stands, and lists join (`neuro_mw.collect`). So a string that grows is seen
from its beginning each time: what at its end can still become a match is left out, and comes when nothing more does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

from neuro_mw import Blocked, Finish

from .attached import Attached
from .filters import Filter
from .text_keys import digits, free_name, is_own, is_text

_TOKENS = "logprobs"  # the text once more, in pieces of a token each, in which no rule would find anything


class FieldsFilter:
    """The provider fields of one answer under a filter. ``left_out`` counts what may not leave at all."""

    _all_names: ClassVar[bool] = False  # whether every key is a text, not only those in what is the model's own

    def __init__(self, plan: Filter, counts: Counter[str], left_out: Counter[str]) -> None:
        self._plan, self._counts, self._left_out = plan, counts, left_out
        self._strings: dict[str, Any] = {}  # those that may grow, as they came last
        self._names: set[tuple[int, str]] = set()  # keys that are counted: by the dict that they stand in

    def feed(self, fields: dict[str, Any]) -> dict[str, Any]:
        """The fields that may leave now. Raises Blocked."""
        try:
            return self._begun(fields, self._strings)
        except RecursionError:
            for key in fields:
                self._strings.pop(key, None)
            return self._too_deep(fields)

    def _too_deep(self, fields: dict[str, Any]) -> dict[str, Any]:
        self._left_out.update(fields.keys())
        return {}

    def finish(self) -> dict[str, Any]:
        """The strings of which something was left out, whole."""
        return self._ended(self._strings)

    def end(self, finish: Finish) -> Finish:
        """What layers further in attached, or say of their refusal; both may quote the answer. Raises Blocked.

        Where it is a refusal it stays that one, without what may not leave.
        """
        block = finish.blocked
        if not self._plan.acts or (block is None and not finish.metadata):
            return finish
        attached = Attached(self._attached if block is None else self._plan.withheld, strict=True)
        metadata, left_out = attached.of(finish.metadata)
        if block is not None:
            said, lost = attached.of({"reason": block.reason, "blocked": block.detail})
            block = replace(block, reason=said.get("reason", ""), detail=said.get("blocked", {}))
            left_out = {**left_out, **lost}
        self._left_out.update(left_out)
        return replace(finish, metadata=metadata, blocked=block)

    def _attached(self, text: str) -> str:
        return self._plan.whole(text, Counter())  # the text of the answer is counted where it stands

    def _begun(
        self, fields: dict[str, Any], strings: dict[str, Any], under: str = "", *, own: bool = False
    ) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key, value in fields.items():
            if self._may_not_leave(key):
                continue
            name = free_name(self._named(key, strings), made) if own or self._all_names else key
            is_audio = key == "data" and under == "audio"
            if not own and (is_audio or not is_text(key, value, fields)):
                made[name] = value
            elif isinstance(value, str):
                strings[name] = value
                made[name] = self._decided(value)
            elif isinstance(value, dict):
                below = strings.get(name)
                if not isinstance(below, dict):
                    below = strings[name] = {}
                made[name] = self._begun(value, below, key, own=own or is_own(key, value))
            else:
                strings.pop(name, None)  # of what it was before, nothing is left
                made[name] = self._whole(value, own=own or is_own(key, value))
        return made

    def _named(self, key: str, strings: dict[str, Any]) -> str:
        """A key that is text, too; it comes with every piece of its value, and is counted once."""
        counts = Counter[str]() if (id(strings), key) in self._names else self._counts
        self._names.add((id(strings), key))
        return self._plan.whole(key, counts)

    def _may_not_leave(self, key: str) -> bool:
        if key != _TOKENS or not (self._plan.changing or self._plan.blocking):
            return False
        self._left_out[key] += 1
        return True

    def _decided(self, text: str) -> str:
        """What of a string is decided; the matches in it are counted when it is whole."""
        seen: Counter[str] = Counter()
        try:
            return "".join([piece.text for piece in self._plan.run(seen).feed(text)])
        except Blocked:
            self._counts.update(seen)
            raise

    def _ended(self, strings: dict[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key, value in strings.items():
            if isinstance(value, dict):
                if below := self._ended(value):
                    made[key] = below
                continue
            sent, whole = self._decided(value), self._plan.whole(value, self._counts)
            if sent != whole:
                made[key] = whole
        return made

    def _whole(self, value: Any, *, own: bool = False) -> Any:
        """What stands in a list comes once, and whole; ``own``: in what a tool was given, where all may be text."""
        if isinstance(value, str):
            return self._plan.whole(value, self._counts)
        if isinstance(value, list | tuple):
            return [self._whole(one, own=own) for one in value]
        if isinstance(value, dict):
            made: dict[Any, Any] = {}
            for name, one in value.items():
                if self._may_not_leave(name):
                    continue
                is_said = (own or self._all_names) and isinstance(name, str)
                key = free_name(self._whole(name), made) if is_said else name
                looked = own or is_text(name, one, value)
                made[key] = self._whole(one, own=own or is_own(name, one)) if looked else one
            return made
        if own and isinstance(value, int | float) and not isinstance(value, bool):
            said = digits(value)
            if said is None:
                self._left_out["number"] += 1
                return None
            changed = self._plan.whole(said, self._counts)
            return value if changed == said else changed
        return value


def strings_in(value: Any, *, own: bool = False) -> Iterator[str]:
    """All text in provider fields.

    >>> list(strings_in({"id": "x", "refusal": "no", "notes": [{"title": "a"}], "input": {"id": "y"}}))
    ['no', 'a', 'id', 'y']
    """
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, one in value.items():
            if own:
                yield str(key)
            if own or is_text(key, one, value):
                yield from strings_in(one, own=own or is_own(key, one))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from strings_in(one, own=own)
