"""A model asked by a middleware itself, for a judgement: the model alone, no layer of any chain round it."""

from __future__ import annotations

import asyncio
from time import perf_counter as clock
from typing import TYPE_CHECKING

from ..errors import ConfigError, ProviderError, ProviderTimeout
from ..model import request_of
from ..types import Attempt
from .answers import check_response, fresh
from .entry import own_copy, refuse_unseen
from .routing import is_of_one_provider

if TYPE_CHECKING:
    from ..context import MiddlewareContext
    from ..types import LanguageModel, Params, Response
    from .routing import Router

_TELL_S = 1.0  # for who wants to know of a question, where its entry has no timeout_s
_FIRST_PAUSE_S = 0.25  # before a second try where the provider names no time; twice as long before each further one


async def ask(
    router: Router,
    ctx: MiddlewareContext,
    prompt: str | Params,
    model: str | None,
    timeout_s: float | None,
    retries: int,
    tries: list[Attempt],
) -> Response:
    """See `MiddlewareContext.ask`."""
    _check(prompt, model, timeout_s, retries)
    provider, name = (ctx.provider, ctx.model) if model is None else router.split(model, ctx.provider)
    target, there = router.target(provider, name), ctx.fork(provider, name)
    params = own_copy(request_of(prompt, {}))
    if router.is_meant(provider, ctx._call):
        params = {**{key: value for key, value in ctx.given.items() if is_of_one_provider(key)}, **params}
    if target.model_id != name:
        params["model"] = name
    refuse_unseen(params, provider, name)
    made: list[Attempt] = []
    try:
        async with asyncio.timeout(timeout_s) as limit:
            return await _answered(target, params, there, retries, made)
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise ProviderTimeout(
            f"{provider}/{name} did not answer within {timeout_s} s", provider=provider, model=name, retryable=True
        ) from error
    finally:
        tries += made
        for attempt in made:
            await _tell(attempt, there)


def _check(prompt: object, model: object, timeout_s: float | None, retries: int) -> None:
    if not isinstance(prompt, str | dict):
        raise ConfigError(f"it is of type {type(prompt).__name__}", key="ask(prompt)", expected="a string or params")
    if isinstance(prompt, dict) and "model" in prompt:
        raise ConfigError("it names a model", key="ask(prompt)", expected="ask(prompt, model=...)")
    if model is not None and (not isinstance(model, str) or not model):
        raise ConfigError(f"it is {model!r}", key="ask(model)", expected="the name of a model, or None")
    if timeout_s is not None and not (_is_number(timeout_s) and timeout_s > 0):
        raise ConfigError(f"it is {timeout_s!r}", key="ask(timeout_s)", expected="seconds above 0, or None")
    if type(retries) is not int or retries < 0:
        raise ConfigError(f"it is {retries!r}", key="ask(retries)", expected="0 or more")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


async def _answered(
    target: LanguageModel, params: Params, ctx: MiddlewareContext, retries: int, made: list[Attempt]
) -> Response:
    pause_s = _FIRST_PAUSE_S
    for _ in range(retries):
        try:
            return await _once(target, params, ctx, made)
        except ProviderError as error:
            if not error.retryable:
                raise
            wait_s = pause_s if error.retry_after is None else error.retry_after
        await asyncio.sleep(wait_s)
        pause_s *= 2
    return await _once(target, params, ctx, made)


async def _once(target: LanguageModel, params: Params, ctx: MiddlewareContext, made: list[Attempt]) -> Response:
    started = clock()
    attempt = Attempt(ctx.provider, ctx.model, started=started)
    ctx.asked.append(attempt)
    made.append(attempt)
    try:
        response = fresh(check_response(await target.generate(own_copy(params)), ctx))
        attempt.usage, attempt.committed = response.usage, True
        return response
    except BaseException as error:
        attempt.error = error
        raise
    finally:
        attempt.ended = clock()
        attempt.duration = attempt.ended - started


async def _tell(attempt: Attempt, ctx: MiddlewareContext) -> None:
    """Tell those layers of the call that want to know."""
    call = ctx._call
    chains = [call.chain, *(chain for _, chain in call._detours or ())]
    hearing = {id(one.instance): one for chain in chains for one in chain.layers if one.instance.hears}
    for layer in hearing.values():
        if layer.id in call.left_out or not layer.conditions.allows_mode(ctx.mode):
            continue
        task = asyncio.current_task()
        cancelling = 0 if task is None else task.cancelling()
        try:
            told = layer.middleware.on_asked(attempt, ctx)
            if told is not None:
                async with asyncio.timeout(_TELL_S if layer.timeout_s is None else layer.timeout_s):
                    await told
        except (Exception, asyncio.CancelledError) as error:  # who asks must not know
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > cancelling:
                raise
            layer.stats.skip()
            layer.log_skipped(error, "on_asked", ctx.provider, ctx.model, "was skipped")
