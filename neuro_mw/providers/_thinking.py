"""Signed reasoning, kept without a second copy of its text.

Providers that sign their reasoning want it back unchanged in the next turn. The text itself is in `Response.reasoning`,
where middlewares see and change it; what is kept beside it is the signature, and by which piece of the text it stands.
A guard that redacts the reasoning thus redacts all of it, and the signature of what it changed is not sent again.

Anthropic's blocks and OpenRouter's ``reasoning_details`` are handled alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from neuro_mw.plain import as_plain

TEXT_KEYS = {"thinking": "thinking", "reasoning.text": "text", "reasoning.summary": "summary"}
SIGNED = ("thinking_blocks", "reasoning_details")  # the fields of messages and answers that hold signed reasoning
_OURS = frozenset({"provider_fields", *SIGNED})
_THOUGHT = ("thinking", "redacted_thinking")


def sealed(block: Mapping[str, Any]) -> dict[str, Any]:
    """A block with length and digest in the place of its text; a block without text as it is.

    >>> sealed({"type": "thinking", "thinking": "hm", "signature": "s"})
    {'type': 'thinking', 'signature': 's', 'length': 2, 'digest': 'b82e2178ecf4d0c5'}
    >>> sealed({"type": "redacted_thinking", "data": "x"})
    {'type': 'redacted_thinking', 'data': 'x'}
    """
    key = TEXT_KEYS.get(block.get("type", ""))
    text = block.get(key) if key else None
    if not isinstance(text, str):
        return dict(block)
    kept = {name: value for name, value in block.items() if name != key}
    return {**kept, "length": len(text), "digest": digest(text)}


def opened(blocks: Iterable[Mapping[str, Any]], reasoning: str | None) -> list[dict[str, Any]]:
    """The blocks with their text, cut from `reasoning`; none at all where the reasoning is no longer what was signed.

    All or none, redacted blocks too: Anthropic and OpenRouter refuse a sequence of which a block is missing or changed,
    and take an answer without any. A block that still carries its own text (litellm's convention) has to find it in
    `reasoning`, unless that is None.

    >>> seals = [sealed({"type": "thinking", "thinking": "hm", "signature": "s"})]
    >>> opened(seals, "hm")
    [{'type': 'thinking', 'signature': 's', 'thinking': 'hm'}]
    >>> opened(seals, "[redacted]")
    []
    """
    found, at, whole, signs = [], 0, reasoning or "", False
    for block in blocks:
        key = TEXT_KEYS.get(block.get("type", ""))
        if key is None or not ("digest" in block or isinstance(block.get(key), str)):
            found.append(dict(block))  # encrypted: it has no text of its own
            continue
        signs = True
        if key in block:
            text = block[key]
            if reasoning is not None and not whole.startswith(text, at):
                return []
            found.append(dict(block))
        else:
            text = whole[at : at + block["length"]]
            if digest(text) != block["digest"]:
                return []
            kept = {name: value for name, value in block.items() if name not in ("length", "digest")}
            found.append({**kept, key: text})
        at += len(text)
    return found if reasoning is None or at == len(whole) or not signs else []


def plain(messages: Sequence[Any]) -> Sequence[Any]:
    """The messages as dicts: those that are objects of an SDK without what is null in them."""
    return messages if all(isinstance(one, dict) for one in messages) else [as_plain(one) for one in messages]


def restored(messages: Sequence[Any], names: Iterable[str]) -> Sequence[Any]:
    """The messages as a provider takes them: signed reasoning whole again, under those of `names` that it takes back.

    What `Response.to_message` keeps in ``provider_fields`` is taken from there. The list itself comes back where
    nothing in it is signed.
    """
    if not any(isinstance(one, dict) and not _OURS.isdisjoint(one) for one in messages):
        return messages
    return [_restored(one, names) if isinstance(one, dict) and not _OURS.isdisjoint(one) else one for one in messages]


def _restored(message: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    fields = message.get("provider_fields") or {}
    found = {name: value for name, value in message.items() if name != "provider_fields"}
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    for name in SIGNED:
        blocks = found.pop(name, None) or (fields.get(name) if name in names else None)
        try:
            whole = opened(blocks or (), reasoning)
        except (AttributeError, KeyError, TypeError):
            continue  # no such blocks as were ever given out: what cannot be shown to fit is left out
        if whole:
            found[name] = whole
    return found


def digest(text: str) -> str:
    """The first 16 hex digits of a text's SHA-256: to tell a change, not to withstand an attack."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def lacks_thinking(turns: Sequence[Mapping[str, Any]]) -> bool:
    """Whether results of tools follow a turn that did not begin by thinking; Anthropic, told to think, refuses that.

    >>> call, result = {"type": "tool_use", "id": "t"}, {"type": "tool_result", "tool_use_id": "t"}
    >>> lacks_thinking([{"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}])
    True
    """
    if len(turns) < 2 or turns[-1]["role"] != "user" or turns[-2]["role"] != "assistant":
        return False
    answered = any(block.get("type") == "tool_result" for block in turns[-1]["content"])
    return answered and turns[-2]["content"][0].get("type") not in _THOUGHT


def without_thinking(turns: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The turns without what was thought; one that was nothing else is left out."""
    found = []
    for turn in turns:
        blocks = [block for block in turn["content"] if block.get("type") not in _THOUGHT]
        found += [{**turn, "content": blocks}] if blocks else []
    return found
