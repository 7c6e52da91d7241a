"""Personal data that has a form: what is found, what is not, and what the checks decide."""

import functools
import ipaddress
import re
from dataclasses import replace
from itertools import pairwise

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw.builtin.guardrails import RuleSet, payment, phones, pii

BY_ID = {rule.id: rule for rule in pii.rules()}


def matches(rules, text):
    """The reference: every match as (id, text); of those that overlap the leftmost, and there the longest."""
    options = re2.Options()
    options.longest_match = True
    found, data = [], text.encode()
    for rule in rules:
        pattern, at = re2.compile(rule.pattern.encode(), options), 0
        while (match := pattern.search(data, at)) is not None:
            candidate = match.group().decode()
            size = rule.check(candidate) if rule.check else len(candidate)
            at = match.start() + (len(candidate[: abs(size)].encode()) or 1)
            if size > 0:
                found.append((match.start(), -at, rule.id, candidate[:size]))
    kept, end = [], 0
    for start, stop, name, value in sorted(found):
        if start >= end:
            kept, end = [*kept, (name, value)], -stop
    return kept


def values(kind, text):
    return [value for _, value in matches(pii.rules([kind]), text)]


def with_luhn(digits):
    return next(digits + last for last in "0123456789" if payment.luhn(digits + last))


def iban_of(country, bban):
    value = int("".join(str(int(letter, 36)) for letter in f"{bban}{country}00"))
    return f"{country}{98 - value % 97:02d}{bban}"


