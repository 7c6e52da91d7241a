"""logging: one structured record at the end of every call, through the standard library's logging."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from hashlib import blake2b
from math import inf
from typing import Any, Literal

from pydantic import BaseModel, Field

from neuro_mw import (
    Attempt,
    Middleware,
    MiddlewareContext,
    Outcome,
    Params,
    RequestBlocked,
    Response,
    Usage,
    pricing,
)
from neuro_mw.param_names import OUTPUT, is_address

from ._catalog import CATALOG
from ._line import in_line
from ._usage import counted, unused

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
_ANSWERED = ("completed", "short_circuited", "blocked")
_COUNTED = ("input", "output", "cache_read", "cache_write", "reasoning")  # as analytics calls them
_MADE = {"usage", "cost_usd"}
_SECRET_OF_URL = re.compile(  # a password, and what a query has under the name of a secret
    r"(://[^/?#@:\s]{0,200}:)[^/?#@\s]{1,500}(?=@)|([?&][\w-]{0,50}(?:key|token|secret|password|sig)[\w-]{0,20}=)[^&#\s]{1,500}"
)
_BEGINS, _ENDED = "%s/%s %s begins", "%s/%s %s %s in %.3f s%s"
_MOST_ATTEMPTS = 20
_DEEPEST = 20


class Logging(Middleware):
    """Writes a record when a call begins, at DEBUG, and one when it has ended, whatever became of it.

    Its facts are attributes of the record, as ``extra`` makes them, so that JSON formatters and structlog find them;
    the message is for people. No text of a request or an answer is in them unless ``content`` is set, and then what was
    sent to the provider and what left the guards; nothing of either where a guard refused. The reason of a block is
    there as the guard gives it; those of neuro_mw quote nothing. A handler that raises is passed over and counted, as
    any failure of an observer.

    >>> import asyncio
    >>> from neuro_mw import MiddlewareFactory
    >>> class Shown(logging.Handler):
    ...     def emit(self, record):
    ...         print(record.levelname, record.provider, record.status, record.input_tokens, record.output_tokens)
    >>> shown, log = Shown(), logging.getLogger("docs")
    >>> log.addHandler(shown); log.setLevel("INFO")
    >>> model = MiddlewareFactory(preset=None, middleware=[Logging(logger="docs")]).apply_middleware("echo/echo")
    >>> asyncio.run(model.generate("hello")).text
    INFO echo completed 1 1
    'hello'
    >>> log.removeHandler(shown)
    """

    metadata = CATALOG["logging"]

    class Config(BaseModel):
        """Options of logging."""

        logger: str = Field(default="neuro_mw.calls", min_length=1)
        level: Level = "INFO"
        """Of the record at the end of a call that answered, was refused, or was left or cancelled by its caller."""
        failure_level: Level = "ERROR"
        """Of the record of a call that failed."""
        sample_rate: float = Field(default=1.0, ge=0, le=1, allow_inf_nan=False, strict=True)
        """The share of calls that is logged, the same calls by whatever process; failures and blocks always are."""
        content: bool = False
        """Also log what was sent to the provider and what left the guards."""
        max_content_chars: int = Field(default=1000, ge=1, strict=True)
        """For each of the two, and each text in them."""

    config: Config

    def __init__(self, config: Any = None, /, **options: Any) -> None:
        super().__init__(config, **options)
        config = self.config
        self._log = logging.getLogger(config.logger)
        levels = logging.getLevelNamesMapping()
        self._level, self._failure_level = levels[config.level], levels[config.failure_level]
        self._all, self._below = config.sample_rate >= 1, int(config.sample_rate * 2**64)
        self._content, self._most = config.content, config.max_content_chars

    def transform_parts(self, params: Params, context: MiddlewareContext) -> None:
        """Write that a call begins; no part of the answer is looked at."""
        if self._log.isEnabledFor(logging.DEBUG) and (self._all or self._sampled(context)):
            self._begins(params, context)

    def on_end(self, outcome: Outcome, context: MiddlewareContext) -> None:
        """Write how a call ended."""
        status = outcome.status
        level = self._failure_level if status == "failed" else self._level
        if not self._log.isEnabledFor(level):
            return
        if self._all or status == "failed" or status == "blocked" or self._sampled(context):
            self._ended(level, outcome, context)

    def _sampled(self, context: MiddlewareContext) -> bool:
        digest = blake2b(context.request_id.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") < self._below

    def _begins(self, params: Params, context: MiddlewareContext) -> None:
        messages, tools, model = params.get("messages"), params.get("tools"), params.get("model")
        most = next((params[name] for name in OUTPUT if params.get(name) is not None), None)
        model = model if isinstance(model, str) else context.model
        values = in_line(context.provider), in_line(model), context.mode
        self._write(logging.DEBUG, _BEGINS, values, {
            "request_id": context.request_id,
            "provider": context.provider,
            "model": model,
            "mode": context.mode,
            "message_count": len(messages) if isinstance(messages, list | tuple) else 0,
            "temperature": _number(params.get("temperature")),
            "max_tokens": _number(most),
            "tool_count": len(tools) if isinstance(tools, list | tuple) else 0,
        })  # fmt: skip

    def _ended(self, level: int, outcome: Outcome, context: MiddlewareContext) -> None:
        status, response, error = outcome.status, outcome.response, outcome.error
        attempts = context.attempts_inside(self)
        whom: Any = attempts[-1] if attempts else context
        provider, model, mode, duration_s = whom.provider, whom.model, context.mode, outcome.duration
        usage, cost = _spent(context, attempts, response)
        answer = response if response is not None and status in _ANSWERED else None
        block = answer.blocked if answer is not None else None
        fields: dict[str, Any] = {
            "request_id": context.request_id,
            "provider": provider,
            "model": model,
            "mode": mode,
            "status": status,
            "finish_reason": answer.finish_reason if answer is not None else None,
            "tool_calls": _tool_names(answer, context) if answer is not None and answer.tool_calls else [],
            "duration_s": duration_s,
            "time_to_first_part_s": outcome.time_to_first_part,
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "total_tokens": usage.total_tokens,
            "cache_read_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
            "reasoning_tokens": usage.reasoning_tokens,
            "cost_usd": cost,
            "blocked_by": None,
            "block_category": None,
            "block_reason": None,
            "attempt_count": len(attempts),
            "attempts": [_attempt(one) for one in attempts[-_MOST_ATTEMPTS:]],
            "error": None,
        }
        why = ""
        if block is not None:
            fields["blocked_by"], fields["block_category"] = block.middleware, block.category
            fields["block_reason"], why = block.reason, f" by {block.middleware}"
        elif self._content and not isinstance(error, RequestBlocked):
            fields["sent"], fields["answered"] = self._shown(context.sent), self._shown(_said(response))
        if error is not None and status == "failed":
            fields["error"] = name = type(error).__name__
            why = f": {name}"
        self._write(level, _ENDED, (in_line(provider), in_line(model), mode, status, duration_s, why), fields)

    def _write(self, level: int, message: str, values: tuple[Any, ...], fields: dict[str, Any]) -> None:
        made = logging.getLogRecordFactory()(self._log.name, level, __file__, 0, message, values, None, "on_end")
        made.__dict__.update(fields)  # not by `extra`: a factory of records may have set a name of ours itself
        self._log.handle(made)

    # --- content -------------------------------------------------------------------------------------------------

    def _shown(self, content: dict[str, Any] | None) -> str | None:
        """What was sent or said, as JSON, the messages last; no keys, secrets and addresses."""
        if content is None:
            return None
        try:
            plain = self._plain(dict(sorted(content.items(), key=lambda item: item[0] == "messages")), _DEEPEST)
            text = json.dumps(plain, ensure_ascii=False)
        except Exception as error:  # noqa: BLE001  # it may hold anything; the record is written all the same
            return f"<{type(error).__name__}>"
        return self._cut(text.encode("utf-8", "replace").decode())

    def _cut(self, text: str) -> str:
        """A text without its middle where it is too long: the end is the newest of a conversation."""
        if len(text) <= self._most:
            return text
        end = (self._most - 1) // 2
        return f"{text[: self._most - 1 - end]}…{text[len(text) - end :]}"

    def _plain(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            return self._cut(_SECRET_OF_URL.sub(_without, value) if "://" in value else value)
        if isinstance(value, Mapping) and depth:
            return {str(name): "***" if is_address(str(name)) else self._plain(one, depth - 1)
                    for name, one in value.items()}  # fmt: skip
        if isinstance(value, list | tuple) and depth:
            return [self._plain(one, depth - 1) for one in value]
        return value if value is None or isinstance(value, bool | int | float) else f"<{type(value).__name__}>"


def _without(found: re.Match[str]) -> str:
    return f"{found[1] or found[2]}***"


def _said(response: Response | None) -> dict[str, Any] | None:
    """What left the guards."""
    if response is None:
        return None
    calls = [{"name": call.name, "arguments": call.arguments} for call in response.tool_calls]
    said = {"text": response.text, "reasoning": response.reasoning, "tool_calls": calls}
    return {name: value for name, value in said.items() if value}


def _number(value: Any) -> int | float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and abs(value) < inf else None


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "model": f"{attempt.provider}/{attempt.model}",
        "error": None if attempt.error is None else type(attempt.error).__name__,
        "duration_s": attempt.duration,
    }


def _tool_names(response: Response, context: MiddlewareContext) -> list[str]:
    """The tools that an answer calls; a name that the request does not have is text of the model's."""
    params = context.given if context.sent is None else context.sent
    tools, known = params.get("tools"), set()
    for tool in tools if isinstance(tools, list | tuple) else ():
        for one in (tool, tool.get("function"), tool.get("custom")) if isinstance(tool, Mapping) else ():
            if isinstance(one, Mapping) and isinstance(one.get("name"), str):
                known.add(one["name"])
    return [call.name if call.name in known else "unknown" for call in response.tool_calls]


