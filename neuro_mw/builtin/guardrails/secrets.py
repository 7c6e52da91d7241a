"""Rules for credentials: tokens known by their prefix, private keys, and secrets in assignments.

The forms are those that the providers document or that their tokens have had; gitleaks' rule set was compared with.
A token whose random part is a run of `x` or the like is a placeholder, and no match.
"""

from __future__ import annotations

from .assignments import check_assignment, check_authorization, check_userinfo
from .rules import Rule

# name, pattern, the words of which every match holds one (lower case), the longest match where that is not 256.
# Each pattern begins with what is rare in prose, since what could still become a match is held back from a stream. How
# long a token may be is left to max_chars: counting to hundreds makes RE2's states large, and the stream thirty times
# slower.
_TOKENS: tuple[tuple[str, str, str] | tuple[str, str, str, int], ...] = (
    # models
    ("openai_key", r"\bsk-(?:(?:proj|svcacct|admin|None)-[\w-]{20,}|[A-Za-z0-9]{20,}\b)", "sk-"),
    ("anthropic_key", r"\bsk-ant-[a-z0-9]{2,12}-[\w-]{20,}", "sk-ant-"),
    ("openrouter_key", r"\bsk-or-v1-[0-9a-f]{64}\b", "sk-or-v1-"),
    ("huggingface_token", r"\b(?:hf|api_org)_[A-Za-z0-9]{30,}\b", "hf_ api_org_"),
    ("groq_key", r"\bgsk_[A-Za-z0-9]{40,}\b", "gsk_"),
    ("xai_key", r"\bxai-[A-Za-z0-9]{64,}\b", "xai-"),
    ("replicate_token", r"\br8_[A-Za-z0-9_-]{37,40}", "r8_"),
    ("perplexity_key", r"\bpplx-[A-Za-z0-9]{40,}\b", "pplx-"),
    ("nvidia_key", r"\bnvapi-[\w-]{60,}", "nvapi-"),
    ("langsmith_key", r"\blsv2_(?:pt|sk)_[0-9a-f]{32}_[0-9a-f]{10}\b", "lsv2_"),
    # clouds
    ("aws_access_key_id", r"\b(?:AKIA|ASIA|ABIA|ACCA|A3T[A-Z0-9])[A-Z0-9]{16}\b", "akia asia abia acca a3t"),
    ("gcp_api_key", r"\bAIza[\w-]{35}", "aiza"),
    ("google_oauth_secret", r"\bGOCSPX-[\w-]{28}", "gocspx-"),
    ("google_oauth_token", r"\bya29\.[\w-]{20,}", "ya29.", 1024),
    ("azure_storage_key", r"\bAccountKey=[A-Za-z0-9+/]{86}==", "accountkey="),
    ("azure_client_secret", r"\b[\w~.]{3}\dQ~[\w~.-]{31,34}", "q~"),
    ("databricks_token", r"\bdapi[0-9a-f]{32}(?:-\d)?\b", "dapi"),
    ("digitalocean_token", r"\bdo[opr]_v1_[0-9a-f]{64}\b", "doo_v1_ dop_v1_ dor_v1_"),
    ("terraform_token", r"\.atlasv1\.[\w-]{60,}", ".atlasv1."),
    ("vault_token", r"\bhv[bs]\.[\w-]{24,}", "hvb. hvs.", 512),
    ("pulumi_token", r"\bpul-[0-9a-f]{40}\b", "pul-"),
    # code and packages
    ("github_token", r"\bgh[oprsu]_[A-Za-z0-9]{36,}\b", "gho_ ghp_ ghr_ ghs_ ghu_"),
    ("github_fine_grained_token", r"\bgithub_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}\b", "github_pat_"),
    (
        "gitlab_token",
        r"\bgl(?:pat|ptt|dt|rt|cbt|ft|imt|agent|soat|oas|ffct)-[\w.-]{20,}",
        "glpat- glptt- gldt- glrt- glcbt- glft- glimt- glagent- glsoat- gloas- glffct-",
    ),
    ("npm_token", r"\bnpm_[A-Za-z0-9]{36}\b", "npm_"),
    ("pypi_token", r"\bpypi-Ag[EN][\w-]{50,}", "pypi-ag", 1024),
    ("rubygems_key", r"\brubygems_[0-9a-f]{48}\b", "rubygems_"),
    ("docker_token", r"\bdckr_(?:pat|oat)_[\w-]{27,}", "dckr_"),
    ("sentry_token", r"\bsntry[su]_[A-Za-z0-9+/=_-]{40,}", "sntry", 512),
    ("grafana_token", r"\bgl(?:c_[A-Za-z0-9+/]{32,}={0,2}|sa_[A-Za-z0-9]{32}_[0-9a-f]{8}\b)", "glc_ glsa_", 512),
    # messages and mail
    ("slack_token", r"\bxox[abeoprs](?:\.xox[bp])?-[A-Za-z0-9-]{10,}", "xox"),
    ("slack_app_token", r"\bxapp-\d-[A-Z0-9]{8,16}-\d{8,16}-[a-z0-9]{32,}\b", "xapp-"),
    (
        "slack_webhook",
        r"\bhooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9/+_-]{20,}",
        "hooks.slack.com/",
    ),
    ("twilio_key", r"\b(?:SK|AC)[0-9a-f]{32}\b", "sk ac"),
    ("sendgrid_key", r"\bSG\.[\w-]{16,}\.[\w-]{32,}", "sg."),
    ("mailgun_key", r"\b(?:key|pubkey)-[0-9a-f]{32}\b", "key-"),
    ("telegram_bot_token", r"\b\d{8,10}:AA[\w-]{32,33}", ":aa"),
    (
        "discord_bot_token",
        r"\b(?:Bot |(?:DISCORD|[Dd]iscord)[\w.-]{0,20}[\"']?[ \t]{0,3}[:=][ \t]{0,3}[\"']?)"
        r"[MNO][\w-]{23,27}\.[\w-]{6}\.[\w-]{27,}",
        "bot discord",
    ),
    ("discord_webhook", r"\bdiscord(?:app)?\.com/api/webhooks/\d{17,20}/[\w-]{60,}", "/api/webhooks/"),
    # money
    ("stripe_key", r"\b[rs]k_(?:live|test|prod)_[A-Za-z0-9]{16,}\b", "k_live_ k_test_ k_prod_"),
    ("stripe_webhook_secret", r"\bwhsec_[A-Za-z0-9+/]{32,}={0,2}", "whsec_"),
    ("shopify_token", r"\bshp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}\b", "shpat_ shpca_ shppa_ shpss_"),
    ("square_token", r"\b(?:sq0[a-z]{3}-[\w-]{22,}|EAAA[\w-]{60})", "sq0 eaaa"),
    # work
    ("atlassian_token", r"\bAT(?:ATT|CTT)3[A-Za-z0-9_=-]{60,}", "atatt3 atctt3", 512),
    ("linear_key", r"\blin_(?:api|oauth)_[A-Za-z0-9]{40,}\b", "lin_api_ lin_oauth_"),
    ("notion_token", r"\b(?:ntn_[A-Za-z0-9]{40,}|secret_[A-Za-z0-9]{43})\b", "ntn_ secret_"),
    ("postman_key", r"\bPMAK-[0-9a-f]{24}-[0-9a-f]{34}\b", "pmak-"),
    ("figma_token", r"\bfig[dor]_[\w-]{40,}", "figd_ figo_ figr_"),
    ("new_relic_key", r"\bNRAK-[A-Z0-9]{27}\b", "nrak-"),
    ("age_secret_key", r"\bAGE-SECRET-KEY-1[AC-HJ-NP-Z02-9]{58}\b", "age-secret-key-1"),
)
_BASE64_LINES = r"(?:[A-Za-z0-9+/=]{16,}(?:\\r|\\n|\s)*)+(?:[A-Za-z0-9+/=]{1,15}(?:\\r|\\n|\s)*)?"
_HEADERS = r"(?:[A-Z][A-Za-z-]{3,15}: [^\r\n\\]+(?:\\r|\\n|\s)+){0,4}"


