"""The wrapped model that a user calls, and the stream that it gives."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from .errors import ConfigError, StreamError
from .plain import plain_message
from .types import Finish, Params, Part, Response, Session, TextDelta

if TYPE_CHECKING:
    from .context import MiddlewareContext
    from .explain import ChainPlan
    from .stats import MiddlewareChainStats

_OPENING = re.compile(  # a bracket, and what may be behind it in JSON
    r'\{\s*+(?:["}]|\Z)|\[\s*+(?:[]{["\-0-9]|true|false|null|(?:tr?u?|fa?l?s?|nu?l?)?\Z)'
)


class Delivered(Protocol):
    """What a stream leaves behind."""

    response: Response | None
    over: str

    @property
    def text(self) -> str: ...


class BoundChain(Protocol):
    """What a wrapped model needs of its chain."""

    @property
    def ids(self) -> tuple[str, ...]: ...
    async def answer(self, params: Params, ctx: MiddlewareContext, *, raise_blocks: bool) -> Response: ...
    def deliver(
        self, params: Params, ctx: MiddlewareContext, *, raise_blocks: bool
    ) -> tuple[AsyncIterator[Part], Delivered]: ...


class Binding(Protocol):
    """What a wrapped model keeps of the factory that made it: a snapshot."""

    def chain(self, context: MiddlewareContext) -> BoundChain: ...
    def stats(self, context: MiddlewareContext) -> MiddlewareChainStats: ...
    def explain(self, context: MiddlewareContext) -> ChainPlan: ...


class WrappedModel:
    """A model behind its chain of middlewares; itself a `LanguageModel`, so it can be wrapped again.

    >>> import asyncio, neuro_mw
    >>> model = neuro_mw.MiddlewareFactory().apply_middleware("echo/echo")
    >>> asyncio.run(model.generate("hello")).text
    'hello'
    """

    __slots__ = ("_binding", "_chain", "_context", "_raise_blocks", "chain", "model_id", "provider")

    def __init__(
        self, provider: str, model_id: str, binding: Binding, context: MiddlewareContext, *, raise_blocks: bool = False
    ) -> None:
        self.provider, self.model_id = provider, model_id
        self._binding, self._context, self._raise_blocks = binding, context, raise_blocks
        self._chain = binding.chain(context)
        self.chain: tuple[str, ...] = self._chain.ids
        """The ids of the layers, outermost first."""

    async def generate(self, prompt: str | Params | None = None, /, **params: Any) -> Response:
        """The whole answer to a prompt, or to params in the OpenAI chat-completions vocabulary.

        Raises what the provider or a middleware raises; a refusal is an answer with ``blocked`` set unless the model
        was made with ``on_block="raise"``.
        """
        request = request_of(prompt, params)
        return await self._chain.answer(request, self._context.for_call("generate"), raise_blocks=self._raise_blocks)

    def stream(self, prompt: str | Params | None = None, /, **params: Any) -> Stream:
        """The answer as parts: ``async with model.stream(...) as stream``. Nothing runs before the first is pulled."""
        request, context = request_of(prompt, params), self._context.for_call("stream")
        return Stream(*self._chain.deliver(request, context, raise_blocks=self._raise_blocks))

    def generate_sync(self, prompt: str | Params | None = None, /, **params: Any) -> Response:
        """`generate` for code without an event loop, or beside one: it runs on a background loop."""
        from .background import run

        return run(self.generate(prompt, **params))

    def stream_sync(self, prompt: str | Params | None = None, /, **params: Any) -> SyncStream:
        """`stream` for code without an event loop; a plain iterator and context manager."""
        return SyncStream(self.stream(prompt, **params))

    def with_context(
        self, *, session: Session | Mapping[str, Any] | None = None, options: Mapping[str, Any] | None = None
    ) -> WrappedModel:
        """A cheap view for one user or one request; ``options`` are added to those of the context.

        >>> import neuro_mw
        >>> model = neuro_mw.MiddlewareFactory().apply_middleware("echo/echo")
        >>> mine = model.with_context(session={"user_id": "u1"})
        """
        from .context import MiddlewareContext

        old = self._context
        if not isinstance(options, Mapping | None):
            raise ConfigError(f"it is of type {type(options).__name__}", key="options", expected="a dict")
        context = MiddlewareContext(
            old.provider, old.model, {**old.options, **(options or {})}, old.session if session is None else session
        )
        return WrappedModel(self.provider, self.model_id, self._binding, context, raise_blocks=self._raise_blocks)

    def stats(self) -> MiddlewareChainStats:
        """What the layers of this chain did so far."""
        return self._binding.stats(self._context)

    def explain(self) -> ChainPlan:
        """What is in this chain, what is not, and why."""
        return self._binding.explain(self._context)

    def __repr__(self) -> str:
        return f"WrappedModel({self.provider}/{self.model_id}, chain={list(self.chain)})"


def request_of(prompt: str | Params | None, params: Params) -> Params:
    """One dict of params, whose messages are the call's own, from what a caller gave."""
    if isinstance(prompt, str):
        turn = {"role": "user", "content": prompt}
        return {**params, "messages": [*own_messages(params.get("messages", ())), turn]}
    if prompt is None:
        request = params
    elif isinstance(prompt, dict):
        request = {**prompt, **params}
    else:
        raise ConfigError(f"a prompt is a string or a dict of params, not {type(prompt).__name__}", key="prompt")
    messages = request.get("messages")
    if messages is not None:
        request["messages"] = own_messages(messages)
    return request


