"""README and docs: every example runs, every public name and option is documented, nothing unbuilt is claimed."""

from __future__ import annotations

import contextlib
import dataclasses
import doctest
import importlib
import inspect
import io
import json
import os
import pkgutil
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel

import neuro_mw
from neuro_mw.builtin import Fallback, Retry
from neuro_mw.builtin._attempts import Failure, FailureOrLimit
from neuro_mw.builtin._catalog import CATALOG, class_name
from neuro_mw.builtin._keeping import OnStoreFailure
from neuro_mw.builtin.guardrails.channels import CHANNELS
from neuro_mw.builtin.guardrails.judge_settings import ModelFilter, PrecallEvaluation
from neuro_mw.config import ConditionsConfig, FactoryFile, MiddlewareEntry
from neuro_mw.options import PER_MODEL
from neuro_mw.state import Rate, Spending, address
from neuro_mw.state.memory import MemoryStore
from neuro_mw.state.redis import RedisStore
from neuro_mw.state.sqlite import SqliteStore

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = {page.name: page.read_text("utf-8") for page in PAGES}
EVERYTHING = "\n".join(TEXT.values())
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    page: str
    line: int
    end: int  # where it ends, in characters
    start: int

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: str) -> list[Block]:
    text = TEXT[page]
    return [
        Block(found[1], found[2], page, text.count("\n", 0, found.start()) + 2, found.end(), found.start())
        for found in _FENCE.finditer(text)
    ]


BLOCKS = {page: blocks_of(page) for page in TEXT}
ALL = [block for blocks in BLOCKS.values() for block in blocks]


def shell_commands() -> list[tuple[str, list[str]]]:
    """Every simple command of the shell blocks, as (where, words)."""
    commands = []
    for block in ALL:
        if block.language in ("bash", "sh", "shell", "console"):
            for line in block.text.splitlines():
                words: list[str] = []
                for word in [*shlex.split(line, comments=True), "&&"]:
                    if word in ("&&", "|", ";"):
                        if words:
                            commands.append((str(block), words))
                        words = []
                    else:
                        words.append(word)
    return commands