CARD = with_luhn("411111111111111")
AMEX = with_luhn("37828224631000")
IBAN = iban_of("GB", "WEST12345698765432")
# fmt: off
POSITIVES = {
    "email": [
        "ada@example.org", "first.last+tag@mail.example.co.uk", "o_b-1%x@sub-domain.example.museum",
        "müller@bücher.example", "иван@почта.рф", f"ada@{'a-long-label.' * 18}example.org",
        "ada@xn--bcher-kva.example",
    ],
    "phone": [
        "+1 212 555 0123", "+12125550123", "(212) 555-0123", "212-555-0123", "212.555.0123 x4567", "1-800-555-0199",
        "001-212-555-0123", "2125550123", "+44 20 7946 0958", "+41 (0)44 668 18 00", "+49-30-901820",
        "+33 1 99 00 12 34", "+46 (0)8 123 456 78",
        "0044 20 7946 0958", "020 7946 0958", "07700 900123", "07700900123", "01 99 00 12 34", "01.99.00.12.34",
        "(02) 5550 1234", "030/1234567", "612 345 678", "9123 4567", "555-0123",
    ],
    "credit_card": [
        CARD, "4111 1111 1111 1111", "4111-1111-1111-1111", AMEX, f"{AMEX[:4]} {AMEX[4:10]} {AMEX[10:]}",
        with_luhn("555555555555444"), with_luhn("222100000000000"), with_luhn("601100000000000"),
        with_luhn("356600002020541"), with_luhn("50180000000"), with_luhn("620000000000000000"),
    ],
    "iban": [
        IBAN, IBAN.lower(), " ".join(IBAN[at : at + 4] for at in range(0, len(IBAN), 4)),
        iban_of("NO", "86011117947"), iban_of("MT", "MALT011000012345MTLCAST001S"),
        iban_of("DE", "370400440532013000"),
    ],
    "ssn": ["219-09-9998", "219 09 9998", "899-99-9999", "001-01-0001"],
    "ip": [
        "192.168.1.17", "8.8.4.40", "203.0.113.255", "2001:db8::8a2e:370:7334",
        "2001:0db8:85a3:0000:0000:8a2e:0370:7334", "fe80::1ff:fe23:4567:890a", "abcd:1:2:3:4:5:6:7",
        "2001:db8::192.0.2.33",
    ],
    "mac": ["00:1A:2b:3c:4d:5e", "00-1a-2b-3c-4d-5e", "001a.2b3c.4d5e"],
}
NEGATIVES = {
    "email": [
        "@example.org", "ada@localhost", "ada@b.c", "icon@2x.png", "a@b", "ada.@example.org", "x @ y.org",
        "node@18.0.1",
    ],
    "phone": [
        "2026-11-22", "2026-11-22 03:41:54", "22.11.2026", "11/22/2026", "1700000000", "1700000000000", "1939-1945",
        "1914 1918", "12345", "1,234,567", "3.14159265", "219-09-9998", "0123456789",
        "550e8400-e29b-41d4-a716-446655440000", "+20251122-1", "100 000 000", "1.21.3", "3.09078914170",
        "06:25:07.003210 8840", "06:25:00.515347 7474", "00900584-5115-4937-a1ed-b7580185a000", "2147483647",
        '"id": 4907904194', "user_id=4907904194", "12 34 56 78 90 12 34 56 78 90",
        "+999 1234 5678", "12345678", "123456789", "978-3-16-148410-0",
    ],
    "credit_card": [
        CARD[:-1] + "2", "4111 11111111 1111", "4111 1111-1111 1111", with_luhn("999900000000000"), "0" * 16,
        f"{CARD}0000", f"0.{CARD}", f"-59.{with_luhn('410934731468')}", f'"id": {with_luhn("50234080965")}',
    ],
    "iban": [
        IBAN[:-1] + "3", IBAN[:-1], f"{IBAN}1", "GB82 WESTX 1234 5698 7654 32", iban_of("XX", "WEST12345698765432"),
        "Gb" + IBAN[2:],
    ],
    "ssn": [
        "000-12-3456", "666-12-3456", "900-12-3456", "219-00-9998", "219-09-0000", "219-09 9998", "219099998",
        "2190-09-9998",
    ],
    "ip": [
        "256.1.1.1", "1.2.3.4", "1.2.3", "0.0.0.0", "127.0.0.1", "255.255.255.0", "01.20.30.40", "12:34:56",
        "std::vector", "a::b", "[1::2]", "::", "10.0.19041.1", "Chrome/136.0.0.0", "10.0.0.0", "1.3.6.1.5.5.17.48.11",
        "2026:00:00:05", "2001:db8:1:2", "12:34:56:12:34:56:12:34:56:12:34:56",
    ],
    "mac": ["00:1A:2b:3c:4d", "00:1A-2b:3c-4d:5e", "00:00:00:00:00:00", "ff-ff-ff-ff-ff-ff", "g0:1A:2b:3c:4d:5e"],
}
# fmt: on


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in POSITIVES.items() for text in texts])
def test_found_whole_at_the_usual_places(kind, text):
    assert values(kind, text) == [text]
    for before, after in [
        ("it is ", "."),
        ("(", ")"),
        ('"', '"'),
        ("é: ", ", and"),
        ("<", ">"),
        ("\n", "\n"),
        ("=", ";"),
    ]:
        assert values(kind, f"{before}{text}{after}") == [text]


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in NEGATIVES.items() for text in texts])
def test_not_found(kind, text):
    assert values(kind, f"it is {text} or") == []


@pytest.mark.parametrize(
    ("kind", "text"), [(kind, texts[0]) for kind, texts in POSITIVES.items() if kind not in ("email", "phone")]
)
def test_not_found_inside_of_words(kind, text):
    assert values(kind, f"x{text}y") == []


@pytest.mark.parametrize("kind", POSITIVES)
def test_several_in_a_row(kind):
    assert values(kind, ", ".join(POSITIVES[kind])) == POSITIVES[kind]
    assert values(kind, "\n".join(POSITIVES[kind])) == POSITIVES[kind]


def test_what_follows_is_no_part_of_it():
    assert values("credit_card", f"{CARD} 12/29") == [CARD]
    assert values("credit_card", "4111 1111 1111 1111 123") == ["4111 1111 1111 1111"]
    assert values("iban", f"{IBAN} then pay") == [IBAN]
    assert values("iban", f"{' '.join(re.findall('.{1,4}', iban_of('NL', 'ABNA0417164300')))} then")[0].endswith("00")
    assert values("phone", "212-555-0123 12 times") == ["212-555-0123"]
    assert values("email", "ada@example.org.") == ["ada@example.org"]
    assert values("email", "ada@example.org-based, 请写信到ada@example.org吧") == ["ada@example.org"] * 2
    assert values("ip", "10.1.2.34:8080 10.1.2.34/24") == ["10.1.2.34"] * 2


