"""How many tokens a request takes, before it is sent and without asking anybody.

    >>> count_tokens_sync("hello world", "openai", "gpt-4o")
    TokenCount(tokens=2, exact=True, method='o200k_base')
    >>> count_tokens_sync("hello world", "anthropic", "claude-sonnet-4-5").exact
    False

OpenAI's encodings are public, and litellm ships them: their counts are exact. All others are estimates that lean to the
high side, by factors that are told in `count_tokens` and in docs/costs.md. Nothing is ever downloaded: an encoding that
is not there is an estimate too.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import math
import re
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .bundled import TOKENIZERS, litellm_file
from .request_texts import RequestTexts, size_of, texts_of

if TYPE_CHECKING:
    from tiktoken import Encoding

__all__ = ["TokenCount", "count_tokens", "count_tokens_sync"]

GPT_4O_MINI_IMAGE = 33.4  # this model bills 2,833 where gpt-4o bills 85
FACTOR, CLAUDE_FACTOR = 1.3, 1.6  # of the cl100k_base count; see count_tokens
BYTES_PER_TOKEN = 2  # where no encoding is there at all: prose has 4, Thai and digits 2

OFF_LOOP_CHARS = 20_000  # such a text takes 0.5 ms as prose and 6 ms at worst; longer ones leave the event loop
PIECE_CHARS = 20_000  # tiktoken's time is not linear in a run without a boundary: 400,000 letters take 6 times 100,000

_SUFFIX = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
# name: (file, its SHA-256, pattern), as tiktoken_ext/openai_public.py has them; the file is the SHA-1 of its address.
# Built here rather than by tiktoken.get_encoding: that reads an environment variable of the whole process to find a
# file, and downloads what it does not find.
ENCODINGS = {
    "cl100k_base": (
        "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        rf"{_SUFFIX}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    "o200k_base": (
        "fb374d419588a4632f3f557e76b4b70aebbca790",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_SUFFIX}?|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_SUFFIX}?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
}
_loaded: dict[str, Encoding | None] = {}
_loading = threading.Lock()
_BOUNDARY = re.compile(r"(?<=[A-Za-z0-9])(?= [A-Za-z])")  # both patterns cut here, whatever stands around it


class TokenCount(NamedTuple):
    """How many tokens; whether that is what the provider will count; and how it was found."""

    tokens: int
    exact: bool
    method: str


async def count_tokens(request: str | Mapping[str, Any], provider: str, model: str) -> TokenCount:
    """The tokens of a text, or of a request: of every text in it, and what stands in for its images.

    `request` is a string or params as hooks have them; `provider` and `model` say who will count. Exact are texts for
    OpenAI's models with a public encoding (also at Azure and OpenRouter; gpt-oss anywhere), and plain messages for
    gpt-3.5 and gpt-4 of any kind. An estimate are tools, tool calls, images, a response format, keys and parts that are
    not known here, messages for newer models (their framing is not public); and every other provider, at 1.3 times the
    cl100k_base count, 1.6 times for Claude, which are allowances of ours (docs/costs.md has the reasons). Images count
    85 with ``detail: low``, else 1,536; audio, files and base64 do not count, as the method says. Settings, such as
    ``stop`` or ``user``, are no text. For "echo" a token is a word. No shape of a request raises: what has no text
    counts nothing.

    Loading an encoding takes 0.1 to 0.4 s, once; that, and texts above 20,000 characters, run in a thread.

    >>> import asyncio
    >>> asyncio.run(count_tokens({"messages": [{"role": "user", "content": "hi"}]}, "openai", "gpt-4o")).tokens
    8
    """
    ready = provider == "echo" or (_encoding_of(provider, model) or "cl100k_base") in _loaded
    if ready and size_of(request) <= OFF_LOOP_CHARS:
        return count_tokens_sync(request, provider, model)
    return await asyncio.to_thread(count_tokens_sync, request, provider, model)


def count_tokens_sync(request: str | Mapping[str, Any], provider: str, model: str) -> TokenCount:
    """What `count_tokens` gives, for code without an event loop; the first call takes 0.1 to 0.4 s."""
    if provider == "echo":
        return TokenCount(*_words(request), "words")
    name = _encoding_of(provider, model)
    image_factor = GPT_4O_MINI_IMAGE if _bare(model).startswith("gpt-4o-mini") else 1.0
    found = RequestTexts() if isinstance(request, str) else texts_of(request, image_factor)
    texts = [request] if isinstance(request, str) else found.texts
    encoding = _load(name or "cl100k_base")
    if encoding is None:
        tokens = sum(math.ceil(len(text.encode("utf-8", "replace")) / BYTES_PER_TOKEN) for text in texts)
        return TokenCount(tokens + found.more, False, f"UTF-8 bytes / {BYTES_PER_TOKEN}{found.note}")
    counts = [_count(encoding, text) for text in texts]
    tokens, whole = sum(count for count, _ in counts), all(exact for _, exact in counts)
    if name is not None:
        framed = isinstance(request, str) or _bare(model).startswith(("gpt-3.5", "gpt-35", "gpt-4", "ft:gpt-"))
        exact = framed and whole and found.exact
        return TokenCount(tokens + found.more, exact, f"{name}{'' if exact else ', estimated in part'}{found.note}")
    factor = CLAUDE_FACTOR if provider == "anthropic" or "claude" in model.lower() else FACTOR
    return TokenCount(math.ceil(tokens * factor) + found.more, False, f"{factor} x cl100k_base{found.note}")


def _words(request: str | Mapping[str, Any]) -> tuple[int, bool]:
    """What the embedded model counts, which is whatever stands between white space; and whether it would."""
    if isinstance(request, str):
        return len(request.split()), True
    words, exact = 0, True
    messages = request.get("messages") or ()
    for message in messages if isinstance(messages, Sequence) else ():
        content = message.get("content") if isinstance(message, Mapping) else 0
        exact = exact and (content is None or isinstance(content, str | list | tuple))
        parts = content if isinstance(content, list | tuple) else ()
        text = "".join(str(part.get("text") or "") for part in parts if isinstance(part, Mapping))
        words += len((content if isinstance(content, str) else text).split())
    return words, exact and isinstance(messages, Sequence) and not isinstance(messages, str)


# --- encodings -------------------------------------------------------------------------------------------------------


def _bare(model: str) -> str:
    return model.rpartition("/")[2].lower()


def _encoding_of(provider: str, model: str) -> str | None:
    """The encoding that this model is known to have, of those that are bundled."""
    bare = _bare(model)
    if bare.startswith("gpt-oss"):
        return "o200k_base"  # o200k_harmony has the same words, and more special tokens
    if provider not in ("openai", "azure") and not (provider == "openrouter" and model.startswith("openai/")):
        return None
    from tiktoken.model import encoding_name_for_model

    try:
        name = encoding_name_for_model(bare)
    except KeyError:
        return None
    return name if name in ENCODINGS else None


def _load(name: str) -> Encoding | None:
    if name not in _loaded:
        with _loading:
            if name not in _loaded:
                _loaded[name] = _build(name)
    return _loaded[name]


def _build(name: str) -> Encoding | None:
    from tiktoken import Encoding

    file, digest, pattern = ENCODINGS[name]
    ranks = litellm_file(*TOKENIZERS, file)
    if hashlib.sha256(ranks).hexdigest() != digest:
        return None
    words = {base64.b64decode(word): int(rank) for word, rank in map(bytes.split, ranks.splitlines())}
    return Encoding(name, pat_str=pattern, mergeable_ranks=words, special_tokens={})


def _count(encoding: Encoding, text: str) -> tuple[int, bool]:
    """Tokens of `text`, and whether cutting it left them as they are. What looks like a special token is text."""
    tokens, exact, start = 0, True, 0
    while start < len(text):
        end = start + PIECE_CHARS
        if end < len(text):
            cuts = [found.start() for found in _BOUNDARY.finditer(text, start + PIECE_CHARS // 2, end)]
            exact = exact and bool(cuts)
            end = cuts[-1] if cuts else end
        tokens += len(encoding.encode_ordinary(text[start:end]))
        start = end
    return tokens, exact
