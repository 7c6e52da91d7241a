"""litellm's exceptions as provider errors: nothing but status, names and codes gets into a message."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from neuro_mw.errors import (
    AuthenticationFailed,
    BadRequest,
    ContentRefused,
    ContextTooLong,
    NeuroError,
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
_BY_NAME: dict[str, type[ProviderError]] = {
    "ContextWindowExceededError": ContextTooLong,
    "ContentPolicyViolationError": ContentRefused,
}
_BY_CODE: dict[Any, type[ProviderError]] = {
    "context_length_exceeded": ContextTooLong,
    "content_policy_violation": ContentRefused,
    "content_filter": ContentRefused,
    "rate_limit_exceeded": ProviderRateLimited,
}
_TIMEOUTS = {"Timeout", "APITimeoutError", "ReadTimeout", "ConnectTimeout", "PoolTimeout", "WriteTimeout"}
_SAFE = re.compile(r"[\w.\-]{1,64}")


def translate_error(
    error: BaseException, provider: str, model: str, outer: BaseException | None = None
) -> ProviderError:
    """`error`, raised by litellm or below it, as one of our errors; raise it ``from error``.

    `outer` is what the caller was handling when it called: Python makes it the context of `error`, to which it has
    nothing to say. So do our own errors: a retry calls again while it handles one.

    ``status`` is set only where a provider sent one: litellm makes up 500 for a refused connection and 408 for its own
    timeout. The message never holds the provider's text, which may repeat the prompt.
    """
    chain = list(_chain(error, outer))
    names = [type(one).__name__ for one in chain]
    headers, body = _headers(chain), _body(chain)
    status = _status(chain, names, headers, body)
    code, kind = body.get("code"), body.get("type")
    wanted = next((_BY_NAME[name] for name in names if name in _BY_NAME), None) or _BY_CODE.get(_hashable(code))
    if wanted is None:
        wanted = _by_status(status) if status is not None else _without_status(chain, names)
    retryable = wanted in (ProviderRateLimited, ProviderTimeout, ProviderUnavailable)
    if "insufficient_quota" in (code, kind):
        retryable = False  # a 429 that time does not mend
    details = [f"HTTP {status}"] if status is not None else []
    details += [f"{label} {text}" for label, text in (("type", kind), ("code", code)) if _safe(text)]
    details.append(f"litellm {names[0]}")
    unsupported = _unsupported(error) if names[0] == "UnsupportedParamsError" else ""
    return wanted(
        f"{provider}/{model}: {_WHAT[wanted]}{unsupported} ({', '.join(details)})",
        provider=provider,
        model=model,
        status=status,
        retryable=retryable,
        retry_after=retry_after(headers),
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from ``retry-after-ms`` or ``retry-after`` (seconds, or an HTTP date: RFC 9110, 10.2.3).

    >>> retry_after({"retry-after": "7"})
    7.0
    """
    lower = {str(name).lower(): str(value).strip() for name, value in headers.items()}
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = lower.get(name, "")
        if re.fullmatch(r"\d+(\.\d+)?", value):
            return float(value) / unit
    if "retry-after" not in lower:
        return None
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(lower["retry-after"]).timestamp() - time.time())
    except ValueError:
        return None


def _chain(error: BaseException, outer: BaseException | None) -> Iterator[BaseException]:
    """`error` and what it was made from; litellm raises outside of `from`, so contexts count."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting and len(seen) < 16:
        one = waiting.pop(0)
        if one is None or one is outer or id(one) in seen or isinstance(one, NeuroError):
            continue
        seen.add(id(one))
        yield one
        waiting += [getattr(one, "original_exception", None), one.__cause__, one.__context__]


def _headers(chain: list[BaseException]) -> Mapping[str, str]:
    for one in chain:
        for found in (
            getattr(one, "litellm_response_headers", None),
            getattr(getattr(one, "response", None), "headers", None),
            getattr(one, "headers", None),
        ):
            if found and hasattr(found, "items"):  # litellm puts an empty response where it had none
                return dict(found.items())
    return {}


def _body(chain: list[BaseException]) -> Mapping[str, Any]:
    for one in chain:
        body = getattr(one, "body", None)
        if isinstance(body, Mapping):
            inner = body.get("error")
            return inner if isinstance(inner, Mapping) else body
    return {}


def _status(
    chain: list[BaseException], names: list[str], headers: Mapping[str, str], body: Mapping[str, Any]
) -> int | None:
    in_event = next((value for value in (body.get("status"), body.get("code")) if _is_status(value)), None)
    if in_event is not None and not headers:
        return int(in_event)  # an error sent as an event of a stream that had begun with 200
    if not headers and _TIMEOUTS.intersection(names):
        return None
    statuses = [
        int(one.status_code)  # type: ignore[attr-defined]  # whoever has one
        for one, name in zip(chain, names, strict=True)
        if _is_status(getattr(one, "status_code", None)) and name != "MidStreamFallbackError"
    ]
    if headers:  # a provider did answer: what was raised first tells how, for litellm makes 500 of 529 and 400 of 413
        return statuses[-1] if statuses else None
    return next((status for status in statuses if status < 500), None)


def _is_status(value: Any) -> bool:
    return str(value).isdecimal() and 400 <= int(value) < 600


def _by_status(status: int) -> type[ProviderError]:
    return _BY_STATUS.get(status, ProviderUnavailable if status >= 500 else BadRequest)


def _without_status(chain: list[BaseException], names: list[str]) -> type[ProviderError]:
    if _TIMEOUTS.intersection(names) or any(isinstance(one, TimeoutError) for one in chain):
        return ProviderTimeout
    return ProviderUnavailable


def _hashable(value: Any) -> Any:
    return value if isinstance(value, (str, int)) else None


def _safe(text: Any) -> bool:
    return text is not None and _SAFE.fullmatch(str(text)) is not None


def _unsupported(error: BaseException) -> str:
    """The names of parameters in litellm's text, and only those."""
    found = re.search(r"parameters: \[([^\]]*)\]", str(error))
    names = re.findall(r"'(\w{1,64})'", found[1]) if found else []
    return f": litellm does not take {', '.join(names)} for this model" if names else ""
