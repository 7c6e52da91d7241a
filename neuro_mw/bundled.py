"""What litellm ships in files, read without importing litellm (which takes seconds): prices, providers, encodings.

Nothing here asks the network, and nothing is kept: an entry of the price list is found in about 2 ms (the file is read
and searched), the whole list is parsed in 15 to 20 ms (docs/performance.md). The callers keep the little they need.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["LITELLM_NAMES", "PRICES", "TOKENIZERS", "find_prices", "litellm_file", "litellm_folder", "price_entries"]

_OBJECT = re.compile(rb"\s*:\s*\{")

PRICES = "model_prices_and_context_window_backup.json"
TOKENIZERS = ("litellm_core_utils", "tokenizers")

LITELLM_NAMES = {
    "together": "together_ai", "fireworks": "fireworks_ai", "vllm": "hosted_vllm", "llama_cpp": "llamafile",
}  # fmt: skip
"""Providers that litellm knows by another name; those of `neuro_mw.providers`, as a test holds."""


@functools.cache
def litellm_folder() -> Path | None:
    """Where litellm is installed; None where it is not. Finding a top-level package does not run it."""
    found = importlib.util.find_spec("litellm")
    places = found.submodule_search_locations if found else None
    return Path(next(iter(places))) if places else None


def litellm_file(*path: str) -> bytes:
    """The bytes of one of its files, `path` from its folder on; empty where there is no such file.

    >>> litellm_file("no", "such", "file")
    b''
    """
    folder = litellm_folder()
    file = folder.joinpath(*path) if folder else None
    return file.read_bytes() if file is not None and file.is_file() else b""


def find_prices(*names: str) -> Iterator[dict[str, Any]]:
    """Those entries of the price list that have one of these names, in the order asked, each with its "name".

    >>> [entry["litellm_provider"] for entry in find_prices("no/such", "gpt-4o")]
    ['openai']
    """
    text = litellm_file(PRICES)
    for name in names:
        entry = _found(text, name)
        if isinstance(entry, dict):
            yield {**entry, "name": name}


def price_entries() -> dict[str, dict[str, Any]]:
    """The whole price list, some 4,000 entries by name; for listings, not for calls."""
    return {name: {**entry, "name": name} for name, entry in _parsed(litellm_file(PRICES)).items()}


def _found(text: bytes, name: str) -> Any:
    """One entry, cut out of the text, which is 10 times cheaper than to parse it all.

    The list is written as ``json.dump(..., indent=4)`` does, but for what people edit by hand: an entry is known by
    what stands in it, not by where it stands, and one that does not end where it should is left to the parser.
    """
    import orjson

    if not text.startswith(b"{\n"):
        return _parsed(text).get(name)
    try:
        key = orjson.dumps(name)
    except orjson.JSONEncodeError:  # half of a surrogate pair: no name of a model
        return None
    start = text.find(key)
    while start >= 0:
        begins = _OBJECT.match(text, start + len(key))
        if begins is not None:
            try:
                entry = orjson.loads(text[begins.end() - 1 : text.find(b"\n    }", start) + 6])
            except orjson.JSONDecodeError:
                return _parsed(text).get(name)
            if "litellm_provider" in entry:
                return entry
        start = text.find(key, start + 1)
    return None


def _parsed(text: bytes) -> dict[str, Any]:
    import orjson

    found = orjson.loads(text) if text else {}
    return {name: entry for name, entry in found.items() if isinstance(entry, dict)}