@pytest.mark.parametrize("before", ["", "234 ", "234 " * 3, "234 " * 6, "20 30 40 555 " * 5, "2345 " * 9])
@pytest.mark.parametrize("after", ["", " 12 13 14 15", " 234" * 12])
@pytest.mark.parametrize("number", ["212 555 0123", "01632 960 123", "+44 20 7946 0958", "(212) 555-0123"])
def test_a_number_in_a_row_of_groups(before, number, after):
    assert number in [value[: len(number)] for value in values("phone", f"{before}{number}{after}")]


def test_every_type_keeps_to_its_own():
    text = "; ".join(texts[0] for texts in POSITIVES.values())
    assert [name for name, _ in matches(pii.rules(), text)] == [
        "pii.email", "pii.phone", "pii.credit_card", "pii.iban", "pii.ssn", "pii.ip", "pii.mac",
    ]  # fmt: skip


def test_types():
    assert [rule.id for rule in pii.rules(["ip"])] == ["pii.ip", "pii.ip.v6"]
    assert {rule.type for rule in pii.rules(["ip"])} == {"IP"}
    assert {rule.type.lower() for rule in pii.rules()} == set(pii.TYPES)
    with pytest.raises(ValueError, match="no PII type 'e-mail'; did you mean 'email'"):
        pii.rules(["ssn", "e-mail"])
    with pytest.raises(ValueError, match="no PII type ''"):
        pii.rules([""])


@given(st.text("0123456789", min_size=15, max_size=15))
def test_cards_by_their_last_digit(digits):
    good = [digits + last for last in "0123456789" if payment.check_card(digits + last) > 0]
    assert good == ([with_luhn(digits)] if payment.issued(digits + "0") else [])


