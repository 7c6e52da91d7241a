"""pseudonymize: placeholders for personal data on the way out, the originals on the way back."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Awaitable
from contextlib import suppress
from functools import cached_property, partial
from typing import Any

from neuro_mw import (
    BadRequest,
    Middleware,
    MiddlewareContext,
    NeuroError,
    Outcome,
    Params,
    TextDelta,
)
from neuro_mw.state import open_store

from ._catalog import CATALOG
from .guardrails import Guardrails, RuleSet
from .guardrails.messages import UnreadableError
from .pseudonyms.names import kind_of
from .pseudonyms.options import PseudonymizeOptions
from .pseudonyms.request import Personal
from .pseudonyms.restoring import Originals, Placeholders, Restoring
from .pseudonyms.sessions import Sessions, key_of
from .pseudonyms.table import Table, Value

_log = logging.getLogger("neuro_mw")


class Pseudonymize(Middleware):
    """Personal data of a request becomes placeholders; in the answer they become what they stand for.

    Provider, cache and all layers further in see placeholders only. Texts, reasoning, arguments of tool calls (as
    JSON), provider fields and the metadata of inner layers get the originals back, in streams wherever a placeholder is
    cut. The same value, character for character, has the same placeholder in a call or in a session. What a model makes
    up or mangles is left alone and counted. A placeholder is never a text that stands in the request.

    ``response.metadata["pseudonymize"]`` is there where something was replaced: how many different values of each type
    ("values"), and how many different placeholders nobody gave ("unknown_placeholders"). Its stats count the same:
    "values.EMAIL" and so on, "unknown_placeholders"; and "no_session" (calls that do not say theirs), "forgotten"
    (values of a session that had too many), "corrupt_tables" (sessions that had to begin anew).

    A session's table is in the store under a hash of its id. It has keyed hashes of the values, no value. Where the
    store is away a call fails, unless this middleware is told to be skipped: then it is sent as it is.

    >>> import asyncio
    >>> from neuro_mw import MiddlewareFactory
    >>> from neuro_mw.testing import ScriptedModel
    >>> scripted = ScriptedModel("I wrote to <EMAIL_1>.")
    >>> model = MiddlewareFactory(preset=None, middleware=[Pseudonymize()]).apply_middleware(scripted)
    >>> response = asyncio.run(model.generate("write to jane@acme.org"))
    >>> scripted.calls[0][1]["messages"][0]["content"], response.text
    ('write to <EMAIL_1>', 'I wrote to jane@acme.org.')
    """

    metadata = CATALOG["pseudonymize"]
    Config = PseudonymizeOptions
    config: PseudonymizeOptions
    uses_store = True

    def __init__(self, config: Any = None, /, **options: Any) -> None:
        super().__init__(config, **options)
        settings = self.config
        self._kinds = {kind_of(rule) for rule in settings.rules}
        self._sessions = Sessions(settings.ttl_s, settings.max_values, self.count)
        self._own_store = bool(settings.store)
        if settings.store:
            self.store = open_store(settings.store, key=f"middleware.{self.metadata.id}.config.store")
        self._key = os.urandom(32)  # of hashes that no session keeps
        self._said: set[str] = set()

    @property
    def _id(self) -> str:
        return self.stored_as or self.metadata.id

    @cached_property
    def _finds(self) -> RuleSet:
        """What is looked for in requests. Compiling takes tenths of a second, so it is left to `startup`."""
        return RuleSet(self.config.rules)

    @cached_property
    def _knows(self) -> Placeholders:
        """What is looked for in answers."""
        return Placeholders(self.config.style, self._kinds)

    async def startup(self) -> None:
        """Compile the rules and load the engines, so that no call has to wait for them."""
        await asyncio.to_thread(self._warm_up)

    def _warm_up(self) -> None:
        for rule in self.config.rules:
            if load := getattr(getattr(rule, "find", None), "load", None):
                load()
        Personal({"prompt": "to jane@acme.org, +1 212 555 0123"}, self._finds, self._knows)
        Restoring(self._knows, Originals({}, ())).feed(TextDelta("<EMAIL_1>"))

    async def aclose(self) -> None:
        """Close a store of its own. That of the factory is closed by the factory."""
        if self._own_store and self.store is not None:
            await self.store.aclose()

    # --- the request -------------------------------------------------------------------------------------------------

    def transform_params(self, params: Params, context: MiddlewareContext) -> Params | Awaitable[Params]:
        """The request with placeholders. Raises BadRequest where it cannot be read, StoreUnavailable for a session."""
        try:
            found = Personal(params, self._finds, self._knows)
        except (UnreadableError, RecursionError) as error:
            raise _unreadable(error, context) from None
        if not found.values:
            return params
        self._warn_of_fakes(context)
        if self.config.scope == "session":
            if context.session.session_id not in (None, ""):
                return self._in_session(found, context)
            self.count("no_session")
            self._say("no_session", "a call has no session_id: its placeholders hold for that call alone")
        return self._sent(found, self._names(found, Table(self._key)), context)

    async def _in_session(self, found: Personal, context: MiddlewareContext) -> Params:
        assert self.store is not None  # a factory gave it, or the option
        key = key_of(self._id, context.session.session_id)
        names = await self._sessions.update(self.store, key, found.values, partial(self._names, found))
        return self._sent(found, names, context)

    def _names(self, found: Personal, table: Table) -> dict[Value, str]:
        return table.names(self.config.style, found.values, found.lookalikes)

    def _sent(self, found: Personal, names: dict[Value, str], context: MiddlewareContext) -> Params:
        state = context.state(self)
        state["originals"] = Originals({name: original for (_, original), name in names.items()}, found.lookalikes)
        state["values"] = Counter(kind for kind, _ in names)
        try:
            return found.replaced(names)
        except RecursionError as error:
            raise _unreadable(error, context) from None

    # --- the answer --------------------------------------------------------------------------------------------------

    def transform_parts(self, params: Params, context: MiddlewareContext) -> Restoring | None:
        """The step that puts the originals back; None where nothing was replaced."""
        originals = context.state(self).get("originals")
        return None if originals is None else Restoring(self._knows, originals)

    def on_end(self, outcome: Outcome, context: MiddlewareContext) -> None:
        """Say how many values were replaced, by type, and how many placeholders nobody gave."""
        state = context.state(self)
        if "originals" not in state:
            return
        values, unknown = state["values"], len(state["originals"].unknown)
        for kind, number in values.items():
            self.count(f"values.{kind}", number)
        if unknown:
            self.count("unknown_placeholders", unknown)
        if outcome.response is not None:
            outcome.response.metadata[self._id] = {"values": dict(values), "unknown_placeholders": unknown}

    # --- the log -----------------------------------------------------------------------------------------------------

    def _warn_of_fakes(self, context: MiddlewareContext) -> None:
        if self.config.style != "fake" or "fakes" in self._said:
            return
        with suppress(NeuroError):  # the context is not that of a call
            for one in context.inside(self).middlewares:
                if isinstance(one, Guardrails) and any(rule.detector == "pii" for rule in one.config.rules):
                    said = f"its fakes look like personal data to '{one.stored_as or one.metadata.id}', further in"
                    self._say("fakes", said)

    def _say(self, what: str, said: str) -> None:
        """Say something once."""
        if what not in self._said:
            self._said.add(what)
            _log.warning("middleware '%s': %s", self._id, said)


def _unreadable(error: Exception, context: MiddlewareContext) -> BadRequest:
    said = str(error) if isinstance(error, UnreadableError) else "is nested too deeply"
    provider, model = context.provider, context.model
    return BadRequest(f"{provider}/{model}: the request {said}", provider=provider, model=model)
