"""The chain: compiled once, the same for generate and for stream."""

from .compile import Chain
from .routing import Router

__all__ = ["Chain", "Router"]