def run_help(*command: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    return subprocess.run(
        [sys.executable, "-m", "neuro_mw", *command, "--help"], capture_output=True, text=True, env=env, timeout=60
    )


# --- the examples run --------------------------------------------------------------------------------------------


def test_only_known_languages() -> None:
    assert {block.language for block in ALL} <= {"python", "toml", "bash", "text"}, "a block that no test runs"
    assert sum(block.language == "python" for block in ALL) > 20


@pytest.mark.parametrize("page", list(TEXT))
def test_python_examples(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All python blocks of a page in one namespace, in order; a text block right behind one is what it prints."""
    monkeypatch.chdir(tmp_path)
    namespace = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", namespace)
    blocks = BLOCKS[page]
    for block, after in zip(blocks, [*blocks[1:], None][: len(blocks)], strict=True):
        if block.language == "toml":
            name = re.match(r"# (\w+\.toml)$", block.text.splitlines()[0])
            if name:
                (tmp_path / name[1]).write_text(block.text, "utf-8")
        if block.language != "python":
            continue
        printed = io.StringIO()
        before = set(vars(namespace))
        source = "\n" * (block.line - 1) + block.text
        with contextlib.redirect_stdout(printed):
            exec(compile(source, str(ROOT / page), "exec"), vars(namespace))
            for name in set(vars(namespace)) - before:
                if name.startswith("test_"):
                    getattr(namespace, name)()
        follows = after is not None and not TEXT[page][block.end : after.start].strip()
        if follows and after is not None and after.language == "text":
            assert printed.getvalue().strip() == after.text.strip(), str(block)


@pytest.mark.parametrize("block", [block for block in ALL if block.language == "toml"], ids=str)
def test_toml_examples(block: Block, tmp_path: Path) -> None:
    data = tomllib.loads(block.text)
    file = tmp_path / "example.toml"
    file.write_text(block.text, "utf-8")
    if "project" in data:
        assert data["project"]["entry-points"]["neuro_mw"]
    elif {"description", "extends"} & set(data):
        preset = neuro_mw.MiddlewarePreset.from_file(file)
        factory = neuro_mw.MiddlewareFactory(plugins=False)
        factory.register_preset(preset)
        assert factory.apply_middleware("echo/echo", preset="example").chain
    else:
        assert set(data) <= set(FactoryFile.model_fields)
        assert neuro_mw.MiddlewareFactory.from_file(file).registry.size()


def test_shell_examples_name_what_exists() -> None:
    known_modules = {"venv", "pytest", "neuro_mw", "benchmarks", "build"}
    seen = 0
    for where, words in shell_commands():
        program = Path(words[0]).name
        if program in ("python", "python3"):
            assert words[1] == "-m", where
            assert words[2].split(".")[0] in known_modules, where
            if words[2] == "benchmarks":
                assert (ROOT / "benchmarks" / "__main__.py").is_file(), where
            if words[2] != "neuro_mw":
                continue
            words = words[2:]
        elif program == "pip":
            for extra in re.findall(r"\.\[(\w+)\]", " ".join(words)):
                assert extra in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
            continue
        elif program in ("echo", "git", "export", "cd"):
            continue
        else:
            assert program in ("neuro-mw", "run", "lint-imports"), f"{where}: unknown command {program}"
            if program == "run":
                assert os.access(ROOT / ".ci" / "run", os.X_OK), where
            if program != "neuro-mw":
                continue
        command = words[1]
        shown = run_help(command)
        assert shown.returncode == 0, f"{where}: neuro-mw {command}: {shown.stderr}"
        for word in words[2:]:
            if word.startswith("--"):
                assert re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", shown.stdout), f"{where}: {word}"
        seen += 1
    assert seen >= 7


def test_every_command_and_option_is_in_the_readme() -> None:
    section = TEXT["README.md"].split("## Command line")[1].split("\n## ")[0]
    commands = re.findall(r"^  (\w+)  ", run_help().stdout.split("Commands:")[1], re.MULTILINE)
    assert len(commands) >= 6
    for command in commands:
        assert f"neuro-mw {command}" in section, command
        for option in re.findall(r"^  (?:-\w, )?(--[\w-]+)", run_help(command).stdout, re.MULTILINE):
            assert option == "--help" or documented(option, section), f"{command} {option}"


def test_doubles_for_tests_are_documented() -> None:
    import neuro_mw.testing

    assert [name for name in neuro_mw.testing.__all__ if not documented(name)] == []


def test_readme_commands_are_one_line_each() -> None:
    """The two commands for a fresh machine; .ci/run takes them from here."""
    for ending in ("neuro-mw demo", "python -m pytest"):
        lines = [block.text.strip() for block in BLOCKS["README.md"] if block.text.strip().endswith(ending)]
        fresh = [line for line in lines if line.startswith("python3 -m venv ")]
        assert len(fresh) == 1
        assert "\n" not in fresh[0]


def modules() -> list[str]:
    found = pkgutil.walk_packages(neuro_mw.__path__, "neuro_mw.")
    return ["neuro_mw", *sorted(one.name for one in found if not one.name.endswith("__main__"))]


@pytest.mark.parametrize("module", modules())
def test_docstring_examples(module: str) -> None:
    flags = doctest.IGNORE_EXCEPTION_DETAIL | doctest.NORMALIZE_WHITESPACE
    failed, _ = doctest.testmod(importlib.import_module(module), optionflags=flags)
    assert failed == 0


# --- nothing public is undocumented ------------------------------------------------------------------------------


def documented(name: str, text: str = EVERYTHING) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None


@pytest.mark.parametrize("name", neuro_mw.__all__)
def test_public_names_are_documented(name: str) -> None:
    assert name == "__version__" or documented(name), f"{name} stands neither in README.md nor in docs/"


def test_the_table_of_names_is_complete_and_true() -> None:
    table = TEXT["middleware.md"].split("## Public names")[1]
    listed = {name for row in re.findall(r"^\| (.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert listed == set(neuro_mw.__all__) - {"__version__"}


OPTIONS = [name for name in inspect.signature(neuro_mw.MiddlewareFactory).parameters if name != "self"]
FIELDS = {
    "factory option": OPTIONS,
    "option of apply_middleware": list(PER_MODEL),
    "key of a middleware's entry": list(MiddlewareEntry.model_fields),
    "condition": list(ConditionsConfig.model_fields),
    "metadata": [one.name for one in dataclasses.fields(neuro_mw.MiddlewareMetadata)],
    "field of Response": [one.name for one in dataclasses.fields(neuro_mw.Response)],
    "field of Outcome": [one.name for one in dataclasses.fields(neuro_mw.Outcome)],
    "field of MiddlewareStats": [one.name for one in dataclasses.fields(neuro_mw.MiddlewareStats)],
    "hook": list(neuro_mw.Hooks._fields),
    "attribute of the context": [name for name in vars(neuro_mw.MiddlewareContext) if not name.startswith("_")],
    "attribute of a middleware": [name for name in vars(neuro_mw.Middleware) if not name.startswith("_")],
    "name of neuro_mw.state": neuro_mw.state.__all__,
    "method of the registry": [name for name in vars(neuro_mw.MiddlewareRegistry) if not name.startswith("_")],
    "method of the factory": [name for name in vars(neuro_mw.MiddlewareFactory) if not name.startswith("_")],
    "method of a wrapped model": [name for name in vars(neuro_mw.WrappedModel) if not name.startswith("_")],
}
# for this package's own use: of the registry, and of the context
INTERNAL = {"add", "configure", "derive", "ids", "keep_only", "layers", "lookup", "registrations", "version"}
INTERNAL |= {"would_use", "for_call", "fork"}


@pytest.mark.parametrize("what", list(FIELDS))
def test_options_and_fields_are_documented(what: str) -> None:
    internal = INTERNAL if what in ("method of the registry", "attribute of the context") else set()
    names = [name for name in FIELDS[what] if name not in internal]
    assert names
    assert [name for name in names if not documented(name)] == [], what


# where the options of a built-in stand, if not in resilience.md under its id
SECTIONS = {"Analytics": ("middleware.md", "analytics"), "Guardrails": ("guardrails.md", "Options")}
STATEFUL = {"Budget": "budget", "Cache": "cache", "RateLimit": "rate_limit"}
SECTIONS |= {name: ("state.md", id) for name, id in STATEFUL.items()}
SECTIONS |= {name: ("observability.md", name.lower()) for name in ("Errors", "Logging", "Tracing")}
OF_ANSWERS = ("auto_evaluation", "extract_reasoning", "pseudonymize", "structured_output", "tool_guard")
SECTIONS |= {class_name(id): ("quality.md", id) for id in OF_ANSWERS}
MEANS = {"none": {"None", "[]", "{}"}, "off": {"None", "False"}, "on": {"True"}, "empty": {"[]", "{}"}}


def section(page: str, heading: str) -> str:
    """The text under a heading, without the examples, in which a line may begin with '#', too."""
    text = _FENCE.sub("", TEXT[page])
    return re.split(r"^##? ", text.split(f"\n## {heading}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


def described_options(text: str) -> dict[str, str]:
    """The options in the tables of a section, also several in one row, with what they say of the default."""
    options = {}
    default = 0
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] == "option":
            default = cells.index("default")
        elif not line.startswith("|"):
            default = 0
        elif default:
            options.update((name, cells[default].strip("`")) for name in re.findall(r"`([\w.*]+)`", cells[0]))
    options.update(re.findall(r"`(\w+)` \((\d+)\)", text))  # in passing, as "`max_match_chars` (256)"
    return options


def real_options(config: type[BaseModel]) -> dict[str, Any]:
    """Every option with its default; those of the models in a dict as "limits.*.max"."""
    options = {}
    for name, field in config.model_fields.items():
        options[name] = "required" if field.is_required() else field.get_default(call_default_factory=True)
        inner = get_args(field.annotation)[-1] if get_origin(field.annotation) is dict else None
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            options.update((f"{name}.*.{key}", value) for key, value in real_options(inner).items())
    return options


def says(written: str, default: Any) -> bool:
    """Whether this is how a default is written."""
    if written in MEANS:
        return repr(default) in MEANS[written]
    if written == "all but system":
        return bool(default == [name for name in CHANNELS if name != "system"])
    if "required" in (written, default):
        return bool(written == default)
    value = json.loads(written)
    return bool(value == default) and isinstance(value, bool) == isinstance(default, bool)


@pytest.mark.parametrize("name", neuro_mw.builtin.__all__)
def test_every_option_of_a_built_in_stands_with_its_default(name: str) -> None:
    built_in = getattr(neuro_mw.builtin, name)
    described = described_options(section(*SECTIONS.get(name, ("resilience.md", built_in.metadata.id))))
    real = real_options(built_in.Config)
    assert set(described) == set(real)
    wrong = {option: default for option, default in real.items() if not says(described[option], default)}
    assert wrong == {}, described


STORES: dict[str, tuple[Any, Any]] = {
    "memory": (MemoryStore, address._OF_MEMORY),
    "sqlite": (SqliteStore, address._OF_SQLITE),
    "redis": (RedisStore, address._OF_REDIS),
}


def test_the_tables_of_stores_are_the_truth() -> None:
    text = section("state.md", "The stores")
    rows = re.findall(r"^\| `(\w+)` \| ([\w, ]+) \| (.+?) \| .+ \|$", text, re.MULTILINE)
    described = {(store, name): default for name, stores, default in rows for store in stores.split(", ")}
    assert len(described) == sum(len(stores.split(", ")) for _, stores, _ in rows)
    assert set(described) == {(store, name) for store, (_, options) in STORES.items() for name in options}
    for (store, name), written in described.items():
        assert says(written, inspect.signature(STORES[store][0]).parameters[name].default), (store, name)
    for url in re.findall(r"`([a-z+]+://[^`]*)`", text.split("\n1. ")[0]):
        assert type(neuro_mw.state.open_store(url.replace("...", "host"))) in {kind for kind, _ in STORES.values()}
    assert set(re.findall(r"`([a-z+]+)(?:://[^`]*)?`", text.split("\n1. ")[0])) >= set(address._SCHEMES)


def test_the_table_of_scripts_is_the_truth() -> None:
    rows = re.findall(r"^\| `((\w+)\(.*?\))` \|.*\| (.+) \|$", section("state.md", "State of your own"), re.MULTILINE)
    makers = {name for name in neuro_mw.state.__all__ if name[0].isupper() and inspect.isfunction(state_name(name))}
    assert {name for _, name, _ in rows} == makers
    for written, name, _ in rows:
        assert written == f"{name}({', '.join(inspect.signature(state_name(name)).parameters)})"
    results = {name: result for _, name, result in rows}
    for kind, name in ((Rate, "Take"), (Spending, "Reserve")):
        assert [field for field in kind._fields if not documented(field, results[name])] == []


def state_name(name: str) -> Any:
    return getattr(neuro_mw.state, name)


def test_the_preset_cost_is_shown_as_it_is() -> None:
    (shown,) = (tomllib.loads(block.text) for block in BLOCKS["state.md"] if block.text.startswith("description"))
    assert shown == tomllib.loads((ROOT / "presets" / "cost.toml").read_text("utf-8"))


def test_the_table_of_what_holds_while_a_store_is_away_is_the_truth() -> None:
    text = section("state.md", "While the store is away")
    rows = re.findall(r'^\| "(\w+)" \| .+ \| `(\w+)` \|$', text, re.MULTILINE)
    real = {name: real_options(getattr(neuro_mw.builtin, name).Config)["on_store_failure"] for name in STATEFUL}
    assert {id: policy for policy, id in rows} == {STATEFUL[name]: policy for name, policy in real.items()}
    assert {policy for policy, _ in rows} == set(get_args(OnStoreFailure))


def test_what_stateful_built_ins_count_is_documented() -> None:
    for id in STATEFUL.values():
        files = [ROOT / "neuro_mw" / "builtin" / f"{id}.py", ROOT / "neuro_mw" / "builtin" / "_keeping.py"]
        source = "\n".join(file.read_text("utf-8") for file in files)
        counted = set(re.findall(r'count\(f?"([a-z_]+[."])', source))
        assert len(counted) > 2
        assert [name for name in counted if f"`{name.rstrip(chr(34))}" not in TEXT["state.md"]] == [], id


@pytest.mark.parametrize("id", OF_ANSWERS)
def test_what_built_ins_of_answers_count_is_documented(id: str) -> None:
    """Names that are put together end with a dot."""
    folders = {"auto_evaluation": "evaluation", "pseudonymize": "pseudonyms", "structured_output": "structured"}
    folder = ROOT / "neuro_mw" / "builtin" / folders.get(id, "tools")
    files = [ROOT / "neuro_mw" / "builtin" / f"{id}.py", *(folder.glob("*.py") if id != "extract_reasoning" else ())]
    source = "\n".join(file.read_text("utf-8") for file in files)
    counted = set(re.findall(r'count\(f?"([a-z_]+\.?)', source))
    assert counted
    text = section("quality.md", id)
    assert [name for name in counted if not re.search(rf"[`\"]{re.escape(name)}", text)] == []


def test_the_tables_of_failures_and_of_the_order_are_the_truth() -> None:
    text = section("resilience.md", "What is tried again, and what is final")
    rows = re.findall(r"^\| `(\w+)` \| .+ \| ([\w ]+) \| ([\w ]+) \|$", text, re.MULTILINE)
    assert {name for name, *_ in rows} == set(get_args(FailureOrLimit))
    for column, (config, names) in enumerate(((Retry.Config, Failure), (Fallback.Config, FailureOrLimit)), 1):
        written = {word: {row[0] for row in rows if row[column] == word} for word in ("default", "no such name")}
        assert written["default"] == set(real_options(config)["on"])
        assert written["no such name"] == set(get_args(FailureOrLimit)) - set(get_args(names))
    order = re.findall(r"^\| `(\w+)` \| (\d+) \|", section("resilience.md", "The order"), re.MULTILINE)
    assert order == [(id, str(metadata.priority)) for id, metadata in CATALOG.items() if metadata.kind != "observer"]


@pytest.mark.parametrize(("key", "config"), [("precall_evaluation", PrecallEvaluation), ("model_filter", ModelFilter)])
def test_the_example_of_judges_shows_their_defaults(key: str, config: type[BaseModel]) -> None:
    (shown,) = (tomllib.loads(block.text) for block in BLOCKS["guardrails.md"] if "# judges.toml" in block.text)
    given, default = shown["middleware"]["guardrails"]["config"][key], config().model_dump()
    of_the_example = {"model", "sanitization_patterns"}
    assert {name: given[name] for name in given if name not in of_the_example and given[name] != default[name]} == {}
    if config is PrecallEvaluation:
        assert set(default) - set(given) == {"enabled", "provider", "prompt"}


def test_the_table_of_presets_in_the_readme_is_the_truth() -> None:
    presets = neuro_mw.MiddlewareFactory(plugins=False).presets
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", section("README.md", "Presets and configuration"), re.MULTILINE)
    assert {name for name, _ in rows} == set(presets)
    for preset, cell in rows:
        names = re.findall(r"`(\w+)`", cell)
        switched_on = {id for name in names for id in (presets.entries(name) if name in presets else [name])}
        assert switched_on == set(presets.entries(preset)), preset


def test_the_table_of_presets_for_resilience_is_the_truth() -> None:
    presets = neuro_mw.MiddlewareFactory(plugins=False).presets
    found = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \|$", section("resilience.md", "The presets"), re.MULTILINE)
    cells = {id: both for id, *both in found}
    for column, name in enumerate(("resilience", "production")):
        assert {id for id, both in cells.items() if both[column] != "no"} == set(presets.entries(name))
    entries = presets.entries("production")
    plain = {id for id, entry in entries.items() if entry == {}}
    assert {id for id, both in cells.items() if "with its defaults" in both} == plain - {"analytics"}
    assert "cache" in plain  # state.md says so
    times = tomllib.loads(cells["timeout"][0].replace("`", "").replace(", ", "\n"))
    assert entries["timeout"] == presets.entries("resilience")["timeout"] == {"config": times}


def test_public_classes_and_functions_have_docstrings() -> None:
    bare = []
    for name in neuro_mw.__all__:
        value = getattr(neuro_mw, name)
        if (isinstance(value, type) or callable(value)) and getattr(value, "__module__", "").startswith("neuro_mw"):
            own = value.__doc__ or ""
            if not own or own.startswith(f"{name}("):  # a dataclass makes its own
                bare.append(name)
    assert bare == []


# --- what is claimed exists --------------------------------------------------------------------------------------


def test_table_of_built_ins_is_the_truth() -> None:
    section = TEXT["README.md"].split("## Built-in middlewares")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| (\w+) \|", section, re.MULTILINE)
    registry = neuro_mw.MiddlewareFactory(plugins=False).registry
    real = [(one.id, str(one.priority), one.metadata.kind) for one in registry.registrations()]
    assert rows == real


def test_presets_named_in_the_readme_exist() -> None:
    names = set(re.findall(r'preset(?:="| = "|s=\[")([\w-]+)"', EVERYTHING))
    misspelled = {"defualt"}  # on purpose: the page shows the error
    made_in_examples = set(re.findall(r'(?:MiddlewarePreset\(|"name": )"([\w-]+)"', EVERYTHING))
    assert names <= set(neuro_mw.MiddlewareFactory(plugins=False).presets) | made_in_examples | misspelled


def test_every_dependency_has_its_reason() -> None:
    section = TEXT["README.md"].split("## Dependencies")[1].split("\n## ")[0]
    rows = re.findall(r"^\| ([\w-]+) \| \S", section, re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert [row for row in rows if row != "package"] == [re.split(r"[<>=]", one)[0] for one in project["dependencies"]]


def test_changelog_has_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert re.search(rf"^## \[{re.escape(neuro_mw.__version__)}\]", changelog, re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["version"] == neuro_mw.__version__


@pytest.mark.parametrize("page", list(TEXT))
def test_links_lead_somewhere(page: str) -> None:
    folder = ROOT if page == "README.md" else ROOT / "docs"
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", TEXT[page]):
        assert (folder / target).exists(), f"{page}: {target}"


def test_architecture_names_every_module() -> None:
    page = TEXT["architecture.md"]
    package = ROOT / "neuro_mw"
    files = [path.name for path in package.glob("*.py") if path.name != "__init__.py"]
    folders = [f"{path.parent.name}/" for path in package.glob("*/__init__.py")]
    files += [path.name for folder in ("state", "builtin/limits", "builtin/caching")
              for path in (package / folder).glob("*.*") if path.name != "__init__.py"]  # fmt: skip
    assert [name for name in files + folders if f"`{name}`" not in page] == []


def test_pages_name_real_files() -> None:
    for name in re.findall(r"`((?:neuro_mw|tests|docs|presets|benchmarks)/[\w./-]+)`", EVERYTHING):
        assert (ROOT / name).exists() or name.startswith("neuro_mw/_presets"), name