def rules() -> list[Rule]:
    """The rules that find credentials, most of them by the prefix of the token.

    A secret in an assignment is found with its name, from ``password`` or the like on; a password in a URL with the
    user's name.

    >>> from neuro_mw.builtin.guardrails.secrets import rules
    >>> next(rule.type for rule in rules() if rule.id == "secrets.github_token")
    'GITHUB_TOKEN'
    """
    return [*(_token(*row) for row in _TOKENS), *_OTHERS]


def _token(name: str, pattern: str, keywords: str, max_chars: int = 256) -> Rule:
    return Rule(f"secrets.{name}", pattern, check=check_token, keywords=tuple(keywords.split()), max_chars=max_chars)


def check_token(text: str) -> int:
    """The whole text; 0 where the end of the token, its random part, is filler only."""
    return 0 if set(text[-16:].lower()) <= set("x0.*-=") else len(text)


_OTHERS = [
    Rule(
        "secrets.private_key",
        # prose does not go on behind the first line
        rf"-----BEGIN (?:[A-Z0-9]{{2,12}} ){{0,3}}PRIVATE KEY(?: BLOCK)?-----(?:\\r|\\n|\s)+{_HEADERS}"
        rf"{_BASE64_LINES}(?:-----END (?:[A-Z0-9]{{2,12}} ){{0,3}}PRIVATE KEY(?: BLOCK)?-----)?",
        keywords=("private key",),
        max_chars=16384,
    ),
    Rule(
        "secrets.jwt",
        r"\beyJ[\w-]{10,}\.eyJ[\w-]{8,}\.[\w-]{10,}",
        keywords=("eyj",),
        max_chars=8192,
    ),
    Rule(
        "secrets.authorization",
        r"(?i)\bauthorization[\"']?[ \t]{0,3}[:=][ \t]{0,3}[\"']?(?:bearer|basic|token|apikey)[ \t]{1,3}"
        r"[\w.~+/=-]{12,}",
        check=check_authorization,
        keywords=("authorization",),
        max_chars=1024,
    ),
    Rule(
        "secrets.url_password",
        r"://[^\s/:@\"'<>`]{0,64}:[^\s/@\"'<>`]{3,}@",
        check=check_userinfo,
        keywords=("://",),
    ),
    Rule(
        "secrets.aws_secret_access_key",
        r"(?i)secret_?(?:access_?)?key[\"']?[ \t]{0,3}[:=][ \t]{0,3}[\"']?[a-z0-9/+]{40}\b",
        keywords=("secret",),
    ),
    Rule(
        "secrets.password",
        r"(?i)(?:password|passwd|passphrase|\bpwd)[\"']?(?:[ \t]{0,3}(?::=|=>|[:=])[ \t]{0,3}| is )"
        r"(?:[\"'`][^\s\"'`]{4,}[\"'`]|[^\s\"'`,;<>(){}\[\]]{6,}[(\[]?)",
        check=check_assignment,
        keywords=("password", "passwd", "passphrase", "pwd"),
    ),
    Rule(
        "secrets.assignment",
        r"(?i)(?:secret|(?:per_)?token|credential|(?:api|access|auth|secret|private|encryption|signing)[_-]?key)"
        r"[\"']?[ \t]{0,3}(?::=|=>|[:=])[ \t]{0,3}"
        r"(?:[\"'`][^\s\"'`]{12,}[\"'`]|[^\s\"'`,;<>(){}\[\]&]{16,}[(\[]?)",
        type="SECRET",
        check=check_assignment,
        keywords=("secret", "token", "credential", "key"),
    ),
]
