"""The built-in middlewares. They enter by the same door as a third party's: an entry of hooks, off until named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from neuro_mw import LazyMiddleware, hookimpl

from ._catalog import CATALOG, class_name

if TYPE_CHECKING:
    from .analytics import Analytics as Analytics
    from .budget import Budget as Budget
    from .cache import Cache as Cache
    from .circuit_breaker import CircuitBreaker as CircuitBreaker
    from .default_settings import DefaultSettings as DefaultSettings
    from .errors import Errors as Errors
    from .fallback import Fallback as Fallback
    from .guardrails import Guardrails as Guardrails
    from .logging import Logging as Logging
    from .rate_limit import RateLimit as RateLimit
    from .retry import Retry as Retry
    from .simulate_streaming import SimulateStreaming as SimulateStreaming
    from .timeout import Timeout as Timeout
    from .token_limit import TokenLimit as TokenLimit
    from .tracing import Tracing as Tracing

__all__ = [
    "Analytics", "Budget", "Cache", "CircuitBreaker", "DefaultSettings", "Errors", "Fallback", "Guardrails", "Logging",
    "RateLimit", "Retry", "SimulateStreaming", "Timeout", "TokenLimit", "Tracing",
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