@given(st.sampled_from(sorted(payment._IBAN_LENGTHS)), st.data())
def test_ibans_by_their_check_digits(country, data):
    size = payment._IBAN_LENGTHS[country] - 4
    bban = data.draw(st.text("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=size, max_size=size))
    iban = iban_of(country, bban)
    grouped = " ".join(re.findall(".{1,4}", iban))
    assert values("iban", f"to {iban}, or {grouped}.") == [iban, grouped]
    wrong = f"{country}{(int(iban[2:4]) + 1) % 100:02d}{bban}"
    assert payment.check_iban(wrong) == 0
    assert payment.check_iban(iban + "1") == payment.check_iban(iban[:-1]) == 0
    at = data.draw(st.integers(1, len(grouped) - 1))
    if grouped[at] != " " != grouped[at - 1]:  # a space more, or one moved, and the groups are no fours
        assert payment.check_iban(f"{grouped[:at]} {grouped[at:]}") == 0
        assert payment.check_iban(f"{grouped[:at]} {grouped[at:].replace(' ', '', 1)}") == 0


@given(st.integers(0, 999), st.integers(0, 99), st.integers(0, 9999), st.sampled_from("- "))
def test_social_security_numbers(area, group, serial, sign):
    text = f"{area:03d}{sign}{group:02d}{sign}{serial:04d}"
    valid = 0 < area < 900 and area != 666 and group > 0 and serial > 0
    assert values("ssn", text) == ([text] if valid else [])


@given(st.ip_addresses(v=4))
def test_ipv4(address):
    first = str(address).split(".")[0]
    personal = first not in ("0", "127", "255") and any(len(octet) > 1 for octet in str(address).split("."))
    personal = personal and not str(address).endswith(".0.0.0")
    assert values("ip", f"from {address}.") == ([str(address)] if personal else [])


@given(st.integers(0x2000 << 112, (0x4000 << 112) - 1).map(ipaddress.IPv6Address))
def test_ipv6(address):
    assert values("ip", f"from {address.exploded} and [{address}]:80") == [address.exploded, str(address)]


@given(st.from_regex(r"[2-9][0-8][0-9][ .-]?[2-9][0-9]{2}[ .-]?[0-9]{4}", fullmatch=True))
def test_north_american_numbers(text):
    separators = set(re.findall(r"[ .-]", text))
    bare = re.sub(r"\D", "", text)
    if text == bare or re.fullmatch(r"\d{3}([ .-])\d{3}\1\d{4}", text):
        assert values("phone", text) == [text], separators
        assert values("phone", f"+1{bare}") == [f"+1{bare}"]


def test_the_order_of_types_makes_no_difference():
    assert pii.rules(reversed(pii.TYPES)) == pii.rules()
    assert [rule.id for rule in pii.rules(["phone", "ip"])] == ["pii.ip", "pii.ip.v6", "pii.phone"]


RUN = st.lists(
    st.tuples(
        st.sampled_from(["", "", "", "+", "(", "id=", "x"]),
        st.from_regex("[0-9a-f]{1,4}|[0-9]{1,12}", fullmatch=True),
        st.sampled_from([" ", " ", "-", ".", ".", ":", "::", ") ", "/", ", "]),
    ),
    max_size=20,
).map(lambda parts: "".join(map("".join, parts)))


@functools.cache
def step_by_step(rule):
    """A set that notes what the rule's check says about each candidate, one that skips nothing, and the notes."""
    noted = []

    def note(candidate):
        size = rule.check(candidate)
        noted.append((candidate, -size))
        return size

    slow = replace(rule, check=lambda candidate: max(0, rule.check(candidate)))
    return RuleSet([replace(rule, check=note)]), RuleSet([slow]), noted


NUMBERS = RuleSet(pii.rules())


@given(RUN)
@pytest.mark.parametrize("rule", [rule for rule in pii.rules() if rule.check], ids=lambda rule: rule.id)
def test_what_a_check_says_to_skip_holds_nothing_that_it_finds_elsewhere(rule, text):
    """But for what is none because of what stands before it: the digits of a decimal, an id, one number of many."""
    noting, slow, noted = step_by_step(rule)
    noted.clear()
    noting.scan(text)
    for candidate, size in noted:
        behind = candidate.startswith(("i", "I")) or re.match(r"\d+\.(?:\d{9,}|0\d{4,})", candidate)
        if size > 0 and not behind and candidate.count(".") <= 3:
            assert all(found.start >= size for found in slow.scan(candidate))


@given(RUN, st.lists(st.integers(0, 200), max_size=8))
def test_numbers_are_the_same_in_streams(text, places):
    plan = NUMBERS
    ends = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    for pieces in ([text[start:end] for start, end in pairwise(ends)], text):
        stream = plan.stream("#")
        assert "".join([*map(stream.feed, pieces), stream.finish()]) == plan.redact(text, "#")


CHECKS = {rule.id: rule.check for rule in pii.rules() if rule.check}
NEARLY = st.text("0123456789abcdefABGZ@ .:-+()/xé٣²\n", max_size=60)


@given(NEARLY | st.text(max_size=40))
def test_checks_take_any_text(text):
    for check in CHECKS.values():
        assert -len(text) <= check(text) <= len(text)


@pytest.mark.parametrize("name", BY_ID)
def test_patterns_are_bounded(name):
    rule = BY_ID[name]
    options = re2.Options()
    options.longest_match = True
    assert re2.compile(rule.pattern, options).programsize < 5000
    width = re._parser.parse(rule.pattern).getwidth()[1]
    assert width <= rule.max_chars or name == "pii.email"  # whose domain is bounded by max_chars


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in POSITIVES.items() for text in texts])
def test_matches_hold_a_keyword_and_fit(kind, text):
    for rule in pii.rules([kind]):
        for _, value in matches([rule], text):
            assert len(value) <= rule.max_chars
            assert not rule.keywords or any(word in value.lower() for word in rule.keywords)


def test_a_phone_number_keeps_its_extension():
    assert phones.check_phone("212-555-0123 ext. 89") == len("212-555-0123 ext. 89")
    assert phones.check_phone("2026-11-22 x5") == 0


@pytest.mark.parametrize("unit", ["a", "a.", "a-", "1", "1 ", "1-", "1.", "12 ", ":", "(", "1:", "@", "x"])
def test_checks_take_long_text_in_linear_time(unit):
    for check in CHECKS.values():
        for text in (unit * 4000, f"a@{unit * 4000}", f"+{unit * 4000}"):
            assert check(text) <= len(text)
