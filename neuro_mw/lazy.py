"""A middleware that is known by its metadata, and imported where it is switched on."""

from __future__ import annotations

from dataclasses import dataclass

from .config import load_dotted
from .contract import Middleware, MiddlewareMetadata
from .errors import RegistrationError


@dataclass(frozen=True, slots=True)
class LazyMiddleware:
    """Where a middleware's class is, and what has to be known of it before: `register` takes it for the class.

    ``path`` is "package.module:Class". A plugin that offers many registers them so, and a factory imports those that
    are used. The class has to have the same metadata.

    >>> from neuro_mw import LazyMiddleware, MiddlewareMetadata, MiddlewareRegistry
    >>> registry = MiddlewareRegistry()
    >>> registry.register(LazyMiddleware(MiddlewareMetadata("cool", priority=5), "my_package.cool:Cool"))
    >>> registry.get_sorted_ids()
    ['cool']
    """

    metadata: MiddlewareMetadata
    path: str

    def load(self) -> type[Middleware]:
        """The class. Raises ConfigError where it cannot be imported, RegistrationError where it is another one."""
        id = self.metadata.id
        found = load_dotted(self.path, key=f"middleware.{id}")
        if not (isinstance(found, type) and issubclass(found, Middleware)):
            raise RegistrationError(f"middleware {id!r}: {self.path} is no Middleware class")
        if getattr(found, "metadata", None) != self.metadata:
            raise RegistrationError(f"middleware {id!r}: {self.path} has other metadata than it was registered with")
        return found
