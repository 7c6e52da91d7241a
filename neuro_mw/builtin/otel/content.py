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


class Content:
    """Messages with so many characters of text at most, all together; `truncated` says whether some had to go.

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
            if not self._left:
                self.truncated = True
                break
            if isinstance(message, Mapping):
                found.append(self._message(message))
        return _json(found[::-1])

    def output(self, response: Response) -> str:
        """The answer, as the one choice that there is."""
        self._left = self._max
        parts: list[Message] = []
        if response.reasoning:
            parts.append({"type": "reasoning", "content": self._cut(response.reasoning)})
        if response.text:
            parts.append({"type": "text", "content": self._cut(response.text)})
        parts += [self._call(call.id, call.name, call.arguments) for call in response.tool_calls]
        reason = "tool_call" if response.finish_reason == "tool_calls" else response.finish_reason
        return _json([{"role": "assistant", "parts": parts, "finish_reason": reason}])

    def _message(self, message: Mapping[str, Any]) -> Message:
        role, content = str(message.get("role", "")), message.get("content")
        if role == "tool":
            text = content if isinstance(content, str) else _json(content)
            parts = [{"type": "tool_call_response", "id": message.get("tool_call_id"), "response": self._cut(text)}]
            return {"role": role, "parts": parts}
        parts = []
        reasoning = message.get("reasoning_content")
        if reasoning and isinstance(reasoning, str):
            parts.append({"type": "reasoning", "content": self._cut(reasoning)})
        if isinstance(content, str):
            parts.append({"type": "text", "content": self._cut(content)})
        elif isinstance(content, list | tuple):
            parts += [self._part(part) for part in content if isinstance(part, Mapping)]
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list | tuple) else ():
            asked = call.get("function") or call.get("custom") if isinstance(call, Mapping) else None
            if isinstance(asked, Mapping):
                parts.append(self._call(call.get("id"), asked.get("name"), asked.get("arguments", asked.get("input"))))
        return {"role": role, "parts": parts}

    def _part(self, part: Mapping[str, Any]) -> Message:
        kind = str(part.get("type", ""))
        if isinstance(part.get("text"), str):
            return {"type": "text", "content": self._cut(part["text"])}
        modality = _MODALITIES.get(kind)
        if modality is None:
            return {"type": kind}
        url = part.get("image_url")
        url = url.get("url") if isinstance(url, Mapping) else url
        if isinstance(url, str) and not url.startswith("data:"):
            return {"type": "uri", "modality": modality, "uri": self._cut(url)}
        return {"type": "blob", "modality": modality, "content": ""}

    def _call(self, id: Any, name: Any, arguments: Any) -> Message:
        text = arguments if isinstance(arguments, str) else _json(arguments)
        cut = self._cut(text)
        return {"type": "tool_call", "id": id, "name": name, "arguments": _parsed(cut) if cut == text else cut}

    def _cut(self, text: str) -> str:
        cut = text[: self._left]
        self._left -= len(cut)
        self.truncated = self.truncated or len(cut) < len(text)
        return cut


def _json(value: Any) -> str:
    return sendable(json.dumps(value, ensure_ascii=False, default=str))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
