"""How the tests that hold both drivers against each other treat a litellm other than the one they were written with."""

from __future__ import annotations

import functools

import pytest

from neuro_mw.bundled import litellm_folder

WRITTEN_WITH = "1.106."


@functools.cache
def litellm_version() -> str:
    """The version of the litellm that would be imported, which need not be the one that is installed."""
    folder = litellm_folder()
    found = sorted(folder.parent.glob("litellm-*.dist-info")) if folder else []
    return found[0].name.removeprefix("litellm-").removesuffix(".dist-info") if found else "unknown"


def same_differences(found: set[str], listed: set[str], what: object = "") -> None:
    """Hold what differs to what is listed; with another litellm a change is reported as xfailed: it is litellm's."""
    if found == listed:
        return
    if litellm_version().startswith(WRITTEN_WITH):
        assert found == listed, what
    pytest.xfail(f"litellm {litellm_version()}: new {sorted(found - listed)}, gone {sorted(listed - found)}")
