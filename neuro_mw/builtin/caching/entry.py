"""An answer as bytes and back, exactly or not at all."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import orjson

from neuro_mw import FinishReason, Response, ToolCall, Usage

from .flights import NOT_AN_ANSWER, Flight

_VERSION = 1
_REASONS: frozenset[FinishReason] = frozenset({"stop", "length", "tool_calls", "other"})
_TIME, _COUNT, _NAME = {int, float}, {int, float, type(None)}, {str, type(None)}
_OPTIONS = (
    orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS
)  # fmt: skip


class Corrupt(Exception):  # noqa: N818 - it says what the entry is
    """The entry is not what `packed` wrote."""


def packed(response: Response, made_at: float) -> bytes | None:
    """An answer, and when it was made; None where it would not come back as it is.

    >>> unpacked(packed(Response(text="hi"), 5.0)) == (Response(text="hi"), 5.0)
    True
    >>> packed(Response(metadata={"made": object()}), 5.0) is None
    True
    """
    usage, calls = response.usage, response.tool_calls
    try:
        entry = orjson.dumps([
            _VERSION, made_at, response.text, response.reasoning,
            [[call.id, call.name, call.arguments] for call in calls], response.finish_reason,
            [usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.cache_write_tokens,
             usage.reasoning_tokens],
            response.id, response.model, response.created, response.metadata, response.provider_fields,
        ], option=_OPTIONS)  # fmt: skip
        return entry if unpacked(entry)[0] == response else None
    except Exception:  # noqa: BLE001  # what is no plain data may raise anything where it is written or compared
        return None


def unpacked(entry: bytes) -> tuple[Response, float]:
    """The answer of an entry, and when it was made. Raises Corrupt."""
    try:
        (version, made_at, text, reasoning, calls, reason, counts, id, model, created, metadata,
         fields) = orjson.loads(entry)  # fmt: skip
        ours = (
            version == _VERSION and reason in _REASONS and type(text) is type(reasoning) is str
            and type(calls) is type(counts) is list and type(metadata) is type(fields) is dict
            and type(made_at) in _TIME and type(created) in _COUNT and type(id) in _NAME and type(model) in _NAME
            and len(counts) == 5 and _COUNT.issuperset(map(type, counts))
        )  # fmt: skip
        if ours:
            tool_calls = [_call(*call) for call in calls] if calls else calls
            return Response(
                text=text, reasoning=reasoning, tool_calls=tool_calls, finish_reason=reason, usage=Usage(*counts),
                id=id, model=model, created=created, metadata=metadata, provider_fields=fields, other_parts=[],
            ), made_at  # fmt: skip
    except (ValueError, TypeError):
        pass
    raise Corrupt


def _call(id: Any, name: Any, arguments: Any) -> ToolCall:
    if not (type(id) is type(name) is type(arguments) is str):
        raise Corrupt
    return ToolCall(id, name, arguments)


def sealed(entry: bytes) -> bytes:
    """The same with a checksum, for stores whose bytes can change.

    >>> unsealed(sealed(b"[1]"))
    b'[1]'
    """
    return b"%08x" % crc32(entry) + entry


def unsealed(kept: bytes) -> bytes:
    """What was sealed. Raises Corrupt where it is that no more."""
    entry = kept[8:]
    if kept[:8] != b"%08x" % crc32(entry):
        raise Corrupt
    return entry


def kept_out(flight: Flight, most: int, *, truncated: bool) -> str | None:
    """Why an answer is not kept, as far as that can be told before it is packed: "" where there is none; else None."""
    finish = flight.finish
    if finish is None or finish.blocked is not None or finish.reason in NOT_AN_ANSWER:
        return ""
    flight.look()
    if flight.strayed:
        return "other_model"
    if finish.reason == "length" and not truncated:
        return "truncated"
    if flight.size > most:
        return "size"
    return "content" if flight.lost else None
