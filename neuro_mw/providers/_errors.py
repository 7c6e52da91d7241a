"""Failures of providers as provider errors: nothing but status, names and codes gets into a message."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

from neuro_mw.errors import (
    AuthenticationFailed,
    BadRequest,
    ContentRefused,
    ContextTooLong,
    ProviderError,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
)

_WHAT: dict[type[ProviderError], str] = {
    ProviderRateLimited: "the provider asks to slow down",
    ProviderTimeout: "the provider did not answer in time",
    AuthenticationFailed: "the key is wrong or not allowed to do this",
    ContextTooLong: "the request does not fit the model's context window",
    ProviderUnavailable: "the provider cannot be reached or is failing",
    BadRequest: "the provider refused the request as wrong",
    ContentRefused: "the provider's content policy refused",
}
_BY_STATUS: dict[int, type[ProviderError]] = {
    401: AuthenticationFailed,
    403: AuthenticationFailed,
    408: ProviderTimeout,
    409: ProviderUnavailable,  # a conflict or a lock: the OpenAI SDK tries it again too
    425: ProviderUnavailable,
    429: ProviderRateLimited,
    504: ProviderTimeout,
}
_BY_CODE: dict[Any, type[ProviderError]] = {  # codes, and types where there is no status
    "context_length_exceeded": ContextTooLong,
    "content_policy_violation": ContentRefused,
    "content_filter": ContentRefused,
    "rate_limit_exceeded": ProviderRateLimited,
    "rate_limit_error": ProviderRateLimited,  # Anthropic's words, in events of a stream without a status
    "authentication_error": AuthenticationFailed,
    "permission_error": AuthenticationFailed,
    "invalid_request_error": BadRequest,
    "not_found_error": BadRequest,
    "request_too_large": BadRequest,
    "timeout_error": ProviderTimeout,
}
# How providers without a code for it say that a request is too long. They are read, never repeated.
_TOO_LONG = re.compile(
    r"maximum context (?:length|limit)|exceeds? (?:the )?(?:available )?context (?:limit|size|window|length)"
    r"|prompt is too long|longer than the model's context length|input tokens exceed the configured limit"
    r"|maximum prompt length is|context window exceeds|maximum input length is \S+ tokens"
    r"|inputs` tokens \+ `max_new_tokens` must be|current length is \S+ while limit is",
    re.IGNORECASE,
)
_REFUSED = re.compile(
    r"content_policy_violation|responsibleaipolicyviolation|content management policy"
    r"|rejected as a result of our safety system|content_filter_policy",
    re.IGNORECASE,
)
_SAFE = re.compile(r"[\w.\-]{1,64}")
_STATUS = re.compile(r"[45]\d\d", re.ASCII)
_NUMBER = re.compile(r"\d{1,9}(\.\d{1,9})?", re.ASCII)
_TEXT_READ = 4096  # characters of an error's text that are looked at


class ErrorEvent(Exception):  # noqa: N818  # it is an event, which the driver makes an error of
    """An error that came in an answer which had begun well, as an event or in its body; ``error`` is its object."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        self.error = error
        super().__init__()


def provider_error(
    provider: str,
    model: str,
    *,
    wanted: type[ProviderError] | None = None,
    status: int | None = None,
    error: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    more: str = "",
    detail: str = "",
    key: str | None = None,
) -> ProviderError:
    """The error of our tree for what a provider sent: `status`, the `error` object of the body, the `headers`.

    `wanted` is the class where more is known than that, `more` goes behind what happened, `detail` among what stands
    in brackets. The provider's own text is never repeated: it may hold the prompt; nor is what may be (part of) `key`.

    >>> provider_error("openai", "gpt-4o", status=429, headers={"retry-after": "7"}).retry_after
    7.0
    """
    error, headers = error or {}, headers or {}
    code, kind = error.get("code"), error.get("type")
    wanted = wanted or class_of(status, error)
    retryable = wanted in (ProviderRateLimited, ProviderTimeout, ProviderUnavailable)
    if "insufficient_quota" in (code, kind):
        retryable = False  # a 429 that time does not mend
    request_id = request_id_of(headers)
    if request_id is not None and _shows(request_id, key):
        request_id = None
    details = [f"HTTP {status}"] if status is not None else []
    named = (("type", kind), ("code", code), ("request id", request_id))
    details += [f"{label} {text}" for label, text in named if is_safe(text) and not _shows(text, key)]
    details += [detail] if detail else []
    said = f" ({', '.join(details)})" if details else ""
    return wanted(
        f"{provider}/{model}: {_WHAT[wanted]}{more}{said}",
        provider=provider,
        model=model,
        status=status,
        retryable=retryable,
        retry_after=retry_after(headers),
        request_id=request_id,
    )


def _shows(text: Any, key: str | None) -> bool:
    """Whether a text shows a key, or a piece of it that is long enough to matter."""
    said = str(text)
    return key is not None and len(said) >= 8 and (said in key or key in said)


def class_of(status: int | None, error: Mapping[str, Any]) -> type[ProviderError]:
    """Which of our errors it is, by code, then by what the text says, then by status."""
    code, kind = _hashable(error.get("code")), _hashable(error.get("type"))
    if known := _BY_CODE.get(code):
        return known
    if status is None or 400 <= status < 500:
        text = str(error.get("message") or "")[:_TEXT_READ]
        if _TOO_LONG.search(text) and status not in (401, 403, 429):
            return ContextTooLong
        if _REFUSED.search(text) and status in (None, 400, 422):
            return ContentRefused
    if status is None:
        return _BY_CODE.get(kind) or ProviderUnavailable
    return _BY_STATUS.get(status, ProviderUnavailable if status >= 500 else BadRequest)


def error_of(body: Any) -> Mapping[str, Any]:
    """The error object in the JSON body of a failure, in any of the shapes providers give it."""
    if isinstance(body, list) and body:  # Google's endpoint
        body = body[0]
    if not isinstance(body, Mapping):
        return {"message": body} if isinstance(body, str) else {}
    inner = body.get("error")
    if isinstance(inner, Mapping):
        return inner
    return {**body, "message": inner} if isinstance(inner, str) else body


def status_in(error: Mapping[str, Any]) -> int | None:
    """The HTTP status that an error event of a stream names, None where it names none."""
    named = (error.get("status"), error.get("status_code"), error.get("code"))
    return next((int(value) for value in named if value is not None and is_status(value)), None)


def is_status(value: Any) -> bool:
    """Whether it can be the status of a failure."""
    if isinstance(value, str):
        return _STATUS.fullmatch(value) is not None
    return isinstance(value, int) and 400 <= value < 600


def is_safe(text: Any) -> bool:
    """Whether it is a name or a code, and no sentence."""
    return text is not None and _SAFE.fullmatch(str(text)) is not None


def request_id_of(headers: Mapping[str, str]) -> str | None:
    """The id under which the provider knows the request; its support asks for it."""
    for name in ("x-request-id", "request-id", "apim-request-id", "cf-ray"):
        if is_safe(headers.get(name)):
            return str(headers[name])
    return None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from ``retry-after-ms`` or ``retry-after`` (seconds, or an HTTP date: RFC 9110, 10.2.3).

    >>> retry_after({"retry-after": "7"})
    7.0
    """
    lower = {str(name).lower(): str(value).strip() for name, value in headers.items()}
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = lower.get(name, "")
        if _NUMBER.fullmatch(value):
            return float(value) / unit
    if "retry-after" not in lower:
        return None
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(lower["retry-after"]).timestamp() - time.time())
    except ValueError:
        return None


def _hashable(value: Any) -> Any:
    return value if isinstance(value, (str, int)) else None
