"""What tells one model object from another of the same class, provider and id."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

from neuro_mw.errors import ConfigError

from .catalog import endpoint_of


def identity_of(provider: str, base_url: str | None, headers: Mapping[str, str], api_key: str | None) -> list[str]:
    """Where it asks (given, or of the environment), and as whom; of headers and keys a hash."""
    try:
        asks = list(endpoint_of(provider, base_url))
    except ConfigError:  # said when it is asked
        asks = []
    own = repr((sorted(headers.items()), api_key))
    return [*asks, sha256(own.encode("utf-8", "replace")).hexdigest()]