def own_messages(messages: Any) -> list[Any]:
    """A list of messages that belongs to this call, and so does each message."""
    if not isinstance(messages, list | tuple):
        raise ConfigError(f"it is of type {type(messages).__name__}", key="messages", expected="a list of dicts")
    return [plain_message(one) for one in messages]


class Stream:
    """A streamed answer: an async iterator of parts and an async context manager.

    Leaving the ``async with`` closes every layer and the provider's stream, in the same task. Raises StreamError when
    it is iterated again after its end.

    >>> import asyncio, neuro_mw
    >>> async def main(model):
    ...     async with model.stream("hello there") as stream:
    ...         return [text async for text in stream.text()]
    >>> asyncio.run(main(neuro_mw.MiddlewareFactory().apply_middleware("echo/echo")))
    ['hello', ' there']
    """

    __slots__ = ("_delivered", "_next", "_parts")

    def __init__(self, parts: AsyncIterator[Part], delivered: Delivered) -> None:
        self._parts: Any = parts
        self._next: Any = self._parts.__anext__
        self._delivered = delivered

    def __aiter__(self) -> AsyncIterator[Part]:
        if self._delivered.over:
            raise StreamError(f"this stream {self._delivered.over}; call stream() again for a new answer")
        return self

    def __anext__(self) -> Awaitable[Part]:
        return self._next()  # type: ignore[no-any-return]  # the generator's own awaitable: no frame for each part

    async def text(self) -> AsyncIterator[str]:
        """The pieces of text only."""
        async for part in self:
            if isinstance(part, TextDelta):
                yield part.text

    def partial_object(self) -> Any:
        """What can be read so far of the JSON in the text that was given; None as long as nothing can.

        It is the first object or array, also behind prose or a fence. The last string in it may not be complete yet,
        nor the last number. Each call reads all of it anew; nothing is validated.

        >>> import neuro_mw
        >>> model = neuro_mw.MiddlewareFactory().apply_middleware("echo/echo")
        >>> with model.stream_sync('{"name": "Ann Lee", "age": 41}') as stream:
        ...     [stream.partial_object() for part in stream][1:5]
        [{}, {'name': 'Ann'}, {'name': 'Ann Lee'}, {'name': 'Ann Lee'}]
        """
        return _object_in(self._delivered.text)

    async def response(self) -> Response:
        """The whole answer, with its receipt; what was not read yet is read first."""
        if self._delivered.response is None:
            async for part in self:
                if isinstance(part, Finish):
                    break
        if self._delivered.response is None:
            raise StreamError("this stream was closed before its end: there is no whole answer")
        await self.aclose()
        return self._delivered.response

    async def aclose(self) -> None:
        """Close every layer and the provider's stream."""
        self._delivered.over = self._delivered.over or "was closed"
        await self._parts.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class SyncStream:
    """A `Stream` for code without an event loop."""

    def __init__(self, stream: Stream) -> None:
        from .background import run

        self._stream = stream
        self._run: Callable[[Any], Any] = run

    def __iter__(self) -> Iterator[Part]:
        aiter(self._stream)
        return self

    def __next__(self) -> Part:
        part = self._run(_next(self._stream))
        if part is None:
            raise StopIteration
        return part  # type: ignore[no-any-return]  # what `_next` gives

    def text(self) -> Iterator[str]:
        """The pieces of text only."""
        for part in self:
            if isinstance(part, TextDelta):
                yield part.text

    def partial_object(self) -> Any:
        """What can be read so far of the JSON in the text that was given: see `Stream.partial_object`."""
        return self._stream.partial_object()

    def response(self) -> Response:
        """The whole answer, with its receipt."""
        response: Response = self._run(self._stream.response())
        return response

    def close(self) -> None:
        """Close every layer and the provider's stream."""
        self._run(self._stream.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


async def _next(stream: Stream) -> Part | None:
    try:
        return await anext(stream)
    except StopAsyncIteration:
        return None


def _object_in(text: str) -> Any:
    """What can be read of the first object or array in a text; of another value, where that is all of the text."""
    from pydantic_core import from_json

    found = _OPENING.search(text)
    start = 0 if found is None else found.start()
    begun = found is not None or text.lstrip()[:1] == '"'
    try:
        return from_json(text[start:], allow_partial="trailing-strings" if begun else False, allow_inf_nan=False)
    except (ValueError, TypeError):  # TypeError: half of a surrogate pair
        return None
