"""auto_evaluation: a judge scores each answer, and the model is asked again where it could be better."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from contextlib import suppress
from copy import deepcopy
from time import monotonic as clock
from typing import Any

from neuro_mw import EvaluationFailed, Middleware, MiddlewareContext, NeuroError, Outcome, Params, Response

from ._background import Background
from ._catalog import CATALOG
from ._line import in_line
from ._usage import counted
from .evaluation.judging import AnswerJudge, CallEvaluation, said_in
from .evaluation.prompt import again
from .evaluation.settings import EvaluationSettings

_log = logging.getLogger("neuro_mw")
_KEPT = 100  # evaluations that can be read
_SAY_AGAIN_S = 60.0
_MEDIA = ("audio", "images")  # provider fields of answers that are no text


class AutoEvaluation(Middleware):
    """Has answers judged for relevance, accuracy, completeness and as a whole; asks again below the threshold.

    An answer passes from ``threshold`` on. Below it the model is asked again, with its answer and what the judge says
    of it, ``max_retries`` times at most; the best attempt is the answer, its usage that of all attempts. In the end
    ``on_failure`` says what becomes of an answer that does not pass, or that could not be judged: it leaves ("allow"),
    or EvaluationFailed is raised ("raise"). ``metadata["auto_evaluation"]`` holds the scores.

    With ``blocking=False`` an answer leaves as it comes, streams as well, and is judged afterwards, in the background:
    `recent` and ``on_evaluation_complete`` tell of it.

    Not judged are blocks, answers that no model gave, answers that call tools, and streams that were not read to their
    end.

    >>> import asyncio
    >>> from neuro_mw import EvaluationFailed, MiddlewareFactory, Response
    >>> from neuro_mw.testing import ScriptedModel
    >>> verdict = '{"relevance": 9, "accuracy": 9, "completeness": 8, "overall": 9, "feedback": ""}'
    >>> class Model(ScriptedModel):
    ...     async def generate(self, params):
    ...         judges = params["messages"][0]["role"] == "system"
    ...         return Response(text=verdict) if judges else await super().generate(params)
    >>> model = MiddlewareFactory(preset=None, middleware=[AutoEvaluation()]).apply_middleware(Model("Paris."))
    >>> response = asyncio.run(model.generate("What is the capital of France?"))
    >>> response.text, response.metadata["auto_evaluation"]["overall"], response.metadata["auto_evaluation"]["passed"]
    ('Paris.', 9, True)
    """

    metadata = CATALOG["auto_evaluation"]
    Config = EvaluationSettings
    config: EvaluationSettings

    def __init__(self, config: Any = None, /, **options: Any) -> None:
        super().__init__(config, **options)
        model, hook, limit_s = self.config.model, self.config.on_evaluation_complete, self.config.timeout_s
        self.asks = {"model": model} if model is not None and "/" in model else {}
        self._judge = AnswerJudge(self.config)
        self._recent: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        self._says_again = 0.0
        self._callbacks = Background(self, "callbacks", timeout_s=limit_s)
        self._evaluations = Background(self, "evaluations")  # each is bounded by the judge's own limit
        self._hook = hook
        self._is_async = inspect.iscoroutinefunction(hook)
        # a hook that has nothing to do is none: the chain runs, and `explain` shows, those of the base class only
        if self.config.blocking and type(self).on_end is AutoEvaluation.on_end:
            self.on_end = super().on_end  # type: ignore[method-assign,assignment]
        if not self.config.blocking and type(self).wrap_generate is AutoEvaluation.wrap_generate:
            self.wrap_generate = super().wrap_generate  # type: ignore[method-assign]

    async def wrap_generate(self, do_generate: Any, params: Params, context: MiddlewareContext) -> Response:
        """Have the answer judged before it leaves, and ask again where it could be better. It takes the whole answer.

        Raises EvaluationFailed.
        """
        response: Response = await do_generate(params)
        if not self._is_to_be_judged(response, context):
            return response
        call = CallEvaluation(self._judge, self.config, self._sent(context) or params, context)
        usage, call.attempts = response.usage, 1
        judged = await call.judge(response)
        while judged and not call.passed and call.last and call.attempts <= self.config.max_retries:
            self.count("retries")
            call.attempts += 1
            try:
                another = await do_generate(again(params, *call.last, self.config.threshold))
            except Exception as error:  # noqa: BLE001  # there is an answer: on_failure decides about that
                self.count("retries_failed")
                call.error = error
                break
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                self.count("retries_failed")  # something that it awaited was cancelled, not the call
                call.error = NeuroError("the model's answer was cancelled, not the call")
                call.error.__cause__ = error
                break
            usage = counted(usage) + counted(another.usage)
            if another.blocked is not None or _unjudged(another):
                self.count("retries_unjudged")
                break
            judged = await call.judge(another)
        if call.best is not None:
            response = call.best[0]
        response.usage = usage
        return self._judged(response, call, context)

    def on_end(self, outcome: Outcome, context: MiddlewareContext) -> None:
        """Have an answer judged that has come to its end, behind the back of the call."""
        response = outcome.response
        if outcome.status != "completed" or response is None or not self._is_to_be_judged(response, context):
            return
        call = CallEvaluation(self._judge, self.config, self._sent(context) or {}, context)
        call.attempts = 1
        submitted = self._evaluations.submit(self._evaluate, Response(text=said_in(response)), call, context)
        response.metadata[self.metadata.id] = {"pending": True} if submitted else {"skipped": "dropped"}

    async def aclose(self) -> None:
        """Wait for what is under way in the background, ``timeout_s`` for evaluations and as long for callbacks."""
        await self._evaluations.aclose(self.config.timeout_s)
        await self._callbacks.aclose(self.config.timeout_s)

    def recent(self) -> list[dict[str, Any]]:
        """Copies of the last 100 evaluations, the oldest first, each with the ``request_id`` of its call.

        >>> AutoEvaluation().recent()
        []
        """
        return deepcopy(list(self._recent))

    def _sent(self, context: MiddlewareContext) -> Params | None:
        """What this passage's answer is the answer to, as a model got it."""
        sent = [one.sent for one in context.attempts_inside(self) if one.error is None]
        return sent[-1] if sent else None

    def _is_to_be_judged(self, response: Response, context: MiddlewareContext) -> bool:
        """Whether it is an answer of a model, with a text to judge; where that is missing, it says so."""
        if response.blocked is not None or all(one.error is not None for one in context.attempts_inside(self)):
            return False  # nobody answered, or a layer further in did
        reason = _unjudged(response)
        if reason:
            self.count(f"skipped.{reason}")
            response.metadata = {**response.metadata, self.metadata.id: {"skipped": reason}}
        return not reason

    async def _evaluate(self, response: Response, call: CallEvaluation, context: MiddlewareContext) -> None:
        await call.judge(response)
        self._tell(call, context)

    def _judged(self, response: Response, call: CallEvaluation, context: MiddlewareContext) -> Response:
        """The answer with its evaluation; raises EvaluationFailed where that is asked for."""
        evaluation = self._tell(call, context)
        if self.config.on_failure == "raise" and not call.passed:
            raise self._failure(evaluation, call, context) from call.error
        if call.error is not None:
            context.passed_over(self)
        response.metadata = {**response.metadata, self.metadata.id: evaluation}
        return response

    def _failure(
        self, evaluation: dict[str, Any], call: CallEvaluation, context: MiddlewareContext
    ) -> EvaluationFailed:
        told = {name: value for name, value in evaluation.items() if name != "feedback"}
        whose = {"middleware": self.metadata.id, "hook": "wrap_generate"}
        whom = f"the answer of {context.provider}/{context.model}"
        if call.best is None:
            said = f"{whom} could not be judged ({evaluation['error']})"
            return EvaluationFailed(said, reason="judge_failed", evaluation=told, **whose)
        score = f"{call.best[1].overall:g} of 10, and {self.config.threshold:g} is needed"
        said = f"{whom} was judged {score}; attempts: {call.attempts}"
        return EvaluationFailed(said, reason="below_threshold", evaluation=told, **whose)

    def _tell(self, call: CallEvaluation, context: MiddlewareContext) -> dict[str, Any]:
        """Count an evaluation that is over, keep it, and call who wants to know."""
        evaluation = call.described()
        self.count("evaluated" if call.best is not None else "not_evaluated")
        if call.best is not None:
            self.count("passed" if call.passed else "below_threshold")
            if evaluation["off_topic"]:
                self.count("off_topic")
            if evaluation["severity"] == "high":
                self.count("high_severity")
        else:
            self._say(evaluation["error"], context)
        self._recent.append({"request_id": context.request_id, **evaluation})
        if self._hook is not None:
            self._callbacks.submit(self._call_hook, deepcopy(evaluation), context)
        return evaluation

    async def _call_hook(self, evaluation: dict[str, Any], context: MiddlewareContext) -> None:
        hook: Any = self._hook
        if self._is_async:
            await hook(evaluation, context)
        else:
            await self._callbacks.in_thread(hook, evaluation, context)

    def _say(self, error: str, context: MiddlewareContext) -> None:
        """Say in the log that there was no verdict, at most once a minute."""
        now = clock()
        if now >= self._says_again:
            self._says_again = now + _SAY_AGAIN_S
            judge = self.config.model or f"{context.provider}/{context.model}"
            with suppress(Exception):  # a handler that raises is none of the call's business
                _log.warning("middleware '%s': no verdict from %s (%s), request %s", self.metadata.id, in_line(judge),
                             error, context.request_id)  # fmt: skip


def _unjudged(response: Response) -> str:
    """Why there is nothing to judge in an answer; "" where there is."""
    if response.tool_calls or response.finish_reason == "tool_calls":
        return "tool_calls"  # a step on the way: whoever runs the tools asks again
    media = response.other_parts or any(response.provider_fields.get(name) for name in _MEDIA)
    return "no_text" if media and not said_in(response).strip() else ""
