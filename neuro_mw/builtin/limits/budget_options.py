"""The options of budget."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from neuro_mw import ConfigError
from neuro_mw.state.protocol import MAX_TTL_S

from .._keeping import OnStoreFailure
from ..analytics import Price
from .money import Dollars
from .whose import Key
from .windows import Kind


class BudgetOptions(BaseModel):
    """Options of budget."""

    limit_usd: Dollars
    window: Kind = "day"
    key: Key = "global"
    on_exceeded: Literal["reject", "warn", "downgrade"] = "reject"
    downgrade_to: str | None = Field(default=None, min_length=1)
    """The model to ask instead: "provider/model", or a bare name for one of the same provider."""
    on_unknown_price: Literal["reject", "allow"] = "reject"
    prices: dict[str, Price] = Field(default_factory=dict)
    """US dollars for one million tokens by "provider/model" or by model, as in analytics."""
    lease_s: float = Field(default=3600.0, gt=0, le=MAX_TTL_S, allow_inf_nan=False)
    store: str | None = Field(default=None, repr=False)
    on_store_failure: OnStoreFailure = "closed"

    @model_validator(mode="after")
    def _consistent(self) -> Any:
        if (self.on_exceeded == "downgrade") != (self.downgrade_to is not None):
            said = "it is not set" if self.downgrade_to is None else "nothing is downgraded"
            raise ConfigError(said, key="downgrade_to", expected='it together with on_exceeded = "downgrade"')
        return self
