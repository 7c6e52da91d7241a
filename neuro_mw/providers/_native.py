"""What the native drivers share: a call from params to parts, whatever dialect the provider speaks."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from neuro_mw.errors import BadRequest, ProviderError, ProviderUnavailable, StreamInterrupted
from neuro_mw.parts import parts_of
from neuro_mw.types import Finish, FinishReason, Params, Part, ProviderDelta, Response, Usage

from ._errors import ErrorEvent, error_of, provider_error, status_in
from ._sse import SSEReader
from ._transport import Transport, split

if TYPE_CHECKING:
    from ._http import Answer, Call

MAX_ANSWER = 64 << 20  # bytes
# What reading an answer of another shape than the dialect's raises.
_GARBAGE = (ValueError, TypeError, AttributeError, LookupError, RecursionError)

_LISTS = ("anthropic-beta",)  # headers to which a caller's value is added
_loaded: Any = None  # the module `_http`, once it was needed


class Translator(Protocol):
    """The events of one stream in, parts out."""

    reason: str | None

    def feed(self, event: Any) -> Iterable[Part]: ...
    def end(self) -> tuple[FinishReason, Usage, dict[str, Any]]: ...


class Request(NamedTuple):
    """A request in the dialect: the body, headers that go with it, and what reading the answer has to undo."""

    body: dict[str, Any]
    headers: Mapping[str, str] = {}
    undo: Any = None


class NativeModel:
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
        self._base_url, self._api_key, self._headers = base_url, api_key, dict(headers or {})
        self._max_bytes = max_answer_bytes

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.provider!r}, {self.model_id!r})"

    # --- what a dialect says --------------------------------------------------------------------------------------

    def request_of(self, params: Params, model: str, url: str, *, stream: bool) -> Request:
        """What is sent to `url`."""
        raise NotImplementedError

    def url_of(self, model: str, transport: Transport) -> str:
        """Where the request goes."""
        raise NotImplementedError

    def headers_of(self, key: str | None, transport: Transport) -> dict[str, str]:
        """The headers of every request; `key` is the API key."""
        raise NotImplementedError

    def key_of(self, model: str, transport: Transport) -> str | None:
        """The API key. Raises AuthenticationFailed where there has to be one and is none."""
        raise NotImplementedError

    def response_of(self, answer: Any, undo: Any) -> Response:
        """A whole answer."""
        raise NotImplementedError

    def translator(self, model: str, undo: Any) -> Translator:
        """What reads the events of one stream."""
        raise NotImplementedError

    # --- a call ---------------------------------------------------------------------------------------------------

    async def generate(self, params: Params, /) -> Response:
        """The whole answer."""
        call = await self._call(params, stream=False)
        answer = await self._send(call)
        try:
            return self._response(call, await answer.whole())
        finally:
            answer.close()

    async def stream(self, params: Params, /) -> AsyncIterator[Part]:
        """The answer as parts. Close the generator to close the connection."""
        call = await self._call(params, stream=True)
        answer = await self._send(call)
        try:
            if "application/json" in answer.headers.get("content-type", ""):  # a server that does not stream
                for part in parts_of(self._response(call, await answer.whole())):
                    yield part
                return
            translator, reader, over = self.translator(call.model, call.undo), SSEReader(), False
            while not over:
                piece = await answer.piece()
                for event, data in reader.feed(piece) if piece else reader.end():
                    if data == b"[DONE]":
                        over = True
                        break
                    for part in self._translate(call, translator, event, data):
                        yield part
                over = over or not piece
            if translator.reason is None:
                raise StreamInterrupted(f"{self.provider}/{call.model}: the stream ended without a finish reason")
            await answer.drain()
            reason, usage, fields = translator.end()
            if fields:
                yield ProviderDelta(fields)
            yield Finish(reason, usage)
        finally:
            answer.close()

    def _translate(self, call: Call, translator: Translator, event: bytes, data: bytes) -> Iterable[Part]:
        try:
            parsed = _loaded.loads(data)
            if event == b"error":
                raise ErrorEvent(error_of(parsed))
            return translator.feed(parsed)
        except ErrorEvent as sent:
            error: Mapping[str, Any] | None = sent.error
        except _GARBAGE:
            error = None
        raise self._refused(call, error)

    async def _call(self, params: Params, *, stream: bool) -> Call:
        http = _loaded or await asyncio.to_thread(_load)
        params_of_body, transport = split(params)
        model = params.get("model") or self.model_id
        url = self.url_of(model, transport)
        headers = self.headers_of(self.key_of(model, transport), transport)
        request = self.request_of(params_of_body, model, url, stream=stream)
        body = {**request.body, **transport.extra_body} if transport.extra_body else request.body
        for extra in (request.headers, self._headers, transport.headers):
            if extra:
                _override(headers, extra)
        if transport.query:
            url = _with_query(url, transport.query)
        sent, limits = self._dump(body, model), (transport.timeouts, self._max_bytes)
        made: Call = http.Call(self.provider, model, url, headers, sent, request.undo, *limits)
        return made

    async def _send(self, call: Call) -> Answer:
        """The answer to a call. Raises ProviderError where the provider refused."""
        answer: Answer = await _loaded.post(call)
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
        )

    def _response(self, call: Call, body: bytes) -> Response:
        try:
            return self.response_of(_loaded.loads(body), call.undo)
        except ErrorEvent as sent:  # in an answer that says 200
            error: Mapping[str, Any] | None = sent.error
        except _GARBAGE:
            error = None
        raise self._refused(call, error)

    def _refused(self, call: Call, error: Mapping[str, Any] | None) -> ProviderError:
        """What to raise for an error object in an answer, or for one (None) that cannot be read.

        It is raised behind the `except`: what a JSON decoder raises holds the text it could not read.
        """
        if error is not None:
            return provider_error(self.provider, call.model, status=status_in(error), error=error)
        more = ": its answer is not the JSON that was to come"
        return provider_error(self.provider, call.model, wanted=ProviderUnavailable, more=more)

    def _dump(self, body: dict[str, Any], model: str) -> bytes:
        try:
            sent: bytes = _loaded.dumps(body, default=_plain)
            return sent
        except TypeError:
            pass
        import json

        try:  # what orjson does not write: lone surrogates, integers of more than 64 bits, keys that are no strings
            return json.dumps(body, default=_plain).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise BadRequest(
                f"{self.provider}/{model}: the params hold something that is no JSON ({error})",
                provider=self.provider,
                model=model,
            ) from None


def _load() -> Any:
    """What a call needs; loading it takes a tenth of a second, so not on the event loop."""
    global _loaded
    _loaded = importlib.import_module("neuro_mw.providers._http")
    return _loaded


def _maybe_json(body: bytes) -> Any:
    try:
        return _loaded.loads(body)
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
    from urllib.parse import urlencode

    return f"{url}{'&' if '?' in url else '?'}{urlencode(query)}"
