"""A sample plugin for neuro_mw."""

from .signature import Signature as Signature
from .upside_down import UpsideDown as UpsideDown

__all__ = ["Signature", "UpsideDown"]
