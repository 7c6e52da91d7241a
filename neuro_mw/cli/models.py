"""``neuro-mw models``: which providers there are, whether they can be called from here, and what their models cost."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from neuro_mw import ConfigError
from neuro_mw.names import nearest
from neuro_mw.pricing import listed_models
from neuro_mw.providers import driver_of, known_provider, known_providers, provider_info
from neuro_mw.providers.catalog import PROVIDERS

from .options import Debug, Json
from .output import is_plain, show, show_json


def models(
    provider: Annotated[
        str | None, typer.Option("--provider", metavar="NAME", help="Its models, prices and context windows.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Also the providers that only litellm knows; not with --provider.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the providers, or the models of one; keys are only looked for, never shown."""
    if provider is not None and not known_provider(provider):
        near = nearest(provider.lower(), known_providers())
        raise ConfigError(f"{provider!r} is not a known provider", key="--provider", nearest=near)
    if provider is not None and every:
        raise ConfigError("it lists providers; --provider lists the models of one. Leave out either", key="--all")
    if provider is None:
        others = [name for name in known_providers() if name not in PROVIDERS] if every else []
        rows = [provider_row(name) for name in [*PROVIDERS, *others]]
        if as_json:
            show_json(rows)
            return
        from neuro_mw.display import providers_table

        show(providers_table(rows, plain=is_plain()))
        return
    row = {**provider_row(provider), "models": model_rows(provider)}
    if as_json:
        show_json(row)
        return
    from neuro_mw.display import models_table, providers_table

    found = models_table(row["models"], plain=is_plain()) if row["models"] else "The price list has no models of it."
    show(providers_table([row], plain=is_plain()), "", found)


def provider_row(name: str) -> dict[str, Any]:
    """What there is to know of a provider, as plain data; of a variable only whether it is set."""
    info = provider_info(name)
    return {
        "provider": name,
        "driver": driver_of(name),
        "key": "set" if any(map(os.environ.get, info.keys)) else "missing" if info.keys else "none needed or known",
        "key_variables": _looked_up(info.keys),
        "optional_key_variables": _looked_up(info.optional_keys),
        "base_url_variables": _looked_up(info.bases),
    }


def model_rows(provider: str) -> list[dict[str, Any]]:
    """The listed models of a provider: US dollars for one million tokens, and the context window; by name."""
    rows = [
        {
            "model": model,
            **{name: getattr(price, name, None) for name in ("input", "output", "cache_read", "cache_write")},
            "tiers": [above for above, _ in price.tiers] if price else [],
            **window._asdict(),
        }
        for model, price, window in listed_models(provider)
    ]
    return sorted(rows, key=lambda row: str(row["model"]))


def _looked_up(variables: Iterable[str]) -> dict[str, bool]:
    return {name: bool(os.environ.get(name)) for name in variables}
