"""Values that look like those of a type and are nobody's: of ranges that are set apart for documentation and tests."""

from __future__ import annotations

from collections.abc import Callable

# they begin with letters that are rare, so that most pieces of an answer need no closer look
_FIRST = ("jamie", "jo", "jordan", "jude", "kai", "kelly", "kim", "quinn", "val", "vic", "zion", "zoe")
_LAST = (
    "baker",
    "carter",
    "ellis",
    "fox",
    "grant",
    "hayes",
    "lane",
    "moore",
    "porter",
    "reed",
    "stone",
    "walsh",
    "webb",
)
_AREAS = (202, 206, 212, 213, 303, 305, 312, 404, 415, 503, 512, 602, 617, 702, 713, 801, 816, 901, 904, 919)
_NETS = ("203.0.113", "198.51.100", "192.0.2")  # RFC 5737
_DOUBLED = str.maketrans("0123456789", "0246813579")

# What goes on is another value, which the model made: it is found as a whole, and is nobody's fake.
PATTERNS = {
    "EMAIL": rf"(?:{'|'.join(_FIRST)})\.(?:{'|'.join(_LAST)})[0-9]{{1,9}}@example\.com\b(?:[.-]\w+){{0,9}}",
    "PHONE": r"\+1[ .-]?\(?[2-9][0-9]{2}\)?[ .-]?555[ .-]?01[0-9]{2}\b(?:-[0-9]+){0,4}",
    "CREDIT_CARD": r"4000[ -]?00[0-9]{2}[ -]?[0-9]{4}[ -]?[0-9]{4}\b(?:[.-][0-9]+){0,4}",
    "IBAN": r"DE[0-9]{2} ?0000 ?0000 ?[0-9]{4} ?[0-9]{4} ?[0-9]{2}\b",
    "SSN": r"900-[0-4][0-9]-[0-9]{4}\b(?:-[0-9]+){0,4}",
    "IP": r"(?:203\.0\.113|198\.51\.100|192\.0\.2)\.[0-9]{1,3}\b(?:\.[0-9]+){0,9}"
    r"|2001:db8::[0-9a-f]{1,8}\b(?::[0-9a-f]+){0,9}",
    "MAC": r"00:00:5e:00:53:[0-9a-f]{2}\b(?:[:-][0-9a-f]{2}){0,9}",
}
"""How fakes of a type are found again, and the forms that a model may give them, in RE2's syntax. No match depends on
what stands before it; `is_cut` does."""
_WITHIN = {"EMAIL": ".+%-", "PHONE": "+", "CREDIT_CARD": ".-", "SSN": "-", "IP": ".", "MAC": "-"}
HEADS = {
    "EMAIL": [f"{name}." for name in _FIRST], "PHONE": ["+1"], "CREDIT_CARD": ["4000"], "IBAN": ["DE"], "SSN": ["900-"],
    "IP": [*_NETS, "2001:db8::"], "MAC": ["00:00:5e:"],
}  # fmt: skip
"""What each match of these begins with."""


def is_cut(kind: str, before: str) -> bool:
    """Whether a fake of a type is no more than the end of a value, by the character before it ("" for none).

    >>> is_cut("EMAIL", "."), is_cut("EMAIL", ":"), is_cut("IP", "1")
    (True, False, True)
    """
    return before.isalnum() or before == "_" or (before != "" and before in _WITHIN.get(kind, ""))


def fake(kind: str, number: int, original: str) -> str:
    """The fake with this number, from 1 on, of a type; "" where there is none, or no more.

    >>> fake("EMAIL", 1, "x@y.org"), fake("IP", 2, "fe80:0::1"), fake("PERSON", 1, "Jane")
    ('jo.carter1@example.com', '2001:db8::2', '')
    """
    make = _MAKERS.get(kind)
    return "" if make is None else make(number, original)


def _email(number: int, _: str) -> str:
    """RFC 2606."""
    return f"{_FIRST[number % len(_FIRST)]}.{_LAST[number % len(_LAST)]}{number}@example.com"


def _phone(number: int, _: str) -> str:
    """NANPA: 555-0100 to 555-0199 are for fiction, in every area."""
    area, line = divmod(number, 100)
    return f"+1 {_AREAS[area]}-555-01{line:02}" if area < len(_AREAS) else ""


def _card(number: int, _: str) -> str:
    """4000 00: of no issuer; payment providers have their test cards there. The check digit is right."""
    digits = f"400000{number:09}"
    total = sum(map(int, digits[-2::-2])) + sum(map(int, digits[::-2].translate(_DOUBLED)))
    return f"{digits}{-total % 10}"


def _iban(number: int, _: str) -> str:
    """The German bank code 00000000 is nobody's: they begin with 1 to 8. The check digits are right."""
    account = f"00000000{number:010}"
    return f"DE{98 - int(account + '131400') % 97:02}{account}"


def _ssn(number: int, _: str) -> str:
    """No area from 900 on, and of the taxpayers' numbers there none of the groups up to 49, was ever given out."""
    group, serial = divmod(number, 10_000)
    return f"900-{group + 1:02}-{serial:04}" if group < 49 else ""


def _address(number: int, original: str) -> str:
    if ":" in original:
        return f"2001:db8::{number:x}"  # RFC 3849
    net, host = divmod(number, 255)
    return f"{_NETS[net]}.{host}" if net < len(_NETS) else ""


def _mac(number: int, _: str) -> str:
    """RFC 7042, section 2.1.2."""
    return f"00:00:5e:00:53:{number:02x}" if number < 256 else ""


_MAKERS: dict[str, Callable[[int, str], str]] = {
    "EMAIL": _email, "PHONE": _phone, "CREDIT_CARD": _card, "IBAN": _iban, "SSN": _ssn, "IP": _address, "MAC": _mac,
}  # fmt: skip
