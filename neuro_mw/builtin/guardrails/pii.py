"""Rules for personal data that has a form: no model, and none for names or addresses.

A pattern finds candidates in linear time, a check decides: checksums, ranges that are given out, usual groupings.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterable

from .payment import CARD, check_card, check_iban
from .phones import PHONE, check_phone
from .rules import Rule

TYPES = ("email", "phone", "credit_card", "iban", "ssn", "ip", "mac")

# Letters of the scripts that put spaces between words: an address in Chinese text ends where the Latin letters end.
_LETTERS = "\u00c0-\u024f\u0370-\u052f"
_LABEL = rf"[a-z0-9{_LETTERS}](?:[a-z0-9{_LETTERS}-]{{0,61}}[a-z0-9{_LETTERS}])?"
_DOMAIN = re.compile(rf"(?:{_LABEL}\.)+(?:xn--[a-z0-9-]{{1,59}}|[a-z{_LETTERS}]{{2,63}})", re.IGNORECASE)
_RETINA = re.compile(r"@[1-9]x\.[a-z]+", re.IGNORECASE)  # icon@2x.png is the file of an image
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")
_SIGNS = frozenset(":.-")
_HEX = re.compile(r"[0-9a-f]+", re.IGNORECASE)


def rules(types: Iterable[str] = TYPES) -> list[Rule]:
    """The rules that find these types of personal data.

    Args:
        types: names out of `TYPES`.

    Raises:
        ValueError: a name is none of `TYPES`; the message has the nearest.

    >>> [rule.id for rule in rules(["email", "ssn"])]
    ['pii.email', 'pii.ssn']

    """
    chosen = tuple(types)
    for name in chosen:
        if name not in TYPES:
            near = difflib.get_close_matches(str(name), TYPES, 1, 0)
            raise ValueError(f"no PII type {name!r}; did you mean {near[0]!r}? There are: {', '.join(TYPES)}")
    return [rule for rule in _RULES if rule.id.split(".")[1] in chosen]


def check_email(text: str) -> int:
    """How many first characters are an e-mail address; 0 for none."""
    local, _, domain = text.partition("@")
    if not local or local[-1] == "." or ".." in local:
        return 0
    found = _DOMAIN.match(domain)
    if not found or _RETINA.fullmatch("@" + found[0]):
        return 0
    return len(local) + 1 + found.end()


def check_ssn(text: str) -> int:
    """The whole text where it is a number that can be given out: not area 000, 666, 9xx, group 00, serial 0000."""
    area, group, serial = text[:3], text[4:6], text[7:]
    void = area in ("000", "666") or area >= "900" or group == "00" or serial == "0000"
    return 0 if void or len(text) != 11 or text[3] != text[6] else len(text)


def check_ipv4(text: str) -> int:
    """The whole text where it is an address of somebody: not 0.x, loopback, a netmask, or a version such as 1.2.3.4.

    Nor what ends in .0.0.0, as versions of browsers do. A row of more than four numbers, as in an object identifier,
    holds none.
    """
    nobody = text.startswith(("0.", "127.", "255.")) or text.endswith(".0.0.0") or len(text) == len("1.2.3.4")
    return -len(text) if nobody or not _IPV4.fullmatch(text) else len(text)


def check_ipv6(text: str) -> int:
    """The whole text where it is an IPv6 address; the short form only in the ranges that are given out.

    `a::b` is a name in C++ and `[1::2]` a slice in Python; 2000::/3, fc00::/7, fe80::/10 and ff00::/8 have four digits
    at first.
    """
    groups = _HEX.findall(text.split(".")[0])
    if len(groups) > 8 and "::" not in text:
        return -len(":".join(groups[:-8]))  # from each of these on there are too many
    if not any(len(group) > 2 for group in groups):
        return 0  # pairs are a fingerprint or times
    if "::" in text and not (len(groups[0]) == 4 and groups[0][0] in "23fF" and text.startswith(groups[0])):
        return 0
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return 0
    return len(text)


def check_mac(text: str) -> int:
    """The whole text where it is a device's address: one kind of separator, not all zeros or all ones."""
    signs = _SIGNS.intersection(text)
    digits = text.replace(min(signs, default=""), "").lower()
    if len(signs) != 1 or len(digits) != 12 or len(set(digits)) == 1:
        return 0
    return len(text)


_RULES = [
    Rule(
        "pii.email",
        rf"(?i)(?:\b\w|[{_LETTERS}])[\w.%+{_LETTERS}-]{{0,63}}@[a-z0-9{_LETTERS}][a-z0-9.{_LETTERS}-]+",
        check=check_email,  # and max_chars bounds the domain: RE2 counts to hundreds at a price
        keywords=("@",),
        max_chars=318,
    ),
    Rule("pii.credit_card", CARD, check=check_card, max_chars=61),
    Rule("pii.iban", r"(?i)\b[a-z]{2}\d\d(?: ?[a-z0-9]{1,4}){3,8}\b", check=check_iban, max_chars=44),
    Rule("pii.ssn", r"\b\d{3}[ -]\d{2}[ -]\d{4}\b", check=check_ssn, max_chars=11),
    Rule("pii.ip", r"\b\d{1,3}(?:\.\d{1,3}){3,31}\b", check=check_ipv4, max_chars=127),
    Rule(
        "pii.ip.v6",
        r"(?i)\b(?:[0-9a-f]{1,4}(?::[0-9a-f]{1,4}){5,15}|[23f][0-9a-f]{3}(?::[0-9a-f]{1,4}){0,6}:(?::[0-9a-f]{0,4}){1,7})"
        r"(?:\.\d{1,3}){0,3}",
        type="IP",
        check=check_ipv6,
        max_chars=91,
    ),
    Rule(
        "pii.mac",
        r"(?i)\b(?:[0-9a-f]{2}(?:[:-][0-9a-f]{2}){5}|[0-9a-f]{4}\.[0-9a-f]{4}\.[0-9a-f]{4})\b",
        check=check_mac,
        max_chars=17,
    ),
    # the last: it looks like many of the others, and where one of these stands its check is spared
    Rule("pii.phone", PHONE, check=check_phone, max_chars=144),
]
