"""The check of telephone numbers: which runs of digits and separators people write for one.

Three kinds of evidence, from strong to weak: a calling code (E.164), a trunk prefix or an area code, and a grouping
that is usual for subscriber numbers and unusual for other figures. Dates, years, and plain figures are none.
"""

from __future__ import annotations

import re

# ITU-T E.164: the calling codes of two digits; those of three are all others of the listed zones.
_TWO_DIGITS = re.compile(r"2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]")
_THREE_DIGITS = re.compile(
    r"21[1-368]|22\d|23\d|24\d|25[0-8]|26\d|29[01789]|35\d|37[0-8]|38[0-35-79]|42[013]|50\d|59\d|67[02-9]|68[0-35-9]"
    r"|69[0-2]|80[08]|85[02356]|87[0-48]|88[0-38]|96[0-8]|97[0-79]|99[2-68]"
)
_NONE = re.compile(r"\d+\.(?:[2-9]\d{9}|0\d{4,12})\b|[iI].*", re.ASCII | re.DOTALL)
_EXTENSION = re.compile(r" ?[xXeE#]")  # of x, ext and #, as the pattern has them
_GROUP = re.compile(r"[0-9]+")
_DAY = re.compile(r"20\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d?$")  # +20251122-1 ends a version
_FIGURES = ("0123456789", "01234567890", "9876543210", "2147483647", "2147483648", "4294967295", "4294967296")
_FEWEST = 7
_SHORTEST_BARE, _LONGEST_BARE = 10, 11
_MOST_GROUPS = 5
_YEAR = re.compile(r"(?:19|20)\d\d")
_MONTH_OR_DAY = re.compile(r"0[1-9]|[12]\d|3[01]")

# Whole numbers without a calling code; a digit group of a form has one kind of separator after it.
_AREA = re.compile(
    r"1?[ .-]?\(\d{3}\) ?\d{3}[ .-]\d{4}"  # North America: (212) 555-0123
    r"|(?:1([ .-]))?\d{3}([ .-])\d{3}\2\d{4}"  # 212-555-0123, 1-212-555-0123
    r"|\(\d{2,5}\)[ -]?\d{3,4}[ -]?\d{3,4}"  # an area code in parentheses, anywhere
    r"|\(0\d{1,4}\)[ -]?\d{2,4}(?:[ -]\d{2,4}){1,3}"
    r"|\(0\d{2,4}\)[ -]?\d{5,8}"
)
_BARE = re.compile(
    r"[2-9]\d\d[2-9]\d{6}"  # North America: neither area nor exchange begins with 0 or 1 (so no Unix time is one)
    r"|0[1-9]\d{8,9}"  # a trunk prefix
)
_TRUNK = re.compile(r"0\d{1,4}(?:([ .-])\d{2,4}(?:\1\d{2,4}){1,3}|[ /-]\d{5,8})")
_SUBSCRIBER = re.compile(
    r"[2-9]\d\d[ -]\d{4}"  # seven digits
    r"|[2-9]\d{3} \d{4}"  # eight, in fours; with a dash it is a part of a UUID more often
    r"|[2-9]\d \d{6}"  # eight: an area code of two
    r"|[2-9]\d(?:([ -])\d{3}){2}"
    r"|[2-9]\d\d([ -])\d\d\2\d{3}"
    r"|[2-9]\d(?:-\d\d){3}"
    r"|[2-9]\d\d([ -])\d{3}\3\d{3}"  # nine, in threes
    r"|[2-9]\d([ -])\d{3}\4\d{3}\4\d{4}"
    r"|[2-9]\d([ -])\d{3}\5\d\d\5\d\d"
)

# What check_phone decides on. Each form stands with the groups of digits behind it, of which the check has to know.
_SIGNS = "[ ()./-]{0,3}"


def _same(signs: str, form: str) -> str:
    """A form with the same sign in all places of a low line."""
    return "|".join(form.replace("_", re.escape(sign)) for sign in signs)


