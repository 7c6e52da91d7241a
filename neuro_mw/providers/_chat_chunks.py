"""Chunks of the chat-completions API as parts: what they collect to is what `_chat_answers` makes of the whole answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from neuro_mw.types import (
    FinishReason,
    Part,
    ProviderDelta,
    ReasoningDelta,
    ResponseInfo,
    TextDelta,
    ToolCallDelta,
    Usage,
)

from ._chat_answers import CHOICE, MESSAGE, TOP, call_of, plain, reason_of, rest_of, texts_of, usage_of

# strings that name rather than continue: in a delta the later one stands
_NAMES = frozenset({"id", "type", "role", "name", "format", "signature", "status", "model", "native_finish_reason"})
_OPENAI_REASONS = frozenset({"stop", "length", "tool_calls", "function_call", "content_filter"})


class ChunkTranslator:
    """The chunks of one stream in, parts out; `reason` is why it ended in the provider's word, None until it says."""

    def __init__(self, model: str | None = None) -> None:
        self._model = model
        self._begun = False
        self._seen: dict[str, Any] = {}  # what `collect` will have made of the provider fields so far
        self._slots: dict[int, int] = {}  # the provider's index of a tool call -> ours
        self._ids: list[str | None] = []
        self.reason: str | None = None
        self._usage: dict[str, Any] = {}
        self._thinking: list[dict[str, Any]] = []

    def feed(self, chunk: Any) -> Iterator[Part]:
        """The parts of one chunk."""
        data = plain(chunk)
        if "is_finished" in data:  # litellm's generic chunk, among those of the usual shape
            delta = {"content": data.get("text"), "tool_calls": [data["tool_use"]] if data.get("tool_use") else None}
            choice = {"delta": delta, "finish_reason": data.get("finish_reason") if data["is_finished"] else None}
            data = {"choices": [choice], "usage": data.get("usage")}
        if not self._begun:
            self._begun = True
            yield ResponseInfo(data.get("id"), data.get("model") or self._model, data.get("created"))
        if fields := self._grow(self._seen, rest_of(data, TOP), lists=False, strings=False):
            yield ProviderDelta(fields)
        if data.get("usage"):
            self.count(data["usage"])
        for choice in data.get("choices") or ():
            choice = plain(choice)
            if choice.get("index"):  # n > 1: only the first answer is the answer
                yield ProviderDelta({"choices": [choice]})
            else:
                yield from self._choice(choice)

    def count(self, usage: Any) -> None:
        """Take in a usage object; a later one stands, but for counts it leaves out."""
        self._usage.update({name: value for name, value in plain(usage).items() if value or name not in self._usage})

    def recount(self, usages: Iterable[Any]) -> None:
        """Let these usage objects stand for all that were counted."""
        self._usage = {}
        for usage in usages:
            self.count(usage)

    def end(self) -> tuple[FinishReason, Usage, dict[str, Any]]:
        """Finish reason, usage, and the provider fields that go with them."""
        usage, usage_rest = usage_of(self._usage)
        fields: dict[str, Any] = {"usage": usage_rest} if usage_rest else {}
        if self._thinking:
            fields["thinking_blocks"] = self._thinking
        native = self._seen.get("native_finish_reason")
        if native is None and self.reason is not None and self.reason not in _OPENAI_REASONS:
            fields["native_finish_reason"] = self.reason
        return reason_of(self.reason, native, bool(self._ids)), usage, fields

    def _choice(self, choice: dict[str, Any]) -> Iterator[Part]:
        delta = plain(choice.get("delta") or {})
        rest = rest_of(delta, MESSAGE)
        for block in rest.pop("thinking_blocks", ()):
            self._think(plain(block))
        fields = self._grow(self._seen, rest_of(choice, CHOICE), lists=True, strings=False)
        fields.update(self._grow(self._seen, rest, lists=True, strings=True))
        text, reasoning = texts_of(delta, fields)
        if fields:
            yield ProviderDelta(fields)
        if reasoning:
            yield ReasoningDelta(reasoning)
        if text:
            yield TextDelta(text)
        yield from self._tool_calls(delta)
        self.reason = choice.get("finish_reason") or self.reason

    def _think(self, block: dict[str, Any]) -> None:
        """Join the pieces of a signed block: Anthropic takes it back only whole."""
        last = self._thinking[-1] if self._thinking else {}
        if block.get("type") == last.get("type") == "thinking" and "signature" not in last:
            last.update({**block, "thinking": last.get("thinking", "") + block.get("thinking", "")})
        else:
            self._thinking.append(block)

    def _tool_calls(self, delta: dict[str, Any]) -> Iterator[Part]:
        calls = list(delta.get("tool_calls") or ())
        if delta.get("function_call"):
            calls.append({"index": 0, "function": delta["function_call"]})
        for call in calls:
            id, name, arguments, rest = call_of(plain(call))
            slot = self._slot(call.get("index") or 0, id)
            yield ToolCallDelta(slot, id, name, arguments)
            fields = {"tool_call_fields": {str(slot): rest}} if rest else {}
            if fields := self._grow(self._seen, fields, lists=True, strings=True):
                yield ProviderDelta(fields)

    def _slot(self, index: int, id: str | None) -> int:
        slot = self._slots.get(index)
        # some providers give every parallel call the index 0, each with an id of its own
        if slot is None or (id is not None and self._ids[slot] is not None and self._ids[slot] != id):
            slot = self._slots[index] = len(self._ids)
            self._ids.append(id)
        return slot

    def _grow(self, seen: dict[str, Any], new: dict[str, Any], *, lists: bool, strings: bool) -> dict[str, Any]:
        """What to send so that all that was sent, merged as `collect` merges, is what the chunks said.

        `lists` and `strings`: whether a value continues the one before it, or repeats it.
        """
        send: dict[str, Any] = {}
        for name, value in new.items():
            before = seen.get(name)
            if isinstance(before, dict) and isinstance(value, dict):
                if inner := self._grow(before, plain(value), lists=lists, strings=strings):
                    send[name] = inner
                continue
            if isinstance(before, list) and isinstance(value, list):
                tail = value[len(before) :] if not lists and value[: len(before)] == before else value
                seen[name] = before + tail
                if tail:
                    send[name] = tail
                continue
            if isinstance(before, str) and isinstance(value, str) and strings and name not in _NAMES:
                value = before + value
            if name not in seen or value != before:
                seen[name] = send[name] = plain(value) if isinstance(value, dict) else value
        return send
