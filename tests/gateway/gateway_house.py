"""A real `daulat up` in front of the real scripted upstream, and every case asked of it once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openai import APIError, APIStatusError, AsyncOpenAI
from outcomes import RETRIES, Case

from tests.cli.command import Up

KEY = "daulat-test-key-of-the-gateway-tests-0123456789"
STARTER = "SmolLM2-135M-Instruct"
WORDS = 12
LATE = 9.0
BETWEEN = 0.02
"""Seconds, so that chunks come one by one."""
MAX_TOKENS = 24
_AT_ONCE = 12
_BASE = {"openai": "/v1", "anthropic": "/v1", "gemini": "/v1beta", "watsonx": "/ml/v1"}


@dataclass(slots=True)
class Got:
    """What a client got of a case."""

    text: str = ""
    finish: str | None = None
    usage: Any = None
    status: int = 200
    code: str | None = None
    headers: dict[str, str] = field(default_factory=dict[str, str])


def settings(url: str, cases: Sequence[Case]) -> str:
    """Each endpoint is asked for each model once, so that no breaker and no rest of one case meets another."""
    found = ["[policy.classes.internal]", 'places = ["own-network"]']
    found += _endpoint("spare", "openai", url, ["scripted"])
    for kind in dict.fromkeys(case.kind for case in cases):
        for setup in ("alone", "fallback", "continuing"):
            for mode in (True, False):
                of = [c for c in cases if (c.kind, c.setup, c.stream) == (kind, setup, mode)]
                models = dict.fromkeys(case.model for case in of)
                if not of:
                    continue
                found += _endpoint(_name(of[0]), kind, url, list(models))
    second = {"fallback": "spare/scripted", "continuing": f"native/{STARTER}"}
    for case in cases:
        if case.setup != "alone":
            to = [f"{_name(case)}/{case.model}", second[case.setup]]
            found += [f'[routes."{case.id}"]', f"to = {json.dumps(to)}"]
    return "\n".join(found)


def _name(case: Case) -> str:
    return f"{case.kind}-{case.setup}-{'stream' if case.stream else 'whole'}"


def _endpoint(name: str, kind: str, url: str, models: list[str]) -> list[str]:
    return [
        f"[endpoints.{name}]",
        f'kind = "{kind}"',
        f'url = "{url}{_BASE[kind]}"',
        'key = "env:SCRIPTED_KEY"',
        'place = "own-network"',
        f"models = {json.dumps(models)}",
        "first_seconds = 2.0",
        "between_seconds = 2.0",
        "total_seconds = 6.0",
        f"retries = {RETRIES}",
        *([f'token_url = "{url}/identity/token"', 'project = "p"'] if kind == "watsonx" else []),
    ]


def body(case: Case) -> dict[str, Any]:
    """Faults that pass are counted by the request's body: each case has its own."""
    return {
        "model": f"{_name(case)}/{case.model}" if case.setup == "alone" else case.id,
        "messages": [{"role": "user", "content": f"Name things at sea. ({case.id})"}],
        "max_tokens": MAX_TOKENS,
        "temperature": 0,
    }


async def ask_all(url: str, cases: Sequence[Case]) -> dict[Case, Got]:
    """Those of 50 MB come last and one by one: they hold up whatever is asked beside them."""
    places = asyncio.Semaphore(_AT_ONCE)
    heavy = [case for case in cases if case.fault == "huge_line"]
    others = [case for case in cases if case.fault != "huge_line"]
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0, timeout=60) as sdk:

        async def one(case: Case) -> Got:
            async with places:
                return await _ask(sdk, case)

        got = dict(zip(others, await asyncio.gather(*map(one, others)), strict=True))
        return got | {case: await one(case) for case in heavy}


async def _ask(sdk: AsyncOpenAI, case: Case) -> Got:
    got = Got()
    create = sdk.chat.completions.with_raw_response.create
    try:
        if case.stream:
            raw = await create(**body(case), stream=True, stream_options={"include_usage": True})
            got.headers = dict(raw.headers)
            async for chunk in raw.parse():
                got.usage = chunk.usage or got.usage
                for choice in chunk.choices:
                    got.text += choice.delta.content or ""
                    got.finish = choice.finish_reason or got.finish
        else:
            raw = await create(**body(case))
            got.headers = dict(raw.headers)
            answer = raw.parse()
            got.usage, got.finish = answer.usage, answer.choices[0].finish_reason
            got.text = answer.choices[0].message.content or ""
    except APIStatusError as error:
        got.status, got.code, got.headers = (
            error.status_code,
            error.code,
            dict(error.response.headers),
        )
    except APIError as error:
        got.code = error.code
    return got


@dataclass(frozen=True, slots=True)
class Exported:
    """The record's entries by exchange and kind."""

    entries: dict[str, list[dict[str, Any]]]

    def of(self, exchange: str, kind: str) -> list[dict[str, Any]]:
        return [e["entry"]["body"] for e in self.entries[exchange] if e["entry"]["kind"] == kind]

    def answer(self, exchange: str) -> Any:
        (closed,) = [e for e in self.entries[exchange] if e["entry"]["kind"] == "exchange.closed"]
        return closed["contents"]["answer"]["body"]


def exported(path: Path) -> Exported:
    found: dict[str, list[dict[str, Any]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if "entry" in entry:  # the last line is the head
            found.setdefault(entry["entry"]["subject"], []).append(entry)
    return Exported(found)


@dataclass(frozen=True, slots=True)
class Run:
    """The server while it is still up, what the clients got, and the record afterwards."""

    server: Up
    got: dict[Case, Got]
    record: Exported
    verified: str
