"""One call under evaluation: its attempts, what was said of them, and what asking for that cost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from time import monotonic as clock
from typing import Any

from neuro_mw import Attempt, BadRequest, MiddlewareContext, Params, Response, Usage, pricing

from .._usage import counted, unused
from ..guardrails.verdict import VerdictError
from .prompt import conversation_of, filled, question, shortened
from .scores import NAMES, Scores, is_said_in, parse
from .settings import EvaluationSettings

_CUT_SHORT = ("length", "content_filter", "error", "tool_calls")
_MOST_MODELS = 100


class AnswerJudge:
    """Asks a model what it thinks of an answer."""

    def __init__(self, settings: EvaluationSettings) -> None:
        self._model, self._timeout_s, self._threshold = settings.model, settings.timeout_s, settings.threshold
        self._told = filled(settings.prompt, settings.criteria, settings.threshold)
        self._most_chars = settings.max_chars
        self._take_no_temperature: set[str] = set()

    async def scores(
        self, params: Params, answer: str, context: MiddlewareContext, tries: list[Attempt]
    ) -> Scores:
        """The verdict on the answer to these params. Raises whatever is the reason why there is none.

        What was asked for it is added to `tries`.
        """
        most = self._most_chars
        answer, conversation = shortened(answer, most), conversation_of(params, most)
        reply = await self._asked(question(self._told, conversation, answer), context, tries)
        if reply.blocked is not None or reply.finish_reason in _CUT_SHORT:
            raise VerdictError("the judge's answer was blocked, or is not whole")
        scores = parse(reply.text)
        judged = "\n".join([answer, *(one["text"] for one in conversation)])
        if scores.overall >= self._threshold and is_said_in(scores, judged):
            raise VerdictError("the verdict stands in the text that was judged")
        return scores

    async def _asked(self, request: Params, context: MiddlewareContext, tries: list[Attempt]) -> Response:
        """The judge's answer, at temperature 0 where the model takes that.

        Reasoning models refuse it, and few providers say so in a way that could be relied on.
        """
        began, model = clock(), self._model or f"{context.provider}/{context.model}"
        if model not in self._take_no_temperature:
            with suppress(BadRequest):
                return await context.ask(
                    {**request, "temperature": 0}, model=self._model, timeout_s=self._timeout_s, retries=1, tries=tries
                )
        left_s = max(self._timeout_s - (clock() - began), 0.001)
        reply = await context.ask(request, model=self._model, timeout_s=left_s, retries=1, tries=tries)
        if len(self._take_no_temperature) < _MOST_MODELS:
            self._take_no_temperature.add(model)
        return reply


class CallEvaluation:
    """What is known of one call. ``params`` are those that its answer is judged by."""

    def __init__(
        self, judge: AnswerJudge, settings: EvaluationSettings, params: Params, context: MiddlewareContext
    ) -> None:
        self._judge, self._settings, self._params, self._context = judge, settings, params, context
        self.attempts = 0
        self.best: tuple[Response, Scores] | None = None
        self.last: tuple[Response, Scores] | None = None
        self.error: Exception | None = None  # why there was no verdict, or no further attempt
        self._asked: list[Attempt] = []

    @property
    def passed(self) -> bool:
        """Whether an attempt reached the threshold."""
        return self.best is not None and self.best[1].overall >= self._settings.threshold

    async def judge(self, response: Response) -> bool:
        """Have an attempt judged; False where there was no verdict: then ``error`` says why."""
        try:
            scores = await self._judge.scores(self._params, said_in(response), self._context, self._asked)
        except Exception as error:  # noqa: BLE001  # whatever it is, there is no verdict, and on_failure decides
            self.error = error
            return False
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            self.error = VerdictError("the judge was cancelled, not the call")  # by something that it awaited
            self.error.__cause__ = error
            return False
        self.last = response, scores
        if self.best is None or _rank(scores) > _rank(self.best[1]):
            self.best = self.last
        return True

    def described(self) -> dict[str, Any]:
        """The evaluation as plain data: of the best attempt, or with None for all scores where none was judged."""
        settings, scores = self._settings, None if self.best is None else self.best[1]
        found: dict[str, Any] = {name: None if scores is None else getattr(scores, name) for name in NAMES}
        found = {"overall": found.pop("overall"), **found}
        found["passed"] = None if scores is None else self.passed
        found["severity"] = found["off_topic"] = None
        if scores is not None:
            high = scores.overall < settings.high_severity_threshold
            found["severity"] = "none" if self.passed else "high" if high else "medium"
            found["off_topic"] = scores.relevance < settings.off_topic_threshold
        found["attempts"] = self.attempts
        found["feedback"] = "" if scores is None else scores.feedback
        usage, found["judge_cost_usd"] = _spent(self._asked)
        found["judge_usage"] = asdict(usage)
        if self.error is not None:
            found["error"] = type(self.error).__name__
        return found


def said_in(response: Response) -> str:
    """The text of an answer, or where it has none the refusal that some providers say apart.

    >>> said_in(Response(provider_fields={"refusal": "I'd rather not."}))
    "I'd rather not."
    """
    refusal = response.provider_fields.get("refusal")
    return refusal if isinstance(refusal, str) and not response.text.strip() else response.text


def _rank(scores: Scores) -> tuple[float, float]:
    return scores.overall, scores.relevance + scores.accuracy + scores.completeness


def _spent(attempts: Sequence[Attempt]) -> tuple[Usage, float | None]:
    """Usage and cost in US dollars of these together; None where the cost of one is not known."""
    usage, cost, known = Usage(), 0.0, True
    for attempt in attempts:
        counts = counted(attempt.usage)
        usage = usage + counts
        paid = 0.0 if unused(attempt) else pricing.cost_of(counts, attempt.provider, attempt.model)
        known, cost = known and paid is not None, cost + (paid or 0.0)
    return usage, cost if known else None
