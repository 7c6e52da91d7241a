"""What a provider sends beside text, reasoning and tool calls, under the rules for output: refusals, transcripts, ...

Of a field that comes again the later value stands, and lists join (`neuro_mw.collect`). So a string that grows is seen
from its beginning each time: what at its end can still become a match is left out, and comes when nothing more does.
"""

from __future__ import annotations

from collections import Counter
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
            if key in _NO_TEXT:
                made[key] = value
            elif key == _TOKENS and (self._plan.changing or self._plan.blocking):
                self._left_out[key] += 1
            elif isinstance(value, dict):
                below = strings.get(key)
                if not isinstance(below, dict):
                    below = strings[key] = {}
                made[key] = self._begun(value, below)
            elif isinstance(value, str):
                strings[key] = value
                made[key] = self._decided(value)
            else:
                made[key] = self._whole(value)
        return made

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

    def _whole(self, value: Any) -> Any:
        """What stands in a list: it comes once, and whole."""
        if isinstance(value, str):
            return self._plan.whole(value, self._counts)
        if isinstance(value, list):
            return [self._whole(one) for one in value]
        if isinstance(value, dict):
            return {key: one if key in _NO_TEXT else self._whole(one) for key, one in value.items()}
        return value