def _spent(
    context: MiddlewareContext, attempts: list[Attempt], response: Response | None
) -> tuple[Usage, float | None]:
    """Tokens, and US dollars (None where a price is not known): what analytics counted, else all attempts together."""
    made = response.metadata.get("analytics") if response is not None else None
    if isinstance(made, dict) and made.get("request_id") == context.request_id and made.keys() >= _MADE:
        usage = made["usage"]
        return Usage(*(usage[name] for name in _COUNTED)), made["cost_usd"]
    if not attempts:
        return counted(response.usage) if response is not None else Usage(0, 0), 0.0
    usage, cost = _used(attempts[0]), _cost(attempts[0])
    for attempt in attempts[1:]:
        paid = _cost(attempt)
        usage = usage + counted(attempt.usage)
        cost = None if cost is None or paid is None else cost + paid
    return usage, cost


def _used(attempt: Attempt) -> Usage:
    usage = attempt.usage
    plain = type(usage) is Usage and type(usage.input_tokens) is int and type(usage.output_tokens) is int
    return usage if plain else counted(usage)


def _cost(attempt: Attempt) -> float | None:
    if attempt.error is not None and unused(attempt):
        return 0.0
    try:
        return pricing.cost_of(attempt.usage, attempt.provider, attempt.model)
    except Exception:  # noqa: BLE001  # a usage of another shape: no price, and yet a record
        return None
