"""The options that several commands have, and the factory they describe."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from neuro_mw import MiddlewareFactory


def _debug(context: typer.Context, wanted: bool) -> bool:
    if wanted:
        context.find_root().obj["debug"] = True
    return wanted


Debug = Annotated[
    bool, typer.Option("--debug", callback=_debug, is_eager=True, help="Show tracebacks; they may quote the prompt.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, for machines.")]
Config = Annotated[str | None, typer.Option("--config", metavar="FILE", help="A TOML file for the factory.")]
Preset = Annotated[
    list[str] | None, typer.Option("--preset", metavar="NAME", help="A preset; may be repeated, later wins.")
]
Enable = Annotated[list[str] | None, typer.Option("--enable", metavar="ID", help="Switch a middleware on; repeatable.")]
Disable = Annotated[
    list[str] | None, typer.Option("--disable", metavar="ID", help="Switch a middleware off; repeatable.")
]


def factory_of(
    config: str | None = None,
    preset: list[str] | None = None,
    enable: list[str] | None = None,
    disable: list[str] | None = None,
) -> tuple[MiddlewareFactory, dict[str, Any]]:
    """The factory, and what goes on top of its file for each model (nothing where there is no file).

    Raises ConfigError as the factory does: unknown names, a file that cannot be read or does not parse.
    """
    named = {"preset": preset, "enabled_middleware": enable, "disabled_middleware": disable}
    given: dict[str, Any] = {name: value for name, value in named.items() if value}
    if config is None:
        return MiddlewareFactory(**given), {}
    return MiddlewareFactory.from_file(config), given
