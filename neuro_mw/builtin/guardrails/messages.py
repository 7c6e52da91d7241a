"""A request's texts under the filters of their channels: every message, and what else a model reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from neuro_mw import Params

from .filters import Filter
from .json_filter import whole_json

_CHANNEL_OF_ROLE = {
    "system": "system", "developer": "system", "tool": "tool_results", "function": "tool_results",
    "assistant": "history",
}  # fmt: skip
_CHANNEL_OF_PARAM = {
    "system": "system", "instructions": "system", "tools": "system", "functions": "system",
    "prediction": "input", "prompt": "input", "input": "input", "suffix": "input",
}  # fmt: skip
# What names, refers or is not text. Every other string in a message is text, under whatever key: some model reads it.
_NO_TEXT = frozenset({
    "role", "type", "id", "tool_call_id", "tool_use_id", "call_id", "item_id", "name", "status", "index", "format",
    "media_type", "mime_type", "detail", "file_id", "url", "image_url", "data", "file_data", "b64_json", "signature",
    "thought_signature", "encrypted_content", "cache_control",
})  # fmt: skip


class RequestFilter:
    """One request under the filters of its channels.

    What becomes of a message depends on the message alone, so that the same beginning of a conversation stays the same.
    What does not change stays the very same object.
    """

    def __init__(self, filters: Mapping[str, Filter], counts: Mapping[str, Counter[str]]) -> None:
        self._filters, self._counts = filters, counts

    def params(self, params: Params) -> Params:
        """The params after all rules. Raises Blocked."""
        changed: dict[str, Any] = {}
        for key, value in params.items():
            new = value
            if key == "messages":
                new = self.messages(value) if isinstance(value, list) else self._value(value, "input", key)
            elif key in _CHANNEL_OF_PARAM:
                new = self._value(value, _CHANNEL_OF_PARAM[key], key)
            elif key == "extra_body" and isinstance(value, dict):  # keys of the request under another roof
                new = self.params(value)
            if new is not value:
                changed[key] = new
        return {**params, **changed} if changed else params

    def messages(self, messages: list[Any]) -> list[Any]:
        """The messages after all rules. Raises Blocked."""
        newest = _newest(messages)
        made = []
        for at, one in enumerate(messages):
            role = one.get("role") if isinstance(one, dict) else None
            channel = _CHANNEL_OF_ROLE.get(str(role), "input" if at >= newest else "history")
            made.append(self._value(one, channel))
        return made if any(new is not old for new, old in zip(made, messages, strict=True)) else messages

    def _value(self, value: Any, channel: str, key: str = "") -> Any:
        plan = self._filters.get(channel)
        if isinstance(value, dict):
            if str(value.get("type")).endswith("tool_result"):
                channel = "tool_results"
            changed = {}
            for name, one in value.items():
                is_text = name not in _NO_TEXT or (name == "data" and value.get("type") == "text")
                new = self._value(one, channel, name) if is_text else one
                if new is not one:
                    changed[name] = new
            return {**value, **changed} if changed else value
        if isinstance(value, list | tuple):
            made = [self._value(one, channel, key) for one in value]
            return made if any(new is not old for new, old in zip(made, value, strict=True)) else value
        if plan is None:
            return value
        if isinstance(value, str):
            return self._text(value, plan, is_json=key == "arguments")
        if isinstance(value, int | float) and not isinstance(value, bool):
            text = str(value)  # a card's number, in the arguments of a tool
            changed_text = plan.whole(text, self._counts[plan.channel])
            return value if changed_text == text else changed_text
        return value

    def _text(self, text: str, plan: Filter, *, is_json: bool) -> str:
        counts = self._counts[plan.channel]
        if not is_json:
            changed = plan.whole(text, counts)
        else:
            changed, valid = whole_json(text, plan, counts)
            if not valid:
                self._counts["invalid_json"][plan.channel] += 1
        return text if changed == text else changed


def _newest(messages: list[Any]) -> int:
    """Where the turn begins that has not been answered yet."""
    answered = [at for at, one in enumerate(messages) if isinstance(one, dict) and one.get("role") == "assistant"]
    return answered[-1] + 1 if answered else 0
