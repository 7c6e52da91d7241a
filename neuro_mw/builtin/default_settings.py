"""default_settings: what a call gets where it says nothing, how far it may go, and what the model is told first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from copy import deepcopy
from itertools import takewhile
from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from neuro_mw import BadRequest, Blocked, ConfigError, Middleware, MiddlewareContext, Params
from neuro_mw.param_names import OUTPUT, is_address, is_secret

from ._catalog import CATALOG

_OTHER = dict(zip(OUTPUT, reversed(OUTPUT), strict=True))
_NUMBERS = (int, float)
_NOT_HERE = {
    "messages": "they belong to each call",
    "model": "it is chosen by the call; `fallback` has other models",
    "n": "a call has one answer",
    "stream": "generate and stream decide it",
    "system": "the option 'system' is for that",
}
_HEADERS = ("headers", "extra_headers", "extra_query", "default_headers")  # of each provider asked first

# In these such a word names something that is asked for.
_SCHEMAS = (
    "response_format", "json_schema", "guided_json", "properties", "$defs", "definitions", "parameters", "input_schema",
    "function", "logit_bias", "chat_template_kwargs",
)  # fmt: skip


class Limit(BaseModel):
    """How far a param may go."""

    min: int | float | None = Field(default=None, allow_inf_nan=False)
    max: int | float | None = Field(default=None, allow_inf_nan=False)

    def __str__(self) -> str:
        ends = (("at least", self.min), ("at most", self.max))
        return " and ".join(f"{word} {value:g}" for word, value in ends if value is not None)

    def clamped(self, value: float) -> float:
        """The nearest value within."""
        if self.min is not None and value < self.min:
            return self.min
        return self.max if self.max is not None and value > self.max else value


class DefaultSettings(Middleware):
    """Gives each call defaults, keeps its params within limits, and puts a text of yours in front of its messages.

    ``params``: what the caller says wins; None is taken as not said. ``limits``: a param beyond is brought back to its
    limit (``on_violation="clamp"``, counted in the stats) or the call is refused (``"refuse"``: a block of the category
    "limits" that names param, value and limit). A limit holds for what a call says; for a call that says nothing, add a
    default. What is no number where there is a limit raises BadRequest. ``max_tokens`` and ``max_completion_tokens``
    are one setting here, in which a negative number, to some servers "no limit", is above every limit. ``extra_body``,
    which goes before all else, is held to the same limits.

    ``system`` goes to the front, as ``system_mode`` says: before ("prepend") or behind ("append") what the call itself
    tells the model, instead of it ("replace"), or only where it tells nothing ("if_absent"). A message of the role
    "developer", and the param ``system`` of Anthropic's API, count as that. The text is joined to the message that is
    there, since some models take one only; where there is none, it becomes the first message.

    >>> import asyncio
    >>> from neuro_mw import MiddlewareFactory
    >>> settings = DefaultSettings(params={"temperature": 0.2}, limits={"max_tokens": {"max": 2}})
    >>> model = MiddlewareFactory(preset=None, middleware=[settings]).apply_middleware("echo/echo")
    >>> asyncio.run(model.generate("one two three", max_tokens=3)).text
    'one two'
    """

    metadata = CATALOG["default_settings"]

    class Config(BaseModel):
        """Options of default_settings."""

        params: dict[str, Any] = Field(default_factory=dict)
        limits: dict[str, Limit] = Field(default_factory=dict)
        system: str | None = None
        system_mode: Literal["prepend", "append", "replace", "if_absent"] = "prepend"
        on_violation: Literal["clamp", "refuse"] = "clamp"

        @model_validator(mode="after")
        def _check(self) -> Any:
            _check_names(self.params)
            for name, limit in self.limits.items():
                _check_limit(f"limits.{name}", name, limit)
            body = self.params.get("extra_body")
            for name, limit in _limits_of(self.limits):
                _check_default(f"params.{name}", limit, self.params.get(name))
                if isinstance(body, Mapping):
                    _check_default(f"params.extra_body.{name}", limit, body.get(name))
            if self.system is not None and not self.system.strip():
                raise ConfigError("it is blank", key="system", expected="a text, or to be left out")
            return self

    def __init__(self, config: Any = None, /, **options: Any) -> None:
        super().__init__(config, **options)
        config = self.config
        self._defaults = [(name, _OTHER.get(name, name), value) for name, value in config.params.items()]
        self._limits = [(name, limit, *_ends(name, limit)) for name, limit in _limits_of(config.limits)]
        self._system, self._system_mode = config.system, config.system_mode
        own = type(self).transform_params is DefaultSettings.transform_params
        if own and not (self._defaults or self._limits or self._system):
            self.transform_params = super().transform_params  # type: ignore[method-assign,assignment]  # nothing to do

    def transform_params(self, params: Params, context: MiddlewareContext) -> Params:
        """The params with defaults, within limits, under the system text. Raises Blocked and BadRequest."""
        for name, other, value in self._defaults:
            if params.get(name) is None and params.get(other) is None:
                params[name] = deepcopy(value) if isinstance(value, list | dict) else value
        if self._limits:
            params = self._within(params, context)
            if "extra_body" in params and isinstance(params["extra_body"], Mapping):
                params["extra_body"] = self._within(dict(params["extra_body"]), context)
        if self._system is not None:
            _tell(params, self._system, self._system_mode)
        return params

    def _within(self, params: Params, context: MiddlewareContext) -> Params:
        for name, limit, least, most in self._limits:
            value = params.get(name)
            if value is None or (type(value) in _NUMBERS and least <= value <= most):
                continue
            if not _is_number(value):
                what = "NaN" if isinstance(value, float) else f"of type {type(value).__name__}"
                raise BadRequest(
                    f"params[{name!r}] is {what}; a number is expected, {limit}",
                    provider=context.provider, model=context.model,
                )  # fmt: skip
            meant = math.inf if name in OUTPUT and value < 0 else value
            near = limit.clamped(meant)
            if near == meant:
                continue
            if self.config.on_violation == "refuse":
                detail = {"param": name, "value": value, "min": limit.min, "max": limit.max}
                raise Blocked(f"{name} is {_shown(value)}, allowed is {limit}", category="limits", detail=detail)
            self.count(f"clamped.{name}")
            params[name] = int(near) if isinstance(value, int) and near == int(near) else near
        return params


# --- the system text ---------------------------------------------------------------------------------------------


def _tell(params: Params, text: str, mode: str) -> None:
    """Put a text in front of the messages, or to what the call itself tells the model."""
    messages = params.get("messages") or []
    if not isinstance(messages, list):
        return  # no driver takes it
    if mode == "replace":
        params.pop("system", None)
        messages = [one for one in messages if not _is_system(one)]
    told = [params.get("system"), *(one.get("content") for one in messages if _is_system(one))]
    if mode == "if_absent" and any(told):
        return
    leading = len(list(takewhile(_is_system, messages)))
    before = mode != "append"
    if params.get("system") and (before or not leading):  # Anthropic's driver puts it before all messages
        params["system"] = _joined(params["system"], text, before=before)
    elif leading:
        one = messages[0 if before else leading - 1]
        one["content"] = _joined(one.get("content"), text, before=before)
    else:
        messages = [{"role": "system", "content": text}, *messages]
    params["messages"] = messages


def _is_system(message: Any) -> bool:
    return isinstance(message, dict) and message.get("role") in ("system", "developer")


def _joined(content: Any, text: str, *, before: bool) -> Any:
    if isinstance(content, Mapping):
        content = [content]
    if isinstance(content, list | tuple):
        part = {"type": "text", "text": text}
        return [part, *content] if before else [*content, part]
    both = [text, str(content or "")] if before else [str(content or ""), text]
    return "\n\n".join(filter(None, both))


# --- checking what is configured ---------------------------------------------------------------------------------


def _check_names(params: Mapping[str, Any]) -> None:
    for name, value in params.items():
        if name in _NOT_HERE:
            raise ConfigError(f"it cannot have a default: {_NOT_HERE[name]}", key=f"params.{name}")
        _check_secrets(name, value, f"params.{name}")
        if is_address(name) and name not in _HEADERS:
            raise ConfigError("an address is that of one provider: give it to the provider or to the call",
                              key=f"params.{name}")  # fmt: skip
        for word in _NOT_HERE:
            if name == "extra_body" and isinstance(value, Mapping) and word in value:
                raise ConfigError(f"it cannot have a default: {_NOT_HERE[word]}", key=f"params.extra_body.{word}")


def _check_secrets(name: str, value: Any, key: str) -> None:
    """A config is shown by `explain`, so that no key may stand in it."""
    if is_secret(name) and (isinstance(value, str) or key == f"params.{name}"):
        raise ConfigError("a config is shown, so it holds no keys; give it to the provider or to the call", key=key)
    if isinstance(value, Mapping) and name not in _SCHEMAS:
        for word, inner in value.items():
            _check_secrets(str(word), inner, f"{key}.{word}")
    elif isinstance(value, list | tuple) and name not in _SCHEMAS:
        for at, inner in enumerate(value):
            _check_secrets("", inner, f"{key}.{at}")


def _check_limit(key: str, name: str, limit: Limit) -> None:
    if name in _NOT_HERE:
        raise ConfigError(f"it cannot have a limit: {_NOT_HERE[name]}", key=key)
    if limit.min is None and limit.max is None:
        raise ConfigError("it limits nothing", key=key, expected="min, max or both")
    if name in OUTPUT:
        for end in ("min", "max"):
            value = getattr(limit, end)
            if value is not None and (value < 0 or value != int(value)):
                raise ConfigError(f"it is {value:g}", key=f"{key}.{end}", expected="a whole number from 0")
    if limit.min is not None and limit.max is not None and limit.min > limit.max:
        raise ConfigError(f"min ({limit.min:g}) is above max ({limit.max:g})", key=key)


def _check_default(key: str, limit: Limit, value: Any) -> None:
    if value is None:
        return
    if not _is_number(value):
        raise ConfigError("it is no number, and limits has it", key=key)
    if limit.clamped(value) != value:
        raise ConfigError(f"it is beyond its limit, {limit}", key=key)


def _limits_of(limits: Mapping[str, Limit]) -> Iterator[tuple[str, Limit]]:
    """Every param that has a limit, also by its other name."""
    for name, limit in limits.items():
        yield name, limit
        if name in OUTPUT:
            yield from ((other, limit) for other in OUTPUT if other not in limits)


def _ends(name: str, limit: Limit) -> tuple[float, float]:
    """Between which values there is nothing to do. Below 0 an output has no end, so that one is above its limit."""
    most = math.inf if limit.max is None else limit.max
    least = -math.inf if limit.min is None else limit.min
    return (max(least, 0) if name in OUTPUT else least), most


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value  # not NaN


def _shown(value: float) -> str:
    return "too large to be shown" if abs(value) > 1e300 else f"{value:g}"
