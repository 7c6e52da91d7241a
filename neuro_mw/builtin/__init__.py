"""The built-in middlewares. They enter by the same door as a third party's: an entry of hooks, off until named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from neuro_mw import LazyMiddleware, hookimpl

from ._catalog import CATALOG, class_name

if TYPE_CHECKING:
    from .analytics import Analytics as Analytics
    from .auto_evaluation import AutoEvaluation as AutoEvaluation
    from .budget import Budget as Budget
    from .cache import Cache as Cache
    from .circuit_breaker import CircuitBreaker as CircuitBreaker
    from .default_settings import DefaultSettings as DefaultSettings
    from .errors import Errors as Errors
    from .extract_reasoning import ExtractReasoning as ExtractReasoning
    from .fallback import Fallback as Fallback
    from .guardrails import Guardrails as Guardrails
    from .logging import Logging as Logging
    from .pseudonymize import Pseudonymize as Pseudonymize
    from .rate_limit import RateLimit as RateLimit
    from .retry import Retry as Retry
    from .simulate_streaming import SimulateStreaming as SimulateStreaming
    from .structured_output import StructuredOutput as StructuredOutput
    from .timeout import Timeout as Timeout
    from .token_limit import TokenLimit as TokenLimit
    from .tool_guard import ToolGuard as ToolGuard
    from .tracing import Tracing as Tracing

__all__ = [
    "Analytics", "AutoEvaluation", "Budget", "Cache", "CircuitBreaker", "DefaultSettings", "Errors", "ExtractReasoning",
    "Fallback", "Guardrails", "Logging", "Pseudonymize", "RateLimit", "Retry", "SimulateStreaming", "StructuredOutput",
    "Timeout", "TokenLimit", "ToolGuard", "Tracing",
]  # fmt: skip

_MODULES = {class_name(id): id for id in CATALOG}


@hookimpl
def register_middleware(register: Any) -> None:
    """Offer every built-in."""
    for name, id in _MODULES.items():
        register(LazyMiddleware(CATALOG[id], f"{__name__}.{id}:{name}"))


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{module}"), name)
