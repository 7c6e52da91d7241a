"""tool_guard: no tool call leaves that was not offered, is not allowed, or does not fit its schema."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, StrictBool, model_validator

from neuro_mw import (
    ConfigError,
    Finish,
    Middleware,
    MiddlewareContext,
    MiddlewareError,
    Params,
    Part,
    Response,
    ToolCall,
    collect,
    parts_of,
)

from ._catalog import CATALOG
from .json_schemas.compiled import load
from .tools.again import asked_again
from .tools.approval import LATE, answer_of, approver
from .tools.astray import calls_astray, is_astray
from .tools.held import HeldCalls, as_held
from .tools.offers import Offers
from .tools.rules import Rules, Verdict, shown
from .tools.step import CallStep
from .tools.tale import Tale

Name = Annotated[str, Field(min_length=1)]


class ToolGuard(Middleware):
    """Judges the tool calls of an answer against the tools that were offered; none leaves before it was judged.

    A call breaks a rule if its tool was not offered ("unknown"), may not be called ("denied"), or is not of those that
    ``tool_choice`` leaves ("not_chosen"); if its arguments are not one JSON object that fits the tool's schema
    ("arguments"); if its id or its place is another call's ("duplicate"); if the answer had as many as it may have
    ("max_calls"); or if it was not approved ("not_approved"). Calls among the provider's own fields are "astray".

    In streams all but the calls passes at once; they leave together before Finish, each in one part, numbered from 0.
    With `approve`, what comes behind a call waits for it; with "reask" the whole answer is held.

    >>> import asyncio
    >>> from neuro_mw import MiddlewareFactory
    >>> from neuro_mw.testing import ScriptedModel
    >>> model = ScriptedModel(Response(tool_calls=[ToolCall("c1", "format_disk", "{}")], finish_reason="tool_calls"))
    >>> guarded = MiddlewareFactory(preset=None, middleware=[ToolGuard()]).apply_middleware(model)
    >>> asyncio.run(guarded.generate("hi")).blocked.detail["violations"]
    [{'tool': 'format_disk', 'rule': 'unknown'}]
    """

    metadata = CATALOG["tool_guard"]

    class Config(BaseModel):
        """Options of tool_guard."""

        allow: list[Name] | None = None
        """Globs of the tools that may be called, in their very letters; None is all that are offered."""
        deny: list[Name] = []
        """Globs of the tools that may not be called, whatever `allow` says."""
        max_calls: int | None = Field(default=None, ge=0, strict=True)
        """How many calls an answer may have; None is any number."""
        validate_arguments: StrictBool = True
        """Whether arguments have to be a JSON object that fits the schema of the tool."""
        on_violation: Literal["block", "drop", "reask"] = "block"
        """Refuse the answer, take the call out of it, or tell the model what is wrong and ask again."""
        max_reasks: int = Field(default=1, ge=1, strict=True)
        """How often it is asked again, with "reask"; then the answer is refused."""
        approve: Annotated[Any, BeforeValidator(approver)] = None
        """An async function of a `ToolCall` and the context, or "package.module:name", that is asked for each call.

        True lets the call pass; False, or a text that says why, breaks the rule "not_approved".
        """
        approve_timeout_s: float = Field(default=60.0, gt=0, allow_inf_nan=False, strict=True)
        """How long it may take for one call, in seconds; one that is not approved by then is not approved."""

        @model_validator(mode="after")
        def _nothing_in_vain(self) -> Any:
            if "max_reasks" in self.model_fields_set and self.on_violation != "reask":
                raise ConfigError('nothing is asked again without on_violation="reask"', key="max_reasks")
            if "approve_timeout_s" in self.model_fields_set and self.approve is None:
                raise ConfigError("there is no approve that could take so long", key="approve_timeout_s")
            return self

    config: Config

    def __init__(self, config: Any = None, /, **options: Any) -> None:
        super().__init__(config, **options)
        own = self.config
        self._rules = Rules(own.allow, own.deny, own.max_calls, validate_arguments=own.validate_arguments)
        self._drops, self._approve = own.on_violation == "drop", own.approve
        self._reasks = own.on_violation == "reask"
        self._steps = not self._reasks and self._approve is None  # the step does it: nothing is awaited, nothing asked
        self.shareable = self._approve is None  # an approval is for one call
        # one hook holds for both modes; those that are a subclass's own stay
        if not self._steps and type(self).transform_parts is ToolGuard.transform_parts:
            self.transform_parts = super().transform_parts  # type: ignore[method-assign,assignment]
        if (self._reasks or self._steps) and type(self).wrap_stream is ToolGuard.wrap_stream:
            self.wrap_stream = super().wrap_stream  # type: ignore[method-assign]
        if not self._reasks and type(self).wrap_generate is ToolGuard.wrap_generate:
            self.wrap_generate = super().wrap_generate  # type: ignore[method-assign]

    async def startup(self) -> None:
        """Load what checks arguments, so that no call has to wait for it."""
        if self.config.validate_arguments:
            await asyncio.to_thread(load)

    def transform_parts(self, params: Params, context: MiddlewareContext) -> CallStep | None:
        """The step that holds the calls and judges them before Finish."""
        return CallStep(self, params) if self._steps else None

    async def wrap_stream(self, do_stream: Any, params: Params, context: MiddlewareContext) -> AsyncIterator[Part]:
        """The same, where calls have to be approved."""
        if self._reasks:  # only a subclass with a wrap_stream of its own comes here

            async def whole(asking: Params) -> Response:
                return await collect(do_stream(asking))

            for part in parts_of(await ToolGuard.wrap_generate(self, whole, params, context)):
                yield part
            return
        step, parts = CallStep(self, params), do_stream(params)
        behind: list[Part] = []  # what came behind a call waits with it: passed over, this layer loses nothing
        try:
            async for part in parts:
                if self._steps:
                    yield part
                elif not isinstance(part, Finish):
                    leaving = step.passing(part)
                    if leaving is not None and step.holds:
                        behind.append(leaving)
                    elif leaving is not None:
                        yield leaving
                else:
                    verdicts = step.verdicts(part)
                    await self._ask(verdicts, context)
                    for leaving in (*behind, *step.leaving(part, verdicts)):
                        yield leaving
        finally:
            await parts.aclose()

    async def wrap_generate(self, do_generate: Any, params: Params, context: MiddlewareContext) -> Response:
        """Ask until there is an answer whose calls may all leave."""
        if self._steps:
            return await do_generate(params)  # type: ignore[no-any-return]  # as the contract says
        if not self._reasks:  # only a subclass with a wrap_generate of its own comes here

            async def parts(asking: Params) -> AsyncIterator[Part]:
                for part in parts_of(await do_generate(asking)):
                    yield part

            return await collect(ToolGuard.wrap_stream(self, parts, params, context))
        tale, asking, usage = Tale(), params, None
        while True:
            response: Response = await do_generate(asking)
            response.usage = response.usage if usage is None else usage + response.usage
            offers, calls = Offers(asking), list(map(as_held, response.tool_calls))
            if calls != response.tool_calls:
                response.tool_calls = calls
            verdicts = [] if response.blocked is not None else self._rules.judge(response.tool_calls, offers)
            if response.blocked is not None:
                response.tool_calls = []
            elif calls_astray(response.provider_fields) or any(map(is_astray, response.other_parts)):
                verdicts.append(Verdict(ToolCall("", "", ""), "astray"))
            await self._ask(verdicts, context)
            broken = self._broken(verdicts, tale)
            if not broken:
                response.metadata = tale.added_to(response.metadata, self.metadata.id)
                return response
            if tale.reasks == self.config.max_reasks:
                raise tale.refusal(broken[0])
            tale.reasks, usage = tale.reasks + 1, response.usage
            self.count("reasks")
            asking = asked_again(asking, response, verdicts, offers, lambda one: self._rules.explain(one, offers))  # noqa: B023

    # --- judgement ---------------------------------------------------------------------------------------------------

    def judge(self, held: HeldCalls, calls: list[ToolCall], params: Params) -> list[Verdict]:
        """What the rules say of the calls of one answer."""
        verdicts = self._rules.judge(calls, Offers(params), held.clashes)
        return [*verdicts, Verdict(ToolCall("", "", ""), "astray")] if held.astray else verdicts

    def settle(self, verdicts: Sequence[Verdict]) -> Tale:
        """Count what was found. Raises Blocked where the answer is refused for it."""
        tale = Tale()
        if broken := self._broken(verdicts, tale):
            if not self._drops:
                raise tale.refusal(broken[0])
            tale.dropped = len(broken)
            self.count("dropped", len(broken))
        return tale

    def _broken(self, verdicts: Sequence[Verdict], tale: Tale) -> list[str]:
        """The rules that calls of one answer break; they are counted and told."""
        tale.judged += len(verdicts)
        if verdicts:
            self.count("judged", len(verdicts))
        broken: list[str] = []
        for verdict in verdicts:
            if verdict.rule is not None:
                broken.append(rule := str(verdict.rule))
                self.count(rule)
                tale.add(shown(verdict.call.name), rule)
        return broken

    async def _ask(self, verdicts: Sequence[Verdict], context: MiddlewareContext) -> None:
        """Have the calls approved that break no rule, one after another; of an answer that is refused anyway none."""
        if self._approve is None or (not self._drops and any(verdict.rule is not None for verdict in verdicts)):
            return
        for verdict in verdicts:
            if verdict.rule is None and (why := await self._refused(verdict.call, context)) is not None:
                verdict.rule, verdict.why = "not_approved", why
                if not self._drops:
                    return

    async def _refused(self, call: ToolCall, context: MiddlewareContext) -> str | None:
        """Why a call is not approved; None where it is."""
        try:
            said = await answer_of(self._approve, replace(call), context, self.config.approve_timeout_s)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise self._wrong("was cancelled from within") from None
        if said is LATE:
            self.count("approve_timeouts")
            return "nobody approved it in time"
        if not isinstance(said, bool | str):
            raise self._wrong(f"returned {type(said).__name__}; it must return a bool, or a text that says why not")
        return None if said is True else said or ""

    def _wrong(self, what: str) -> MiddlewareError:
        return MiddlewareError(f"middleware '{self.metadata.id}': approve {what}", middleware=self.metadata.id)
