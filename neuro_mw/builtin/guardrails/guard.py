"""The middleware: detectors over every message that goes out and every part that comes back, in both modes."""

from __future__ import annotations

from collections import Counter
from typing import Any

from neuro_mw import Middleware, MiddlewareContext, MiddlewareMetadata, Outcome, Params

from .actions import Action
from .answer import AnswerStep
from .filters import INVISIBLE, Filter, filter_of
from .messages import filtered
from .rules import Rule, Terms
from .settings import CHANNELS, DIRECTIONS, BadWords, Secrets, Settings


class Guardrails(Middleware):
    """Redacts, masks, hashes, refuses or reports what must not pass, exactly, in whole answers and in streams.

    >>> import asyncio
    >>> from neuro_mw import MiddlewareFactory
    >>> factory = MiddlewareFactory(preset=None, middleware=[Guardrails(bad_words=["secret plan"])])
    >>> asyncio.run(factory.apply_middleware("echo/echo").generate("the secret plan")).text
    'the [REDACTED]'
    """

    metadata = MiddlewareMetadata(
        id="guardrails",
        name="Guardrails",
        description="Detectors of what must not pass, on input and output.",
        priority=90,
        kind="guard",
    )

    Config = Settings

    def __init__(self, config: Any = None, /, **options: Any) -> None:
        super().__init__(config, **options)
        settings: Settings = self.config
        rules = rules_of(settings)
        self._filters: dict[str, Filter] = {}
        for channel in settings.apply_to:
            actions: dict[str, Action] = {rule.id: settings.action_of(rule.id, channel) for rule in rules}
            plan = filter_of(
                channel,
                rules,
                actions,
                text=settings.replacement_text,
                invisible=settings.action_of(INVISIBLE, channel) if settings.invisible else None,
                normalize=settings.normalize,
                confusables=settings.confusables,
            )
            if plan:
                self._filters[channel] = plan
        self._inward = any(DIRECTIONS[name] == "input" for name in self._filters)
        self._outward = any(DIRECTIONS[name] == "output" for name in self._filters)

    def transform_params(self, params: Params, context: MiddlewareContext) -> Params:
        """The request after the rules of its channels."""
        messages = params.get("messages")
        if not self._inward or not isinstance(messages, list):
            return params
        changed = filtered(messages, self._filters, self._counts(context))
        return {**params, "messages": changed}

    def transform_parts(self, params: Params, context: MiddlewareContext) -> AnswerStep | None:
        """The step that holds for both modes; None where no channel of an answer is looked at."""
        if not self._outward:
            return None
        counts = self._counts(context)
        return AnswerStep(self._filters, counts, counts["invalid_json"])

    def on_end(self, outcome: Outcome, context: MiddlewareContext) -> None:
        """Report on the answer how often each rule matched, by channel."""
        found = {channel: dict(counts) for channel, counts in self._counts(context).items() if counts}
        if found and outcome.response is not None:
            outcome.response.metadata[self.metadata.id] = found

    def _counts(self, context: MiddlewareContext) -> dict[str, Counter[str]]:
        state = context.state(self)
        if "counts" not in state:
            state["counts"] = {name: Counter() for name in (*CHANNELS, "invalid_json")}
        counts: dict[str, Counter[str]] = state["counts"]
        return counts


def rules_of(settings: Settings) -> list[Rule | Terms]:
    """The rules that the settings switch on."""
    rules: list[Rule | Terms] = []
    words = settings.bad_words
    if isinstance(words, BadWords):
        rules += [Terms("bad_words", tuple(words.list), words.match)] if words.list else []
    elif words:
        rules.append(Terms("bad_words", tuple(words)))
    patterns = settings.regex_patterns
    named = patterns.items() if isinstance(patterns, dict) else enumerate(patterns)
    rules += [Rule(f"regex_patterns.{name}", one, max_chars=settings.max_match_chars) for name, one in named]
    if settings.pii:
        from . import pii

        rules += pii.rules(pii.TYPES if settings.pii is True else settings.pii)
    if settings.secrets:
        from . import gitleaks, secrets

        rules += secrets.rules()
        if isinstance(settings.secrets, Secrets) and settings.secrets.rules_file:
            rules += gitleaks.rules_from(settings.secrets.rules_file)
    if settings.injection:
        from . import injection

        rules += injection.rules()
    return rules
