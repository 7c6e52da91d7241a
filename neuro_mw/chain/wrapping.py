"""Running the wrap hooks under the layer's policy, also for the mode that a hook was not written for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from functools import partial
from typing import Any

from ..errors import MiddlewareError, StreamInterrupted
from ..parts import Collector, parts_of
from ..types import Finish, Params, Part, Response, ResponseInfo
from .answers import fresh, signature
from .link import Inner
from .passage import Passage

_GENERATE, _STREAM = "wrap_generate", "wrap_stream"


async def run_wrap_generate(passage: Passage, do_generate: Any) -> Response:
    """The answer of a wrap_generate hook; of its own failures, what `on_error` says."""
    hook: Any = passage.layer.hooks.wrap_generate
    passage.begin()
    try:
        made = hook(do_generate, passage.params, passage.ctx)
        if hasattr(made, "__await__"):
            made = await passage.within(made, _GENERATE)
        passage.judge(_GENERATE)
        if not isinstance(made, Response):
            await _discard(made)
            raise passage.wrong_type(_GENERATE, made, "a Response")
    except Exception as error:  # noqa: BLE001  # whatever it is, on_error decides
        return await recover(passage, error, do_generate)
    finally:
        if passage.link.several:
            passage.lap(_GENERATE)
    return made


def keeping(passage: Passage, do_generate: Any) -> Any:
    """`do_generate` for a layer whose failures are passed over: a copy of each answer is kept, as it came."""
    if passage.layer.on_error != "skip":
        return do_generate

    async def kept(params: Params | None = None) -> Response:
        response: Response = await do_generate(params)
        passage.kept = fresh(response)
        return response

    return kept


async def recover(passage: Passage, error: BaseException, do_generate: Any) -> Response:
    """What stands in for a wrap_generate that raised; raises where nothing does."""
    if not isinstance(error, Exception) or passage.is_inside(error):
        raise error
    refused = passage.own_block(error)
    if refused is not None:
        return passage.refusal(refused)
    passage.skip_or_raise(error, _GENERATE)
    answer = passage.restored()
    if answer is not None:
        return answer
    if passage.inside:
        raise _last_inside(passage, error)
    response: Response = await do_generate(passage.params)
    return response


def _last_inside(passage: Passage, own: BaseException | None) -> BaseException:
    """The error from inside that stands where a hook's own is passed over.

    It is the hook's own where what failed inside is a cancellation that nobody outside asked for: the hook did, as one
    with a time limit does.
    """
    assert passage.inside
    last, task = passage.inside[-1], asyncio.current_task()
    asked = not isinstance(last, asyncio.CancelledError) or (task is not None and task.cancelling())
    return last if asked or own is None else own


def wrapped_parts(passage: Passage) -> AsyncIterator[Part]:
    """The parts of a layer that wraps, in a stream; its own iterator where nothing has to stand between."""
    layer = passage.layer
    if layer.hooks.wrap_stream is None:
        return buffered(passage)
    if layer.on_error == "skip" or layer.timeout_s is not None:
        return wrapped(passage, passage.do_stream)
    return open_wrap_stream(passage, passage.do_stream)


async def buffered(passage: Passage) -> AsyncIterator[Part]:
    """The parts of a layer that has wrap_generate only, in a stream: the inner stream is collected first."""
    layer = passage.layer
    layer.log_once(
        "buffers",
        f"middleware '{layer.id}' has wrap_generate but no wrap_stream: it buffers streams (use transform_parts to "
        "let parts through as they come)",
    )
    response = await run_wrap_generate(passage, keeping(passage, partial(_generate_from_stream, passage)))
    passage.note_answer(response)
    for part in parts_of(response):
        yield part


async def collected(passage: Passage) -> Response:
    """The answer of a layer that has wrap_stream only, in generate mode."""
    collector = Collector()
    parts = wrapped(passage, partial(_stream_from_generate, passage))
    try:
        async for part in parts:
            collector.add(part)
    finally:
        await parts.aclose()  # type: ignore[attr-defined]  # an async generator
        await close_streams(passage)
        if passage.link.several:
            passage.lap(_STREAM)
    return collector.response()


async def _generate_from_stream(passage: Passage, params: Params | None = None) -> Response:
    """`do_generate` for a hook that buffers a stream."""
    collector = Collector()
    async for part in passage.do_stream(params):
        collector.add(part)
    response = collector.response()
    passage.seen, passage.inside_failed = signature(response), False
    return response


def _stream_from_generate(passage: Passage, params: Params | None = None) -> AsyncIterator[Part]:
    """`do_stream` for a hook that knows streams only, in generate mode."""
    inner = passage.opened()
    inner.parts = _replay(passage, params, inner)
    return inner.parts  # type: ignore[no-any-return]  # the generator above


async def _replay(passage: Passage, params: Params | None, inner: Inner) -> AsyncIterator[Part]:
    for part in parts_of(await passage.do_generate(params)):
        inner.pulled.append(part)
        inner.let_in.add(part)
        yield part


def open_wrap_stream(passage: Passage, do_stream: Any) -> AsyncIterator[Part]:
    """Call a wrap_stream hook; MiddlewareError where it gives no async iterator."""
    hook: Any = passage.layer.hooks.wrap_stream
    made = hook(do_stream, passage.params, passage.ctx)
    if hasattr(made, "__aiter__"):
        return made.__aiter__()  # type: ignore[no-any-return]  # a hook is untyped here
    if hasattr(made, "__await__"):
        return _awaited(passage, made)
    raise passage.wrong_type(_STREAM, made, "an async iterator of parts")


async def _awaited(passage: Passage, made: Any) -> AsyncIterator[Part]:
    """An ``async def`` without yield: it may still return an iterator."""
    made = await made
    if not hasattr(made, "__aiter__"):
        raise passage.wrong_type(_STREAM, made, "an async iterator of parts")
    async for part in made:
        yield part


async def wrapped(passage: Passage, do_stream: Any) -> AsyncIterator[Part]:
    """The parts of a wrap_stream hook under ``on_error`` and ``timeout_s``; exactly one Finish, the last."""
    info, finish, parts, skipped = False, None, None, None
    passage.begin()
    lent: list[Lent] = []
    given = partial(Lent, lent, do_stream) if passage.layer.on_error == "skip" else do_stream
    try:
        parts = open_wrap_stream(passage, given)
        while True:
            passage.begin()
            try:
                part = await passage.within(parts.__anext__(), _STREAM)
            except StopAsyncIteration:
                passage.judge(_STREAM)
                break
            passage.judge(_STREAM)
            check_part(passage, part, finish)
            if isinstance(part, Finish):
                finish = part
                continue
            info = info or isinstance(part, ResponseInfo)
            yield part
            if passage.inners and passage.ctx.mode == "generate":
                passage.inners[-1].pulled.clear()  # in streams the flow does it
        if finish is None:
            raise ended_without_finish(passage)
    except Exception as error:  # whatever it is, on_error decides
        if passage.own_block(error) is not None or passage.is_inside(error):
            raise
        passage.skip_or_raise(error, _STREAM)
        skipped = error
    except GeneratorExit:  # nothing more is to come, so that the hook may close what it was lent
        for one in lent:
            one.kept = False
        raise
    finally:
        if parts is not None:
            await close(passage, parts)
    if finish is not None:
        yield finish
        return
    if passage.inside_failed and passage.inside:
        raise _last_inside(passage, skipped)
    async for part in _rest(passage, do_stream):
        if not (info and isinstance(part, ResponseInfo)):
            yield part


class Lent:
    """An inner stream for a hook that may be passed over: closing it ends it for the hook alone.

    For where the hook fails, what is still to come has to pass. The passage closes the stream itself when it ends. Once
    it is not `kept`, as nobody will read on, the hook closes it as any other.
    """

    __slots__ = ("_closed", "_parts", "kept")

    def __init__(self, lent: list[Lent], do_stream: Any, params: Params | None = None) -> None:
        self._parts, self._closed, self.kept = do_stream(params), False, True
        lent.append(self)

    def __aiter__(self) -> Lent:
        return self

    def __anext__(self) -> Awaitable[Part]:
        return _ended() if self._closed else self._parts.__anext__()

    async def aclose(self) -> None:
        self._closed = True
        if not self.kept:
            await self._parts.aclose()


async def _ended() -> Part:
    raise StopAsyncIteration


async def _rest(passage: Passage, do_stream: Any) -> AsyncIterator[Part]:
    """What a hook that stepped aside had pulled and not yielded, then what is still to come."""
    inner = passage.inners[-1] if passage.inners else None
    for part in list(inner.pulled) if inner else ():
        yield part
        if isinstance(part, Finish):
            return
    if inner is not None and inner.let_in.finish is not None:
        yield inner.let_in.finish  # it had pulled all, and yielded since
        return
    async for part in inner.parts if inner else do_stream(passage.params):
        yield part


def check_part(passage: Passage, part: Any, finish: Finish | None) -> None:
    """Raise where a hook yields what is no part, or anything after Finish."""
    if not hasattr(part, "type"):
        raise passage.wrong_type(f"{_STREAM} (yielding)", part, "parts")
    if finish is not None:
        raise MiddlewareError(
            f"middleware '{passage.layer.id}': wrap_stream yielded {type(part).__name__} after Finish",
            middleware=passage.layer.id, hook=_STREAM,
        )  # fmt: skip


def ended_without_finish(passage: Passage) -> Exception:
    """The error of a hook whose stream ended too soon."""
    return StreamInterrupted(f"middleware '{passage.layer.id}': wrap_stream ended without Finish")


async def close(passage: Passage, parts: Any) -> None:
    """Close an iterator of a hook; what goes wrong then is counted and logged, it must not hide why."""
    if hasattr(parts, "aclose"):
        try:
            await parts.aclose()
        except Exception as error:  # noqa: BLE001  # see above
            passage.skip(error, "closing the stream")


async def close_streams(passage: Passage) -> None:
    """Close the inner streams that a hook opened, also those it forgot."""
    here = asyncio.current_task()
    for inner in reversed(passage.inners or ()):
        if inner.task not in (None, here) and getattr(inner.parts, "ag_running", False):
            inner.task.cancel()  # a task that the hook left behind is in the middle of a pull
            await asyncio.wait([inner.task])
        await close(passage, inner.parts)


async def _discard(made: Any) -> None:
    if hasattr(made, "aclose"):
        await made.aclose()
