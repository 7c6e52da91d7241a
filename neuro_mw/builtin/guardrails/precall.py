"""The judgement of each new user turn by a model, before the request goes on."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import Counter, OrderedDict
from threading import Lock
from typing import Any

from neuro_mw import Blocked, MiddlewareContext, Params
from neuro_mw.request_texts import texts_of

from .filters import filter_of
from .judge import Judge
from .judge_settings import SANITIZED, JudgeAction, PrecallEvaluation, sanitizing_rule
from .messages import INPUT_PARAMS, RequestFilter, role_of
from .verdict import Verdict

BLOCKED = "Request contains inappropriate content and has been blocked."
_STRENGTH: tuple[JudgeAction, ...] = ("log", "warn", "sanitize", "block")
_AT_ONCE = 8  # questions
_NOT_OF_USERS = ("system", "developer", "assistant", "tool", "function")


class VerdictCache:
    """The verdicts on the texts that were judged last, by keys that tell nothing of the texts. Safe under threads."""

    def __init__(self, size: int) -> None:
        self._size, self._lock = size, Lock()
        self._secret = os.urandom(32)
        self._verdicts: OrderedDict[bytes, Verdict] = OrderedDict()

    def __len__(self) -> int:
        return len(self._verdicts)

    def key(self, *texts: str) -> bytes:
        """The key for texts: a hash that cannot be tried out by who does not know this cache's secret."""
        digest = hashlib.blake2b(key=self._secret, digest_size=32)
        for data in (text.encode("utf-8", "surrogatepass") for text in texts):
            digest.update(len(data).to_bytes(8) + data)
        return digest.digest()

    def get(self, key: bytes) -> Verdict | None:
        """The verdict, if it is remembered."""
        with self._lock:
            if key in self._verdicts:
                self._verdicts.move_to_end(key)
            return self._verdicts.get(key)

    def put(self, key: bytes, verdict: Verdict) -> None:
        """Remember a verdict; the one that was not asked for the longest is forgotten."""
        with self._lock:
            self._verdicts[key] = verdict
            self._verdicts.move_to_end(key)
            while len(self._verdicts) > self._size:
                self._verdicts.popitem(last=False)


