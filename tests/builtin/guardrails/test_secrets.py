"""Credentials: by prefix, in assignments, in URLs and headers. Tokens are put together here, none of them is one."""

import random
import re
import string

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw.builtin.guardrails import assignments, secrets

RULES = secrets.rules()
BY_NAME = {rule.id.removeprefix("secrets."): rule for rule in RULES}
HEX, UPPER, WORD = "0123456789abcdef", string.ascii_uppercase + "234567", string.ascii_letters + string.digits


def matches(text, rules=RULES):
    """The reference: every match as (name, text); of those that overlap the leftmost, and there the longest."""
    options = re2.Options()
    options.longest_match = True
    found, data = [], text.encode()
    for place, rule in enumerate(rules):
        pattern, at = re2.compile(rule.pattern.encode(), options), 0
        while (match := pattern.search(data, at)) is not None:
            candidate = match.group().decode()
            size = rule.check(candidate) if rule.check else len(candidate)
            at = match.start() + (len(candidate[: abs(size)].encode()) or 1)
            if size > 0:
                found.append((match.start(), -at, place, rule.id.removeprefix("secrets."), candidate[:size]))
    kept, end = [], 0
    for start, stop, _, name, value in sorted(found):
        if start >= end:
            kept, end = [*kept, (name, value)], -stop
    return kept


def made(alphabet, size, seed=7):
    return "".join(random.Random(seed).choices(alphabet, k=size))


def pem(kind="RSA ", lines=6, newline="\n"):
    body = newline.join(made(WORD + "+/", 64, seed) for seed in range(lines))
    return f"-----BEGIN {kind}PRIVATE KEY-----{newline}{body}{newline}AQ=={newline}-----END {kind}PRIVATE KEY-----"


