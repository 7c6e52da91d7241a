"""How a content block of an Anthropic message is streamed: what it starts as, and what is added."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .wire_text import words


def stream_of(
    block: dict[str, Any], pieces: Sequence[str] | None, argument_chars: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The block as it starts and its deltas; a kind without deltas, known or not, starts complete.

    >>> stream_of({"type": "text", "text": "hello you"}, None, 8)[1]
    [{'type': 'text_delta', 'text': 'hello'}, {'type': 'text_delta', 'text': ' you'}]
    """
    kind = block.get("type", "")
    if kind == "text":
        return _text(block, pieces)
    if kind == "thinking":
        return _thinking(block, pieces)
    if kind.endswith("tool_use"):  # tool_use, server_tool_use, mcp_tool_use
        return _tool_use(block, argument_chars)
    return block, []


def _text(block: dict[str, Any], pieces: Sequence[str] | None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    texts = words(block["text"]) if pieces is None else pieces
    deltas: list[dict[str, Any]] = [{"type": "text_delta", "text": text} for text in texts]
    if not block.get("citations"):
        return {**block, "text": ""}, deltas
    deltas += ({"type": "citations_delta", "citation": citation} for citation in block["citations"])
    return {**block, "text": "", "citations": []}, deltas


def _thinking(block: dict[str, Any], pieces: Sequence[str] | None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    texts = words(block["thinking"]) if pieces is None else pieces
    deltas = [{"type": "thinking_delta", "thinking": text} for text in texts]
    if "signature" not in block:
        return {**block, "thinking": ""}, deltas
    deltas.append({"type": "signature_delta", "signature": block["signature"]})
    return {**block, "thinking": "", "signature": ""}, deltas


def _tool_use(block: dict[str, Any], argument_chars: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    import orjson

    written = orjson.dumps(block["input"]).decode() if block["input"] else ""  # the API writes nothing for {}
    pieces = ["", *(written[start : start + argument_chars] for start in range(0, len(written), argument_chars))]
    return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
