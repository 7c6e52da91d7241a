"""The options of cache, and the store that they make of the one at hand."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from neuro_mw import ConfigError
from neuro_mw.state import Store
from neuro_mw.state.memory import MemoryStore

from .._keeping import OnStoreFailure

_QUESTION = ("messages", "prompt", "model")
_LIMITS = ("max_entries", "max_bytes")


class CacheOptions(BaseModel):
    """Options of cache."""

    ttl_s: float = Field(default=3600, gt=0, allow_inf_nan=False, strict=True)
    """How old an answer may become, in seconds."""
    max_entries: int = Field(default=10_000, ge=1, strict=True)
    """How many answers are kept in memory. Other stores have limits of their own."""
    max_bytes: int = Field(default=64 << 20, ge=1, strict=True)
    """The same in bytes."""
    scope: Literal["global", "user", "session"] = "global"
    """Who shares answers. Calls that do not say who makes them are not cached where it is not "global"."""
    ignore: list[str] = []
    """Names of params that do not tell requests apart, as ``user`` or ``metadata``."""
    max_temperature: float | None = Field(default=None, ge=0, allow_inf_nan=False, strict=True)
    """Above it, and where a request does not say its temperature, answers are to differ and are not cached."""
    keep_truncated: bool = False
    """Whether answers are kept that ended at a limit of tokens (finish reason "length")."""
    single_flight: bool = True
    """Whether equal calls at once share one answer."""
    store: str | None = Field(default=None, repr=False)
    """The URL of a store of its own, instead of the factory's ``state``."""
    on_store_failure: OnStoreFailure = "open"

    @field_validator("ignore")
    @classmethod
    def _still_asks(cls, names: list[str]) -> list[str]:
        for index, name in enumerate(names):
            if name in _QUESTION:
                said = f"without {name!r} in the key, an answer would be given to other questions"
                raise ConfigError(said, key=f"ignore.{index}")
        return names

    @model_validator(mode="after")
    def _limits_of_memory(self) -> Any:
        if self.store not in (None, "memory", "memory://"):
            scheme, _, rest = self.store.partition("://")
            said = "its URL has options for that" if scheme == "memory" and rest else f"the answers are in {scheme}"
            self._refuse_limits(said)
        return self

    def _refuse_limits(self, why: str, of: str = "") -> None:
        for name in _LIMITS:
            if name in self.model_fields_set:
                raise ConfigError(f"it bounds a store in memory, and {why}", key=f"{of}{name}")

    def is_cool(self, temperature: object) -> bool:
        """Whether answers at this temperature are cached."""
        most = self.max_temperature
        known = isinstance(temperature, int | float) and not isinstance(temperature, bool)
        return most is None or (known and temperature <= most)  # type: ignore[operator]  # narrowed by `known`

    def own(self, store: Store, id: str) -> Store:
        """The store for answers: of one in memory another one, so that answers push out nothing else, nor it them.

        Raises ConfigError where limits were set that the store cannot have.
        """
        if isinstance(store, MemoryStore):
            limits = {name: getattr(self if name in self.model_fields_set else store, name) for name in _LIMITS}
            return MemoryStore(max_value_bytes=store.max_value_bytes, **limits)
        self._refuse_limits(f"the state is in {store.url}", f"middleware.{id}.config.")
        return store
