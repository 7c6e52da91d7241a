"""The command line as users have it: a process of its own, and plugins that are really installed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import neuro_mw

ROOT = str(Path(neuro_mw.__file__).parent.parent)

PLUGIN = '''
import asyncio, os
from neuro_mw import (
    Blocked, Finish, Middleware, MiddlewareMetadata, ProviderUnavailable, Response, TextDelta, ToolCall, hookimpl,
    parts_of, middleware,
)

def note(word):
    if os.environ.get("CLI_NOTES"):
        with open(os.environ["CLI_NOTES"], "a") as file:
            file.write(word + "\\n")

def refuse(params, context):
    raise Blocked("no\\nthanks", category="test")

def refuse_late(params, context):
    def step(part):
        if isinstance(part, TextDelta) and "BAD" in part.text:
            raise Blocked("bad word")
        return part
    return step

def fail(params, context):
    raise ValueError("about PROMPT-SECRET")

class Life(Middleware):
    metadata = MiddlewareMetadata(id="life", description="notes [its] life", kind="observer")
    async def startup(self): note("startup")
    async def aclose(self): note("aclose")
    def on_end(self, outcome, context): note("end " + outcome.status)

class NeedsOption(Middleware):
    metadata = MiddlewareMetadata(id="needs_option", kind="control")
    def __init__(self, config=None, /, **options):
        raise RuntimeError("never built for a list")
    async def wrap_generate(self, do_generate, params, context):
        return await do_generate(params)

class Odd:
    """A provider whose models each behave in one way."""
    provider = "odd"
    def __init__(self, model_id): self.model_id = model_id
    async def generate(self, params):
        if self.model_id == "down":
            raise ProviderUnavailable("odd/down is\\x1b[31m\\nnot there", provider="odd", model="down", status=503)
        if self.model_id == "cancel":
            raise asyncio.CancelledError
        if self.model_id == "tools":
            return Response(tool_calls=[ToolCall("c1", "weather", '{"in": "Rome"}')], finish_reason="tool_calls")
        return Response(text="line\\n")
    async def stream(self, params):
        try:
            if self.model_id in ("slow", "breaks"):
                yield TextDelta("first")
                if self.model_id == "breaks":
                    raise ProviderUnavailable("it broke off", provider="odd", model="breaks")
                await asyncio.sleep(60)
            for part in parts_of(await self.generate(params)):
                yield part
        finally:
            note("stream closed")

@hookimpl
def register_middleware(register):
    register(middleware("refuse", transform_params=refuse, kind="guard"))
    register(middleware("refuse_late", transform_parts=refuse_late, kind="guard"))
    register(middleware("fail", transform_params=fail))
    register(Life)
    register(NeedsOption)

@hookimpl
def register_models(register):
    register("odd", Odd)
'''


def install(folder: Path, distribution: str, module: str, source: str) -> None:
    """What pip leaves behind for a distribution with one module and one entry point."""
    (folder / f"{module}.py").write_text(source)
    info = folder / f"{distribution}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[neuro_mw]\n{module} = {module}\n")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of installed plugins: a good one."""
    folder = tmp_path / "site"
    folder.mkdir()
    install(folder, "cliplug", "cli_plug", PLUGIN)
    return folder


@pytest.fixture
def broken(site: Path) -> Path:
    """The same folder with a broken plugin beside it."""
    install(site, "brokenplug", "cli_broken", "raise RuntimeError('it is [broken]')\n")
    return site


def environment_of(site: Path | None = None, **more: str) -> dict[str, str]:
    dropped = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "NEURO_MW_PLUGINS", "PYTHONPATH", "PYTHONWARNINGS", "TERM")
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    path = os.pathsep.join(([str(site)] if site else []) + [ROOT])
    return {**kept, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8", "TERM": "xterm-256color", **more}


def command_of(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "neuro_mw", *arguments]


@pytest.fixture
def command() -> Callable[..., list[str]]:
    return command_of


@pytest.fixture
def environment() -> Callable[..., dict[str, str]]:
    return environment_of


@pytest.fixture
def neuro() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``neuro-mw`` in a process of its own."""

    def run(*arguments: str, site: Path | None = None, stdin: str | None = None, **env: str) -> Any:
        given: dict[str, Any] = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
        done = subprocess.run(
            command_of(*arguments), env=environment_of(site, **env), capture_output=True, text=True, encoding="utf-8",
            timeout=60, check=False, **given,
        )
        assert "Traceback" not in done.stdout + done.stderr or "--debug" in arguments
        return done

    return run
