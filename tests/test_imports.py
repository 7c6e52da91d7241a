"""What importing costs, what the files are called, how long they are, and which floor they stand on."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import neuro_mw

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "neuro_mw"
FILES = sorted(PACKAGE.rglob("*.py"))
HEAVY = ("litellm", "rich", "pluggy", "aiohttp", "re2", "pydantic", "orjson", "ahocorasick_rs", "typer", "tiktoken")


def loaded_by(code: str) -> set[str]:
    """The top-level modules that a fresh process has loaded after `code`, beyond those it had before."""
    program = (
        "import sys, json\nbefore = set(sys.modules)\n" + code + "\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in set(sys.modules) - before})))"
    )
    # -S keeps the .pth files of site-packages out of the picture; the path is handed over instead
    path = f"import sys; sys.path[:0] = {[str(ROOT), *filter(None, sys.path)]!r}\n"
    done = subprocess.run(
        [sys.executable, "-S", "-c", path + program], capture_output=True, text=True, check=True, timeout=60
    )
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("package", HEAVY)
def test_import_loads_no_third_party(package: str, after_import: set[str]) -> None:
    assert package not in after_import


@pytest.fixture(scope="module")
def after_import() -> set[str]:
    loaded = loaded_by("import neuro_mw")
    assert "neuro_mw" in loaded
    return loaded


def test_types_and_errors_load_no_third_party() -> None:
    loaded = loaded_by("from neuro_mw import Response, TextDelta, Blocked, Middleware, collect")
    assert loaded.isdisjoint(HEAVY)


def test_an_echo_call_needs_no_litellm_rich_or_aiohttp() -> None:
    loaded = loaded_by(
        "import neuro_mw\n"
        "model = neuro_mw.MiddlewareFactory().apply_middleware('echo/echo')\n"
        "assert model.generate_sync('hello').text == 'hello'"
    )
    assert loaded.isdisjoint({"litellm", "rich", "aiohttp", "re2", "typer"})


@pytest.mark.parametrize("name", neuro_mw.__all__)
def test_public_names_can_be_imported(name: str) -> None:
    assert getattr(importlib.import_module("neuro_mw"), name) is not None
    assert name in dir(neuro_mw)


def test_public_names_are_sorted_and_unique() -> None:
    names = neuro_mw.__all__[1:]
    assert names == sorted(set(names))


def test_star_import() -> None:
    namespace: dict[str, object] = {}
    exec("from neuro_mw import *", namespace)
    assert set(neuro_mw.__all__) <= set(namespace)


def test_type_checkers_see_the_same_names() -> None:
    """What stands under TYPE_CHECKING is what `__getattr__` gives."""
    import ast

    tree = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
    seen = {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
        if alias.asname == alias.name
    }
    assert seen == set(neuro_mw.__all__) - {"__version__"}


def test_middleware_stays_a_function() -> None:
    for module in FILES:
        name = ".".join(module.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if not name.endswith("__main__"):
            importlib.import_module(name)
    assert callable(neuro_mw.middleware)


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Midleware'"):
        _ = neuro_mw.Midleware


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_files_are_short(file: Path) -> None:
    assert len(file.read_text("utf-8").splitlines()) <= 300


def test_no_file_has_a_name_that_says_nothing() -> None:
    names = {file.name for file in FILES} | {file.parent.name for file in FILES}
    assert names.isdisjoint(f"{stem}{end}" for stem in ("utils", "helpers", "base", "manager") for end in (".py", ""))


def test_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


@pytest.mark.skipif(
    shutil.which("lint-imports", path=str(Path(sys.executable).parent)) is None,
    reason="import-linter comes with the dev extra; .ci/run runs it",
)
def test_floors() -> None:
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    assert " 0 broken" in done.stdout
