"""Every provider that litellm knows, behind the one interface.

litellm is loaded at the first call, with its downloads, banners, retries and callbacks off. What it answers and raises
is translated in `_chat_answers`, `_chat_chunks` and `_litellm_errors`, and nowhere else. The switches are
litellm's own and hold for the whole process.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import inspect
import os
import sys
import threading
import warnings
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any

from neuro_mw.errors import StreamInterrupted
from neuro_mw.types import Finish, Params, Part, ProviderDelta, Response

from ._chat_answers import response_of
from ._chat_chunks import ChunkTranslator
from ._litellm_errors import translate_error
from ._thinking import SIGNED, restored
from .catalog import base_url, missing_key, no_key, provider_info

_loading = threading.Lock()
_loaded: Any = None
# litellm changes messages and tools in place for some providers, and adds keys of its own to the others
_COPIED = {"messages": copy.deepcopy, "tools": copy.deepcopy, "metadata": copy.copy, "extra_body": copy.copy}
_keepers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncGenerator[None]] = weakref.WeakKeyDictionary()


class LiteLLMModel:
    """A model of any provider, called through litellm.

    litellm's retries are off (``max_retries`` and ``num_retries`` in the params switch them on again), and so are its
    callbacks: both are what middlewares are for. ``params["model"]`` chooses another model of the same provider.
    Keys of the params that litellm does not know go into the request's body as they are.

    Raises AuthenticationFailed before any request where the provider's key variable is not set, else ProviderError and
    its subclasses, with litellm's own exception as ``__cause__``.

    >>> LiteLLMModel("openai", "gpt-4o-mini")
    LiteLLMModel('openai', 'gpt-4o-mini')
    """

    def __init__(self, provider: str, model_id: str) -> None:
        self.provider, self.model_id = provider, model_id

    def __repr__(self) -> str:
        return f"LiteLLMModel({self.provider!r}, {self.model_id!r})"

    async def generate(self, params: Params, /) -> Response:
        """The whole answer."""
        model, outer = params.get("model") or self.model_id, sys.exception()
        self._check_key(params, model)
        try:
            answer = await self._ask(params, model, stream=False)
            response = response_of(answer)
        except Exception as error:
            raise translate_error(error, self.provider, model, outer) from error

        prefix = f"{self._name}/"  # litellm puts it before the model of some providers, and not in streams
        if response.model and not model.startswith(prefix):
            response.model = response.model.removeprefix(prefix)
        return response

    async def stream(self, params: Params, /) -> AsyncIterator[Part]:
        """The answer as parts. Close the generator to close the HTTP stream."""
        model, outer = params.get("model") or self.model_id, sys.exception()
        self._check_key(params, model)
        try:
            answer = await self._ask(params, model, stream=True)
        except Exception as error:
            raise translate_error(error, self.provider, model, outer) from error
        translator = ChunkTranslator(model)
        chunks: AsyncIterator[Any] | None = None
        try:
            while True:
                try:  # round this await only: what is thrown in at a yield is not the provider's
                    chunks = chunks or await _chunks_of(answer)
                    parts = list(translator.feed(await anext(chunks)))
                except StopAsyncIteration:
                    break
                except Exception as error:
                    raise translate_error(error, self.provider, model, outer) from error
                for part in parts:
                    yield part
            if params.get("mock_response") is not None:  # litellm's own test double ends without a reason
                translator.reason = translator.reason or "stop"
            for part in self._end(translator, answer if chunks is answer else None, model):
                yield part
        finally:
            await _close(chunks)
            await _close(answer)

    def _end(self, translator: ChunkTranslator, wrapper: Any, model: str) -> Iterator[Part]:
        ended = translator.reason is not None
        # litellm's wrapper makes up a "stop" and a usage where the provider sent none
        if hasattr(wrapper, "received_finish_reason"):
            ended = bool(wrapper.received_finish_reason or wrapper.intermittent_finish_reason)
            translator.recount([chunk.usage for chunk in wrapper.chunks if getattr(chunk, "usage", None)])
        if not ended:
            raise StreamInterrupted(f"{self.provider}/{model}: the stream ended without a finish reason")
        reason, usage, fields = translator.end()
        if fields:
            yield ProviderDelta(fields)
        yield Finish(reason, usage)

    @property
    def _name(self) -> str:
        return provider_info(self.provider).litellm or self.provider

    async def _ask(self, params: Params, model: str, *, stream: bool) -> Any:
        litellm = _loaded or await asyncio.to_thread(_load)
        await _keep_clients(litellm)
        request = self._request(litellm, params, model, stream=stream)
        with _without_callbacks():
            return await litellm.acompletion(**request)

    def _check_key(self, params: Params, model: str) -> None:
        missing = missing_key(self.provider, params)
        litellm = sys.modules.get("litellm")
        if not missing or any(
            getattr(litellm, name, None) for name in ("api_key", f"{self.provider}_key", "secret_manager_client")
        ):
            return
        raise no_key(self.provider, model, missing)

    def _request(self, litellm: Any, params: Params, model: str, *, stream: bool) -> dict[str, Any]:
        name = self._name
        request = {"max_retries": 0, "num_retries": 0, **params, "model": f"{name}/{model}", "stream": stream}
        if request.get("tools") and _has_mcp_handler(litellm):  # it needs the package `mcp` for any call with tools
            request.setdefault("_skip_mcp_handler", True)
        if request.get("messages"):
            request["messages"] = restored(request["messages"], SIGNED)
        for key in _COPIED.keys() & request.keys():
            request[key] = _COPIED[key](request[key])
        if stream:
            request.setdefault("stream_options", {"include_usage": True})
        url = base_url(self.provider)
        if url and not (request.get("api_base") or request.get("base_url")):
            request["api_base"] = url
        like_openai = name in ("openai", "openrouter", "azure") or name in litellm.openai_compatible_providers
        if "metadata" in request and like_openai:  # litellm takes it for its own logs and does not send it
            request["extra_body"] = {"metadata": request.pop("metadata"), **(request.get("extra_body") or {})}
        return request


def _load() -> Any:
    """litellm, set up. Takes seconds the first time: call it off the event loop."""
    global _loaded
    with _loading:
        if _loaded is not None:
            return _loaded
        # else the import waits for a download of the price list: 9-17 s where there is no network
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        import litellm

        # pydantic's remark on litellm's types, made when a type is first used: no user can act on it
        warnings.filterwarnings("ignore", message=".* on TypedDict class .* using the `ReadOnly` qualifier")
        litellm.ModelResponseStream()
        litellm.suppress_debug_info = True
        litellm.telemetry = False
        litellm.disable_hf_tokenizer_download = True
        litellm.disable_streaming_logging = True
        # 100 equal chunks in a row are an answer, not an error
        litellm.REPEATED_STREAMING_CHUNK_LIMIT = sys.maxsize
        _loaded = litellm
        return litellm


def _has_mcp_handler(litellm: Any) -> bool:
    """Whether this version has the switch; in another it would be sent to the provider as an unknown key."""
    code = getattr(inspect.unwrap(litellm.main.completion), "__code__", None)
    return code is not None and "_skip_mcp_handler" in code.co_consts


@contextlib.contextmanager
def _without_callbacks() -> Iterator[None]:
    """Skip litellm's success logging and the cost calculation in it: 63 % of the time of a call without network."""
    try:
        from litellm._internal_context import is_internal_call
    except ImportError:  # pragma: no cover  # a version without it: slower, else the same
        yield
        return
    token = is_internal_call.set(True)
    try:
        yield
    finally:
        is_internal_call.reset(token)


