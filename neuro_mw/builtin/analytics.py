"""analytics: usage, timing and cost of every call, on the response and in a bounded, readable store."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, Field

from neuro_mw import (
    Attempt,
    Middleware,
    MiddlewareContext,
    Outcome,
    Usage,
    pricing,
)

from ._catalog import CATALOG
from ._usage import counted, unused


class Price(BaseModel):
    """US dollars for one million tokens; tokens from and to the provider's cache cost as input where not set."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cache_read: float | None = Field(default=None, ge=0)
    cache_write: float | None = Field(default=None, ge=0)


class Analytics(Middleware):
    """Records every call: also the abandoned, the blocked, the failed, and those answered by a short cut.

    The record lies on ``response.metadata["analytics"]`` and in `records()`; it holds no text. What middlewares asked
    models on their own is counted apart, under ``asked``.

    >>> import asyncio
    >>> from neuro_mw import MiddlewareFactory
    >>> factory = MiddlewareFactory()
    >>> response = asyncio.run(factory.apply_middleware("echo/echo").generate("hello"))
    >>> response.metadata["analytics"]["usage"]["input"]
    1
    """

    metadata = CATALOG["analytics"]

    class Config(BaseModel):
        """Options of analytics."""

        collect_token_usage: bool = True
        collect_timing: bool = True
        prices: dict[str, Price] = Field(default_factory=dict)
        """Prices by "provider/model" or by model, before those of `neuro_mw.pricing`; without any, cost is None."""
        max_records: int = Field(default=1000, ge=0)

    def __init__(self, config: Any = None, /, **options: Any) -> None:
        super().__init__(config, **options)
        self._records: deque[dict[str, Any]] = deque(maxlen=self.config.max_records)
        self._prices = {name: pricing.Price(**dict(price)) for name, price in self.config.prices.items()}

    def on_end(self, outcome: Outcome, context: MiddlewareContext) -> None:
        """Make the record of a passage."""
        record = self._record(outcome, context)
        if outcome.response is not None:
            outcome.response.metadata["analytics"] = _copy(record)
        self._records.append(record)

    def _record(self, outcome: Outcome, context: MiddlewareContext) -> dict[str, Any]:
        config, call = self.config, context.metadata
        attempt = context.attempts[-1] if context.attempts else None
        provider = attempt.provider if attempt else context.provider
        model = attempt.model if attempt else context.model
        record: dict[str, Any] = {
            "request_id": call.request_id,
            "timestamp": call.timestamp,
            "status": outcome.status,
            "mode": context.mode,
            "provider": provider,
            "model": model,
            "user_id": context.session.user_id,
            "session_id": context.session.session_id,
            "parts": outcome.parts,  # 0 where the answer came whole
        }
        if config.collect_timing:
            record["response_time"] = outcome.duration
            if context.mode == "stream":
                record["time_to_first_part"] = outcome.time_to_first_part
        if config.collect_token_usage:
            if context.attempts:
                usage, cost = self._spent(context.attempts)
            else:
                usage, cost = (counted(outcome.response.usage) if outcome.response else Usage(0, 0)), 0.0
            record["usage"], record["cost_usd"] = _usage(usage), cost
            if context.asked:
                usage, cost = self._spent(context.asked)
                record["asked"] = {"calls": len(context.asked), "usage": _usage(usage), "cost_usd": cost}
        return record

    def _spent(self, attempts: Sequence[Attempt]) -> tuple[Usage, float | None]:
        """Usage and cost of these attempts together."""
        usage, cost, known = Usage(), 0.0, True
        for attempt in attempts:
            usage = usage + counted(attempt.usage)
            paid = 0.0 if unused(attempt) else self._cost(attempt.usage, attempt.provider, attempt.model)
            known, cost = known and paid is not None, cost + (paid or 0.0)
        return usage, cost if known else None

    def _cost(self, usage: Any, provider: str, model: str) -> float | None:
        try:
            return pricing.cost_of(usage, provider, model, self._prices)
        except Exception:  # noqa: BLE001  # a list or a usage of another shape: no price, and yet a record
            return None

    # --- reading -------------------------------------------------------------------------------------------------

    def records(self) -> list[dict[str, Any]]:
        """Copies of the last ``max_records`` records, oldest first."""
        return [_copy(record) for record in list(self._records)]

    def summary(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Calls, tokens and cost of the kept records by provider, by model ("provider/model") and by user."""
        summary: dict[str, dict[str, dict[str, Any]]] = {"provider": {}, "model": {}, "user": {}}
        for record in self.records():
            names = {
                "provider": record["provider"],
                "model": f"{record['provider']}/{record['model']}",
                "user": record["user_id"],
            }
            for group, name in names.items():
                if name is not None:
                    _add(summary[group].setdefault(name, _nothing()), record)
        return summary

    def clear(self) -> None:
        """Forget all records."""
        self._records.clear()


def _usage(usage: Usage) -> dict[str, int | None]:
    return {
        "input": usage.input_tokens,
        "output": usage.output_tokens,
        "total": usage.total_tokens,
        "cache_read": usage.cache_read_tokens,
        "cache_write": usage.cache_write_tokens,
        "reasoning": usage.reasoning_tokens,
    }


def _copy(record: dict[str, Any]) -> dict[str, Any]:
    copy = dict(record)
    if "usage" in copy:
        copy["usage"] = dict(copy["usage"])
    if "asked" in copy:
        copy["asked"] = _copy(copy["asked"])
    return copy


def _nothing() -> dict[str, Any]:
    return {"calls": 0, "failed": 0, "input_tokens": 0, "output_tokens": 0, "cost_usd": 0.0, "unpriced_calls": 0,
            "asked_cost_usd": 0.0}  # fmt: skip


def _add(total: dict[str, Any], record: dict[str, Any]) -> None:
    usage = record.get("usage") or {}
    total["calls"] += 1
    total["failed"] += record["status"] == "failed"
    total["input_tokens"] += usage.get("input") or 0
    total["output_tokens"] += usage.get("output") or 0
    cost = record.get("cost_usd")
    total["cost_usd"] += cost or 0.0
    total["unpriced_calls"] += cost is None
    total["asked_cost_usd"] += (record.get("asked") or {}).get("cost_usd") or 0.0