_FORMS = (
    r"\b[2-9]\d\d[2-9]\d{6}|\b0[1-9]\d{8}\d?",
    r"(?:\b1[ .-]?)?\(\d{3}\) ?\d{3}[ .-]\d{4}|\b(?:1[ .-])?(?:" + _same(" .-", r"\d{3}_\d{3}_\d{4}") + ")",
    r"\(\d{2,5}\)[ -]?\d{3,4}[ -]?\d{3,4}|\(0\d{1,4}\)[ -]?\d{2,4}(?:[ -]\d{2,4}){1,3}|\(0\d{2,4}\)[ -]?\d{5,8}",
    r"\b0[1-9]\d{0,3}(?:" + _same(" .-", r"(?:_\d{2,4}){2,4}") + r"|[ /-]\d{5,8})",
    r"\b[2-9]\d\d[ -]\d{4}|\b[2-9]\d{3} \d{4}|\b[2-9]\d \d{6}|\b[2-9]\d(?:-\d\d){3}",
    r"\b[2-9]\d(?:[ -]\d{3}){2}|\b[2-9]\d(?:"
    + _same(" -", r"\d_\d\d_\d{3}|\d_\d{3}_\d{3}|_\d{3}_\d{3}_\d{4}|_\d{3}_\d\d_\d\d")
    + ")",
)
PHONE = (
    r"(?i)(?:"
    # a group of one digit only after the calling code: +33 1 ..., +46 (0)8 ...
    rf"\+\(?[1-9]\d{{0,3}}(?:{_SIGNS}\d){{0,2}}(?:{_SIGNS}\d{{2,3}}){{2,5}}"
    rf"|\b00{_SIGNS}[1-9](?:{_SIGNS}\d){{0,3}}(?:{_SIGNS}\d{{2,3}}){{2,5}}"
    rf"|(?:{'|'.join(_FORMS)})(?:[ ()./-]{{1,3}}\d{{2,9}}){{0,8}}"
    r")(?: ?(?:x|ext\.?|#) ?\d{1,6})?\b"
    # and what holds none: the digits of decimals, and ids
    r"|\b\d{1,20}\.(?:[2-9]\d{9}|0\d{4,12})\b|id[\"']?[:=] ?[\"']?\d{10,11}\b"
)


def check_phone(text: str) -> int:
    """How many first characters of a run of digits and separators are a telephone number; 0 or less for none.

    >>> check_phone("(212) 555-0123 x89"), check_phone("212-555-0123 12"), check_phone("2026-11-22")
    (18, 12, 0)
    """
    if none := _NONE.match(text):
        return -none.end()
    if len(text) > _LONGEST_BARE and text.isdecimal():
        return 0  # a figure
    extension = _EXTENSION.search(text)
    whole = extension.start() if extension else len(text)
    found = list(_GROUP.finditer(text, 0, whole))
    groups = [group[0] for group in found]
    sizes = list(map(len, groups))
    digits = sum(sizes)
    if sizes == [3, 2, 4] or (len(sizes) == 4 and max(sizes) < 4 and text.count(".") == 3):
        return 0  # a social security number, or an address of the internet
    if sizes[:3] == [8, 4, 4]:
        return 0  # a UUID
    while digits >= _FEWEST:
        end = found[len(groups) - 1].end()
        if end == whole:
            if _strong(text[:end], groups, digits) or _subscriber(text[:end], groups):
                return len(text)
        elif text[end].isspace() and _strong(text[:end], groups, digits):
            return end  # figures that follow after a space
        digits -= len(groups.pop())
    return -_row(text, found)


def _row(text: str, found: list[re.Match[str]]) -> int:
    """Before which place in a row of groups no number begins: too many groups would follow each."""
    signs, last = set(text), len(found) - _MOST_GROUPS
    if last <= 0 or "+" in signs or "(" in signs:
        return 0
    sizes, spaced = [len(group[0]) for group in found], " " in signs
    for at in range(last):
        first = text[found[at].start()]
        if first == "0" and (spaced or text.startswith("00", found[at].start())):
            return found[at].start()
        if sizes[at] >= _SHORTEST_BARE or sizes[at : at + 3] == [3, 3, 4] or sizes[at : at + 4] == [1, 3, 3, 4]:
            return found[at].start()
    return found[last].start()


def _strong(number: str, groups: list[str], digits: int) -> bool:
    if number[0] == "+":
        return "/" not in number and _international("".join(groups))
    if number.startswith("00"):
        if len(groups) == 1 or ("." in number and number != ".".join(groups)):  # seconds: 00.515347 7474
            return False
        return _international("".join(groups)[2:])
    if not 8 <= digits <= 11 or _dated(groups):
        return False
    if len(groups) == 1:
        return bool(_BARE.fullmatch(number)) and number not in _FIGURES
    sizes = list(map(len, groups))
    if number[0] not in "(01" and sizes != [3, 3, 4]:
        return False
    form = _TRUNK if number[0] == "0" and digits >= 9 and not _AREA.fullmatch(number) else _AREA
    return bool(form.fullmatch(number))


def _international(digits: str) -> bool:
    if digits[:1] == "1":
        return len(digits) == 11
    if digits[:1] != "7" and not _TWO_DIGITS.match(digits) and not _THREE_DIGITS.match(digits):
        return False
    return 8 <= len(digits) <= 16 and not _DAY.match(digits)  # 15 by E.164, and one for a trunk prefix as in +41 (0)44


def _subscriber(number: str, groups: list[str]) -> bool:
    if not _SUBSCRIBER.fullmatch(number) or groups[-1] == "000":  # a round figure
        return False
    return not any(map(_YEAR.fullmatch, groups)) and not _dated(groups)


def _dated(groups: list[str]) -> bool:
    """Whether the groups are those of a date: a year, and two of month and day."""
    if len(groups) < 3 or not any(map(_YEAR.fullmatch, groups)):
        return False
    return sum(1 for group in groups if _MONTH_OR_DAY.fullmatch(group)) >= 2
