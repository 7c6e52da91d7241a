"""A model that answers with what it was asked: no key, no network, for docs, tests and the command line."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from neuro_mw.parts import parts_of
from neuro_mw.types import FinishReason, Params, Part, Response, TextDelta, Usage

_WORD = re.compile(r"\s*\S+|\s+")


class EchoModel:
    """Answers with the text of the last user message; streams it word by word.

    `latency` is in seconds: before the answer, in a stream before the first part. In a stream as much again is spread
    evenly between its pieces. `chunk_chars` streams so many characters at a time instead of words. A token is a word:
    whatever stands between white space. ``max_tokens`` (or ``max_completion_tokens``) cuts the answer after so many.

    >>> import asyncio
    >>> asyncio.run(EchoModel().generate({"messages": [{"role": "user", "content": "hello you"}]})).text
    'hello you'
    """

    provider = "echo"

    def __init__(self, model_id: str = "echo", *, latency: float = 0.0, chunk_chars: int | None = None) -> None:
        if chunk_chars is not None and chunk_chars < 1:
            raise ValueError(f"chunk_chars must be at least 1, not {chunk_chars}")
        self.model_id, self.latency, self.chunk_chars = model_id, latency, chunk_chars

    def __repr__(self) -> str:
        return f"EchoModel({self.model_id!r})"

    async def generate(self, params: Params, /) -> Response:
        """The last user message, whole."""
        if self.latency:
            await asyncio.sleep(self.latency)
        return self._answer(params)

    async def stream(self, params: Params, /) -> AsyncIterator[Part]:
        """The last user message in pieces; joined, they are exactly what `generate` answers."""
        if self.latency:
            await asyncio.sleep(self.latency)
        for part in parts_of(self._answer(params)):
            if not isinstance(part, TextDelta):
                yield part
                continue
            pieces = self._cut(part.text)
            pause = self.latency / len(pieces)
            for number, piece in enumerate(pieces):
                if number and pause:
                    await asyncio.sleep(pause)
                yield TextDelta(piece)

    def _cut(self, text: str) -> list[str]:
        size = self.chunk_chars
        if size is None:
            return _WORD.findall(text)
        return [text[start : start + size] for start in range(0, len(text), size)]

    def _answer(self, params: Params) -> Response:
        messages = params.get("messages") or []
        text = next((_text(m.get("content")) for m in reversed(messages) if m.get("role") == "user"), "")
        reason: FinishReason = "stop"
        limit = params.get("max_completion_tokens", params.get("max_tokens"))
        if limit is not None and len(text.split()) > limit:
            ends = [word.end() for word in re.finditer(r"\S+", text)]
            text, reason = text[: ends[limit - 1]] if limit > 0 else "", "length"
        asked = sum(len(_text(message.get("content")).split()) for message in messages)
        return Response(
            text=text,
            finish_reason=reason,
            usage=Usage(input_tokens=asked, output_tokens=len(text.split())),
            id=f"echo-{uuid.uuid4().hex}",
            model=_bare(params.get("model")) or self.model_id,
            created=time.time(),
        )


def _bare(model: Any) -> str | None:
    return str(model).removeprefix("echo/") if model else None


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text") or "") for part in content or () if isinstance(part, dict))
