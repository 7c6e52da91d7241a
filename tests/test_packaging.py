"""What is shipped: the built wheel in an environment of its own, the sdist, and an editable checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import neuro_mw

ROOT = Path(__file__).parents[1]
PRESETS = sorted(path.name for path in (ROOT / "presets").glob("*.toml"))
LOAD_PRESETS = """
import json, pathlib, neuro_mw
from neuro_mw.presets import preset_folder
factory = neuro_mw.MiddlewareFactory(plugins=False)
chains = {name: list(factory.apply_middleware("echo/echo", preset=name).chain) for name in factory.presets}
answer = neuro_mw.MiddlewareFactory(plugins=False).apply_middleware("echo/echo").generate_sync("hello")
print(json.dumps([neuro_mw.__file__, str(preset_folder()), chains, answer.text]))
"""


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    """A command's output. Nothing of this process's paths reaches it, so the checkout cannot help it."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env={**clean, **env}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the wheel and the sdist."""
    out = tmp_path_factory.mktemp("dist")
    for kind in ("--wheel", "--sdist"):
        run(sys.executable, "-m", "build", kind, "--no-isolation", "--outdir", out, ROOT, cwd=out)
    return out


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (wheel,) = built.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def empty_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The python of an environment with the dependencies in reach, but without neuro_mw.

    Installing the dependencies again would take minutes; they come from the running environment, through links to
    everything but what belongs to neuro_mw. `.ci/run` installs the package with its dependencies for real.
    """
    folder = tmp_path_factory.mktemp("env")
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    inside = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", vars=inside))
    for source in {Path(sysconfig.get_path("purelib")), Path(sysconfig.get_path("platlib"))}:
        for path in source.iterdir():
            own = path.name.lower().replace("-", "_").lstrip("_")
            if not own.startswith(("neuro_mw", "editable_impl_neuro_mw")) and not (site / path.name).exists():
                (site / path.name).symlink_to(path)
    scripts = Path(sysconfig.get_path("scripts", vars=inside))
    python = scripts / ("python.exe" if os.name == "nt" else "python")
    found = run(python, "-c", "import importlib.util; print(importlib.util.find_spec('neuro_mw'))", cwd=folder)
    assert found.strip() == "None", "the empty environment already sees neuro_mw"
    return python


@pytest.fixture(scope="module")
def installed(empty_python: Path, wheel: Path) -> Path:
    """The same environment with the wheel installed."""
    run(empty_python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=wheel.parent)
    return empty_python


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {f"neuro_mw/_presets/{name}" for name in PRESETS} == {
        name for name in names if name.startswith("neuro_mw/_presets/")
    }
    assert PRESETS
    assert "neuro_mw/py.typed" in names
    info = f"neuro_mw-{neuro_mw.__version__}.dist-info"
    assert {name.partition("/")[0] for name in names} == {"neuro_mw", info}, "tests, docs or benchmarks got in"
    assert f"{info}/licenses/LICENSE" in names
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "neuro_mw").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules


def test_wheel_metadata(wheel: Path) -> None:
    info = f"neuro_mw-{neuro_mw.__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(f"{info}/METADATA").decode()
        scripts = archive.read(f"{info}/entry_points.txt").decode()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert "Requires-Python: >=3.11" in metadata
    assert metadata.count("Requires-Dist: ") >= len(project["dependencies"])
    assert "neuro-mw = neuro_mw.cli:main" in scripts


def test_every_preset_loads_from_the_installed_wheel(installed: Path, tmp_path: Path) -> None:
    file, folder, chains, text = json.loads(run(installed, "-c", LOAD_PRESETS, cwd=tmp_path))
    environment = installed.parents[1]
    assert Path(file).is_relative_to(environment), "another neuro_mw was imported"
    assert Path(folder) == Path(file).parent / "_presets"
    assert sorted(f"{name}.toml" for name in chains) == PRESETS
    assert chains["default"] == ["analytics"]
    assert all(chains.values())
    assert text == "hello"


def test_command_of_the_installed_wheel(installed: Path, tmp_path: Path) -> None:
    shown = run(installed.with_name("neuro-mw"), "presets", cwd=tmp_path, NO_COLOR="1")
    assert all(Path(name).stem in shown for name in PRESETS)
    assert run(installed, "-m", "neuro_mw", "run", "hello there", cwd=tmp_path).strip() == "hello there"


def test_editable_checkout_finds_the_presets(empty_python: Path, tmp_path: Path) -> None:
    """What an editable install does: the checkout is on the path, and nothing was copied."""
    file, folder, chains, text = json.loads(run(empty_python, "-c", LOAD_PRESETS, cwd=tmp_path, PYTHONPATH=str(ROOT)))
    assert Path(file) == ROOT / "neuro_mw" / "__init__.py"
    assert Path(folder) == ROOT / "presets"
    assert sorted(f"{name}.toml" for name in chains) == PRESETS
    assert text == "hello"


def test_editable_wheel_points_at_the_checkout_alone(tmp_path: Path) -> None:
    """The wheel of an editable install holds a path file and no copy that could grow stale."""
    out = tmp_path / "dist"
    out.mkdir()
    build = "import sys; from hatchling.build import build_editable; print(build_editable(sys.argv[1]))"
    run(sys.executable, "-c", build, out, cwd=ROOT)
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (path_file,) = [name for name in names if name.endswith(".pth")]
        assert archive.read(path_file).decode().strip() == str(ROOT)
    copied = [name for name in names if name.startswith("neuro_mw/")]
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    assert not any(name.endswith(".py") for name in copied)
    program = f"import site; site.addsitedir({str(site)!r})\n{LOAD_PRESETS}"
    file, _, chains, _ = json.loads(run(sys.executable, "-c", program, cwd=tmp_path))
    assert sorted(f"{name}.toml" for name in chains) == PRESETS
    assert Path(file) == ROOT / "neuro_mw" / "__init__.py"


def test_sdist_builds_the_same_wheel(built: Path, wheel: Path, tmp_path: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        # the argument `filter` of extractall came with 3.11.4; the attribute is ignored before that
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(tmp_path)
    (source,) = tmp_path.iterdir()
    for needed in ("presets/default.toml", "tests/test_packaging.py", "README.md", "CHANGELOG.md", "LICENSE"):
        assert (source / needed).is_file(), needed
    out = tmp_path / "again"
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source, cwd=tmp_path)
    (again,) = out.glob("*.whl")
    assert sorted(zipfile.ZipFile(again).namelist()) == sorted(zipfile.ZipFile(wheel).namelist())
