"""The checks of secrets that have no form of their own: what stands behind ``password =`` or in a URL.

A name and a value are not enough: code is full of `token = next(tokens)`, and manuals of `password: "changeme"`.
"""

from __future__ import annotations

import re

_VALUE = re.compile(r"(?:=>|:=|[:=]|\bis\b)[ \t]*")
_PLACEHOLDER = re.compile(
    r"change[_-]?(?:me|it|this)|placeholder|your[_-]|^your|example|sample|dummy|redacted|replace|_here\b|x{4}|\*{3}|\.{3}"
    r"|^(?:(?:my|the|some|a|new|old|db|user)?[_-]?(?:pass(?:word|wd)?|pwd|secret|token|(?:api|secret)[_-]?key)"
    r"[_-]?(?:value|string|field|hash|name|file|key|type|input)?|undefined|optional|required)$",
    re.IGNORECASE,
)
_TEMPLATE = re.compile(
    r"^[$%<{@#&|(\[!~/\\.-]|[$%#]\{|\{\{|\}\}|\$\(|%\(|%[sdr]\b|<[\w -]+>|\{\w*\}|&(?:quot|lt|gt|amp|#\d)"
)
_REFERENCE = re.compile(
    r"^(?:os\.environ|getenv|process\.env|env[.:]|config\.|settings\.|self\.|this\.|vault:|file:|arn:|https?:)"
    r"|^[A-Za-z_]\w*(?:(?:\.|->|::)[A-Za-z_]\w*)+[;,)]*$",
    re.IGNORECASE,
)
_WORDS = re.compile(r"[A-Za-z]+(?:[ _.:/-][A-Za-z]+)*[.!?:]*")
_IDENTIFIER = re.compile(
    r"[A-Za-z_]+\d{0,3}|[A-Z][A-Z0-9_]*|[a-z][a-z0-9]*(?:[_-][a-z0-9]+)+"
    r"|[+-]?\d+(?:\.\d+)*(?:[eE][+-]?\d+)?"  # and numbers
)
_QUOTES = "\"'`"


def check_assignment(text: str) -> int:
    """The length of a name, a sign and a secret value; 0 or less for a placeholder, a reference, a price, or code."""
    if text[:4].lower() == "per_":
        return -len("per_token")
    sign = _VALUE.search(text)
    if sign is None:
        return 0
    value = text[sign.end() :]
    quoted = value[:1] in _QUOTES and value[:1] == value[-1:]
    if not quoted and value[-1:] in ("(", "[", ""):
        return 0  # a call
    bare = value.strip(_QUOTES)
    if not quoted:
        bare = bare.rstrip(".:!?")  # ends a sentence, or the secret too: then it is not found by that character
    if len(set(bare)) < 4 or not plausible(bare, quoted=quoted):
        return 0
    return len(text) if quoted else len(text) - (len(value) - len(bare))


def plausible(value: str, *, quoted: bool) -> bool:
    """Whether a value may be a secret.

    >>> plausible("hunter2!A", quoted=True), plausible("${DB_PASSWORD}", quoted=True)
    (True, False)
    """
    if _PLACEHOLDER.search(value) or _TEMPLATE.search(value) or _REFERENCE.search(value):
        return False
    if _WORDS.fullmatch(value):
        return quoted and _mixed(value)
    if quoted:
        return not value.isdecimal() or len(value) >= 6
    return not _IDENTIFIER.fullmatch(value) or _random(value)


def _mixed(value: str) -> bool:
    """Letters only, but as no word or name is written: capitals amid small letters, and long."""
    return len(value) >= 20 and bool(re.search("[A-Z]{2}[a-z]|[a-z][A-Z][a-z]?[A-Z]", value))


def _random(value: str) -> bool:
    """Digits amid letters at several places: `a8f5f167f44f4964`, not `sha256` or `utf_8`."""
    return len(re.findall(r"[A-Za-z]\d", value)) >= 3


def check_userinfo(text: str) -> int:
    """The length of ``://user:password``, without the @ behind it; 0 for a placeholder or an address such as [::1]."""
    if not text.startswith("://"):
        return 0
    user, _, password = text[3:].removesuffix("@").partition(":")
    if "[" in user or len(set(password)) < 3 or _TEMPLATE.search(password):
        return 0
    if password.lower() in ("password", "pass", "passwd", "secret", "pwd", "pw", user.lower()):
        return 0
    if re.search(r"^your|x{4}|\*{3}|\.{3}|changeme|placeholder", password, re.IGNORECASE):
        return 0
    return 3 + len(user) + 1 + len(password)


def check_authorization(text: str) -> int:
    """The length of a header with credentials; 0 for a placeholder."""
    value = re.split(r"[ \t]+", text)[-1]
    if len(set(value)) < 6 or _TEMPLATE.search(value) or re.search(r"your|x{4}|\.{3}", value, re.IGNORECASE):
        return 0
    return len(text)
