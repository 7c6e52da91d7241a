"""token_limit: a request is made to fit the model at hand, by whole turns, or refused; its answer is kept short."""

from __future__ import annotations

import asyncio
import logging
import math
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from typing import Any, Literal

from pydantic import BaseModel, Field

from neuro_mw import (
    BadRequest,
    Finish,
    Middleware,
    MiddlewareContext,
    Params,
    Part,
    TokenLimitExceeded,
    pricing,
)
from neuro_mw.param_names import OUTPUT
from neuro_mw.tokens import CLAUDE_FACTOR, TokenCount, count_tokens, count_tokens_sync

from ._catalog import CATALOG
from ._line import in_line
from ._size import size_of
from ._turns import older_turns

_log = logging.getLogger("neuro_mw")

_MEND = (
    "Shorten what must stay, lower max_tokens, choose a model with a larger window, or change max_input_tokens or "
    "keep_last"
)
# Windows that the list has for the input alone, beside that for the output: gpt-5 (272,000 of 400,000), gemini.
_APART = (272_000, 1_048_576)


class TokenLimit(Middleware):
    """Keeps a request within the window of the model at hand, and an answer within what you allow.

    The limit of the input is ``max_input_tokens``, else the model's context window (`neuro_mw.pricing`) less what
    ``max_tokens`` reserves for the answer where the two share that window. Tokens are counted by `neuro_mw.tokens` for
    the model that gets the request, also behind a fallback; an estimate where that model's encoding is not public. A
    request that cannot be too long is not counted, and long ones are counted in a thread.

    ``strategy="truncate"`` removes the oldest turns, as few as will do. A turn is a user's message and all that follows
    until the next one, so that a tool call and its result stay or go together. System messages stay (``keep_system``),
    and so do the last ``keep_last`` turns. What is left is sent as it was given. Where that is too long, and with
    ``"refuse"`` whenever the request is, TokenLimitExceeded says how many tokens there are and what could go.

    An answer to a request that was cut says so in ``metadata["token_limit"]``: ``input_tokens`` (of what was sent),
    ``limit``, ``removed_messages``, ``removed_tokens``, ``method`` (how it was counted). Where no limit is known, since
    the model is not listed and ``max_input_tokens`` not set, nothing is cut: ``limit`` is None there, and the log says
    so once for each model. As turns leave, the beginning of the request changes, and a provider's cache of prompts
    holds for the system messages only.

    ``max_output_tokens`` caps ``max_tokens`` and ``max_completion_tokens``, and is ``max_tokens`` where neither is set.

    >>> import asyncio
    >>> from neuro_mw import MiddlewareFactory
    >>> limit = TokenLimit(max_input_tokens=3)
    >>> model = MiddlewareFactory(preset=None, middleware=[limit]).apply_middleware("echo/echo")
    >>> old = [{"role": "user", "content": "one two"}, {"role": "assistant", "content": "three"}]
    >>> response = asyncio.run(model.generate("four five", messages=old))
    >>> response.usage.input_tokens, response.metadata["token_limit"]["removed_messages"]
    (2, 2)
    """

    metadata = CATALOG["token_limit"]

    class Config(BaseModel):
        """Options of token_limit."""

        max_input_tokens: int | None = Field(default=None, ge=1, strict=True)
        max_output_tokens: int | None = Field(default=None, ge=1, strict=True)
        strategy: Literal["truncate", "refuse"] = "truncate"
        keep_system: bool = True
        keep_last: int = Field(default=1, ge=1, strict=True)

    def __init__(self, config: Any = None, /, **options: Any) -> None:
        super().__init__(config, **options)
        self._unknown: set[str] = set()
        self._reports = False  # whether there ever was one: only then a call has to be asked for its own
        if self.config.max_input_tokens is None:  # few requests come near a model's window: nothing to prepare
            self.startup = super().startup  # type: ignore[method-assign]

    async def startup(self) -> None:
        """Load the encodings, so that no call has to wait for them."""
        for model in ("gpt-4o", "gpt-4"):
            await asyncio.to_thread(count_tokens_sync, "", "openai", model)

    def transform_params(self, params: Params, context: MiddlewareContext) -> Params | Awaitable[Params]:
        """The request as it fits. Raises TokenLimitExceeded, and BadRequest for a limit of the answer that is none."""
        if self.config.max_output_tokens is not None:
            params = capped(params, self.config.max_output_tokens, context)
        limit = self._limit(params, context)
        if limit is None:
            self._say_unknown(context)
        elif not _surely_within(params, limit, context.model):
            return self._fit(params, limit, context)
        return params

    def transform_parts(self, params: Params, context: MiddlewareContext) -> Callable[[Part], Part] | None:
        """A step that tells, at the end of the answer, what was done to the request; none where nothing was."""
        if not self._reports:
            return None
        report, id = context.state(self).get("report"), self.metadata.id
        if report is None:
            return None

        def tell(part: Part) -> Part:
            if isinstance(part, Finish):
                part.metadata[id] = report
            return part

        return tell

    # --- the limit -----------------------------------------------------------------------------------------------

    def _limit(self, params: Params, context: MiddlewareContext) -> int | None:
        """How many tokens may go in."""
        if self.config.max_input_tokens is not None:
            return self.config.max_input_tokens  # type: ignore[no-any-return]  # the model's own type
        window = pricing.context_window(context.provider, context.model)
        if window is None or window.max_input_tokens is None:
            return None
        for name in OUTPUT:
            reserved = params.get(name)
            if reserved is not None:
                if not isinstance(reserved, int | float) or not 0 < reserved < math.inf:
                    break  # whatever it is, the provider will say
                room = window.max_input_tokens - int(min(reserved, window.max_output_tokens or reserved))
                if room > 0 and window.max_input_tokens not in _APART:
                    return room
                break  # the two have windows of their own
        return window.max_input_tokens

    def _say_unknown(self, context: MiddlewareContext) -> None:
        name = f"{context.provider}/{context.model}"[:200]
        method = f"not counted: the context window of {name} is not known"
        self._note(_report(None, None, 0, 0, method), context)
        self.count("no_limit")
        if name not in self._unknown and len(self._unknown) < 1024:
            self._unknown.add(name)
            _log.warning(
                "middleware '%s' limits no input of %s, whose context window is not known: set max_input_tokens",
                self.metadata.id, in_line(name),
            )  # fmt: skip

    # --- making it fit -------------------------------------------------------------------------------------------

    async def _fit(self, params: Params, limit: int, context: MiddlewareContext) -> Params:
        provider, model = context.provider, context.model
        found = await count_tokens(params, provider, model)
        if found.tokens <= limit:
            return params
        why = "max_input_tokens" if self.config.max_input_tokens else "its context window less max_tokens"
        too_long = f"the request holds {found.tokens} tokens ({found.method}), {provider}/{model} takes {limit} ({why})"
        turns = older_turns(params.get("messages"), self.config.keep_last, keep_system=self.config.keep_system)

        @cache
        def without(number: int) -> tuple[Params, TokenCount]:
            """The request without so many of the turns that may go, and what it holds."""
            gone = {at for turn in turns[:number] for at in turn}
            shorter = {**params, "messages": [one for at, one in enumerate(params["messages"]) if at not in gone]}
            return shorter, count_tokens_sync(shorter, provider, model)

        def search() -> tuple[int, Params, TokenCount]:
            """As few turns as will do, or all."""
            if self.config.strategy == "refuse":
                number = len(turns)
            else:
                number = bisect_left(range(len(turns)), -limit, lo=1, key=lambda one: -without(one)[1].tokens)
            return number, *without(number)

        if not turns:
            raise TokenLimitExceeded(f"{too_long}. Nothing of it may go. {_MEND}")
        number, shorter, left = await asyncio.to_thread(search)
        removed = sum(map(len, turns[:number]))
        if self.config.strategy == "refuse" or left.tokens > limit:
            what = f"{removed} messages with {found.tokens - left.tokens} tokens in {number} older turns could go"
            raise TokenLimitExceeded(f"{too_long}. {what}, {left.tokens} tokens must stay. {_MEND}")
        self.count("truncated")
        self.count("removed_messages", removed)
        report = _report(left.tokens, limit, removed, found.tokens - left.tokens, left.method)
        self._note(report, context)
        return shorter

    def _note(self, report: dict[str, Any], context: MiddlewareContext) -> None:
        self._reports = True
        context.state(self)["report"] = report


