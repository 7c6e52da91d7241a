"""Whole answers on their way: how they look, whether they changed, copies that may be written on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import ProviderError
from ..types import Block, Response, ToolCall, Usage

if TYPE_CHECKING:
    from ..context import MiddlewareContext

Signature = tuple[Response, str, str, str, tuple[tuple[str, str, str], ...], Block | None, Usage, dict[str, Any]]
"""An answer, and its text, reasoning, finish reason, tool calls, block, usage and provider fields as they came."""

_new = object.__new__


def signature(response: Response) -> Signature:
    """An answer and how it looks, for telling whether a layer changed it."""
    calls = response.tool_calls
    made = tuple((call.id, call.name, call.arguments) for call in calls) if calls else ()
    return (response, response.text, response.reasoning, response.finish_reason, made, response.blocked,
            response.usage, response.provider_fields)  # fmt: skip


def unchanged(response: Response, seen: Signature) -> bool:
    """Whether an answer looks as that one did."""
    now = signature(response)
    return now[1:6] == seen[1:6] and now[7] == seen[7]


def differ(left: Any, right: Any) -> bool:
    """Whether two params differ, also where they hold values that do not like to be compared."""
    try:
        return bool(left != right)
    except Exception:  # noqa: BLE001  # a foreign __eq__ may raise anything; then they are taken as different
        return True


def check_response(response: Any, ctx: MiddlewareContext) -> Response:
    """Raise ProviderError where a model gives no Response."""
    if not isinstance(response, Response):
        what = type(response).__name__
        raise ProviderError(
            f"{ctx.provider}/{ctx.model}: generate() gave {what}, not a neuro_mw.Response",
            provider=ctx.provider, model=ctx.model,
        )  # fmt: skip
    return response


def fresh(response: Response) -> Response:
    """A copy whose own fields may be set: a model or a hook may hand out the same object to several calls."""
    copy = _new(Response)
    copy.text, copy.reasoning, copy.finish_reason = response.text, response.reasoning, response.finish_reason
    calls, usage = response.tool_calls, response.usage
    copy.tool_calls = [ToolCall(call.id, call.name, call.arguments) for call in calls] if calls else []
    copy.usage = Usage(usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.cache_write_tokens,
                       usage.reasoning_tokens)  # fmt: skip
    copy.id, copy.model, copy.created = response.id, response.model, response.created
    copy.blocked, copy.metadata = response.blocked, response.metadata.copy()
    copy.provider_fields = response.provider_fields.copy()
    copy.other_parts, copy.receipt = [*response.other_parts], None
    return copy
