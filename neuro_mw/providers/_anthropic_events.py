"""Events of Anthropic's Messages API as parts: they collect to what `_anthropic_answers` makes of the whole answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from neuro_mw.types import FinishReason, Part, ReasoningDelta, ResponseInfo, TextDelta, ToolCallDelta, Usage

from ._anthropic_answers import (
    NOT_RENAMED,
    TOP,
    Renamed,
    arguments_of,
    end_fields,
    fields_of,
    name_of,
    plain_block,
    reason_of,
    usage_of,
)
from ._errors import ErrorEvent

_EVENT = frozenset({"type", "delta", "usage"})


class EventTranslator:
    """The events of one stream in, parts out.

    `reason` is why the answer ended in the provider's word: None until it said so and ended the message. `over` says
    that the message was ended: nothing more is to come. `renamed` is what `renamed_of` gave with the request.

    >>> translator = EventTranslator()
    >>> translator.feed({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
    []
    >>> translator.feed({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}})
    [TextDelta(text='hi')]
    """

    def __init__(self, renamed: Renamed = NOT_RENAMED) -> None:
        self._renamed = renamed
        self._message: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._blocks: dict[int, dict[str, Any]] = {}  # as they started, grown by what is not text
        self._pieces: dict[int, list[str]] = {}  # of text, reasoning or JSON
        self._slots: dict[int, int] = {}  # the provider's index of a block -> our index of the tool call
        self._forced: dict[int, dict[str, Any]] = {}  # calls that stand for a JSON answer, as they started
        self._stop_reason: str | None = None
        self.reason: str | None = None
        self.over = False

    def feed(self, event: dict[str, Any]) -> list[Part]:
        """The parts of one event. Raises ErrorEvent where the event is an error."""
        kind = event.get("type")
        if kind == "content_block_delta":
            delta = event["delta"]
            if delta["type"] == "text_delta":
                return [TextDelta(text)] if (text := self._add(event["index"], delta["text"])) else []
            return self._delta(event["index"], delta)
        if kind == "content_block_start":
            return self._begin(event["index"], event["content_block"])
        if kind == "content_block_stop":
            return self._stop(event["index"])
        if kind == "message_start":
            message = event.get("message") or {}
            self._take(message, TOP)
            return [ResponseInfo(message.get("id"), message.get("model"))]
        if kind == "message_delta":
            self._take(event.get("delta") or {}, TOP)
            self._take(event, _EVENT)
        elif kind == "message_stop":
            self._take(event, _EVENT)
            self.reason, self.over = self._stop_reason, True
        elif kind == "error":
            raise ErrorEvent(event.get("error") or {})
        return []  # a ping, or an event of a kind that is newer than this code: the API asks to let it pass

    def end(self) -> tuple[FinishReason, Usage, dict[str, Any]]:
        """Finish reason, usage, and all provider fields."""
        blocks = [self._whole(index, block) for index, block in self._blocks.items()]
        usage, usage_rest = usage_of(self._usage)
        fields = {**fields_of(self._message, blocks), **end_fields(self.reason, usage_rest)}
        return reason_of(self.reason, bool(self._slots)), usage, fields

    def _take(self, data: Mapping[str, Any], known: frozenset[str]) -> None:
        self._stop_reason = data.get("stop_reason") or self._stop_reason
        # the counts of a later event are totals; what it leaves out stands
        self._usage.update({name: value for name, value in (data.get("usage") or {}).items() if value is not None})
        self._message.update({name: value for name, value in data.items() if name not in known and value is not None})

    def _begin(self, index: int, block: dict[str, Any]) -> list[Part]:
        self._pieces[index] = []
        if plain_block(block, self._renamed) is not block:
            self._forced[index], self._blocks[index] = block, {"type": "text"}
            return []
        self._blocks[index] = dict(block)
        kind = block.get("type")
        if kind == "tool_use":
            slot = self._slots[index] = len(self._slots)
            return [ToolCallDelta(slot, block.get("id"), name_of(block, self._renamed))]
        text = block.get("text" if kind == "text" else "thinking") if kind in ("text", "thinking") else None
        if not (text := self._add(index, text)):
            return []
        return [TextDelta(text) if kind == "text" else ReasoningDelta(text)]

    def _delta(self, index: int, delta: dict[str, Any]) -> list[Part]:
        kind, block = delta["type"], self._blocks[index]
        if kind == "thinking_delta":
            return [ReasoningDelta(text)] if (text := self._add(index, delta["thinking"])) else []
        if kind == "input_json_delta":
            return self._json(index, delta["partial_json"])
        if kind == "citations_delta":
            block["citations"] = [*(block.get("citations") or ()), delta["citation"]]
            return []
        for name, value in delta.items():  # a signature, a compaction, and what is newer than this code
            if name != "type":
                before = block.get(name)
                grows = isinstance(value, (str, list)) and type(before) is type(value)
                block[name] = before + value if grows else value
        return []

    def _add(self, index: int, piece: Any) -> str:
        """A piece of a block's text, kept. Raises TypeError before it can leave where it is neither text nor null."""
        if not piece:
            return ""
        if not isinstance(piece, str):
            raise TypeError("a piece of text is no string")
        self._pieces[index].append(piece)
        return piece

    def _json(self, index: int, given: Any) -> list[Part]:
        if not (piece := self._add(index, given)):
            return []
        if index in self._forced:
            return [TextDelta(piece)]
        return [ToolCallDelta(self._slots[index], arguments=piece)] if index in self._slots else []

    def _stop(self, index: int) -> list[Part]:
        called = self._forced.get(index) or (self._blocks[index] if index in self._slots else None)
        if called is None or self._pieces[index]:
            return []
        return self._json(index, arguments_of(called))  # a call without input, or with all of it at the start

    def _whole(self, index: int, block: dict[str, Any]) -> dict[str, Any]:
        kind, text = block.get("type"), "".join(self._pieces[index])
        if kind in ("text", "thinking"):
            return {**block, kind: text}
        if kind == "tool_use" or not text:
            return block
        try:
            return {**block, "input": json.loads(text)}
        except ValueError:
            return {**block, "input": text}  # cut off in the middle
