"""litellm's exceptions as provider errors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from neuro_mw.errors import (
    ContentRefused,
    ContextTooLong,
    NeuroError,
    ProviderError,
    ProviderTimeout,
    ProviderUnavailable,
)

from ._errors import error_of, is_status, provider_error, status_in

_BY_NAME: dict[str, type[ProviderError]] = {
    "ContextWindowExceededError": ContextTooLong,
    "ContentPolicyViolationError": ContentRefused,
}
_TIMEOUTS = {"Timeout", "APITimeoutError", "ReadTimeout", "ConnectTimeout", "PoolTimeout", "WriteTimeout"}


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
    wanted = next((_BY_NAME[name] for name in names if name in _BY_NAME), None)
    if wanted is None and status is None and not body:
        wanted = _without_status(chain, names)
    return provider_error(
        provider,
        model,
        wanted=wanted,
        status=status,
        error=body,
        headers=headers,
        more=_unsupported(error) if names[0] == "UnsupportedParamsError" else "",
        detail=f"litellm {names[0]}",
    )


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
            return error_of(body)
    return {}


def _status(
    chain: list[BaseException], names: list[str], headers: Mapping[str, str], body: Mapping[str, Any]
) -> int | None:
    in_event = status_in(body)
    if in_event is not None and not headers:
        return in_event  # an error sent as an event of a stream that had begun with 200
    if not headers and _TIMEOUTS.intersection(names):
        return None
    statuses = [
        int(one.status_code)  # type: ignore[attr-defined]  # whoever has one
        for one, name in zip(chain, names, strict=True)
        if is_status(getattr(one, "status_code", None)) and name != "MidStreamFallbackError"
    ]
    if headers:  # a provider did answer: what was raised first tells how, for litellm makes 500 of 529 and 400 of 413
        return statuses[-1] if statuses else None
    return next((status for status in statuses if status < 500), None)


def _without_status(chain: list[BaseException], names: list[str]) -> type[ProviderError]:
    if _TIMEOUTS.intersection(names) or any(isinstance(one, TimeoutError) for one in chain):
        return ProviderTimeout
    return ProviderUnavailable


def _unsupported(error: BaseException) -> str:
    """The names of parameters in litellm's text, and only those."""
    found = re.search(r"parameters: \[([^\]]*)\]", str(error))
    names = re.findall(r"'(\w{1,64})'", found[1]) if found else []
    return f": litellm does not take {', '.join(names)} for this model" if names else ""
