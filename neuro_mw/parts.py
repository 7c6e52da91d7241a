"""Whole answers to parts and back: `collect(parts_of(response))` gives the response again."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Iterator, Mapping
from typing import Any

from .errors import StreamInterrupted
from .frozen import own_copy
from .types import (
    Finish,
    Part,
    ProviderDelta,
    ReasoningDelta,
    Response,
    ResponseInfo,
    TextDelta,
    ToolCall,
    ToolCallDelta,
)


def parts_of(response: Response) -> Iterator[Part]:
    """The parts of a whole answer, in the order of the grammar.

    >>> list(parts_of(Response(text="hi")))[0]
    TextDelta(text='hi')
    """
    if response.id is not None or response.model is not None or response.created is not None:
        yield ResponseInfo(response.id, response.model, response.created)
    if response.provider_fields:
        yield ProviderDelta(response.provider_fields)
    if response.reasoning:
        yield ReasoningDelta(response.reasoning)
    if response.text:
        yield TextDelta(response.text)
    for index, call in enumerate(response.tool_calls):
        yield ToolCallDelta(index, call.id, call.name, call.arguments)
    yield from response.other_parts
    yield Finish(response.finish_reason, response.usage, response.blocked, dict(response.metadata))


def merge_fields(old: dict[str, Any], new: Mapping[str, Any]) -> None:
    """Add the provider fields of a chunk to those of the ones before: objects merge, lists join, else the later stands.

    What `old` holds belongs to it: `new` is copied.
    """
    for key, value in new.items():
        before = old.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            merge_fields(before, value)
        elif isinstance(before, list) and isinstance(value, list):
            before.extend(own_copy(value))
        else:
            old[key] = own_copy(value)


class Collector:
    """Parts in, one response out.

    >>> c = Collector()
    >>> for part in [TextDelta("he"), TextDelta("llo"), Finish("stop")]: c.add(part)
    >>> c.response().text
    'hello'
    """

    __slots__ = ("_calls", "_fields", "_info", "_other", "_reasoning", "_text", "finish")

    def __init__(self) -> None:
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, list[Any]] | None = None  # index -> [id, name, pieces of arguments]
        self._fields: dict[str, Any] | None = None
        self._other: list[Any] | None = None
        self._info: ResponseInfo | None = None
        self.finish: Finish | None = None

    def add(self, part: Part) -> None:
        """Take in one part. Parts of unknown types are kept in ``Response.other_parts``."""
        kind = type(part)
        if kind is TextDelta:
            self._text.append(part.text)  # type: ignore[union-attr]  # narrowed by `kind`, at half the cost of isinstance
        elif kind is ReasoningDelta:
            self._reasoning.append(part.text)  # type: ignore[union-attr]  # as above
        elif isinstance(part, Finish):
            self.finish = part
        elif isinstance(part, ToolCallDelta):
            self._add_call(part)
        elif isinstance(part, ResponseInfo):
            self._info = part
        elif isinstance(part, ProviderDelta):
            if self._fields is None:
                self._fields = {}
            merge_fields(self._fields, part.fields)
        elif isinstance(part, TextDelta):
            self._text.append(part.text)
        elif isinstance(part, ReasoningDelta):
            self._reasoning.append(part.text)
        elif self._other is None:
            self._other = [part]
        else:
            self._other.append(part)

    def _add_call(self, part: ToolCallDelta) -> None:
        if self._calls is None:
            self._calls = {}
        call = self._calls.get(part.index)
        if call is None:
            self._calls[part.index] = [part.id, part.name, [part.arguments]]
            return
        call[0] = call[0] or part.id
        call[1] = call[1] or part.name
        call[2].append(part.arguments)

    def response(self) -> Response:
        """The answer so far; its finish_reason is "error" as long as no Finish came."""
        finish, info = self.finish, self._info
        response = Response(
            text="".join(self._text),
            reasoning="".join(self._reasoning),
            finish_reason=finish.reason if finish else "error",
        )
        if self._calls:
            calls = sorted(self._calls.items())
            response.tool_calls = [ToolCall(id or "", name or "", "".join(pieces)) for _, (id, name, pieces) in calls]
        if info is not None:
            response.id, response.model, response.created = info.id, info.model, info.created
        if finish is not None:
            response.usage, response.blocked, response.metadata = finish.usage, finish.blocked, finish.metadata
        if self._fields:
            response.provider_fields = own_copy(self._fields)
        if self._other:
            response.other_parts = list(self._other)
        return response


async def collect(parts: AsyncIterable[Part] | Iterable[Part]) -> Response:
    """The whole answer of a stream of parts, or of parts at hand.

    Raises StreamInterrupted, with the answer so far as ``partial``, where the stream ends without Finish.

    >>> import asyncio
    >>> asyncio.run(collect([TextDelta("he"), TextDelta("llo"), Finish("stop")])).text
    'hello'
    """
    collector = Collector()
    if isinstance(parts, AsyncIterable):
        async for part in parts:
            collector.add(part)
    else:
        for part in parts:
            collector.add(part)
    if collector.finish is None:
        raise StreamInterrupted("the stream ended without Finish", partial=collector.response())
    return collector.response()
