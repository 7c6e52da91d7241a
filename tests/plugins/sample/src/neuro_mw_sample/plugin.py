"""What this package offers to neuro_mw; the entry point ``sample`` names this module."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from neuro_mw import LanguageModel, hookimpl

from .signature import Signature
from .upside_down import UpsideDown


@hookimpl
def register_middleware(register: Callable[..., None]) -> None:
    """One middleware."""
    register(Signature)


@hookimpl
def register_presets(register: Callable[[Path], None]) -> None:
    """One preset, as a file of this package."""
    register(Path(__file__).with_name("signed.toml"))


@hookimpl
def register_models(register: Callable[[str, Callable[[str], LanguageModel]], None]) -> None:
    """One provider: "upside_down/any" resolves to ``UpsideDown("any")``."""
    register("upside_down", UpsideDown)
