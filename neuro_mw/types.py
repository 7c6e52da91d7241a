"""The vocabulary: requests, answers, and the parts of a streamed answer. It knows no third party and no middleware."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Union, runtime_checkable

from .errors import RequestBlocked

if TYPE_CHECKING:
    from .receipt import Receipt

Params = dict[str, Any]
"""A request in the OpenAI chat-completions vocabulary. Unknown keys reach the provider untouched."""

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "error", "other"]
Mode = Literal["generate", "stream"]
Kind = Literal["observer", "guard", "transform", "control"]
OnError = Literal["raise", "skip"]
# Provider fields that say how an answer goes back: signed reasoning, and the order of Anthropic's blocks.
_WANTED_BACK = ("thinking_blocks", "reasoning_details", "content_order")
Status = Literal["completed", "short_circuited", "blocked", "failed", "cancelled"]


def _add(left: int | None, right: int | None) -> int | None:
    if left is None:
        return right
    return left if right is None else left + right


@dataclass(slots=True)
class Usage:
    """Token counts. None means that the provider did not say, which is not 0.

    >>> Usage(input_tokens=3) + Usage(input_tokens=1, output_tokens=2)
    Usage(input_tokens=4, output_tokens=2, cache_read_tokens=None, cache_write_tokens=None, reasoning_tokens=None)
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None

    @property
    def total_tokens(self) -> int | None:
        """Input and output together; None where neither is known."""
        return _add(self.input_tokens, self.output_tokens)

    def __add__(self, other: Usage) -> Usage:
        if not isinstance(other, Usage):
            return NotImplemented
        return Usage(
            _add(self.input_tokens, other.input_tokens),
            _add(self.output_tokens, other.output_tokens),
            _add(self.cache_read_tokens, other.cache_read_tokens),
            _add(self.cache_write_tokens, other.cache_write_tokens),
            _add(self.reasoning_tokens, other.reasoning_tokens),
        )


def no_usage() -> Usage:
    """The usage of a call in which no model was asked: 0, and known to be 0."""
    return Usage(0, 0, 0, 0, 0)


@dataclass(slots=True)
class ToolCall:
    """One tool call of an answer; ``arguments`` is the JSON text."""

    id: str
    name: str
    arguments: str

    def to_dict(self, fields: dict[str, Any] | None = None) -> dict[str, Any]:
        """The call as it stands in a message; `fields` are the provider's own, among them another ``type``.

        >>> ToolCall("c1", "look", "{}").to_dict()
        {'id': 'c1', 'type': 'function', 'function': {'name': 'look', 'arguments': '{}'}}
        """
        kind = (fields or {}).get("type", "function")
        said = {"name": self.name, "input" if kind == "custom" else "arguments": self.arguments}
        return {"id": self.id, **(fields or {}), "type": kind, kind: said}


