"""Checks of card numbers (Luhn, issuer, length) and IBANs (ISO 7064 mod 97, country, length)."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable

# The SWIFT IBAN registry: how many characters an IBAN of each country has.
_IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FI FK FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU YE",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
    for country in countries.split()
}

# ISO/IEC 7812: the prefixes of an issuer, and the lengths in use.
_ISSUERS: tuple[tuple[str, Iterable[int]], ...] = (
    ("4", (13, 16, 19)),  # Visa
    (r"5[1-5]|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720", (16,)),  # Mastercard
    ("3[47]", (15,)),  # American Express
    ("6011|64[4-9]|65", (16, 19)),  # Discover
    ("30[0-5]|3095|36|38|39", (14, 16)),  # Diners Club
    ("35", (16, 19)),  # JCB has 3528 to 3589; those who make up numbers take all of 35
    ("1800|2131", (15,)),  # JCB before 1990; test tools still make them
    ("62|8[12]", (16, 19)),  # UnionPay, RuPay
    ("60", (16,)),  # RuPay
    ("220[0-4]", (16, 19)),  # Mir
    ("50|5[6-8]|6304|6759|676[0-3]", range(12, 20)),  # Maestro
)
_SHORTEST = 12
_PREFIXES = {
    size: re.compile("|".join(prefixes for prefixes, sizes in _ISSUERS if size in sizes)) for size in range(12, 20)
}
_VALUES = {ord(letter): str(int(letter, 36)) for letter in string.ascii_letters}  # ISO 13616: A = 10 ... Z = 35
_DOUBLED = str.maketrans("0123456789", "0246813579")  # twice the digit, less 9 where that has two digits
_GROUP = re.compile(r"[0-9]+")

# What check_card decides on: digits that begin as those of an issuer; and what holds none, decimals and ids of twelve.
CARD = (
    r"(?:\b(?:[2-6]\d{3}|8[12]\d\d|1800)(?:[ -]?\d){8,15}|(?i:id)[\"']?[:=] ?[\"']?[56]\d{11}"
    r"|\b\d{1,20}\.(?:[2-6]\d{3}|8[12]\d\d|1800)\d{8,15})\b"
)


def luhn(digits: str) -> bool:
    """Whether a string of ASCII digits has a right Luhn check digit (ISO/IEC 7812-1).

    >>> luhn("79927398713"), luhn("79927398710")
    (True, False)
    """
    total = sum(digits[::-2].encode()) + sum(digits[-2::-2].translate(_DOUBLED).encode())
    return (total - len(digits) * ord("0")) % 10 == 0


def issued(digits: str) -> bool:
    """Whether an issuer gives out numbers with this prefix and length."""
    return len(digits) in _PREFIXES and _PREFIXES[len(digits)].match(digits) is not None


def check_card(text: str) -> int:
    """How many first characters of a run of digits, spaces and dashes are a card number; 0 or less for none.

    Bare, or grouped as printed: fours, 4-6-5 of American Express, 4-6-4 of Diners. Numbers that follow after a space,
    as a date of expiry does, are no part of it.
    """
    if "." in text or text.startswith(("i", "I")):
        return -len(text)
    found = list(_GROUP.finditer(text))
    if not found or (len(found[0][0]) != 4 and len(found[0][0]) < _SHORTEST):
        return 0
    groups = [group[0] for group in found]
    while sum(map(len, groups)) >= _SHORTEST:
        end = found[len(groups) - 1].end()
        cut = end < len(text) and text[end] != " "  # out of a longer run
        if not cut and _grouped(text[:end], groups) and _card("".join(groups)):
            return end
        groups.pop()
    return -len(text) if len(found) == 1 else 0


def _card(digits: str) -> bool:
    return issued(digits) and luhn(digits)


def _grouped(number: str, groups: list[str]) -> bool:
    if len(groups) == 1:
        return number == groups[0]
    if number not in (" ".join(groups), "-".join(groups)):
        return False
    return _in_fours(groups) or list(map(len, groups)) in ([4, 6, 5], [4, 6, 4])


def _in_fours(groups: list[str]) -> bool:
    return all(len(group) == 4 for group in groups[:-1]) and 1 <= len(groups[-1]) <= 4


def check_iban(text: str) -> int:
    """How many first characters are an IBAN, bare or in groups; 0 for none. Upper or lower case, not mixed.

    Words that follow after a space are no part of it.

    >>> check_iban("GB82 WEST 1234 5698 7654 32 and"), check_iban("GB83WEST12345698765432")
    (27, 0)
    """
    length = _IBAN_LENGTHS.get(text[:2].upper(), 0)
    end = length + (length - 1) // 4 if text[4:5] == " " else length  # with a space behind each four
    groups = text[:end].split(" ")
    number = "".join(groups)
    cut = end < len(text) and text[end] != " "
    if not length or cut or len(number) != length or not (number.isascii() and number.isalnum()):
        return 0
    if number not in (number.upper(), number.lower()) or (len(groups) > 1 and not _in_fours(groups)):
        return 0
    return end if int((number[4:] + number[:4]).translate(_VALUES)) % 97 == 1 else 0
