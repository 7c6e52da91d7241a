"""Rules in gitleaks' format: what they find, what is left out with a reason, what is refused."""

import logging
import random
import string

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw.builtin.guardrails import gitleaks

CONFIG = r"""
title = "as gitleaks has it"

[allowlist]
description = "everywhere"
paths = ['''vendor/''']
regexes = ['''^0+$''']
stopwords = ["abcdefgh"]

[[allowlists]]
targetRules = ["acme-token"]
regexes = ['''acme_f{20}''']

[[rules]]
id = "acme-token"
description = "a token by its prefix"
regex = '''\b(acme_[a-f0-9]{20})(?:[\x60'"\s;]|\\[nr]|$)'''
entropy = 2
keywords = ["acme_"]
[[rules.allowlists]]
regexes = ['''9{6}''']

[[rules]]
id = "globex-secret"
regex = '''(?i)[\w.-]{0,50}?(?:globex)(?:[ \w.-]{0,9})[\s'"]{0,3}(=|:)[\x60'"\s=]{0,5}([a-z0-9]{16})(?:[\x60'"\s;]|$)'''
secretGroup = 2
keywords = ["GLOBEX"]
[rules.allowlist]
regexTarget = "match"
regexes = ['''globex_public''']
stopwords = ["dummy"]

[[rules]]
id = "both-conditions"
regex = '''both_[a-z0-9]{8}'''
[[rules.allowlists]]
condition = "AND"
regexes = ['''_x''']
stopwords = ["yy"]
[[rules.allowlists]]
condition = "AND"
paths = ['''tests/''']
stopwords = ["zz"]
[[rules.allowlists]]
regexTarget = "line"
regexes = ['''.''']

[[rules]]
id = "key-file"
path = '''\.p12$'''

[[rules]]
id = "near-others"
regex = '''near_\d+'''
required = [{ id = "acme-token", withinLines = 5 }]

[[rules]]
id = "for-others"
regex = '''part_\d+'''
skipReport = true
"""


def written(tmp_path, text):
    path = tmp_path / "gitleaks.toml"
    path.write_text(text)
    return path


@pytest.fixture
def rules(tmp_path):
    return gitleaks.rules_from(written(tmp_path, CONFIG))


def matches(rules, text):
    """The reference: every match of every rule, as (id, text)."""
    options = re2.Options()
    options.longest_match = True
    found, data = [], text.encode()
    for rule in rules:
        pattern, at = re2.compile(rule.pattern.encode(), options), 0
        while (match := pattern.search(data, at)) is not None:
            candidate = match.group().decode()
            size = rule.check(candidate) if rule.check else len(candidate)
            at = match.start() + (len(candidate[:size].encode()) or 1)
            if size:
                found.append((rule.id.removeprefix("secrets.gitleaks."), candidate[:size]))
    return found


def made(alphabet, size):
    return "".join(random.Random(3).choices(alphabet, k=size))


TOKEN = "acme_" + made("0123456789abcdef", 20)
SECRET = made(string.ascii_lowercase + string.digits, 16)


def test_rules_have_ids_types_and_keywords(rules):
    assert [rule.id for rule in rules] == [
        f"secrets.gitleaks.{name}" for name in ("acme-token", "globex-secret", "both-conditions")
    ]
    assert rules[0].type == "ACME_TOKEN"
    assert rules[1].keywords == ("globex",)


@pytest.mark.parametrize("after", ["", '"', "\n", "; x", "\\n"])
def test_what_closes_the_secret_is_no_part_of_the_match(rules, after):
    assert matches(rules, f'"{TOKEN}{after}') == [("acme-token", TOKEN)]


def test_what_stands_before_the_secret_is(rules):
    text = f'my_globex_key = "{SECRET}"'
    assert matches(rules, f"{text}\n") == [("globex-secret", text[:-1])]


@pytest.mark.parametrize(
    "text",
    [
        TOKEN[:-1],
        f"x{TOKEN}",
        "acme_" + "a" * 20,  # entropy 0
        "acme_" + "ab" * 10,  # entropy 1
        "acme_" + "f" * 20,
        f"{TOKEN[:-6]}999999",  # allowed by the rule
        f'globex_public = "{SECRET}"',  # allowed by the match around the secret
        'globex = "dummy00000000000"',
        'globex = "0000000000000000"',  # allowed everywhere
        'globex = "abcdefgh00000001"',
        "both_xyy00000",
        "near_12 part_12 key.p12",
    ],
)
def test_not_found(rules, text):
    assert matches(rules, text) == []


