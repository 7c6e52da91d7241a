"""Chat completions, the dialect that most providers and local servers speak, over plain HTTP."""

from __future__ import annotations

import os
from typing import Any

from neuro_mw.errors import BadRequest
from neuro_mw.types import Params, Response

from ._call_options import CallOptions
from ._chat_answers import response_of
from ._chat_chunks import ChunkTranslator
from ._chat_requests import body_of
from ._errors import ErrorEvent, error_of
from ._native import NativeModel, Request
from ._thinking import plain, restored
from .catalog import endpoint_of

_AT_OPENAI = ".openai.com/"
_SIGNED = {"openrouter": ("reasoning_details",)}  # the signed reasoning that a provider takes back
_HEADERS = {
    "openai": (
        ("OpenAI-Organization", ("OPENAI_ORGANIZATION", "OPENAI_ORG_ID")),
        ("OpenAI-Project", ("OPENAI_PROJECT_ID",)),
    ),
    "openrouter": (("HTTP-Referer", ("OR_SITE_URL",)), ("X-Title", ("OR_APP_NAME",))),
}


class OpenAICompatibleModel(NativeModel):
    """A model behind any server that speaks chat completions.

    `provider` may be any name; for one that is not known, give `base_url` (what stands before
    ``/chat/completions``). Key and base URL come from the call (``api_key``, ``base_url``), else from here, else from
    the environment variables that `provider_info` names.

    >>> OpenAICompatibleModel("my_server", "llama-3", base_url="http://127.0.0.1:8000/v1")
    OpenAICompatibleModel('my_server', 'llama-3')
    """

    options = frozenset({"organization"})

    def request_of(self, params: Params, model: str, url: str, *, stream: bool) -> Request:
        """The params, with what this provider calls by other names."""
        messages = params.get("messages")
        if not isinstance(messages, list | tuple | None):
            what = f"messages is of type {type(messages).__name__}; give a list of dicts"
            raise BadRequest(f"{self.provider}/{model}: {what}", provider=self.provider, model=model)
        if messages and (given := restored(plain(messages), _SIGNED.get(self.provider, ()))) is not messages:
            params = {**params, "messages": given}
        return Request(body_of(self.provider, model, params, stream=stream, at_openai=_AT_OPENAI in url))

    def url_of(self, model: str, options: CallOptions) -> str:
        """``{base}/chat/completions``."""
        base, query = endpoint_of(self.provider, options.base_url or self._base_url)
        return f"{base.removesuffix('/chat/completions')}/chat/completions{query}"

    def headers_of(self, key: str | None, url: str, options: CallOptions) -> dict[str, str]:
        """A bearer token, where there is one, and the headers that the provider's variables name."""
        headers = {"Content-Type": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        for name, variables in _HEADERS.get(self.provider, ()):
            if value := next((os.environ[one] for one in variables if os.environ.get(one)), None):
                headers[name] = value
        if options.organization:
            headers["OpenAI-Organization"] = options.organization
        return headers

    def response_of(self, answer: Any, undo: Any) -> Response:
        """A ``chat.completion`` object."""
        if answer.get("error"):
            raise ErrorEvent(error_of(answer))
        choice = answer["choices"][0]
        if choice.get("error"):
            raise ErrorEvent(error_of(choice))
        if "message" not in choice:
            raise ValueError("no message")
        return response_of(answer)

    def translator(self, model: str, undo: Any) -> ChunkTranslator:
        """Reads ``chat.completion.chunk`` objects."""
        return ChunkTranslator(model)
