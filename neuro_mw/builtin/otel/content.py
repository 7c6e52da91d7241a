"""Messages in the JSON form of the GenAI semantic conventions, for those who asked for content.

Schemas: gen-ai-input-messages.json and gen-ai-output-messages.json beside the conventions. Data of images, sound and
files is left out, what is known of it stays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from neuro_mw import Response

from .attributes import sendable

Message = dict[str, Any]
_MODALITIES = {"image_url": "image", "input_image": "image", "image": "image", "input_audio": "audio"}
_LONGEST_WORD = 64


class Content:
    """Messages with so many characters at most, all together; `truncated` says whether some had to go.

    Counted are texts, names, ids and addresses; a message or a part that has none counts as one character.

    >>> content = Content(8)
    >>> content.input([{"role": "user", "content": "one"}, {"role": "user", "content": "two three"}])
    '[{"role": "user", "parts": [{"type": "text", "content": "two thre"}]}]'
    >>> content.truncated
    True
    """

    def __init__(self, max_chars: int) -> None:
        self._max = self._left = max_chars
        self.truncated = False

    def input(self, messages: Any) -> str:
        """The messages of a request; of too long ones the latest stay."""
        self._left, found = self._max, []
        for message in reversed(messages if isinstance(messages, list | tuple) else ()):
            if self._full():
                break
            if isinstance(message, Mapping):
                left = self._left
                found.append(self._message(message))
                self._left -= self._left == left
        return _json(found[::-1])

    def output(self, response: Response) -> str:
        """The answer, as the one choice that there is."""
        self._left = self._max
        parts: list[Message] = []
        if response.reasoning:
            parts.append({"type": "reasoning", "content": self._cut(response.reasoning)})
        if response.text:
            parts.append({"type": "text", "content": self._cut(response.text)})
        for call in response.tool_calls:
            if self._full():
                break
            parts.append(self._call(call.id, call.name, call.arguments))
        reason = "tool_call" if response.finish_reason == "tool_calls" else _word(response.finish_reason)
        return _json([{"role": "assistant", "parts": parts, "finish_reason": reason}])

    def stop_sequences(self, stop: Any) -> tuple[str, ...]:
        """The texts that end an answer; nothing where they are no texts."""
        self._left = self._max
        found = (stop,) if isinstance(stop, str) else stop
        if not isinstance(found, list | tuple) or not all(isinstance(one, str) for one in found):
            return ()
        return tuple(sendable(self._cut(one)) for one in found if not self._full())

    def _message(self, message: Mapping[str, Any]) -> Message:
        role, content = _word(message.get("role")), message.get("content")
        if role == "tool":
            answers = self._id(message.get("tool_call_id"))
            text = content if isinstance(content, str) else _json(content)
            return {"role": role, "parts": [{"type": "tool_call_response", "id": answers, "response": self._cut(text)}]}
        parts: list[Message] = []
        reasoning, calls = message.get("reasoning_content"), message.get("tool_calls")
        if reasoning and isinstance(reasoning, str):
            parts.append({"type": "reasoning", "content": self._cut(reasoning)})
        if isinstance(content, str):
            parts.append({"type": "text", "content": self._cut(content)})
        for part in content if isinstance(content, list | tuple) else ():
            if self._full():
                break
            if isinstance(part, Mapping):
                parts.append(self._part(part))
        for call in calls if isinstance(calls, list | tuple) else ():
            if self._full():
                break
            asked = call.get("function") or call.get("custom") if isinstance(call, Mapping) else None
            if isinstance(asked, Mapping):
                parts.append(self._call(call.get("id"), asked.get("name"), asked.get("arguments", asked.get("input"))))
        return {"role": role, "parts": parts}

    def _part(self, part: Mapping[str, Any]) -> Message:
        kind = _word(part.get("type"))
        if isinstance(part.get("text"), str):
            return {"type": "text", "content": self._cut(part["text"])}
        modality, url = _MODALITIES.get(kind), part.get("image_url")
        url = url.get("url") if isinstance(url, Mapping) else url
        if modality and isinstance(url, str) and not url.startswith("data:"):
            return {"type": "uri", "modality": modality, "uri": self._cut(url)}
        self._left -= 1
        return {"type": "blob", "modality": modality, "content": ""} if modality else {"type": kind}

    def _call(self, id: Any, name: Any, arguments: Any) -> Message:
        text = arguments if isinstance(arguments, str) else _json(arguments)
        id, name = self._id(id), self._id(name)
        cut = self._cut(text)
        return {"type": "tool_call", "id": id, "name": name, "arguments": _parsed(cut) if cut == text else cut}

    def _id(self, value: Any) -> str | None:
        return None if value is None else self._cut(value if isinstance(value, str) else f"<{type(value).__name__}>")

    def _full(self) -> bool:
        """Whether there is no room for what comes now."""
        self.truncated = self.truncated or self._left <= 0
        return self._left <= 0

    def _cut(self, text: str) -> str:
        cut = text[: max(0, self._left)]
        self._left -= max(1, len(cut))
        self.truncated = self.truncated or len(cut) < len(text)
        return cut


def _word(value: Any) -> str:
    """A role, a type or a reason, which are short."""
    return value[:_LONGEST_WORD] if isinstance(value, str) else ""


def _json(value: Any) -> str:
    """Any value as JSON; its type where there is none for it, as it is too deep or holds itself."""
    try:
        return sendable(json.dumps(value, ensure_ascii=False, default=_type, skipkeys=True))
    except (ValueError, RecursionError):
        return _type(value)


def _type(value: Any) -> str:
    return f"<{type(value).__name__}>"


def _parsed(text: str) -> Any:
    """What a text in JSON says; the text itself where that could not be written again."""
    try:
        value = json.loads(text)
        json.dumps([[[[[[value]]]]]], allow_nan=False)  # as deep as it is going to stand
    except (ValueError, RecursionError):
        return text
    return value
