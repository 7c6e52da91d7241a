"""What tells one model object from another of the same class, provider and id."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from neuro_mw.errors import ConfigError

from .catalog import endpoint_of


def identity(model: Any) -> list[str]:
    """Where a native model asks (as given, or by the environment), and as whom; of headers and keys a hash."""
    try:
        asks = list(endpoint_of(model.provider, model._base_url))
    except ConfigError:  # said when it is asked
        asks = []
    own = repr((sorted(model._headers.items()), model._api_key))
    return [*asks, sha256(own.encode("utf-8", "replace")).hexdigest()]
