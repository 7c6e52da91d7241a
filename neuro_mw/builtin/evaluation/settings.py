"""The options of the evaluation of answers."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    model_validator,
)

from neuro_mw import ConfigError

from .._dotted import named
from .prompt import checked

_HOOK = "on_evaluation_complete"


def _loaded(value: Any) -> Any:
    if value is None:
        return value
    expected = "a function of an evaluation and its context, or 'package.module:name'"
    found = named(value, key=_HOOK, expected=expected) if isinstance(value, str) else value
    if not callable(found):
        raise ConfigError(f"{value!r} is not callable", key=_HOOK, expected=expected)
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):
        return found  # one without a signature: the call will tell
    try:
        signature.bind(None, None)
    except TypeError:
        raise ConfigError("it cannot be called with two arguments", key=_HOOK, expected=expected) from None
    return found


Hook = Annotated[Callable[..., Any], BeforeValidator(_loaded)]
"""A function of an evaluation and the context of its call, async or plain, or where it is: "package.module:name"."""


class EvaluationSettings(BaseModel):
    """Options of auto_evaluation; scores are from 0 to 10."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(default=None, pattern=r"^\S+$")
    """The model that judges, "provider/model" or by itself; by default the one that the call goes to."""
    threshold: float = Field(default=7, ge=0, le=10, allow_inf_nan=False, strict=True)
    """The overall score from which an answer passes."""
    blocking: StrictBool = True
    """Whether the answer waits for its judgement; else it is judged when it has left, and streams are not held."""
    max_retries: int = Field(default=1, ge=0, strict=True)
    """How often the model is asked again, at most. Without blocking there is no retry."""
    on_failure: Literal["allow", "raise"] = "allow"
    """What becomes of an answer that is below the threshold in the end, or that could not be judged."""
    criteria: str | list[str] | None = None
    """Further demands; they stand in ``prompt`` at {criteria}."""
    prompt: str | None = None
    """What the judge is told, in place of the built-in text; it has to hold {verdict} or {default}."""
    off_topic_threshold: float = Field(default=5, ge=0, le=10, allow_inf_nan=False, strict=True)
    """The relevance below which an answer is off topic."""
    high_severity_threshold: float = Field(default=4, ge=0, le=10, allow_inf_nan=False, strict=True)
    """The overall score below which an answer that does not pass is of high severity, not of medium."""
    on_evaluation_complete: Hook | None = None
    """A function of the evaluation, a dict, and the context; async, or plain (then it runs on a thread)."""
    timeout_s: float = Field(default=30.0, gt=0, allow_inf_nan=False, strict=True)
    """For one judgement with its retry, for one ``on_evaluation_complete``, and for each of them at `aclose`."""
    max_chars: int = Field(default=40_000, ge=100, strict=True)
    """Of the conversation and of the answer, each: what the judge sees of it."""

    @model_validator(mode="after")
    def _consistent(self) -> Any:
        demands = [self.criteria] if isinstance(self.criteria, str) else self.criteria
        if demands is not None and not all(one.strip() for one in demands or [""]):
            raise ConfigError("it is empty, or one of them is", key="criteria", expected="texts, or to be left out")
        checked(self.prompt, self.criteria)
        given = self.model_fields_set
        if "high_severity_threshold" in given and self.high_severity_threshold > self.threshold:
            said = f"it is {self.high_severity_threshold:g}, and threshold is {self.threshold:g}"
            raise ConfigError(said, key="high_severity_threshold", expected="at most threshold")
        if not self.blocking:
            expected = "to be left out, or blocking = true: without it the answer has left before it is judged"
            if "max_retries" in given and self.max_retries:
                raise ConfigError("there is no retry without blocking", key="max_retries", expected=expected)
            if self.on_failure == "raise":
                raise ConfigError("nothing is raised without blocking", key="on_failure", expected=expected)
        return self
