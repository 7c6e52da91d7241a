"""Models for tests of auto_evaluation: one that answers, and in the same object one that judges what it answered."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from neuro_mw import Response, Usage
from neuro_mw.testing import FaultyModel

MARKER = "[BEGIN "


def verdict(overall: Any = 9, **more: Any) -> str:
    """A verdict as a judge gives it; all scores are the overall one unless given."""
    scores = dict.fromkeys(("relevance", "accuracy", "completeness", "overall"), overall)
    return json.dumps({**scores, "feedback": "Say more.", **more})


def shown(params: Any) -> Any:
    """What a judge is shown, out of its request."""
    lines = params["messages"][1]["content"].split("\n")
    return json.loads("\n".join(lines[1:-1]))


class Judging:
    """Answers as ``answers`` does, and judges as ``judge`` does: a FaultyModel each, or a function of the request."""

    provider, model_id = "openai", "gpt-4o"

    def __init__(self, answers: Any = "hello", judge: Any = (verdict(),), **how: Any) -> None:
        self.answers = answers if isinstance(answers, FaultyModel) else FaultyModel(answers, **how)
        if isinstance(judge, str | Response):
            judge = [judge]
        if isinstance(judge, list | tuple):
            judge = FaultyModel([_priced(one) for one in judge])
        self.judge: FaultyModel | Callable[[Any], Any] = judge
        self.judged: list[Any] = []

    async def generate(self, params: Any) -> Response:
        said = params["messages"][-1].get("content")
        if not (isinstance(said, str) and said.startswith(MARKER)):
            return await self.answers.generate(params)
        self.judged.append(params)
        if isinstance(self.judge, FaultyModel):
            return await self.judge.generate(params)
        made = self.judge(params)
        return _priced(await made if hasattr(made, "__await__") else made)

    def stream(self, params: Any) -> Any:
        return self.answers.stream(params)


def _priced(answer: Any) -> Response:
    return Response(text=answer, usage=Usage(100, 10)) if isinstance(answer, str) else answer
