"""The judgement of a whole answer by a model, before anyone reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from neuro_mw import Blocked, MiddlewareContext, Response

from .fields import strings_in
from .judge import Judge
from .judge_settings import ModelFilter
from .verdict import Verdict

REDACTED = "<REDACTED BY AI GUARDRAIL>"
_SAFE_FROM = 7  # of the scores from 0 to 10

Clean = Callable[[str, str], str]
"""A text after the rules of its channel: gets the channel and the text."""


class AnswerFilter:
    """Asks a model whether an answer is safe; one that is not is replaced as a whole."""

    def __init__(self, settings: ModelFilter) -> None:
        self._settings = settings
        self._judge = Judge(settings.asked, settings.prompt, settings.timeout_s)

    async def filtered(
        self, response: Response, context: MiddlewareContext, clean: Clean, counts: Counter[str]
    ) -> Response:
        """The answer that may leave; the judge sees what `clean` makes of it. Raises Blocked; counts what was found."""
        if response.blocked is not None:
            return response
        said = [clean("output", response.text), clean("reasoning", response.reasoning)]
        for call in response.tool_calls:
            arguments = clean("tool_arguments", call.arguments)
            said.append(f"{clean('output', call.name)} {arguments}")
        said += [clean("output", text) for text in strings_in(response.provider_fields)]
        text = "\n\n".join(one for one in said if one.strip())
        if not text:
            return response
        found = await self._judge.judge(text, context)
        if not isinstance(found, Verdict):
            return self._failed(response, found, context, counts)
        unsafe = found.overall == "unsafe" or (found.safety_score is not None and found.safety_score < _SAFE_FROM)
        if unsafe or found.overall in ("suspicious", "inappropriate"):
            counts["model_filter.unsafe" if unsafe else f"model_filter.{found.overall}"] += 1
        return _redacted(response) if unsafe else response

    def _failed(self, response: Response, error: str, context: MiddlewareContext, counts: Counter[str]) -> Response:
        counts["model_filter.failed"] += 1
        action, what = self._settings.on_failure, "model filter: evaluation_failed"
        if action == "block":
            detail = {"detector": "model_filter", "channel": "output", "error": error}
            raise Blocked(what, category="evaluation_failed", message=REDACTED, detail=detail)
        self._judge.report(action, f"{what} ({error})", context)
        return response


def _redacted(response: Response) -> Response:
    return replace(
        response,
        text=REDACTED,
        reasoning="",
        tool_calls=[],
        finish_reason="content_filter",
        provider_fields={},
        other_parts=[],
    )