TOKENS = {
    "openai_key": ["sk-" + made(WORD, 48), "sk-proj-" + made(WORD + "_-", 155) + "A", "sk-svcacct-" + made(WORD, 60)],
    "anthropic_key": ["sk-ant-api03-" + made(WORD + "_-", 93) + "AA"],
    "openrouter_key": ["sk-or-v1-" + made(HEX, 64)],
    "huggingface_token": ["hf_" + made(string.ascii_letters, 34)],
    "groq_key": ["gsk_" + made(WORD, 52)],
    "xai_key": ["xai-" + made(WORD, 80)],
    "replicate_token": ["r8_" + made(WORD, 37)],
    "perplexity_key": ["pplx-" + made(WORD, 48)],
    "nvidia_key": ["nvapi-" + made(WORD + "_-", 63) + "a"],
    "langsmith_key": [f"lsv2_pt_{made(HEX, 32)}_{made(HEX, 10)}"],
    "aws_access_key_id": ["AKIA" + made(UPPER, 16), "ASIA" + made(UPPER, 16)],
    "gcp_api_key": ["AIza" + made(WORD, 35)],
    "google_oauth_secret": ["GOCSPX-" + made(WORD, 28)],
    "google_oauth_token": ["ya29." + made(WORD + "_-", 180) + "A"],
    "azure_storage_key": ["AccountKey=" + made(WORD + "+/", 86) + "=="],
    "azure_client_secret": ["a1B8" + "Q~" + made(WORD, 34)],
    "databricks_token": ["dapi" + made(HEX, 32), "dapi" + made(HEX, 32) + "-2"],
    "digitalocean_token": ["dop_v1_" + made(HEX, 64)],
    "terraform_token": [".atlasv1." + made(WORD, 67)],
    "vault_token": ["hvs." + made(WORD, 90)],
    "pulumi_token": ["pul-" + made(HEX, 40)],
    "github_token": [f"gh{kind}_" + made(WORD, 36) for kind in "pousr"],
    "github_fine_grained_token": [f"github_pat_{made(WORD, 22)}_{made(WORD, 59)}"],
    "gitlab_token": ["glpat-" + made(WORD, 20), "glrt-" + made(WORD, 20)],
    "npm_token": ["npm_" + made(WORD, 36)],
    "pypi_token": ["pypi-AgEIcHlwaS5vcmc" + made(WORD, 120)],
    "rubygems_key": ["rubygems_" + made(HEX, 48)],
    "docker_token": ["dckr_pat_" + made(WORD, 27)],
    "sentry_token": ["sntrys_" + made(WORD, 120)],
    "grafana_token": ["glc_" + made(WORD, 80), f"glsa_{made(WORD, 32)}_{made(HEX, 8)}"],
    "slack_token": ["xoxb-" + "-".join([made("123", 12), made("123", 12), made(WORD, 24)])],
    "slack_app_token": ["xapp-1-" + "-".join([made(UPPER, 11), made("123", 13), made(HEX, 64)])],
    "slack_webhook": [
        "hooks.slack.com/services/" + "/".join(["T" + made(UPPER, 8), "B" + made(UPPER, 8), made(WORD, 24)])
    ],
    "twilio_key": ["SK" + made(HEX, 32), "AC" + made(HEX, 32)],
    "sendgrid_key": ["SG." + made(WORD, 22) + "." + made(WORD, 43)],
    "mailgun_key": ["key-" + made(HEX, 32)],
    "telegram_bot_token": ["123456789:AA" + made(WORD, 33)],
    "discord_bot_token": [f"Bot M{made(WORD, 25)}.{made(WORD, 6)}.{made(WORD, 38)}"],
    "discord_webhook": ["discord.com/api/webhooks/" + made("123", 18) + "/" + made(WORD, 68)],
    "stripe_key": ["sk_live_" + made(WORD, 24), "rk_live_" + made(WORD, 99)],
    "stripe_webhook_secret": ["whsec_" + made(WORD, 32)],
    "shopify_token": ["shpat_" + made(HEX, 32)],
    "square_token": ["sq0atp-" + made(WORD, 22), "EAAA" + made(WORD, 60)],
    "atlassian_token": ["ATATT3" + made(WORD, 186)],
    "linear_key": ["lin_api_" + made(WORD, 40)],
    "notion_token": ["ntn_" + made(WORD, 46), "secret_" + made(WORD, 43)],
    "postman_key": [f"PMAK-{made(HEX, 24)}-{made(HEX, 34)}"],
    "figma_token": ["figd_" + made(WORD, 40)],
    "new_relic_key": ["NRAK-" + made(UPPER, 27)],
    "age_secret_key": ["AGE-SECRET-KEY-1" + made("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58)],
    "private_key": [pem(), pem(""), pem("OPENSSH ", 40), pem("EC ", 1), pem(newline="\\n"), pem(newline="\r\n")],
    "jwt": ["eyJ" + made(WORD, 33) + ".eyJ" + made(WORD, 70) + "." + made(WORD + "_-", 42) + "A"],
}
IN_CONTEXT = {
    "authorization": ["Authorization: Bearer " + made(WORD, 24), 'authorization": "Basic ' + made(WORD, 24) + "=="],
    "url_password": ["://app:s3cr3tPw", "://:r3disPw0rd"],
    "aws_secret_access_key": [
        "secret_access_key = " + made(WORD + "/+", 39) + "A",
        "SecretAccessKey: " + made(WORD, 40),
    ],
    "password": [
        'password = "SuperSecret123!"',
        "PASSWORD=tr0ub4dor&3",
        "passwd: 'S3cr3t-99'",
        'password": "hunter2!"',
        "password is Hunter2!x",
        'pwd="qwerty12"',
        'password => "a8f5f167f44f"',
    ],
    "assignment": [
        'api_key: "' + made(HEX, 32) + '"',
        "token=" + made(HEX, 40),
        'secret="Zx9-kk2_QpL0aaTTz"',
        "access-key: " + made(WORD, 40),
        "SECRET_KEY = 'dj-9f8a7s6d5f%&'",
    ],
}
NONE = [
    'password = "changeme"',
    'password = "xxxxxxxx"',
    'password = "********"',
    'PASSWORD = "password"',
    "password = None",
    "password: string",
    "password is required here",
    "the password is incorrect.",
    "password=self.password",
    "password = getpass.getpass()",
    'password = ""',
    'api_key="<your key>"',
    'api_key = os.environ["API_KEY"]',
    'api_key: "{{ api_key_of_the_app }}"',
    "api_key=config.api_key_value_1",
    "secret: ${SECRET_OF_THE_APP_1}",
    '"secret": "my_secret_name"',
    "secret_key = settings.SECRET_KEY",
    "token = next(tokens_of_it)",
    "token=get_token_of_2(user)",
    '"token": "your-token-here-12345"',
    "token: Optional[str] = None",
    "postgres://user:password@localhost",
    "https://user:${PW}@host",
    "https://[::1]:8080/@x",
    "http://example.org:8080/a@b",
    "Authorization: Bearer <token>",
    "Authorization: Bearer YOUR_API_TOKEN_1",
    "sk-learn and risk-" + "x" * 40,
    "ghp_" + "x" * 36,
    "AKIA is the prefix",
    "-----BEGIN RSA PRIVATE KEY----- is the first line of such a file, and then base64 follows",
    "-----BEGIN PUBLIC KEY-----\n" + made(WORD, 64),
    "eyJhbGciOi is how they begin",
    "task-" + made(HEX, 20),
    '"input_cost_per_token": 1.5000020000000002e-05',
    '"max_tokens": 1.5000020000000002e-05, "token": 1.5000020000000002e-05',
    '"output_cost_per_token": "0.000015000020000000002"',
]
ALL = [(name, text) for rows in (TOKENS, IN_CONTEXT) for name, texts in rows.items() for text in texts]


def test_every_rule_is_tried():
    assert {name for name, _ in ALL} == set(BY_NAME)
    assert len(BY_NAME) == len(RULES) >= 50


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in TOKENS.items() for text in texts])
def test_tokens_are_found_whole(name, text):
    for before, after in [
        ("", ""),
        ("it is ", " and"),
        ('"', '"'),
        ("(", ")"),
        ("\n", "\n"),
        ("x = '", "';"),
        ("é ", ", é"),
    ]:
        assert matches(f"{before}{text}{after}") == [(name, text)]
    if text[0] not in ".-":
        assert name not in dict(matches(f"a{text}"))


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in IN_CONTEXT.items() for text in texts])
def test_secrets_are_found_with_their_names(name, text):
    after = "@db.example/x" if name == "url_password" else "\n"
    assert matches(f"  {text}{after}") == [(name, text)]


