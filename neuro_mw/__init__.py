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
    "context": ("CallMetadata", "MiddlewareContext"),
    "conditions": ("Conditions",),
    "errors": (
        "AuthenticationFailed", "BadRequest", "Blocked", "BudgetExceeded", "CircuitOpen", "ConfigError",
        "ContentRefused", "ContextTooLong", "DuplicateMiddleware", "LimitError", "MiddlewareError",
        "MiddlewareTimeout", "NeuroError", "OrderError", "PluginError", "PresetNotFound", "ProviderError",
        "ProviderRateLimited", "ProviderTimeout", "ProviderUnavailable", "RateLimitExceeded", "RegistrationError",
        "RequestBlocked", "StreamError", "StreamInterrupted", "TokenLimitExceeded", "UnknownMiddleware",
    ),
    "explain": ("ChainPlan", "PlanEntry"),
    "factory": ("MiddlewareFactory", "ValidationResult"),
    "hookspecs": ("hookimpl", "hookspec"),
    "layer": ("Layer",),
    "contract": (
        "CONTRACT", "Hooks", "Middleware", "MiddlewareMetadata", "Outcome", "PartStep", "hooks_of", "middleware",
    ),
    "model": ("Stream", "SyncStream", "WrappedModel"),
    "options": ("MiddlewareFactoryOptions",),
    "parts": ("Collector", "collect", "parts_of"),
    "plugins": ("PluginInfo",),
    "presets": ("MiddlewarePreset", "PresetInfo"),
    "receipt": ("Receipt",),
    "registry": ("MiddlewareRegistry",),
    "stats": ("MiddlewareChainStats", "MiddlewareExecutionResult", "MiddlewareStats"),
    "types": (
        "Attempt", "Block", "Finish", "FinishReason", "LanguageModel", "Params", "Part", "ProviderDelta",
        "ReasoningDelta", "Response", "ResponseInfo", "Session", "TextDelta", "ToolCall", "ToolCallDelta", "Usage",
    ),
}  # fmt: skip
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME)]  # noqa: PLE0604  # names, computed once from the table above

if TYPE_CHECKING:
    from .conditions import Conditions as Conditions
    from .config import ConditionsConfig as ConditionsConfig
    from .config import MiddlewareEntry as MiddlewareEntry
    from .context import CallMetadata as CallMetadata
    from .context import MiddlewareContext as MiddlewareContext
    from .errors import (
        AuthenticationFailed as AuthenticationFailed,
        BadRequest as BadRequest,
        Blocked as Blocked,
        BudgetExceeded as BudgetExceeded,
        CircuitOpen as CircuitOpen,
        ConfigError as ConfigError,
        ContentRefused as ContentRefused,
        ContextTooLong as ContextTooLong,
        DuplicateMiddleware as DuplicateMiddleware,
        LimitError as LimitError,
        MiddlewareError as MiddlewareError,
        MiddlewareTimeout as MiddlewareTimeout,
        NeuroError as NeuroError,
        OrderError as OrderError,
        PluginError as PluginError,
        PresetNotFound as PresetNotFound,
        ProviderError as ProviderError,
        ProviderRateLimited as ProviderRateLimited,
        ProviderTimeout as ProviderTimeout,
        ProviderUnavailable as ProviderUnavailable,
        RateLimitExceeded as RateLimitExceeded,
        RegistrationError as RegistrationError,
        RequestBlocked as RequestBlocked,
        StreamError as StreamError,
        StreamInterrupted as StreamInterrupted,
        TokenLimitExceeded as TokenLimitExceeded,
        UnknownMiddleware as UnknownMiddleware,
    )
    from .explain import ChainPlan as ChainPlan, PlanEntry as PlanEntry
    from .factory import MiddlewareFactory as MiddlewareFactory, ValidationResult as ValidationResult
    from .hookspecs import hookimpl as hookimpl, hookspec as hookspec
    from .layer import Layer as Layer
    from .contract import (
        CONTRACT as CONTRACT,
        Hooks as Hooks,
        Middleware as Middleware,
        MiddlewareMetadata as MiddlewareMetadata,
        Outcome as Outcome,
        PartStep as PartStep,
        hooks_of as hooks_of,
        middleware as middleware,
    )
    from .model import Stream as Stream, SyncStream as SyncStream, WrappedModel as WrappedModel
    from .options import MiddlewareFactoryOptions as MiddlewareFactoryOptions
    from .parts import Collector as Collector, collect as collect, parts_of as parts_of
    from .plugins import PluginInfo as PluginInfo
    from .presets import MiddlewarePreset as MiddlewarePreset, PresetInfo as PresetInfo
    from .receipt import Receipt as Receipt
    from .registry import MiddlewareRegistry as MiddlewareRegistry
    from .stats import (
        MiddlewareChainStats as MiddlewareChainStats,
        MiddlewareExecutionResult as MiddlewareExecutionResult,
        MiddlewareStats as MiddlewareStats,
    )
    from .types import (
        Attempt as Attempt,
        Block as Block,
        Finish as Finish,
        FinishReason as FinishReason,
        LanguageModel as LanguageModel,
        Params as Params,
        Part as Part,
        ProviderDelta as ProviderDelta,
        ReasoningDelta as ReasoningDelta,
        Response as Response,
        ResponseInfo as ResponseInfo,
        Session as Session,
        TextDelta as TextDelta,
        ToolCall as ToolCall,
        ToolCallDelta as ToolCallDelta,
        Usage as Usage,
    )


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
