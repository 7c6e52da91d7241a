"""A request's texts under the filters of their channels: every message, and what else a model reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from neuro_mw import Params
from neuro_mw.plain import as_plain
from neuro_mw.request_texts import SETTINGS

from .filters import Filter
from .json_filter import whole_json

_CHANNEL_OF_ROLE = {
    "system": "system", "developer": "system", "tool": "tool_results", "function": "tool_results",
    "assistant": "history",
}  # fmt: skip
_SYSTEM_PARAMS = ("system", "instructions", "tools", "functions", "response_format")
INPUT_PARAMS = ("prompt", "input", "prediction", "suffix")
# What names, refers or is not text. Every other string in a message is text, under whatever key: some model reads it.
_NO_TEXT = frozenset({
    "role", "type", "id", "tool_call_id", "tool_use_id", "call_id", "item_id", "name", "status", "index", "format",
    "media_type", "mime_type", "detail", "file_id", "url", "image_url", "data", "file_data", "b64_json", "signature",
    "thought_signature", "encrypted_content", "cache_control",
})  # fmt: skip
_OWN = ("input", "arguments")  # what a tool is given: under these names too, all is the user's or the model's own
_PLAIN = (str, int, float, bool, type(None))


class UnreadableError(ValueError):
    """A request in which no rule could look; the message goes on behind "the request"."""


class RequestFilter:
    """One request under the filters of its channels.

    What becomes of a message depends on the message and its channel alone, so that the same beginning of a conversation
    stays the same. What does not change stays the very same object.
    """

    def __init__(self, filters: Mapping[str, Filter], counts: Mapping[str, Counter[str]]) -> None:
        self._filters, self._counts = filters, counts

    def params(self, params: Params) -> Params:
        """The params after all rules. Raises Blocked, and UnreadableError for what is no plain data, or too deep."""
        try:
            return self._params(params)
        except RecursionError:
            raise UnreadableError("is nested too deeply") from None

    def _params(self, params: Params) -> Params:
        changed: dict[str, Any] = {}
        for key, value in params.items():
            new = value
            if key == "messages" and isinstance(value, list):
                new = self.messages(value)
            elif key in _SYSTEM_PARAMS:
                new = self._value(value, "system", key)
            elif key == "extra_body" and isinstance(value, dict):  # keys of the request under another roof
                new = self._params(value)
            elif key not in SETTINGS:
                new = self._value(value, "input", key)
            if new is not value:
                changed[key] = new
        return {**params, **changed} if changed else params

    def messages(self, messages: list[Any]) -> list[Any]:
        """The messages after all rules. Raises Blocked."""
        newest = _newest(messages)
        made = [self._message(as_plain(one), at >= newest) for at, one in enumerate(messages)]
        return made if any(new is not old for new, old in zip(made, messages, strict=True)) else messages

    def _message(self, message: Any, is_new: bool) -> Any:
        role = str(message.get("role")).lower() if isinstance(message, dict) else ""
        channel = _CHANNEL_OF_ROLE.get(role, "input" if is_new else "history")
        made = self._value(message, channel)
        if isinstance(made, dict) and channel != "tool_results" and isinstance(made.get("name"), str):
            name = self._value(made["name"], channel)
            made = made if name is made["name"] else {**made, "name": name}
        return made

    def _value(self, value: Any, channel: str, key: str = "", *, own: bool = False) -> Any:
        if isinstance(value, dict):
            return self._dict(value, channel, own=own)
        if isinstance(value, list | tuple):
            made = [self._value(one, channel, key, own=own) for one in value]
            return made if any(new is not old for new, old in zip(made, value, strict=True)) else value
        if not isinstance(value, _PLAIN):
            plain = as_plain(value)
            if not isinstance(plain, dict):
                raise UnreadableError(f"holds an object of type {type(value).__name__}, in which no rule could look")
            return self._dict(plain, channel, own=own)
        plan = self._filters.get(channel)
        if plan is None:
            return value
        if isinstance(value, str):
            return self._text(value, plan, is_json=key == "arguments")
        if own and isinstance(value, int | float) and not isinstance(value, bool):  # a card's number
            changed = plan.whole(str(value), self._counts[plan.channel])
            return value if changed == str(value) else changed
        return value

    def _dict(self, value: dict[str, Any], channel: str, *, own: bool) -> dict[str, Any]:
        if str(value.get("type")).endswith("tool_result"):
            channel = "tool_results"
        changed = {}
        for name, one in value.items():
            if name in _NO_TEXT and not own and not (name == "data" and value.get("type") == "text"):
                continue
            below = own or (name in _OWN and isinstance(one, dict))
            new = self._value(one, channel, name, own=below)
            if new is not one:
                changed[name] = new
        return {**value, **changed} if changed else value

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
