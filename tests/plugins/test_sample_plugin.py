"""A real plugin project: built into a wheel, installed, found by its entry point, off until named, on when named."""

from __future__ import annotations

import asyncio
import doctest
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from neuro_mw import MiddlewareFactory

ROOT = Path(__file__).parents[2]
SAMPLE = Path(__file__).parent / "sample"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(SAMPLE)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("target")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return target


@pytest.fixture
def sample(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The plugin importable in this process, for one test."""
    monkeypatch.delenv("NEURO_MW_PLUGINS", raising=False)
    monkeypatch.syspath_prepend(installed)
    importlib.invalidate_caches()
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "neuro_mw_sample"]:
        del sys.modules[name]


def answers(model: object) -> tuple[str, str]:
    """What a wrapped model answers to "hello" in both modes."""

    async def both() -> tuple[str, str]:
        whole = (await model.generate("hello")).text  # type: ignore[attr-defined]
        async with model.stream("hello") as stream:  # type: ignore[attr-defined]
            return whole, "".join([text async for text in stream.text()])

    return asyncio.run(both())


def test_wheel_is_typed_and_holds_its_preset(installed: Path) -> None:
    package = installed / "neuro_mw_sample"
    assert (package / "py.typed").is_file()
    assert (package / "signed.toml").is_file()


@pytest.mark.usefixtures("sample")
def test_it_is_found_by_its_entry_point() -> None:
    factory = MiddlewareFactory()
    assert factory.plugin_errors == []
    (info,) = [info for info in factory.plugins if info.name == "sample"]
    assert (info.distribution, info.version) == ("neuro-mw-sample", "1.2.3")
    assert info.entry_point == "neuro_mw_sample.plugin"
    assert info.middleware == ["signature"]
    assert factory.registry.has("signature")


@pytest.mark.usefixtures("sample")
def test_it_is_off_until_named_though_it_says_default_enabled() -> None:
    factory = MiddlewareFactory()
    assert factory.apply_middleware("echo/echo").chain == ("analytics",)
    plan = factory.explain(factory.create_context("echo", "echo"))
    assert not plan["signature"].applied
    assert plan["signature"].origin == "neuro-mw-sample 1.2.3"


@pytest.mark.usefixtures("sample")
@pytest.mark.parametrize(
    "options",
    [{"enabled_middleware": ["signature"]}, {"middleware_config": {"signature": {}}}],
    ids=["enabled_middleware", "middleware_config"],
)
def test_it_is_on_when_named(options: dict[str, object]) -> None:
    for model in (
        MiddlewareFactory(**options).apply_middleware("echo/echo"),  # type: ignore[arg-type]
        MiddlewareFactory().apply_middleware("echo/echo", **options),
    ):
        assert model.chain == ("analytics", "signature")
        assert answers(model) == ("hello -- signed", "hello -- signed")


@pytest.mark.usefixtures("sample")
def test_its_preset_works() -> None:
    factory = MiddlewareFactory(preset="signed")
    presets = {info.name: info.middleware for info in factory.get_available_presets()}
    assert presets["signed"] == ["analytics", "signature"]
    assert answers(factory.apply_middleware("echo/echo")) == ("hello -- the sample", "hello -- the sample")


@pytest.mark.usefixtures("sample")
def test_its_model_resolves_behind_the_chain() -> None:
    model = MiddlewareFactory(preset="signed").apply_middleware("upside_down/any")
    assert (model.provider, model.model_id) == ("upside_down", "any")
    assert answers(model) == ("olleh -- the sample", "olleh -- the sample")


@pytest.mark.usefixtures("sample")
def test_a_call_can_change_to_its_model() -> None:
    response = MiddlewareFactory(preset=None).apply_middleware(
        "echo/echo", enabled_middleware=["signature"]
    ).generate_sync("hello", model="upside_down/any")
    assert response.text == "olleh -- signed"


@pytest.mark.usefixtures("sample")
@pytest.mark.parametrize(
    ("env", "plugins", "found"),
    [
        (None, True, True),
        (None, False, False),
        (None, ["sample"], True),
        (None, [], False),
        ("", True, False),
        ("sample", True, True),
        ("sample, another", True, True),
        ("another", True, False),
        ("", ["sample"], True),  # the code names it: the environment selects only where the code leaves it open
        ("sample", False, False),
    ],
)
def test_selection(env: str | None, plugins: bool | list[str], found: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if env is not None:
        monkeypatch.setenv("NEURO_MW_PLUGINS", env)
    assert MiddlewareFactory(plugins=plugins).registry.has("signature") is found


@pytest.mark.usefixtures("sample")
def test_a_selected_name_that_is_not_installed_is_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEURO_MW_PLUGINS", "smaple")
    (error,) = MiddlewareFactory().plugin_errors
    assert "smaple" in str(error)


def test_in_a_process_of_its_own(installed: Path) -> None:
    """Installed and run: nothing of this test session helps it."""
    program = (
        "import json, sys, neuro_mw\n"
        "assert not any(name.startswith('neuro_mw_sample') for name in sys.modules)\n"
        "model = neuro_mw.MiddlewareFactory(preset='signed').apply_middleware('upside_down/x')\n"
        "response = model.generate_sync('abc')\n"
        "print(json.dumps([list(model.chain), response.text, response.metadata['signature']]))"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), str(ROOT)])}
    env.pop("NEURO_MW_PLUGINS", None)
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [["analytics", "signature"], "cba -- the sample", {"signed": 1}]


def test_loading_is_never_at_import(installed: Path) -> None:
    program = "import sys, neuro_mw\nassert neuro_mw.MiddlewareFactory\nprint('neuro_mw_sample' in sys.modules)"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), str(ROOT)])}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n", done.stderr


@pytest.mark.usefixtures("sample")
def test_its_docstring_example_runs() -> None:
    failed, tried = doctest.testmod(importlib.import_module("neuro_mw_sample.signature"))
    assert (failed, tried > 0) == (0, True)
