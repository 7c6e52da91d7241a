"""The clients that `benchmarks.providers` compares: what one writes by hand, libraries, and neuro_mw."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

MODEL, CLAUDE = "gpt-4o-mini", "claude-sonnet-4-5"
_SYSTEM = "You are a helpful assistant. Answer in plain prose, without lists and without headings."

Call = Callable[[str], Awaitable[int]]
"""The whole answer to a prompt; gives its number of characters."""
Read = Callable[[str], Awaitable[int]]
"""The streamed answer to a prompt; gives the number of pieces of text that came."""
Client = Callable[[str], AbstractAsyncContextManager[tuple[Call, Read]]]
"""Opens a client for a server."""


def asking(prompt: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": prompt}]


def chat_body(prompt: str, *, stream: bool) -> dict[str, Any]:
    body = {"model": MODEL, "messages": asking(prompt)}
    return {**body, "stream": True, "stream_options": {"include_usage": True}} if stream else body


def messages_body(prompt: str, *, stream: bool) -> dict[str, Any]:
    system, user = asking(prompt)
    body = {"model": CLAUDE, "max_tokens": 4096, "system": system["content"], "messages": [user]}
    return {**body, "stream": True} if stream else body


# --- by hand -----------------------------------------------------------------------------------------------------


def text_of(chunk: Any) -> str | None:
    choices = chunk["choices"]
    return choices[0]["delta"].get("content") if choices else None


@asynccontextmanager
async def raw(server: str, *, split: bool = False) -> AsyncIterator[tuple[Call, Read]]:
    import aiohttp
    from orjson import dumps, loads

    url, headers = f"{server}/v1/chat/completions", {"Authorization": "Bearer key", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(headers=headers) as session:

        async def call(prompt: str) -> int:
            async with session.post(url, data=dumps(chat_body(prompt, stream=False))) as response:
                response.raise_for_status()
                return len(loads(await response.read())["choices"][0]["message"]["content"])

        async def by_line(prompt: str) -> int:
            pieces = 0
            async with session.post(url, data=dumps(chat_body(prompt, stream=True))) as response:
                response.raise_for_status()
                async for line in response.content:
                    if line.startswith(b"data: "):
                        data = line[6:]
                        if data.startswith(b"[DONE]"):
                            break
                        if text_of(loads(data)):
                            pieces += 1
            return pieces

        async def by_split(prompt: str) -> int:
            pieces, rest = 0, b""
            async with session.post(url, data=dumps(chat_body(prompt, stream=True))) as response:
                response.raise_for_status()
                while data := await response.content.readany():
                    *events, rest = (rest + data).split(b"\n\n")
                    for event in events:
                        if event != b"data: [DONE]" and text_of(loads(event[6:])):
                            pieces += 1
            return pieces

        yield call, by_split if split else by_line


def raw_split(server: str) -> AbstractAsyncContextManager[tuple[Call, Read]]:
    return raw(server, split=True)


@asynccontextmanager
async def raw_anthropic(server: str) -> AsyncIterator[tuple[Call, Read]]:
    import aiohttp
    from orjson import dumps, loads

    url = f"{server}/v1/messages"
    headers = {"x-api-key": "key", "anthropic-version": "2023-06-01", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(headers=headers) as session:

        async def call(prompt: str) -> int:
            async with session.post(url, data=dumps(messages_body(prompt, stream=False))) as response:
                response.raise_for_status()
                return len(loads(await response.read())["content"][0]["text"])

        async def read(prompt: str) -> int:
            pieces = 0
            async with session.post(url, data=dumps(messages_body(prompt, stream=True))) as response:
                response.raise_for_status()
                async for line in response.content:
                    if line.startswith(b"data: "):
                        event = loads(line[6:])
                        if event["type"] == "content_block_delta" and event["delta"]["text"]:
                            pieces += 1
            return pieces

        yield call, read


@asynccontextmanager
async def by_httpx(server: str) -> AsyncIterator[tuple[Call, Read]]:
    import httpx
    from orjson import dumps, loads

    url, headers = f"{server}/v1/chat/completions", {"Authorization": "Bearer key", "Content-Type": "application/json"}
    async with httpx.AsyncClient(headers=headers, timeout=60) as client:

        async def call(prompt: str) -> int:
            response = await client.post(url, content=dumps(chat_body(prompt, stream=False)))
            response.raise_for_status()
            return len(loads(response.content)["choices"][0]["message"]["content"])

        async def read(prompt: str) -> int:
            pieces = 0
            async with client.stream("POST", url, content=dumps(chat_body(prompt, stream=True))) as response:
                response.raise_for_status()
                async for line in response.aiter_lines():
                    if line.startswith("data: ") and line != "data: [DONE]" and text_of(loads(line[6:])):
                        pieces += 1
            return pieces

        yield call, read


# --- libraries ---------------------------------------------------------------------------------------------------


@asynccontextmanager
async def openai_sdk(server: str) -> AsyncIterator[tuple[Call, Read]]:
    import openai

    async with openai.AsyncOpenAI(base_url=f"{server}/v1", api_key="key", max_retries=0) as client:
        yield _sdk_style(client.chat.completions.create, MODEL)


@asynccontextmanager
async def by_litellm(server: str) -> AsyncIterator[tuple[Call, Read]]:
    import litellm

    complete = partial(litellm.acompletion, api_base=f"{server}/v1", api_key="key", max_retries=0)
    yield _sdk_style(complete, f"openai/{MODEL}")


def _sdk_style(create: Callable[..., Awaitable[Any]], model: str) -> tuple[Call, Read]:
    async def call(prompt: str) -> int:
        answer = await create(model=model, messages=asking(prompt))
        return len(answer.choices[0].message.content)

    async def read(prompt: str) -> int:
        pieces = 0
        options = {"include_usage": True}
        async for chunk in await create(model=model, messages=asking(prompt), stream=True, stream_options=options):
            if chunk.choices and chunk.choices[0].delta.content:
                pieces += 1
        return pieces

    return call, read


@asynccontextmanager
async def native(server: str) -> AsyncIterator[tuple[Call, Read]]:
    from neuro_mw.providers import resolve

    yield _ours(resolve(f"openai/{MODEL}", driver="native"))


@asynccontextmanager
async def native_chain(server: str) -> AsyncIterator[tuple[Call, Read]]:
    from neuro_mw import MiddlewareFactory
    from neuro_mw.providers import resolve

    factory = MiddlewareFactory(preset="default", plugins=False)
    yield _ours(factory.apply_middleware(resolve(f"openai/{MODEL}", driver="native")))


@asynccontextmanager
async def native_anthropic(server: str) -> AsyncIterator[tuple[Call, Read]]:
    from neuro_mw.providers import resolve

    yield _ours(resolve(f"anthropic/{CLAUDE}", driver="native"))


def _ours(model: Any) -> tuple[Call, Read]:
    async def call(prompt: str) -> int:
        return len((await model.generate({"messages": asking(prompt)})).text)

    async def read(prompt: str) -> int:
        pieces = 0
        async for part in model.stream({"messages": asking(prompt)}):
            if part.type == "text_delta":
                pieces += 1
        return pieces

    return call, read