class _Chunks:
    """The chunks of a stream of which the first was read already."""

    def __init__(self, first: Any, rest: Any) -> None:
        self._first: Any = first
        self._rest = rest

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        while _hollow(chunk := await anext(self._rest)):
            pass
        return chunk

    async def aclose(self) -> None:
        await _close(self._rest)


def _hollow(chunk: Any) -> bool:
    """Whether litellm made the chunk of a comment line, or of ``[DONE]``: that one says "stop" whatever came before."""
    return (
        isinstance(chunk, dict)
        and not any(chunk.get(name) for name in ("text", "tool_use", "usage", "choices"))
        and (chunk.get("finish_reason") or "stop") == "stop"
    )


async def _chunks_of(answer: Any) -> AsyncIterator[Any]:
    """The chunks of a stream: the provider's own where they have the usual shape, else those of litellm's wrapper.

    The wrapper replaces ``created`` and ``model``, drops fields it does not know, ends every stream with a finish
    reason, and takes most of the time of a chunk.
    """
    raw: Any = getattr(answer, "completion_stream", None)
    if not hasattr(raw, "__aiter__"):
        return aiter(answer)  # a blocking iterator, such as that of boto3: the wrapper reads it in a thread
    chunks = aiter(raw)
    first: Any = None
    while first is None:
        try:
            first = await anext(chunks)
        except StopAsyncIteration:
            break
        if _hollow(first) and not first.get("is_finished"):
            first = None
    choices = getattr(first, "choices", None)
    if first is None or choices == [] or (choices and hasattr(choices[0], "delta")):
        return _Chunks(first, chunks)
    answer.completion_stream = _Chunks(first, chunks)
    return aiter(answer)


async def _close(answer: Any) -> None:
    raw = getattr(answer, "completion_stream", None)
    for one in (raw, answer):
        close = getattr(one, "aclose", None) or getattr(one, "close", None)
        if close is not None:
            with contextlib.suppress(Exception):  # a stream that cannot be closed any more is closed
                closing = close()
                if inspect.isawaitable(closing):
                    await closing


async def _keep_clients(litellm: Any) -> None:
    """Have litellm's HTTP clients of this event loop closed when the loop ends.

    litellm caches them by loop and closes none: each `asyncio.run` would leave open sockets and a ResourceWarning.
    `asyncio.run` closes the async generators that are still open, so one is left open in each loop.
    """
    loop = asyncio.get_running_loop()
    if loop not in _keepers:
        keeper = _keepers[loop] = _keeper(litellm, loop)
        await anext(keeper)


async def _keeper(litellm: Any, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None]:
    cache = litellm.in_memory_llm_clients_cache
    # what litellm writes behind the keys of this loop's clients: its id in 1.106, a number of litellm's own in 1.109
    ending = cache.update_cache_key_with_event_loop("-")[1:]
    try:
        yield
    finally:
        for key in [key for key in cache.cache_dict if ending and str(key).endswith(ending)]:
            client = cache.cache_dict.pop(key, None)
            cache.ttl_dict.pop(key, None)
            await _close(client)
        # clients that serve every loop open a session in each: of these only this loop's session goes
        for client in [vars(litellm).get("module_level_aclient"), *list(cache.cache_dict.values())]:
            session = _session_of(client)
            if getattr(session, "_loop", None) is loop:
                await _close(session)
        await asyncio.sleep(0)  # transports close in the loop's next turn


def _session_of(client: Any) -> Any:
    """The aiohttp session below a client of litellm's (`client`) or of the OpenAI SDK (`_client`)."""
    inner = getattr(client, "client", None) or getattr(client, "_client", None)
    return getattr(getattr(inner, "_transport", None), "client", None)