@pytest.mark.parametrize("text", ["both_x0000000", "both_yy000000", "both_zz000000"])
def test_conditions_with_and_need_all(rules, text):
    assert matches(rules, text) == [("both-conditions", text)]


def test_a_keyword_has_to_be_in_the_match(tmp_path):
    text = "[[rules]]\nid = 'k'\nregex = 'v1-[a-f0-9]{8}'\nkeywords = ['cloud', 'v1-0']\n"
    rules = gitleaks.rules_from(written(tmp_path, text))
    assert matches(rules, "cloud v1-12345678 v1-01234567") == [("k", "v1-01234567")]


def test_what_is_left_out_has_a_reason(tmp_path, caplog):
    path = written(tmp_path, CONFIG)
    assert gitleaks.read(path).skipped == {
        "key-file": "it looks at paths only",
        "near-others": "it needs other rules to match nearby",
        "for-others": "it only serves other rules (skipReport)",
    }
    with caplog.at_level(logging.INFO):
        gitleaks.rules_from(path)
    assert "gitleaks rule key-file is left out: it looks at paths only" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[rules]]\nid = 'bad-one'\nregex = '(?!x)y'\n", "'bad-one'.*RE2 refuses.*perl operator"),
        ("[[rules]]\nid = 'bad-one'\nregex = '(a)\\1'\n", "'bad-one'.*invalid escape"),
        ("[[rules]]\nid = 'a'\nregex = 'b'\nsecretGroup = 1\n", "'a': secretGroup 1.*0 groups"),
        ("[[rules]]\nid = 'a'\nregex = 'b'\nsecretGroup = true\n", "'a': secretGroup True"),
        ("[[rules]]\nid = 'a'\nregex = 'b'\nentropy = 'high'\n", "'a': entropy 'high' is not a number"),
        ("[[rules]]\nid = 'a'\nregex = 'b'\nkeywords = 'b'\n", "'a': keywords has to be a list"),
        ("[[rules]]\nid = 'a'\nregex = 5\n", "'a': a regex has to be a text"),
        ("[[rules]]\nid = 'a'\nregex = 'b'\nallowlists = ['c']\n", "allowlist has to be a table"),
        ("[[rules]]\nid = 'a'\nregex = 'b'\n[[rules.allowlists]]\nregexes = ['(']\n", "'a': RE2 refuses"),
        ("[[rules]]\nregex = 'b'\n", "rule number 1 has no id"),
        ("[[rules]]\nid = 'a'\nregex = 'b'\n[[rules]]\nid = 'a'\nregex = 'c'\n", "'a' is there twice"),
        ("[extend]\nuseDefault = true\n", "extends another"),
        ("title = 'x'\n", r"no \[\[rules\]\]"),
        ("rules = [1]\n", r"no \[\[rules\]\]"),
        ("rules = [", "no TOML"),
    ],
)
def test_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        gitleaks.rules_from(written(tmp_path, text))


def test_a_file_has_a_largest_size(tmp_path, monkeypatch):
    monkeypatch.setattr(gitleaks, "MAX_BYTES", 100)
    with pytest.raises(ValueError, match="larger than 100 bytes"):
        gitleaks.rules_from(written(tmp_path, CONFIG))
    with pytest.raises(OSError, match=r"none\.toml"):
        gitleaks.rules_from(tmp_path / "none.toml")


def test_a_file_that_is_no_text(tmp_path):
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="no TOML"):
        gitleaks.rules_from(path)


@pytest.fixture(scope="module")
def checks(tmp_path_factory):
    return [rule.check for rule in gitleaks.rules_from(written(tmp_path_factory.mktemp("toml"), CONFIG))]


@given(text=st.text() | st.text("acme_globxthy=0189 '\"\n", max_size=60))
def test_checks_take_any_text(checks, text):
    for check in checks:
        assert 0 <= check(text) <= len(text)


@given(st.text(min_size=1))
def test_entropy_is_that_of_shannon(text):
    bits = gitleaks.shannon_entropy(text)
    assert 0 <= bits <= len(set(text)).bit_length()
    assert gitleaks.shannon_entropy(text * 3) == pytest.approx(bits)