class Precall:
    """Judges each user turn once, when it is new, and does what the settings say: block, sanitize, warn or log.

    A turn is user messages that follow one another; while tools are called for the newest one, it stays that, and what
    was said of it is remembered. What is judged is its text: where it has none, as with images, nothing is asked.
    Earlier turns of which nothing is remembered are new, too, and judged. What was said of them holds: they go out
    sanitized as before, and in place of one that is blocked stands the replacement text.
    """

    def __init__(self, settings: PrecallEvaluation, replacement_text: str) -> None:
        self._settings, self._replacement = settings, replacement_text
        self._judge = Judge(settings.asked, settings.prompt, settings.timeout_s)
        self._cache = VerdictCache(settings.cache_size)
        rules = [sanitizing_rule(pattern) for pattern in settings.sanitization_patterns]
        self._sanitizing = filter_of(rules, {SANITIZED: "redact"}, text=replacement_text)

    async def params(self, params: Params, context: MiddlewareContext, counts: Counter[str]) -> Params:
        """The params to go on with. Raises Blocked; counts what was found."""
        messages = params.get("messages")
        holders = (params, params.get("extra_body"))
        beside = [one[name] for one in holders if isinstance(one, dict) for name in INPUT_PARAMS if one.get(name)]
        said = _text([{"content": one} for one in beside])
        judged = await self.judged(messages if isinstance(messages, list) else [], context, counts, said)
        return {**params, "messages": judged} if isinstance(messages, list) else params

    async def judged(
        self, messages: list[Any], context: MiddlewareContext, counts: Counter[str], beside: str = ""
    ) -> list[Any]:
        """The messages to go on with. Raises Blocked; counts what was found."""
        turns = [(turn, _text([messages[at] for at in turn])) for turn in turns_of(messages)]
        newest = turns.pop() if turns else ([], "")
        turns.append((newest[0], "\n".join(one for one in (newest[1], beside) if one)))
        turns = [(turn, text) for turn, text in turns if text.strip()]
        if not turns:
            return messages
        found = await self._verdicts([text for _, text in turns], context)
        failed = next((one for one in found if isinstance(one, str)), None)  # of a turn that nobody judged, all depends
        for (turn, _), verdict in zip(turns[:-1], found, strict=False):
            messages = self._as_before(messages, turn, verdict)
        if beside and isinstance(found[-1], Verdict) and "sanitize" in self._categories(found[-1]).values():
            raise Blocked("precall evaluation: text beside the messages cannot be sanitized", category="unsafe",
                          message=BLOCKED)  # fmt: skip
        return self._done(messages, turns[-1][0], failed or found[-1], context, counts)

    async def _verdicts(self, texts: list[str], context: MiddlewareContext) -> list[Verdict | str]:
        """The verdicts on turns: what is remembered, and of the others what the judge says, each asked alone."""
        keys = {text: self._key(text, context) for text in texts}
        known: dict[str, Verdict | str | None] = {text: self._cache.get(key) for text, key in keys.items()}
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def ask(text: str) -> None:
            async with at_once:
                found = known[text] = await self._judge.judge(text, context)
            if isinstance(found, Verdict):
                self._cache.put(keys[text], found)

        new = [text for text, verdict in known.items() if verdict is None]
        if len(new) == 1:  # the usual case needs no task of its own
            await ask(new[0])
        elif new:
            await asyncio.gather(*map(ask, new))
        return [found for text in texts if (found := known[text]) is not None]

    def _as_before(self, messages: list[Any], turn: list[int], verdict: Verdict | str) -> list[Any]:
        """The messages, with an earlier turn as it went out when it was judged."""
        actions = self._categories(verdict).values() if isinstance(verdict, Verdict) else ()
        if "block" in actions:
            said = {at: {"role": messages[at].get("role"), "content": self._erased(messages[at])} for at in turn}
            return [said.get(at, one) for at, one in enumerate(messages)]
        return self._sanitized(messages, turn, Counter()) if "sanitize" in actions else messages

    def _erased(self, message: dict[str, Any]) -> Any:
        """The content of a message without what the user said; the results of tools stay, since calls wait for them."""
        results = [part for part in _parts(message) if _is_result(part)]
        return [*results, {"type": "text", "text": self._replacement}] if results else self._replacement

    def _done(
        self,
        messages: list[Any],
        turn: list[int],
        found: Verdict | str,
        context: MiddlewareContext,
        counts: Counter[str],
    ) -> list[Any]:
        """What the settings say, done with the newest turn."""
        detail: dict[str, Any] = {"detector": "precall_evaluation", "channel": "input"}
        if isinstance(found, Verdict):
            held = self._categories(found)
            counts.update(f"precall_evaluation.{category}" for category in held)
            detail |= {
                "overall": found.overall,
                "safety_score": found.safety_score,
                "appropriateness_score": found.appropriateness_score,
            }
        else:
            held = {"evaluation_failed": self._settings.on_failure}
            counts["precall_evaluation.failed"] += 1
            detail["error"] = found
        if not held:
            return messages
        category = max(held, key=lambda one: _STRENGTH.index(held[one]))  # of equals, the graver one: it comes first
        what = f"precall evaluation: {category}"
        if held[category] == "block":
            raise Blocked(what, category=category, message=BLOCKED, detail=detail)
        if held[category] == "sanitize":
            sanitized = self._sanitized(messages, turn, counts)
            if sanitized is not messages:
                return sanitized
            what += ", and nothing in it to sanitize"
        self._judge.report(held[category], what if isinstance(found, Verdict) else f"{what} ({found})", context)
        return messages

    def _key(self, text: str, context: MiddlewareContext) -> bytes:
        # a model without its provider belongs to the provider that the call goes to
        return self._cache.key(context.provider, self._settings.asked or context.model, text)

    def _categories(self, verdict: Verdict) -> dict[str, JudgeAction]:
        """What holds of a turn, the gravest first, with its action."""
        limits, actions = self._settings.thresholds, self._settings.actions
        held: dict[str, JudgeAction] = {}
        if verdict.overall == "unsafe" or _below(verdict.safety_score, limits.safety_score):
            held["unsafe"] = actions.on_unsafe
        if verdict.overall == "inappropriate" or _below(verdict.appropriateness_score, limits.appropriateness_score):
            held["inappropriate"] = actions.on_inappropriate
        if verdict.overall == "suspicious":
            held["suspicious"] = actions.on_suspicious
        return held

    def _sanitized(self, messages: list[Any], turn: list[int], counts: Counter[str]) -> list[Any]:
        before = [messages[at] for at in turn]
        filters = dict.fromkeys(("input", "tool_results"), self._sanitizing)  # some users' messages hold both
        after = RequestFilter(filters, {self._sanitizing.channel: counts, "invalid_json": Counter()}).messages(before)
        changed = {at: new for at, old, new in zip(turn, before, after, strict=True) if new is not old}
        return [changed.get(at, one) for at, one in enumerate(messages)] if changed else messages


def turns_of(messages: list[Any]) -> list[list[int]]:
    """Where the turns of the user stand: messages that nothing but instructions comes between.

    >>> turns_of([{"role": "user"}, {"role": "assistant"}, {"role": "user"}, {"role": "user"}, {"role": "tool"}])
    [[0], [2, 3]]
    """
    turns: list[list[int]] = []
    follows = False
    for at, message in enumerate(messages):
        role = role_of(message) if isinstance(message, dict) else "system"
        if role not in _NOT_OF_USERS and not _only_results(message):
            if not follows:
                turns.append([])
            turns[-1].append(at)
            follows = True
        elif role not in ("system", "developer"):
            follows = False
    return turns


def _parts(message: dict[str, Any]) -> list[Any]:
    content = message.get("content")
    return content if isinstance(content, list) else []


def _is_result(part: Any) -> bool:
    """Whether a part of a user's message is the result of a tool (Anthropic's dialect), which no user said."""
    return isinstance(part, dict) and str(part.get("type")).endswith("tool_result")


def _only_results(message: dict[str, Any]) -> bool:
    parts = _parts(message)
    return bool(parts) and all(map(_is_result, parts))


def _text(turn: list[dict[str, Any]]) -> str:
    """All that a provider may read in a turn, but for who says it, and for what tools gave."""
    said = []
    for message in turn:
        one = {key: value for key, value in message.items() if key != "role"}
        if parts := _parts(message):
            one["content"] = [part for part in parts if not _is_result(part)]
        said.append(one)
    return "\n".join(texts_of({"messages": said}).texts)


def _below(score: float | None, limit: float) -> bool:
    return score is not None and score < limit
