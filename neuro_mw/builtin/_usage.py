"""What an attempt used: what is a count of it, and whether it was nothing."""

from __future__ import annotations

import math
import socket
from dataclasses import fields
from typing import Any

from neuro_mw import (
    Attempt,
    AuthenticationFailed,
    BadRequest,
    ContextTooLong,
    ProviderError,
    ProviderRateLimited,
    ProviderTimeout,
    Usage,
)

_UNBILLED = (AuthenticationFailed, BadRequest, ContextTooLong, ProviderRateLimited)
_NEVER_REACHED = (ConnectionRefusedError, socket.gaierror)


def unused(attempt: Attempt) -> bool:
    """Whether a provider took nothing for an attempt: it refused to begin, or nobody was there.

    An answer that broke off or came too late was begun, and may cost.
    """
    error = attempt.error
    if error is None or attempt.committed or attempt.time_to_first_part is not None:
        return False
    if isinstance(error, ProviderError) and not isinstance(error, ProviderTimeout):
        return (error.status or 0) >= 400 or isinstance(error, _UNBILLED) or _unreached(error)
    return _unreached(error)


def _unreached(error: BaseException) -> bool:
    return isinstance(error, _NEVER_REACHED) or isinstance(error.__cause__, _NEVER_REACHED)


def told(attempt: Attempt) -> Usage | None:
    """The usage of an attempt; None where the tokens in or out are not known."""
    usage = attempt.usage
    if type(usage.input_tokens) is int and type(usage.output_tokens) is int:
        counts = usage
    else:
        counts = counted(usage)
        if counts.input_tokens is None or counts.output_tokens is None:
            return None
    return counts if counts.input_tokens >= 0 and counts.output_tokens >= 0 else None  # type: ignore[operator]


def counted(usage: Any) -> Usage:
    """What of a usage is a count; a model of someone else's may have left anything there."""
    found = (getattr(usage, field.name, None) for field in fields(Usage))
    return Usage(*(count if _is_count(count) else None for count in found))


def _is_count(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
