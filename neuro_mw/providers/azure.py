"""Azure OpenAI: chat completions at addresses of deployments, with a header of its own for the key."""

from __future__ import annotations

import os

from ._transport import Transport
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

    def url_of(self, model: str, transport: Transport) -> str:
        """``{base}/openai/deployments/{model}/chat/completions?api-version=...``."""
        base = endpoint_of(self.provider, transport.base_url or self._base_url).partition("?")[0]
        version = _version(transport)
        if version in _UNVERSIONED:
            return f"{base.removesuffix('/openai/v1')}/openai/v1/chat/completions"
        path = base.removesuffix("/chat/completions")
        if "/openai/deployments/" not in path:
            path = f"{path.removesuffix('/openai')}/openai/deployments/{model}"
        return f"{path}/chat/completions?api-version={version}"

    def headers_of(self, key: str | None, transport: Transport) -> dict[str, str]:
        """The key as ``api-key``; a token, and any key of the API without versions, as a bearer token."""
        headers = {"Content-Type": "application/json"}
        token = key is not None and key in (transport.azure_ad_token, os.environ.get("AZURE_AD_TOKEN"))
        if key is not None and (token or _version(transport) in _UNVERSIONED):
            headers["Authorization"] = f"Bearer {key}"
        elif key is not None:
            headers["api-key"] = key
        return headers


def _version(transport: Transport) -> str:
    return transport.api_version or os.environ.get("AZURE_API_VERSION") or API_VERSION
