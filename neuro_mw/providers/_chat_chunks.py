"""Chunks of the chat-completions API as parts: they collect to what `_chat_answers` makes of the whole answer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from neuro_mw.frozen import own_copy
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

from ._chat_answers import CHOICE, MESSAGE, TOP, call_of, native_reason, plain, reason_of, rest_of, texts_of, usage_of
from ._errors import ErrorEvent, error_of
from ._thinking import SIGNED, TEXT_KEYS, sealed

# strings that name rather than continue: in a delta the later one stands
_NAMES = frozenset({"id", "type", "role", "name", "format", "signature", "status", "model", "native_finish_reason"})
_SILENT = frozenset({"role", "content", "reasoning_content"})


class _Call:
    """What is known of a tool call so far."""

    __slots__ = ("arguments", "id", "name")

    def __init__(self) -> None:
        self.id: str | None = None
        self.name: str | None = None
        self.arguments: list[str] = []

    def ends_before(self, id: str | None, name: str | None, arguments: str) -> bool:
        """Whether a piece with the same index begins another call: by a name, and by an id where there are ids."""
        if name is None or self.name is None:
            return False
        if id is not None and self.id is not None:
            return id != self.id
        if id is not None or self.id is not None:
            return False
        return name != self.name or bool(arguments and _is_json("".join(self.arguments)))


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


class ChunkTranslator:
    """The chunks of one stream in, parts out; `reason` is why it ended in the provider's word, None until it says.

    Most chunks repeat all but their text from the one before. What a chunk said round its text is kept, and the next
    one that says the same is nothing but its text: that comparison is a tenth of the price of reading it.
    """

    over = False  # [DONE] says so, and the driver reads it

    def __init__(self, model: str | None = None) -> None:
        self._model = model
        self._begun = False
        self._seen: dict[str, Any] = {}  # what `collect` will have made of the provider fields so far
        self._slots: dict[int, int] = {}  # the provider's index of a tool call -> ours, the latest with that index
        self._calls: list[_Call] = []
        self.reason: str | None = None
        self._usage: dict[str, Any] = {}
        self._signed: dict[str, list[dict[str, Any]]] = {}
        # a chunk without its choices, a choice without its delta, a delta without its text: nothing new in them
        self._quiet: tuple[Any, Any, Any] = (None, None, None)

    def feed(self, chunk: Any) -> Sequence[Part]:
        """The parts of one chunk, which is changed if it is a dict."""
        if type(chunk) is not dict:
            return list(self._chunk(plain(chunk)))
        chunk.pop("obfuscation", None)  # OpenAI's padding against the guessing of texts by their lengths
        choices = chunk.pop("choices", None)
        if not choices or len(choices) > 1 or type(choices[0]) is not dict or type(choices[0].get("delta")) is not dict:
            return list(self._chunk(plain({**chunk, "choices": choices})))
        choice = choices[0]
        delta = choice.pop("delta")
        text, reasoning = delta.pop("content", None), delta.pop("reasoning_content", None)
        quiet = (chunk, choice, delta)
        if quiet == self._quiet and isinstance(text, str | None) and isinstance(reasoning, str | None):
            if not reasoning:
                return (TextDelta(text),) if text else ()
            return (ReasoningDelta(reasoning), TextDelta(text)) if text else (ReasoningDelta(reasoning),)
        whole = {**choice, "delta": {**delta, "content": text, "reasoning_content": reasoning}}
        parts = list(self._chunk(plain({**chunk, "choices": [whole]})))
        silent = not choice.get("index") and not rest_of(choice, CHOICE) and not choice.get("finish_reason")
        if silent and not rest_of(delta, _SILENT):
            self._quiet = quiet
        return parts

    def _chunk(self, data: dict[str, Any]) -> Iterator[Part]:
        if data.get("error"):  # OpenRouter sends it beside a choice
            raise ErrorEvent(error_of(data))
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
        for name, blocks in self._signed.items():
            fields[name] = [sealed(block) for block in blocks]
        native = self._seen.get("native_finish_reason")
        fields |= native_reason(self.reason, self._seen)
        return reason_of(self.reason, native, bool(self._calls)), usage, fields

    def _choice(self, choice: dict[str, Any]) -> Iterator[Part]:
        if choice.get("error"):
            raise ErrorEvent(error_of(choice))
        delta = plain(choice.get("delta") or {})
        rest = rest_of(delta, MESSAGE)
        for name in SIGNED:
            for block in rest.pop(name, ()):
                self._sign(name, plain(block))
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

    def _sign(self, name: str, block: dict[str, Any]) -> None:
        """Join the pieces of a signed block: providers take it back only whole."""
        blocks = self._signed.setdefault(name, [])
        last = blocks[-1] if blocks else {}
        same = block.get("type") == last.get("type") and block.get("index") == last.get("index")
        text = next((key for key in TEXT_KEYS.values() if isinstance(block.get(key), str)), None)
        if same and "signature" not in last and (text or "signature" in block):
            joined = {text: last.get(text, "") + block[text]} if text else {}
            last.update({**block, **joined})
        else:
            blocks.append(block)

    def _tool_calls(self, delta: dict[str, Any]) -> Iterator[Part]:
        calls = list(delta.get("tool_calls") or ())
        if delta.get("function_call"):
            calls.append({"index": 0, "function": delta["function_call"]})
        for call in calls:
            id, name, arguments, rest = call_of(plain(call))
            slot = self._slot(call.get("index"), id, name, arguments)
            known = self._calls[slot]
            known.id, known.name = known.id or id, known.name or name
            known.arguments.append(arguments)
            yield ToolCallDelta(slot, id, name, arguments)
            fields = {"tool_call_fields": {known.id or str(slot): rest}} if rest else {}
            if fields := self._grow(self._seen, fields, lists=True, strings=True):
                yield ProviderDelta(fields)

    def _slot(self, index: int | None, id: str | None, name: str | None, arguments: str) -> int:
        """Our index of the call that a piece belongs to; a new one where it begins a call.

        Some providers give no index, or every parallel call the index 0: then ids tell calls apart, and where there are
        none, a name behind arguments that are whole.
        """
        if index is not None:
            slot = self._slots.get(index)
        elif id is not None:
            slot = next((at for at, call in enumerate(self._calls) if call.id == id), None)
        else:
            slot = len(self._calls) - 1 if self._calls else None
        if slot is not None and not self._calls[slot].ends_before(id, name, arguments):
            return slot
        self._calls.append(_Call())
        self._slots[index or 0] = len(self._calls) - 1
        return len(self._calls) - 1

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
                before.extend(tail)
                if tail:
                    send[name] = tail
                continue
            if isinstance(before, str) and isinstance(value, str) and strings and name not in _NAMES:
                value = before + value
            if name not in seen or value != before:
                send[name] = plain(value) if isinstance(value, dict) else value
                seen[name] = own_copy(send[name])
        return send
