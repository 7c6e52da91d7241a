"""Middleware for LLM calls that cannot be bypassed: written once, it holds for generate and for stream.

>>> import asyncio, neuro_mw
>>> model = neuro_mw.MiddlewareFactory().apply_middleware("echo/echo")
>>> asyncio.run(model.generate("hello")).text
'hello'

Every public name is importable from here; each is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_NAMES = {
    "config": ("MiddlewareEntry", "ConditionsConfig"),
    "call": ("CallMetadata",),
    "context": ("MiddlewareContext",),
    "conditions": ("Conditions",),
    "errors": (
        "AuthenticationFailed", "BadRequest", "Blocked", "BudgetExceeded", "CircuitOpen", "ConfigError",
        "ContentRefused", "ContextTooLong", "DuplicateMiddleware", "EvaluationFailed", "LimitError", "MiddlewareError",
        "MiddlewareTimeout", "NeuroError", "OrderError", "PluginError", "PresetNotFound", "ProviderError",
        "ProviderRateLimited", "ProviderTimeout", "ProviderUnavailable", "RateLimitExceeded", "RegistrationError",
        "RequestBlocked", "StreamError", "StreamInterrupted", "StructuredOutputError", "TokenLimitExceeded",
        "UnknownMiddleware", "UnknownName",
    ),
    "names": ("nearest",),
    "detectors": ("Detector", "known_detectors"),
    "explain": ("ChainPlan", "PlanEntry"),
    "factory": ("MiddlewareFactory",),
    "hooks": ("Hooks", "hooks_of"),
    "hookspecs": ("hookimpl", "hookspec"),
    "layer": ("Layer",),
    "lazy": ("LazyMiddleware",),
    "contract": (
        "CONTRACT", "Middleware", "MiddlewareMetadata", "Outcome", "PartStep", "middleware",
    ),
    "model": ("Stream", "SyncStream", "WrappedModel"),
    "options": ("MiddlewareFactoryOptions",),
    "parts": ("Collector", "collect", "parts_of"),
    "plugins": ("PluginInfo",),
    "presets": ("MiddlewarePreset", "PresetInfo"),
    "receipt": ("Execution", "Receipt"),
    "registry": ("MiddlewareRegistry",),
    "stats": ("MiddlewareChainStats", "MiddlewareExecutionResult", "MiddlewareStats"),
    "validation": ("ValidationResult",),
    "types": (
        "Attempt", "Block", "Finish", "FinishReason", "LanguageModel", "Params", "Part", "ProviderDelta",
        "ReasoningDelta", "Response", "ResponseInfo", "Session", "TextDelta", "ToolCall", "ToolCallDelta", "Usage",
    ),
}  # fmt: skip
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME)]

if TYPE_CHECKING:
    from .call import CallMetadata as CallMetadata
    from .conditions import Conditions as Conditions
    from .config import ConditionsConfig as ConditionsConfig
    from .config import MiddlewareEntry as MiddlewareEntry
    from .context import MiddlewareContext as MiddlewareContext
    from .contract import (
        CONTRACT as CONTRACT,
    )
    from .contract import (
        Middleware as Middleware,
    )
    from .contract import (
        MiddlewareMetadata as MiddlewareMetadata,
    )
    from .contract import (
        Outcome as Outcome,
    )
    from .contract import (
        PartStep as PartStep,
    )
    from .contract import (
        middleware as middleware,
    )
    from .detectors import Detector as Detector
    from .detectors import known_detectors as known_detectors
    from .errors import (
        AuthenticationFailed as AuthenticationFailed,
    )
    from .errors import (
        BadRequest as BadRequest,
    )
    from .errors import (
        Blocked as Blocked,
    )
    from .errors import (
        BudgetExceeded as BudgetExceeded,
    )
    from .errors import (
        CircuitOpen as CircuitOpen,
    )
    from .errors import (
        ConfigError as ConfigError,
    )
    from .errors import (
        ContentRefused as ContentRefused,
    )
    from .errors import (
        ContextTooLong as ContextTooLong,
    )
    from .errors import (
        DuplicateMiddleware as DuplicateMiddleware,
    )
    from .errors import (
        EvaluationFailed as EvaluationFailed,
    )
    from .errors import (
        LimitError as LimitError,
    )
    from .errors import (
        MiddlewareError as MiddlewareError,
    )
    from .errors import (
        MiddlewareTimeout as MiddlewareTimeout,
    )
    from .errors import (
        NeuroError as NeuroError,
    )
    from .errors import (
        OrderError as OrderError,
    )
    from .errors import (
        PluginError as PluginError,
    )
    from .errors import (
        PresetNotFound as PresetNotFound,
    )
    from .errors import (
        ProviderError as ProviderError,
    )
    from .errors import (
        ProviderRateLimited as ProviderRateLimited,
    )
    from .errors import (
        ProviderTimeout as ProviderTimeout,
    )
    from .errors import (
        ProviderUnavailable as ProviderUnavailable,
    )
    from .errors import (
        RateLimitExceeded as RateLimitExceeded,
    )
    from .errors import (
        RegistrationError as RegistrationError,
    )
    from .errors import (
        RequestBlocked as RequestBlocked,
    )
    from .errors import (
        StreamError as StreamError,
    )
    from .errors import (
        StreamInterrupted as StreamInterrupted,
    )
    from .errors import (
        StructuredOutputError as StructuredOutputError,
    )
    from .errors import (
        TokenLimitExceeded as TokenLimitExceeded,
    )
    from .errors import (
        UnknownMiddleware as UnknownMiddleware,
    )
    from .errors import (
        UnknownName as UnknownName,
    )
    from .explain import ChainPlan as ChainPlan
    from .explain import PlanEntry as PlanEntry
    from .factory import MiddlewareFactory as MiddlewareFactory
    from .hooks import Hooks as Hooks
    from .hooks import hooks_of as hooks_of
    from .hookspecs import hookimpl as hookimpl
    from .hookspecs import hookspec as hookspec
    from .layer import Layer as Layer
    from .lazy import LazyMiddleware as LazyMiddleware
    from .model import Stream as Stream
    from .model import SyncStream as SyncStream
    from .model import WrappedModel as WrappedModel
    from .names import nearest as nearest
    from .options import MiddlewareFactoryOptions as MiddlewareFactoryOptions
    from .parts import Collector as Collector
    from .parts import collect as collect
    from .parts import parts_of as parts_of
    from .plugins import PluginInfo as PluginInfo
    from .presets import MiddlewarePreset as MiddlewarePreset
    from .presets import PresetInfo as PresetInfo
    from .receipt import Execution as Execution
    from .receipt import Receipt as Receipt
    from .registry import MiddlewareRegistry as MiddlewareRegistry
    from .stats import (
        MiddlewareChainStats as MiddlewareChainStats,
    )
    from .stats import (
        MiddlewareExecutionResult as MiddlewareExecutionResult,
    )
    from .stats import (
        MiddlewareStats as MiddlewareStats,
    )
    from .types import (
        Attempt as Attempt,
    )
    from .types import (
        Block as Block,
    )
    from .types import (
        Finish as Finish,
    )
    from .types import (
        FinishReason as FinishReason,
    )
    from .types import (
        LanguageModel as LanguageModel,
    )
    from .types import (
        Params as Params,
    )
    from .types import (
        Part as Part,
    )
    from .types import (
        ProviderDelta as ProviderDelta,
    )
    from .types import (
        ReasoningDelta as ReasoningDelta,
    )
    from .types import (
        Response as Response,
    )
    from .types import (
        ResponseInfo as ResponseInfo,
    )
    from .types import (
        Session as Session,
    )
    from .types import (
        TextDelta as TextDelta,
    )
    from .types import (
        ToolCall as ToolCall,
    )
    from .types import (
        ToolCallDelta as ToolCallDelta,
    )
    from .types import (
        Usage as Usage,
    )
    from .validation import ValidationResult as ValidationResult


def __getattr__(name: str) -> Any:
    module = _HOME.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
