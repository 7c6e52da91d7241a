"""Presets: named sets of middleware entries, from TOML files, from code, from plugins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from dataclasses import replace as replace_fields
from pathlib import Path
from typing import Any

from .config import PresetTable, deep_merge, entries_of, read_toml, validated
from .errors import ConfigError, PresetNotFound
from .names import nearest


@dataclass(frozen=True, slots=True)
class MiddlewarePreset:
    """A named set of entries (id -> entry, as in ``middleware_config``) on top of those that it extends.

    >>> MiddlewarePreset("quiet", middleware={"analytics": {"config": {"collect_timing": False}}}).name
    'quiet'
    """

    name: str
    description: str = ""
    middleware: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    extends: tuple[str, ...] = ()
    file: str | None = None

    @classmethod
    def from_file(cls, path: str | Path) -> MiddlewarePreset:
        """A preset from a TOML file; its name is that of the file unless it says another."""
        return cls.from_table(read_toml(path), name=Path(path).stem, file=str(path))

    @classmethod
    def from_table(cls, data: Mapping[str, Any], *, name: str, file: str | None = None) -> MiddlewarePreset:
        """A preset from plain data; ConfigError with file and key path where it is not as it should be."""
        table = validated(PresetTable, dict(data), key="" if file else f"presets.{name}", file=file)
        entries = {id: entry.model_dump(exclude_unset=True) for id, entry in table.middleware.items()}
        return cls(table.name or name, table.description, entries, tuple(table.extends), file)


@dataclass(frozen=True, slots=True)
class PresetInfo:
    """A preset at a glance: the ids that it switches on, in its own order."""

    name: str
    description: str
    middleware: list[str]


class Presets(Mapping[str, MiddlewarePreset]):
    """All presets that a factory knows."""

    def __init__(self) -> None:
        self._presets: dict[str, MiddlewarePreset] = {}
        for path in sorted(preset_folder().glob("*.toml")):
            self.add(MiddlewarePreset.from_file(path))

    def __getitem__(self, name: str) -> MiddlewarePreset:
        return self._presets[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._presets)

    def __len__(self) -> int:
        return len(self._presets)

    def add(
        self, preset: MiddlewarePreset | Mapping[str, Any] | str | Path, *, replace: bool = False
    ) -> MiddlewarePreset:
        """Add a preset, the data of one (with a ``name``), or a TOML file."""
        if isinstance(preset, str | Path):
            preset = MiddlewarePreset.from_file(preset)
        elif isinstance(preset, Mapping):
            if not isinstance(preset.get("name"), str):
                raise ConfigError("a preset needs a name", key="preset.name")
            preset = MiddlewarePreset.from_table(preset, name=preset["name"])
        if not isinstance(preset, MiddlewarePreset):
            raise ConfigError(f"a preset is a MiddlewarePreset, a dict or a file, not {type(preset).__name__}")
        if preset.name in self._presets and not replace:
            raise ConfigError(f"preset {preset.name!r} already exists. Use replace=True to override", key="preset")
        if not isinstance(preset.name, str) or not preset.name:
            raise ConfigError(f"the name is {preset.name!r}", key="preset.name", expected="a string")
        if isinstance(preset.extends, str) or not all(isinstance(one, str) for one in preset.extends):
            raise ConfigError("it is a string", key=f"presets.{preset.name}.extends", expected="a list of names")
        entries = entries_of(preset.middleware, file=preset.file)  # a copy: later changes do not show
        preset = replace_fields(preset, middleware=entries)
        self._presets[preset.name] = preset
        return preset

    def discard(self, name: str) -> None:
        """Take a preset out again."""
        self._presets.pop(name, None)

    def require(self, name: str, *, key: str = "preset", file: str | None = None) -> MiddlewarePreset:
        """The preset of that name; PresetNotFound with the nearest name where there is none."""
        found = self._presets.get(name)
        if found is None:
            raise PresetNotFound(
                f"no preset {name!r} (there are: {', '.join(sorted(self._presets))})",
                file=file, key=key, nearest=nearest(str(name), self._presets),
            )  # fmt: skip
        return found

    def entries(self, *names: str) -> dict[str, dict[str, Any]]:
        """The entries of presets with all that they extend; later wins."""
        merged: dict[str, dict[str, Any]] = {}
        for name in names:
            for preset in self._lineage(name, ()):
                merged = deep_merge(merged, entries_of(preset.middleware, file=preset.file))
        return merged

    def _lineage(self, name: str, path: tuple[str, ...]) -> list[MiddlewarePreset]:
        if name in path:
            raise ConfigError(f"presets extend each other in a circle: {' -> '.join((*path, name))}", key="extends")
        child = self._presets[path[-1]] if path else None
        own_file = child is not None and child.file is not None and Path(child.file).stem == child.name
        key = "preset" if child is None else "extends" if own_file else f"presets.{child.name}.extends"
        preset = self.require(name, key=key, file=child.file if child else None)
        lineage = [one for parent in preset.extends for one in self._lineage(parent, (*path, name))]
        return [*lineage, preset]

    def infos(self) -> list[PresetInfo]:
        """Every preset at a glance."""
        return [PresetInfo(name, preset.description, self._ids(preset)) for name, preset in self._presets.items()]

    def _ids(self, preset: MiddlewarePreset) -> list[str]:
        try:
            entries: Mapping[str, Mapping[str, Any]] = self.entries(preset.name)
        except ConfigError:  # what it extends is not there (yet): using it says so, listing it does not fail
            entries = preset.middleware
        return [id for id, entry in entries.items() if entry.get("enabled", True)]


def preset_folder() -> Path:
    """Where the shipped presets are: inside the wheel, or beside the package in a checkout."""
    package = Path(__file__).parent
    shipped = package / "_presets"
    return shipped if shipped.is_dir() else package.parent / "presets"
