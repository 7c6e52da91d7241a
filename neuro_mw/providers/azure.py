"""Azure OpenAI: chat completions at addresses of deployments, with a header of its own for the key."""

from __future__ import annotations

import os
from urllib.parse import parse_qsl, quote, urlencode

from ._call_options import CallOptions
from .catalog import endpoint_of
from .openai_compatible import OpenAICompatibleModel

API_VERSION = "2025-02-01-preview"  # litellm's default
_UNVERSIONED = ("v1", "latest", "preview")  # the API without versions: /openai/v1


class AzureModel(OpenAICompatibleModel):
    """A deployment of Azure OpenAI; the model id is the deployment's name.

    The resource's address comes from ``base_url`` or AZURE_API_BASE, the version of the API from ``api_version`` or
    AZURE_API_VERSION, the key from ``api_key``, AZURE_API_KEY or AZURE_OPENAI_API_KEY. A token of Entra ID, in
    ``azure_ad_token`` or AZURE_AD_TOKEN, is used where there is no key.

    >>> AzureModel("azure", "my-gpt-4o")
    AzureModel('azure', 'my-gpt-4o')
    """

    options = frozenset({"api_version", "azure_ad_token"})

    def url_of(self, model: str, options: CallOptions) -> str:
        """``{base}/openai/deployments/{model}/chat/completions?api-version=...``."""
        base, query = endpoint_of(self.provider, options.base_url or self._base_url)
        given = dict(parse_qsl(query[1:], keep_blank_values=True))
        version = options.api_version or os.environ.get("AZURE_API_VERSION") or given.get("api-version") or API_VERSION
        root, named, deployment = base.removesuffix("/chat/completions").partition("/openai/deployments")
        if version in _UNVERSIONED or root.endswith("/openai/v1"):
            query = f"?{urlencode(given)}" if given else ""
            return f"{root.removesuffix('/openai/v1').removesuffix('/openai')}/openai/v1/chat/completions{query}"
        if not named or not deployment.strip("/"):
            root, deployment = root.removesuffix("/openai"), f"/{quote(model, safe='')}"
        query = urlencode({**given, "api-version": version})
        return f"{root}/openai/deployments{deployment}/chat/completions?{query}"

    def key_of(self, model: str, options: CallOptions) -> str | None:
        """The key, or a token of Entra ID."""
        return options.api_key or options.azure_ad_token or super().key_of(model, options)

    def headers_of(self, key: str | None, url: str, options: CallOptions) -> dict[str, str]:
        """The key as ``api-key``; a token, and any key of the API without versions, as a bearer token."""
        headers = {"Content-Type": "application/json"}
        token = key is not None and key in (options.azure_ad_token, os.environ.get("AZURE_AD_TOKEN", "").strip())
        if key is not None and (token or "/openai/v1/" in url):
            headers["Authorization"] = f"Bearer {key}"
        elif key is not None:
            headers["api-key"] = key
        return headers
