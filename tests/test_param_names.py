"""What the name of a param says: for litellm, a secret, an address, or none of that."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuro_mw.param_names import OUTPUT, SETTINGS, is_address, is_secret, of_drivers

SECRETS = [
    "api_key", "apikey", "api-key", "x-api-key", "openai_api_key", "key", "token", "hf_token", "azure_ad_token",
    "aws_secret_access_key", "access_key", "aws_access_key_id", "private_key", "vertex_credentials", "credential",
    "password", "passwd", "pwd", "db_password", "secret", "secrets", "client_secret", "authorization",
    "proxy-authorization", "auth", "x-auth", "auth_header", "bearer", "jwt", "cookie", "set-cookie", "signature",
    "x-signature", "identity_token",
]  # fmt: skip
ADDRESSES = [
    "base_url", "api_base", "api_version", "organization", "project", "headers", "extra_headers", "default_headers",
    "extra_query", "client", "client_id", "tenant_id", "aws_region_name", "azure_scope", "vertex_project",
    "vertex_location", "s3_bucket_name", "gcs_bucket", "watsonx_region", "sagemaker_endpoint",
]  # fmt: skip
PLAIN = [
    "model", "messages", "temperature", "top_p", "top_k", "max_tokens", "max_completion_tokens", "seed", "stop",
    "tools", "tool_choice", "response_format", "user", "metadata", "extra_body", "prompt_cache_key", "eos_token",
    "bos_token", "pad_token", "stop_token", "author", "keys", "key_points", "tokens", "token_count", "passwordless",
    "authority", "monkey", "tokenizer", "secretary", "cookiecutter", "projects", "headers_only", "organizations",
    "stream", "",
]  # fmt: skip
CASES = [str.lower, str.upper, str.title]


@pytest.mark.parametrize("case", CASES, ids=["lower", "upper", "title"])
@pytest.mark.parametrize("name", SECRETS)
def test_secrets_are_addresses_too(name, case):
    assert is_secret(case(name))
    assert is_address(case(name))


@pytest.mark.parametrize("case", CASES, ids=["lower", "upper", "title"])
@pytest.mark.parametrize("name", ADDRESSES)
def test_addresses_that_are_no_secrets(name, case):
    assert is_address(case(name))
    assert not is_secret(name)


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_neither(name):
    assert not is_secret(name)
    assert not is_address(name)


WORDS = st.sampled_from(["secret", "password", "api_key", "credentials", "authorization", "cookie", "jwt", "bearer"])
PIECE = st.text("abcxyz0", min_size=1, max_size=5)


@given(PIECE, WORDS, PIECE, st.sampled_from("_-"))
def test_a_secret_by_any_longer_name(before, word, after, sep):
    assert is_secret(f"{before}{sep}{word}")
    assert is_secret(f"{word}{sep}{after}")
    assert is_secret(f"{before}{sep}{word}{sep}{after}")
    assert is_address(f"{before}{sep}{word}")


@given(st.text(max_size=30))
def test_no_name_is_too_odd(name):
    assert is_address(name) or not is_secret(name)
    of_drivers(name)


@pytest.mark.parametrize("name", ["a" * 50_000, "a_" * 25_000, "_" * 50_000, "key_" * 12_500 + "!", "-" * 50_000])
def test_no_name_takes_long(name):
    assert not is_secret(name)  # with quadratic time in several places this would take minutes
    assert not of_drivers(name)


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("aws_region_name", True), ("azure_scope", True), ("vertex_project", True), ("litellm_call_id", True),
        ("mock_response", True), ("langfuse_public_key", True), ("my_api_key", True), ("hf_token", True),
        ("password", True), ("input_cost_per_token", True), ("cache", True), ("drop_params", True), ("rpm", True),
        ("request_timeout", True), ("client_id", True), ("no-log", True), ("identity_token", True),
        ("prompt_cache_key", False), ("eos_token", False), ("temperature", False), ("cache_control", False),
        ("max_tokens", False), ("awsome", False), ("rpms", False), ("messages", False), ("timeout", False),
    ],
)  # fmt: skip
def test_what_is_for_litellm_alone(name, is_one):
    assert of_drivers(name) is is_one


def test_the_two_names_of_one_setting_stand_in_the_order_of_the_drivers():
    assert OUTPUT == ("max_completion_tokens", "max_tokens")
    assert set(OUTPUT) <= SETTINGS
