"""What a budget says of itself, and why it refuses a call."""

from __future__ import annotations

from neuro_mw.state import Spending

from .money import shown


def described(limit: int, window: str | float | None, key: str) -> str:
    """A budget by its limit in nano-dollars, its window and the kind of its key.

    >>> described(5_000_000_000, "day", "user"), described(5_000_000_000, 60.0, "global")
    ('the budget of $5 a day (key: user)', 'the budget of $5 in 60 s (key: global)')
    """
    during = "" if window is None else f" a {window}" if isinstance(window, str) else f" in {window:g} s"
    return f"the budget of {shown(limit)}{during} (key: {key})"


def does_not_fit(budget: str, standing: Spending, amount: int, limit: int, name: str) -> str:
    """That a call may cost more than is left."""
    spent = f"{shown(standing.spent)} are spent, {shown(standing.reserved)} reserved by calls under way"
    more = ", which is more than the whole budget" if amount > limit else ""
    mend = "lower max_tokens, shorten the request, choose a cheaper model, or raise limit_usd"
    return f"{budget}: {spent}; this call to {name} may cost up to {shown(amount)}{more}. To go on, {mend}"


def not_known(name: str, *, priced: bool) -> str:
    """That nobody knows what a call may cost: the model has no price, or its answers have no longest."""
    if priced:
        said = f"how long an answer of {name} can be is not known. Set max_tokens, for instance by default_settings"
    else:
        said = f"the price of {name} is not known. Set prices"
    return f'a call may cost any amount: {said}, or on_unknown_price = "allow"'
