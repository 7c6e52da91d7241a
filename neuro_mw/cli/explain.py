"""``neuro-mw explain``: what a chain would be for a provider and model, and why; nothing is called."""

from __future__ import annotations

from typing import Annotated

import typer

from neuro_mw import ConfigError
from neuro_mw.providers import split_model

from .options import Config, Debug, Disable, Enable, Json, Preset, factory_of
from .output import is_plain, show, show_json


def explain(
    provider: Annotated[str | None, typer.Option("--provider", metavar="NAME", help="Such as openai.")] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", metavar="MODEL", help="Such as gpt-4o.")] = None,
    preset: Preset = None,
    config: Config = None,
    enable: Enable = None,
    disable: Disable = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show which middlewares apply to a model, in which order, and why the others do not."""
    if not model:
        raise ConfigError("it is missing", key="--model", expected="a model, such as --provider openai --model gpt-4o")
    named, bare = split_model(model)
    if provider is None or named == provider:
        provider, model = named, bare
    if provider is None:
        raise ConfigError("it is missing", key="--provider", expected="a provider, or --model provider/model")
    factory, options = factory_of(config, preset, enable, disable)
    plan = factory.explain(factory.create_context(provider, model), **options)
    if as_json:
        show_json(plan.to_dict())
    else:
        show(str(plan) if is_plain() else plan)
