# ruff: noqa: RUF001  # look-alikes are what this file is about
"""Letters of other scripts that look like Latin ones (Unicode Technical Standard 39, the single letters of it)."""

from __future__ import annotations

_LOOKS = {
    "a": "аɑα", "b": "ЬʙВ", "c": "сϲС", "d": "ԁ", "e": "еєЕΕ", "g": "ɡ", "h": "һНΗ", "i": "іıΙІ", "j": "јЈ",
    "k": "кКκΚ",
    "l": "ӏ", "m": "мМΜ", "n": "пνΝ", "o": "оοОΟօ", "p": "рρРΡ", "q": "ԛ", "r": "г", "s": "ѕЅ", "t": "тτТΤ", "u": "υս",
    "v": "ѵν", "w": "ԝѡ", "x": "хχХΧ", "y": "уγУΥ", "z": "ΖᴢƵ",
}  # fmt: skip
CONFUSABLE = {other: latin for latin, others in _LOOKS.items() for other in others}