@pytest.mark.parametrize("text", NONE)
def test_placeholders_and_code_are_none(text):
    assert matches(text) == []


def test_several_in_a_row():
    texts = [(name, texts[0]) for name, texts in TOKENS.items() if name != "private_key"]
    assert matches("\n".join(text for _, text in texts)) == texts
    assert matches(f"{pem()}\n{pem('EC ')}\n") == [("private_key", pem()), ("private_key", pem("EC "))]


def test_a_private_key_without_its_end():
    text = pem().rpartition("-----END")[0]
    assert matches(f"{text}the rest, in words")[0][1].startswith(text.rstrip())
    assert len(matches(f"{text}the rest, in words, and more of them")[0][1]) <= len(text) + len("the ")
    headers = text.replace("-----\n", "-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,1A2B\n\n", 1)
    assert matches(headers) == [("private_key", headers)]


def test_names_before_the_secret_stay():
    assert matches("DB_PASSWORD=tr0ub4dor&3;") == [("password", "PASSWORD=tr0ub4dor&3")]
    assert matches("postgres://app:s3cr3tPw@db:5432/x") == [("url_password", "://app:s3cr3tPw")]
    assert matches("my password is Hunter2!x.") == [("password", "password is Hunter2!x")]


@pytest.mark.parametrize(("name", "text"), ALL)
def test_every_match_holds_a_keyword(name, text):
    rule = BY_NAME[name]
    assert rule.keywords
    assert all(word == word.lower() and word for word in rule.keywords)
    ((_, value),) = matches(text + ("@" if name == "url_password" else ""), [rule])
    assert any(word in value.lower() for word in rule.keywords)
    assert len(value) <= rule.max_chars


@given(
    st.from_regex(re.compile(r"(?:pass|secret|token|://|x|authorization| )+[=: ]{0,4}['\"]?[ -~\n]{0,40}", re.ASCII))
    | st.text()
)
def test_checks_take_any_text(text):
    for rule in RULES:
        if rule.check is not None:
            assert -len(text) <= rule.check(text) <= len(text)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_patterns_are_small(rule):
    """Counts to hundreds make large automata, and what is not counted is bounded by max_chars."""
    options = re2.Options()
    options.longest_match = True
    assert re2.compile(rule.pattern, options).programsize < 3000
    low, high = re._parser.parse(rule.pattern).getwidth()
    assert low <= rule.max_chars
    assert high <= rule.max_chars or high >= re._parser.MAXREPEAT


@given(st.text(WORD + "!#%_-", min_size=1, max_size=30))
def test_a_value_is_plausible_in_quotes_wherever_it_is_without(value):
    if assignments.plausible(value, quoted=False):
        assert assignments.plausible(value, quoted=True) or value.isdecimal()


@pytest.mark.parametrize("unit", ["a", "aA", "a.", "a_", "a-", "1 ", "a1", "::", "$", " is "])
def test_checks_take_long_text_in_linear_time(unit):
    """Else this does not end: `re` tries all ways to divide a text where a pattern has one repeat inside another."""
    for rule in RULES:
        if rule.check is not None:
            for text in (f'password = "{unit * 4000}!"', f"://a:{unit * 4000}", f"token={unit * 4000}1 "):
                assert rule.check(text) <= len(text)