@dataclass(slots=True)
class Block:
    """A decision to refuse: who, why, and in which category. Never what was matched.

    >>> Block("guardrails", "contains a secret", category="secrets").category
    'secrets'
    """

    middleware: str
    reason: str
    category: str = "policy"
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Response:
    """A whole answer.

    ``metadata`` is what middlewares attach, keyed by middleware id; ``provider_fields`` is what the provider sent
    beyond the fields here; ``receipt`` says what each layer did.

    >>> Response(text="hi", usage=Usage(3, 1)).usage.total_tokens
    4
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list)
    finish_reason: FinishReason = "stop"
    usage: Usage = field(default_factory=Usage)
    id: str | None = None
    model: str | None = None
    created: float | None = None
    blocked: Block | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    provider_fields: dict[str, Any] = field(default_factory=dict)
    other_parts: list[Any] = field(default_factory=list)
    receipt: Receipt | None = field(default=None, compare=False, repr=False)

    def raise_for_block(self) -> None:
        """Raise :class:`RequestBlocked` if a middleware refused; else do nothing."""
        if self.blocked is not None:
            raise RequestBlocked(self)

    def to_message(self) -> dict[str, Any]:
        """The answer as a message for the next turn; ``provider_fields`` where the provider wants some of them back.

        >>> Response(text="hi").to_message()
        {'role': 'assistant', 'content': 'hi'}
        """
        message: dict[str, Any] = {"role": "assistant", "content": self.text}
        wanted = any(self.provider_fields.get(name) for name in _WANTED_BACK)
        if self.tool_calls:
            more = self.provider_fields.get("tool_call_fields", {})
            message["content"] = self.text or None
            calls = enumerate(self.tool_calls)
            message["tool_calls"] = [call.to_dict(more.get(call.id or str(n))) for n, call in calls]
        if self.reasoning and (wanted or self.tool_calls):
            message["reasoning_content"] = self.reasoning
        if wanted:
            message["provider_fields"] = dict(self.provider_fields)
        return message

    def to_dict(self) -> dict[str, Any]:
        """The answer as plain data, without the receipt (which has its own ``to_dict``).

        >>> Response.from_dict(Response(text="hi").to_dict()).text
        'hi'
        """
        data = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "receipt"}
        data["usage"] = asdict(self.usage)
        data["tool_calls"] = [asdict(call) for call in self.tool_calls]
        data["blocked"] = asdict(self.blocked) if self.blocked else None
        data["metadata"], data["provider_fields"] = dict(self.metadata), dict(self.provider_fields)
        data["other_parts"] = [_plain(part) for part in self.other_parts]
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Response:
        """The answer that `to_dict` described. Parts of unknown types come back as plain namespaces."""
        data = dict(data)
        data["usage"] = Usage(**(data.get("usage") or {}))
        data["tool_calls"] = [ToolCall(**call) for call in data.get("tool_calls") or ()]
        data["blocked"] = Block(**data["blocked"]) if data.get("blocked") else None
        data["other_parts"] = [SimpleNamespace(**part) for part in data.get("other_parts") or ()]
        return cls(**data)


def _plain(part: Any) -> dict[str, Any]:
    if is_dataclass(part) and not isinstance(part, type):
        values = asdict(part)
    else:
        slots = [name for kind in type(part).__mro__ for name in getattr(kind, "__slots__", ())]
        values = {name: getattr(part, name) for name in (*slots, *getattr(part, "__dict__", ())) if hasattr(part, name)}
    return {"type": part.type, **values}


# --- parts of a streamed answer ----------------------------------------------------------------------------------


@dataclass(slots=True)
class TextDelta:
    """A piece of the answer's text."""

    type: ClassVar[Literal["text_delta"]] = "text_delta"
    text: str


@dataclass(slots=True)
class ReasoningDelta:
    """A piece of the model's reasoning."""

    type: ClassVar[Literal["reasoning_delta"]] = "reasoning_delta"
    text: str


@dataclass(slots=True)
class ToolCallDelta:
    """A piece of tool call number ``index``; ``arguments`` is a piece of the JSON text."""

    type: ClassVar[Literal["tool_call_delta"]] = "tool_call_delta"
    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(slots=True)
class ResponseInfo:
    """Who answers: at most one, the first part. ``created`` is in seconds since 1970."""

    type: ClassVar[Literal["response_info"]] = "response_info"
    id: str | None = None
    model: str | None = None
    created: float | None = None


@dataclass(slots=True)
class ProviderDelta:
    """What the provider sent beyond the other parts."""

    type: ClassVar[Literal["provider_delta"]] = "provider_delta"
    fields: dict[str, Any]


@dataclass(slots=True)
class Finish:
    """The end of an answer: exactly one, the last part."""

    type: ClassVar[Literal["finish"]] = "finish"
    reason: FinishReason
    usage: Usage = field(default_factory=Usage)
    blocked: Block | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


Part = Union[TextDelta, ReasoningDelta, ToolCallDelta, ResponseInfo, ProviderDelta, Finish]


# --- who asks, and what was tried --------------------------------------------------------------------------------


@dataclass(slots=True)
class Session:
    """On whose behalf a call is made. Where a session is asked for, a dict will do, too.

    >>> Session(user_id="u1", extra={"tier": "pro"}).user_id
    'u1'
    """

    session_id: str | None = None
    user_id: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Attempt:
    """One call of a model, times in seconds. ``committed``: its answer (in a stream: its first delta) came."""

    provider: str
    model: str
    error: BaseException | None = None
    duration: float | None = None
    time_to_first_part: float | None = None
    committed: bool = False
    usage: Usage = field(default_factory=Usage)
    started: float | None = None  # by `time.perf_counter`, as `ended`
    ended: float | None = None
    sent: Params | None = field(default=None, repr=False, compare=False)
    way: tuple[Any, ...] = field(default=(), repr=False, compare=False)  # (for the chain)


@runtime_checkable
class LanguageModel(Protocol):
    """Anything that answers. A wrapped model is one too."""

    provider: str
    model_id: str

    async def generate(self, params: Params, /) -> Response:
        """The whole answer."""

    def stream(self, params: Params, /) -> AsyncIterator[Part]:
        """The answer as parts, the last one a Finish."""


def __getattr__(name: str) -> Any:
    if name in ("Collector", "collect", "parts_of"):  # they live one floor up, and are part of the vocabulary
        from importlib import import_module

        return getattr(import_module("neuro_mw.parts"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
