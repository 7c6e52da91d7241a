"""Why a schema says nothing of a value."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class UnusableError(Exception):
    """A schema that cannot be used. The message has no word of it; ``detail`` has, and ``path`` is where it stands."""

    def __init__(self, message: str, detail: str = "", path: Iterable[Any] = ()) -> None:
        super().__init__(message)
        self.detail, self.path = detail, [*path]


class TooMuchError(Exception):
    """A value that would take too long to check."""

    def __init__(self) -> None:
        super().__init__("it is too large or nested too deeply for its schema")
