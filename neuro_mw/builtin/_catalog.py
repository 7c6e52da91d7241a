"""What there is: the metadata of every built-in, the outermost first. A class is imported where it is switched on."""

from __future__ import annotations

from neuro_mw import MiddlewareMetadata

CATALOG = {
    metadata.id: metadata
    for metadata in (
        MiddlewareMetadata(
            id="tracing", name="Tracing", priority=120, kind="observer",
            description="A span and the metrics of OpenTelemetry for every call.",
        ),
        MiddlewareMetadata(
            id="errors", name="Errors", priority=115, kind="control",
            description="Messages for users where a call fails, and alerts for operators.",
        ),
        MiddlewareMetadata(
            id="logging", name="Logging", priority=110, kind="observer", before=("guardrails",),
            description="A structured record of every call.",
        ),
        MiddlewareMetadata(
            id="analytics", name="Analytics", priority=100, kind="observer",
            description="Usage, timing and cost of every call.",
        ),
        MiddlewareMetadata(
            id="rate_limit", name="Rate limit", priority=98, kind="control",
            description="Requests and tokens for each key and period.",
        ),
        MiddlewareMetadata(
            id="pseudonymize", name="Pseudonymize", priority=96, kind="guard", before=("cache",),
            description="Placeholders for personal data on the way out, the originals on the way back.",
        ),
        MiddlewareMetadata(
            id="cache", name="Cache", priority=95, kind="control",
            description="Answers what was answered before without asking the model.",
        ),
        MiddlewareMetadata(
            id="guardrails", name="Guardrails", priority=90, kind="guard",
            description="Detectors of what must not pass, on input and output.",
        ),
        MiddlewareMetadata(
            id="auto_evaluation", name="Auto evaluation", priority=90, kind="control",
            description="A judge scores answers; what is not good enough is asked again.",
        ),
        MiddlewareMetadata(
            id="tool_guard", name="Tool guard", priority=88, kind="guard",
            description="Judges the tool calls of an answer before they leave.",
        ),
        MiddlewareMetadata(
            id="default_settings", name="Default settings", priority=75, kind="transform",
            description="Defaults and limits of params, and a system text.",
        ),
        MiddlewareMetadata(
            id="structured_output", name="Structured output", priority=70, kind="control",
            description="The JSON of an answer, validated against a schema.",
        ),
        MiddlewareMetadata(
            id="extract_reasoning", name="Extract reasoning", priority=65, kind="transform",
            description="Reasoning between tags in the text goes to its own channel.",
        ),
        MiddlewareMetadata(
            id="fallback", name="Fallback", priority=50, kind="control",
            description="Another model answers where the one that was asked does not.",
        ),
        MiddlewareMetadata(
            id="token_limit", name="Token limit", priority=48, kind="transform",
            description="Truncates or refuses what does not fit the model.",
        ),
        MiddlewareMetadata(
            id="retry", name="Retry", priority=45, kind="control",
            description="Asks again where the failure may pass.",
        ),
        MiddlewareMetadata(
            id="circuit_breaker", name="Circuit breaker", priority=40, kind="control",
            description="Leaves a provider alone that fails too often.",
        ),
        MiddlewareMetadata(
            id="budget", name="Budget", priority=35, kind="control",
            description="What calls may cost for each key and window.",
        ),
        MiddlewareMetadata(
            id="timeout", name="Timeout", priority=30, kind="control",
            description="How long one attempt may take.",
        ),
        MiddlewareMetadata(
            id="simulate_streaming", name="Simulated streaming", priority=20, kind="transform",
            description="Streams of models that cannot stream.",
        ),
    )
}  # fmt: skip
"""By id. The module of a class has the id as its name, and the class the same words: "token_limit", TokenLimit."""


def class_name(id: str) -> str:
    """The name of the class with this id."""
    return "".join(word.capitalize() for word in id.split("_"))
