"""What a provider sends beside text, reasoning and tool calls, under the rules for output: refusals, transcripts, ...

Of a field that comes again the later value stands, and lists join (`neuro_mw.collect`). So a string that grows is seen
from its beginning each time: what at its end can still become a match is left out, and comes when nothing more does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from neuro_mw import Blocked

from .filters import Filter

# What names, refers or is sealed: no text of an answer.
_NO_TEXT = frozenset({
    "id", "type", "role", "index", "model", "object", "system_fingerprint", "service_tier", "finish_reason",
    "native_finish_reason", "stop_reason", "status", "url", "image_url", "data", "b64_json", "format", "media_type",
    "mime_type", "file_id", "signature", "digest", "thought_signature", "encrypted_content", "encrypted_index",
    "container", "content_order", "tool_call_id", "tool_use_id",
})  # fmt: skip
_TOKENS = "logprobs"  # the text once more, in pieces of a token each, in which no rule would find anything


class FieldsFilter:
    """The provider fields of one answer under a filter. ``left_out`` counts the fields that may not leave at all."""

    def __init__(self, plan: Filter, counts: Counter[str], left_out: Counter[str]) -> None:
        self._plan, self._counts, self._left_out = plan, counts, left_out
        self._strings: dict[str, Any] = {}  # those that may grow, as they came last

    def feed(self, fields: dict[str, Any]) -> dict[str, Any]:
        """The fields that may leave now. Raises Blocked."""
        return self._begun(fields, self._strings)

    def finish(self) -> dict[str, Any]:
        """The strings of which something was left out, whole."""
        return self._ended(self._strings)

    def _begun(self, fields: dict[str, Any], strings: dict[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key, value in fields.items():
            if self._may_not_leave(key):
                continue
            if not isinstance(value, str | dict):
                strings.pop(key, None)  # of what it was before, nothing is left
                made[key] = self._whole(value, key)
            elif key in _NO_TEXT:
                made[key] = value
            elif isinstance(value, str):
                strings[key] = value
                made[key] = self._decided(value)
            else:
                below = strings.get(key)
                if not isinstance(below, dict):
                    below = strings[key] = {}
                made[key] = self._begun(value, below)
        return made

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

    def _whole(self, value: Any, key: str = "", *, own: bool = False) -> Any:
        """What stands in a list comes once, and whole; ``own``: in what a tool was given, where all may be text."""
        if isinstance(value, dict):
            made = {}
            for name, one in value.items():
                if not self._may_not_leave(name):
                    made[name] = self._whole(one, name, own=own or (name == "input" and isinstance(one, dict)))
            return made
        if isinstance(value, list | tuple):
            return [self._whole(one, key, own=own) for one in value]
        if isinstance(value, str) and (own or key not in _NO_TEXT):
            return self._plan.whole(value, self._counts)
        if own and isinstance(value, int | float) and not isinstance(value, bool):
            changed = self._plan.whole(str(value), self._counts)
            return value if changed == str(value) else changed
        return value


def strings_in(value: Any) -> Iterator[str]:
    """All text in provider fields.

    >>> list(strings_in({"id": "x", "refusal": "no", "notes": [{"title": "a"}]}))
    ['no', 'a']
    """
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, one in value.items():
            if key not in _NO_TEXT or isinstance(one, dict):
                yield from strings_in(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from strings_in(one)
