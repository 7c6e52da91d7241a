"""What the native drivers share: a call from params to parts, whatever dialect the provider speaks."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from neuro_mw.errors import BadRequest, ProviderError, ProviderUnavailable, StreamInterrupted
from neuro_mw.parts import parts_of
from neuro_mw.types import Finish, FinishReason, Params, Part, ProviderDelta, Response, Usage

from ._call_options import CallOptions, split
from ._errors import ErrorEvent, error_of, provider_error, status_in
from ._identity import identity
from ._sse import SSEReader
from .catalog import key_of

if TYPE_CHECKING:
    from ._http import Answer, Call

MAX_ANSWER = 64 << 20  # bytes
# What reading an answer of another shape than the dialect's raises.
_GARBAGE = (ValueError, TypeError, AttributeError, LookupError, RecursionError)

_LONG_NUMBER = re.compile(rb"\d{19}")
_LISTS = ("anthropic-beta",)  # headers to which a caller's value is added
_loaded: Any = None  # the module `_http`, once it was needed
_parse: Callable[[bytes], Any] = json.loads  # orjson's from then on


class Translator(Protocol):
    """The events of one stream in, parts out. ``over``: nothing of the answer is to come."""

    reason: str | None
    over: bool

    def feed(self, event: Any) -> Iterable[Part]: ...
    def end(self) -> tuple[FinishReason, Usage, dict[str, Any]]: ...


class Request(NamedTuple):
    """A request in the dialect: the body, headers that go with it, and what reading the answer has to undo."""

    body: dict[str, Any]
    headers: Mapping[str, str] = {}
    undo: Any = None


class NativeModel(ABC):
    """A model behind plain HTTP: aiohttp and orjson, one pool of connections for each event loop.

    A dialect says where to, with which headers and body, and how to read what comes back.
    """

    def __init__(
        self,
        provider: str,
        model_id: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        max_answer_bytes: int = MAX_ANSWER,
    ) -> None:
        self.provider, self.model_id = provider, model_id
        self._base_url, self._headers = base_url, dict(headers or {})
        self._api_key = (api_key or "").strip() or None
        self._max_bytes = max_answer_bytes

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.provider!r}, {self.model_id!r})"

    identity = property(identity)

    # --- what a dialect says --------------------------------------------------------------------------------------

    options: frozenset[str] = frozenset()
    """Those of `_call_options.OF_SOME` that it has."""

    @abstractmethod
    def request_of(self, params: Params, model: str, url: str, *, stream: bool) -> Request:
        """What is sent to `url`."""

    @abstractmethod
    def url_of(self, model: str, options: CallOptions) -> str:
        """Where the request goes."""

    @abstractmethod
    def headers_of(self, key: str | None, url: str, options: CallOptions) -> dict[str, str]:
        """The headers of every request; `key` is the API key."""

    def key_of(self, model: str, options: CallOptions) -> str | None:
        """The API key: the call's, the model's own, the environment's.

        Raises AuthenticationFailed where there has to be one and is none.
        """
        return options.api_key or self._api_key or key_of(self.provider, model)

    @abstractmethod
    def response_of(self, answer: Any, undo: Any) -> Response:
        """A whole answer."""

    @abstractmethod
    def translator(self, model: str, undo: Any) -> Translator:
        """What reads the events of one stream."""

    # --- a call ---------------------------------------------------------------------------------------------------

    async def generate(self, params: Params, /) -> Response:
        """The whole answer."""
        call = await self._call(params, stream=False)
        answer = await self._send(call)
        try:
            return self._response(call, answer, await answer.whole())
        finally:
            answer.close()

    async def stream(self, params: Params, /) -> AsyncIterator[Part]:
        """The answer as parts. Close the generator to close the connection."""
        call = await self._call(params, stream=True)
        answer = await self._send(call)
        try:
            if "application/json" in answer.headers.get("content-type", "").lower():  # a server that does not stream
                for part in parts_of(self._response(call, answer, await answer.whole())):
                    yield part
                return
            translator, reader, over = self.translator(call.model, call.undo), SSEReader(), False
            while not over:
                piece = await answer.piece()
                for event, data in reader.feed(piece) if piece else reader.end():
                    if data.startswith(b"[DONE]"):
                        over = True
                        break
                    for part in self._translate(call, answer, translator, event, data):
                        yield part
                over = over or translator.over or not piece
            if translator.reason is None:
                raise StreamInterrupted(f"{self.provider}/{call.model}: the stream ended without a finish reason")
            await answer.drain()
            for part in self._end(call, answer, translator):
                yield part
        finally:
            answer.close()

    def _translate(
        self, call: Call, answer: Answer, translator: Translator, event: bytes, data: bytes
    ) -> Iterable[Part]:
        error: Mapping[str, Any] | None = None
        try:
            if not data:  # what keeps a connection alive
                return ()
            parsed = _loads(data)
            if event == b"error":
                raise ErrorEvent(error_of(parsed))
            return translator.feed(parsed)
        except ErrorEvent as sent:
            error = sent.error
        except _GARBAGE:
            pass
        raise self._refused(call, answer, error)

    def _end(self, call: Call, answer: Answer, translator: Translator) -> list[Part]:
        try:
            reason, usage, fields = translator.end()
            return [*([ProviderDelta(fields)] if fields else ()), Finish(reason, usage)]
        except _GARBAGE:
            pass
        raise self._refused(call, answer, None)

    async def _call(self, params: Params, *, stream: bool) -> Call:
        http = await _http_module()
        params_of_body, options = split(params, self.options)
        model = params.get("model") or self.model_id
        url, key = self.url_of(model, options), self.key_of(model, options)
        headers = self.headers_of(key, url, options)
        request = self.request_of(params_of_body, model, url, stream=stream)
        body = {**request.body, **options.extra_body} if options.extra_body else request.body
        for extra in (request.headers, self._headers, options.headers):
            if extra:
                _override(headers, extra)
        if options.query:
            url = _with_query(url, options.query)
        sent, limits = self._dump(body, model), (options.timeouts, self._max_bytes)
        made: Call = http.Call(self.provider, model, url, key, headers, sent, request.undo, *limits)
        return made

    async def _send(self, call: Call) -> Answer:
        """The answer to a call. Raises ProviderError where the provider refused."""
        answer: Answer = await (await _http_module()).post(call)
        if 200 <= answer.status < 300:
            return answer
        try:
            body = await answer.beginning()
        finally:
            answer.close()
        more = ": it redirects to another address, which a key is never sent to" if answer.status < 400 else ""
        raise provider_error(
            self.provider,
            call.model,
            status=answer.status,
            error=error_of(_maybe_json(body)),
            headers=answer.headers,
            more=more,
            key=call.secrets,
        )

    def _response(self, call: Call, answer: Answer, body: bytes) -> Response:
        error: Mapping[str, Any] | None = None
        try:
            return self.response_of(_loads(body), call.undo)
        except ErrorEvent as sent:  # in an answer that says 200
            error = sent.error
        except _GARBAGE:
            pass
        raise self._refused(call, answer, error)

    def _refused(self, call: Call, answer: Answer, error: Mapping[str, Any] | None) -> ProviderError:
        """What to raise for an error object in an answer, or for one (None) that cannot be read.

        It is raised behind the `except`: what a JSON decoder raises holds the text it could not read.
        """
        known: dict[str, Any] = {"headers": answer.headers, "key": call.secrets}
        if error is not None:
            return provider_error(self.provider, call.model, status=status_in(error), error=error, **known)
        more = ": its answer is not the JSON that was to come"
        return provider_error(self.provider, call.model, wanted=ProviderUnavailable, more=more, **known)

    def _dump(self, body: dict[str, Any], model: str) -> bytes:
        import orjson

        try:
            return orjson.dumps(body, default=_plain)
        except TypeError:
            pass
        try:  # what orjson does not write: lone surrogates, integers of more than 64 bits, keys that are no strings
            return json.dumps(body, default=_plain, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise BadRequest(
                f"{self.provider}/{model}: the params hold something that is no JSON ({error})",
                provider=self.provider,
                model=model,
            ) from None


async def _http_module() -> Any:
    """What a call needs; loading it takes a tenth of a second, so not on the event loop."""
    global _loaded, _parse
    if _loaded is None:
        _parse = (await asyncio.to_thread(importlib.import_module, "orjson")).loads
        _loaded = await asyncio.to_thread(importlib.import_module, "neuro_mw.providers._http")
    return _loaded


def _loads(data: bytes) -> Any:
    """JSON as providers send it: with integers of any length, NaN, and halves of surrogate pairs.

    orjson, which is several times faster, has none of these; the first it would turn into a float without a word.
    """
    if (b'"input"' in data or b'"arguments"' in data) and _LONG_NUMBER.search(data):  # elsewhere numbers are counts
        return json.loads(data)
    try:
        return _parse(data)
    except ValueError:
        return json.loads(data)


def _maybe_json(body: bytes) -> Any:
    try:
        return _loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")


def _plain(value: Any) -> Any:
    """Objects that know themselves as plain data: pydantic models."""
    dump = getattr(value, "model_dump", None)
    if dump is None or isinstance(value, type):
        raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
    return dump(mode="json")


def _override(headers: dict[str, str], extra: Mapping[str, str]) -> None:
    names = {name.lower(): name for name in headers}
    for name, value in extra.items():
        before = headers.pop(names.get(name.lower(), ""), None)
        joined = before is not None and name.lower() in _LISTS
        headers[name] = f"{before},{value}" if joined else str(value)


def _with_query(url: str, query: Mapping[str, Any]) -> str:
    from urllib.parse import parse_qsl, urlencode

    path, _, given = url.partition("?")
    kept = [(name, value) for name, value in parse_qsl(given, keep_blank_values=True) if name not in query]
    return f"{path}?{urlencode([*kept, *query.items()], doseq=True, errors='replace')}"
