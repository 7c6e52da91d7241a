"""Anthropic's Messages API over plain HTTP, for requests in the vocabulary of chat completions."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from neuro_mw.types import Params, Response

from ._anthropic_answers import response_of
from ._anthropic_events import EventTranslator
from ._anthropic_requests import body_of, renamed_of
from ._call_options import CallOptions
from ._errors import ErrorEvent, error_of
from ._native import MAX_ANSWER, NativeModel, Request
from .catalog import endpoint_of

VERSION = "2023-06-01"


class AnthropicModel(NativeModel):
    """A Claude model, or one behind any server that speaks the Messages API.

    Key and base URL (without ``/v1``) come from the call (``api_key``, ``base_url``), else from here, else from
    ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN, and ANTHROPIC_BASE_URL.

    >>> AnthropicModel("claude-sonnet-4-5")
    AnthropicModel('anthropic', 'claude-sonnet-4-5')
    """

    def __init__(
        self,
        model_id: str,
        *,
        provider: str = "anthropic",
        base_url: str | None = None,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        max_answer_bytes: int = MAX_ANSWER,
    ) -> None:
        super().__init__(
            provider, model_id, base_url=base_url, api_key=api_key, headers=headers, max_answer_bytes=max_answer_bytes
        )

    def request_of(self, params: Params, model: str, url: str, *, stream: bool) -> Request:
        """The body of a request to the Messages API, its beta headers, and names to give back in the answer."""
        body, headers = body_of(params, model, stream=stream, provider=self.provider)
        return Request(body, headers, renamed_of(params, model))

    def url_of(self, model: str, options: CallOptions) -> str:
        """``{base}/v1/messages``."""
        base, query = endpoint_of(self.provider, options.base_url or self._base_url)
        return f"{base.removesuffix('/messages').removesuffix('/v1')}/v1/messages{query}"

    def headers_of(self, key: str | None, url: str, options: CallOptions) -> dict[str, str]:
        """The key as ``x-api-key``, or as a bearer token if it is one (ANTHROPIC_AUTH_TOKEN)."""
        headers = {"Content-Type": "application/json", "anthropic-version": VERSION}
        if key is not None and key == os.environ.get("ANTHROPIC_AUTH_TOKEN", "").strip():
            headers["Authorization"] = f"Bearer {key}"
        elif key is not None:
            headers["x-api-key"] = key
        return headers

    def response_of(self, answer: Any, undo: Any) -> Response:
        """A ``message`` object."""
        if answer.get("type") == "error":
            raise ErrorEvent(error_of(answer))
        if "content" not in answer:
            raise ValueError("no content")
        return response_of(answer, undo)

    def translator(self, model: str, undo: Any) -> EventTranslator:
        """Reads the events of a streamed message."""
        return EventTranslator(undo)
