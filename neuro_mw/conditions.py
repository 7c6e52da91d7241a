"""When a middleware applies: decided when the chain is built, but for `custom`, which is asked for each call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from .errors import ConfigError

if TYPE_CHECKING:
    from .context import MiddlewareContext
    from .types import Mode

Custom = Callable[["MiddlewareContext"], Any]


class Conditions:
    """All conditions of one middleware; all of them must hold.

    >>> Conditions(models=["gpt-4*"]).refusal("openai", "gpt-4o", {})
    >>> Conditions(providers=["!azure"]).refusal("azure", "gpt-4o", {})
    "provider 'azure' does not match ['!azure']"
    """

    __slots__ = ("custom", "models", "modes", "options", "providers")

    def __init__(
        self,
        *,
        providers: Sequence[str] | None = None,
        models: Sequence[str] | None = None,
        options: Mapping[str, Any] | None = None,
        modes: Sequence[Mode] | None = None,
        custom: Custom | None = None,
    ) -> None:
        for name, value in (("providers", providers), ("models", models), ("modes", modes)):
            if isinstance(value, str):
                raise ConfigError("it is a string", key=f"conditions.{name}", expected="a list")
        self.providers, self.models = providers, models
        self.options, self.modes, self.custom = options, modes, custom

    def refusal(self, provider: str, model: str, options: Mapping[str, Any]) -> str | None:
        """Why the middleware does not apply there, whatever the mode; None where it may apply."""
        if self.providers is not None and not matches(provider, self.providers):
            return f"provider {provider!r} does not match {list(self.providers)}"
        if self.models is not None and not matches(model, self.models):
            return f"model {model!r} does not match {list(self.models)}"
        for key, wanted in (self.options or {}).items():
            if key not in options:
                return f"option {key!r} is not set"
            if not same(options[key], wanted):
                return f"option {key!r} has another value"
        if self.modes is not None and not self.modes:
            return "modes is empty"
        return None

    def allows_mode(self, mode: Mode) -> bool:
        """Whether the middleware applies in this mode."""
        return self.modes is None or mode in self.modes


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name fits: one positive pattern at least (if there are any), and no negated one."""
    lowered = name.lower()
    positive = [pattern.lower() for pattern in patterns if not pattern.startswith("!")]
    negative = [pattern[1:].lower() for pattern in patterns if pattern.startswith("!")]
    if any(fnmatchcase(lowered, pattern) for pattern in negative):
        return False
    if not patterns:
        return False
    return not positive or any(fnmatchcase(lowered, pattern) for pattern in positive)


def same(left: Any, right: Any) -> bool:
    """Equality without Python's ``1 == True``."""
    return type(left) is type(right) and bool(left == right)


NO_CONDITIONS = Conditions()
