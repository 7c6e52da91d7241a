"""A request's texts under the filters of their channels: every message, and what else a model reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import date, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from neuro_mw import Params
from neuro_mw.param_names import SETTINGS, of_drivers
from neuro_mw.plain import as_plain

from .filters import Filter
from .json_filter import whole_json
from .text_keys import digits, free_name, is_own, is_text

_CHANNEL_OF_ROLE = {
    "system": "system", "developer": "system", "tool": "tool_results", "function": "tool_results",
    "assistant": "history",
}  # fmt: skip
_SYSTEM_PARAMS = ("system", "instructions", "tools", "functions", "response_format")
INPUT_PARAMS = ("prompt", "input", "prediction", "suffix")
_SCALARS = (date, time, UUID, Decimal)
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
            elif key in _SYSTEM_PARAMS and not isinstance(value, type):  # litellm takes a class as response_format
                new = self._value(value, "system", key)
            elif key == "extra_body" and isinstance(value, dict):  # keys of the request under another roof
                new = self._params(value)
            elif key not in SETTINGS and not of_drivers(key) and not isinstance(value, type):
                new = self._value(value, "input", key)
            if new is not value:
                changed[key] = new
        return {**params, **changed} if changed else params

    def messages(self, messages: list[Any]) -> list[Any]:
        """The messages after all rules. Raises Blocked."""
        plain = [as_plain(one) for one in messages]
        newest = _newest(plain)
        made = [self._message(one, at >= newest) for at, one in enumerate(plain)]
        return made if any(new is not old for new, old in zip(made, messages, strict=True)) else messages

    def _message(self, message: Any, is_new: bool) -> Any:
        channel = _CHANNEL_OF_ROLE.get(role_of(message), "input" if is_new else "history")
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
            return value if isinstance(value, _SCALARS) else self._dict(_as_dict(value), channel, own=own)
        plan = self._filters.get(channel)
        if plan is None:
            return value
        if isinstance(value, str):
            return self._text(value, plan, is_json=key == "arguments")
        if own and isinstance(value, int | float) and not isinstance(value, bool):  # a card's number
            said = digits(value)
            if said is None:
                raise UnreadableError("holds a number with more digits than any rule could read")
            changed = plan.whole(said, self._counts[plan.channel])
            return value if changed == said else changed
        return value

    def _dict(self, value: dict[str, Any], channel: str, *, own: bool) -> dict[str, Any]:
        if str(value.get("type")).endswith("tool_result"):
            channel = "tool_results"
        made: dict[Any, Any] = {}
        for name, one in value.items():
            if own and isinstance(name, str):
                name = free_name(self._value(name, channel), made)  # a key is the user's own, too
            if own or is_text(name, one, value):
                one = self._value(one, channel, name, own=own or is_own(name, one))
            made[name] = one
        unchanged = all(new is old for new, old in zip(made.values(), value.values(), strict=False))
        return value if unchanged and made.keys() == value.keys() else made

    def _text(self, text: str, plan: Filter, *, is_json: bool) -> str:
        counts = self._counts[plan.channel]
        if not is_json:
            changed = plan.whole(text, counts)
        else:
            changed, valid = whole_json(text, plan, counts)
            if not valid:
                self._counts["invalid_json"][plan.channel] += 1
        return text if changed == text else changed


def _as_dict(value: Any) -> dict[str, Any]:
    try:
        plain = as_plain(value)
    except TypeError:  # it holds what cannot be copied
        plain = None
    if not isinstance(plain, dict):
        raise UnreadableError(f"holds an object of type {type(value).__name__}, in which no rule could look")
    return plain


def _newest(messages: list[Any]) -> int:
    """Where the turn begins that has not been answered yet: calls of tools are no answer."""
    answered = [at for at, one in enumerate(messages) if role_of(one) == "assistant" and not _calls_tools(one)]
    return answered[-1] + 1 if answered else 0


def role_of(message: Any) -> str:
    """Who says a message, in lower case.

    >>> role_of({"role": "USER"}), role_of({})
    ('user', 'none')
    """
    return str(message.get("role")).lower() if isinstance(message, dict) else ""


def _calls_tools(message: dict[str, Any]) -> bool:
    content = message.get("content")
    parts = content if isinstance(content, list) else ()
    uses = any(isinstance(part, dict) and str(part.get("type")).endswith("tool_use") for part in parts)
    return bool(message.get("tool_calls") or message.get("function_call") or uses)
