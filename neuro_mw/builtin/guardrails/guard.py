"""The middleware: detectors over every message that goes out and every part that comes back, in both modes."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from neuro_mw import BadRequest, Blocked, Middleware, MiddlewareContext, Outcome, Params, Response

from .._catalog import CATALOG
from .answer import AnswerStep
from .channels import CHANNELS, DIRECTIONS
from .filters import INVISIBLE, Filter, filter_of
from .json_filter import whole_json
from .messages import RequestFilter, UnreadableError
from .settings import Settings

if TYPE_CHECKING:
    from .model_filter import AnswerFilter
    from .precall import Precall

_log = logging.getLogger("neuro_mw")
_APART = ("invalid_json", "left_out")  # counted by channel and by field: no rules
_SAMPLE = (
    "Dear reader, on 2026-11-22 at 10:45 (UTC) we counted 1,234.5 \"words\" & 42 'signs'; see https://x.example/a_b?c=d#e.\n"
    "def f(x): return {'k': [x + 1, None]}  # 100% {ok} <b>bold</b> UPPER lower CamelCase snake_case a/b\\c ~^|$*!\n"
)


class Guardrails(Middleware):
    """Redacts, masks, hashes, refuses or reports what must not pass, exactly, in whole answers and in streams.

    >>> import asyncio
    >>> from neuro_mw import MiddlewareFactory
    >>> factory = MiddlewareFactory(preset=None, middleware=[Guardrails(bad_words=["secret plan"])])
    >>> asyncio.run(factory.apply_middleware("echo/echo").generate("the secret plan")).text
    'the [REDACTED]'
    """

    metadata = CATALOG["guardrails"]
    Config = Settings
    config: Settings

    def __init__(self, config: Any = None, /, **options: Any) -> None:
        super().__init__(config, **options)
        settings = self.config
        precall, model_filter = settings.precall_evaluation, settings.model_filter
        self._precall: Precall | None = None
        if precall and precall.enabled:
            from .precall import Precall

            self._precall = Precall(precall, settings.replacement_text)
        self.asks = {
            f"{name}.model": judge.asked
            for name, judge in (("precall_evaluation", precall), ("model_filter", model_filter))
            if judge is not None and judge.enabled and judge.asked is not None and "/" in judge.asked
        }
        looks = settings.rules or settings.invisible
        directions = {DIRECTIONS[name] for name in settings.apply_to} if looks else set()
        # a hook that has nothing to do is none: the chain runs, and `explain` shows, those of the base class only
        own = type(self).transform_params is Guardrails.transform_params
        if own and "input" not in directions and self._precall is None:
            self.transform_params = super().transform_params  # type: ignore[method-assign]
        if "output" not in directions and type(self).transform_parts is Guardrails.transform_parts:
            self.transform_parts = super().transform_parts  # type: ignore[method-assign,assignment]
        self._answer_filter: AnswerFilter | None = None
        if model_filter and model_filter.enabled:
            from .model_filter import AnswerFilter

            self._answer_filter = AnswerFilter(model_filter)
            self.wrap_generate = partial(self._judge_answer, self._answer_filter)  # type: ignore[method-assign]

    @cached_property
    def _filters(self) -> dict[str, Filter]:
        """The filter of each channel that is looked at; channels in which the same is done share what is compiled.

        Compiling takes tenths of a second, so it is left to `startup`.
        """
        settings = self.config
        made: dict[Any, Filter] = {}
        found: dict[str, Filter] = {}
        for channel in settings.apply_to:
            actions = {rule.id: settings.action_of(rule.id, channel) for rule in settings.rules}
            invisible = settings.action_of(INVISIBLE, channel) if settings.invisible else None
            key = (invisible, *actions.items())
            if key not in made:
                made[key] = filter_of(
                    settings.rules, actions, text=settings.replacement_text, invisible=invisible,
                    normalize=settings.normalize, confusables=settings.confusables,
                )  # fmt: skip
            found[channel] = replace(made[key], channel=channel)
        return found

    async def startup(self) -> None:
        """Compile the rules and load the engines, so that no call has to wait for them."""
        if not (self.config.rules or self.config.invisible or self._precall or self._answer_filter):
            _log.warning("middleware '%s' is on, and none of its detectors: it guards nothing", self.metadata.id)
        await asyncio.to_thread(self._warm_up)

    def _warm_up(self) -> None:
        for rule in self.config.rules:
            if load := getattr(getattr(rule, "find", None), "load", None):
                load()
        for plan in self._filters.values():
            run = plan.run(Counter())
            with suppress(Blocked):
                for at in range(0, len(_SAMPLE), 4):  # automata are built as texts pass
                    run.feed(_SAMPLE[at : at + 4])

    def transform_params(self, params: Params, context: MiddlewareContext) -> Params | Awaitable[Params]:
        """The request after the rules of its channels, and after its judgement where a model judges."""
        counts = self._counts(context)
        try:
            changed = RequestFilter(self._filters, counts).params(params)
        except UnreadableError as error:
            provider, model = context.provider, context.model
            raise BadRequest(f"{provider}/{model}: the request {error}", provider=provider, model=model) from None
        if self._precall is None:
            return changed
        return self._precall.params(changed, context, counts["precall_evaluation"])

    def transform_parts(self, params: Params, context: MiddlewareContext) -> AnswerStep | None:
        """The step that holds for both modes."""
        return AnswerStep(self._filters, self._counts(context))

    async def _judge_answer(
        self, judge: AnswerFilter, do_generate: Any, params: Params, context: MiddlewareContext
    ) -> Response:
        """`wrap_generate` where a model judges the answer: that takes the whole of it, so a stream is held."""
        response: Response = await do_generate(params)
        counts = self._counts(context)

        def clean(channel: str, text: str) -> str:
            """What the rules leave of a text; they see it again in the step, which does the counting."""
            plan, found = self._filters.get(channel), Counter[str]()
            try:
                if plan is None:
                    return text
                is_json = channel == "tool_arguments"
                return whole_json(text, plan, found)[0] if is_json else plan.whole(text, found)
            except Blocked:
                counts[channel].update(found)
                raise

        return await judge.filtered(response, context, clean, counts["model_filter"])

    def on_end(self, outcome: Outcome, context: MiddlewareContext) -> None:
        """Say how often each rule matched, by channel: on the answer, in the stats, and for "warn" in the log."""
        found = {channel: dict(counts) for channel, counts in self._counts(context).items() if counts}
        if not found:
            return
        warned = []
        for channel, counts in found.items():
            for rule, number in counts.items():
                self.count(f"{channel}.{rule}" if channel in _APART else rule, number)
                if channel in CHANNELS and self.config.action_of(rule, channel) == "warn":
                    warned.append(f"{rule} in {channel} ({number})")
        if outcome.response is not None:
            said = outcome.response.metadata.setdefault(self.metadata.id, {})  # another guard's of this class, inside
            for channel, counts in found.items():
                said[channel] = dict(Counter(said.get(channel, {})) + Counter(counts))
        if warned:
            _log.warning(
                "middleware '%s' found %s for %s/%s, request %s",
                self.metadata.id, ", ".join(warned), context.provider, context.model, context.request_id,
            )  # fmt: skip

    def _counts(self, context: MiddlewareContext) -> dict[str, Counter[str]]:
        state = context.state(self)
        if "counts" not in state:
            names = (*CHANNELS, *_APART, "precall_evaluation", "model_filter")
            state["counts"] = {name: Counter() for name in names}
        counts: dict[str, Counter[str]] = state["counts"]
        return counts