def _report(tokens: int | None, limit: int | None, messages: int, removed: int, method: str) -> dict[str, Any]:
    return {"input_tokens": tokens, "limit": limit, "removed_messages": messages, "removed_tokens": removed,
            "method": method}  # fmt: skip


def _surely_within(params: Mapping[str, Any], limit: int, model: str) -> bool:
    """Whether a request is within the limit whatever it says, so that nothing has to be counted."""
    return size_of(params, model).at_most * CLAUDE_FACTOR < limit


def capped(params: Params, most: int, context: MiddlewareContext) -> Params:
    """The params with no larger answer allowed; a negative number, to some servers "no limit", is above all."""
    found = False
    for name in OUTPUT:
        value = params.get(name)
        if value is None:
            continue
        found = True
        if type(value) is int and 0 <= value <= most:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BadRequest(
                f"params[{name!r}] is of type {type(value).__name__}; a number is expected, at most {most}",
                provider=context.provider, model=context.model,
            )  # fmt: skip
        params[name] = value if 0 <= value <= most else most
    if not found:
        params["max_tokens"] = most
    body = params.get("extra_body")  # it goes before what the params say
    if body is not None and isinstance(body, Mapping) and any(body.get(name) is not None for name in OUTPUT):
        params["extra_body"] = capped(dict(body), most, context)
    return params
