"""Whose something is that is kept: a user's, or a session's."""

from __future__ import annotations

from neuro_mw import MiddlewareContext


def scope_of(kind: str, context: MiddlewareContext) -> str | None:
    """Whose a key is, a "user"'s or a "session"'s; None where the call does not say.

    >>> scope_of("user", MiddlewareContext("openai", "gpt-4o", session={"user_id": "u1"}))
    'user:u1'
    """
    said = context.session.user_id if kind == "user" else context.session.session_id
    return None if said is None else f"{kind}:{said}"
