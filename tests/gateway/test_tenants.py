"""Two tenants do whatever they like, also at once: nothing of one is ever seen by the other.

Texts, values behind placeholders, responses gone on from, spend and records. What this machine's engine keeps
of prompts is told apart by key, too, and tested with the engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from policed import Gateway, opened, reaching, table

from daulat.endpoints import scripted
from daulat.endpoints.scripted import Upstream
from daulat.errors import BudgetError, LimitError
from daulat.record import statistics
from daulat.settings import Prices
from daulat.values.plan import NO_LIMITS, Limits
from daulat.values.request import ChatRequest, Message

NAMES = ("sari", "wolf")
TENANTS = st.sampled_from(NAMES)
RULES = reaching(public=(("*",), ()), internal=(("*",), ()), personal=((), ("us",)))
PATHS = {"chat": "/v1/chat/completions", "response": "/v1/responses", "vectors": "/v1/embeddings"}


@dataclass(slots=True)
class Tenant:
    """Attributes:
    mark: a word that stands in all its texts and in none of the other's; `mail` has it too.
    tokens: prompt and completion by key id, as its answers told.
    """

    name: str
    mark: str
    key: str = ""
    secret: str = ""
    keys: list[str] = field(default_factory=list[str])
    responses: list[str] = field(default_factory=list[str])
    tokens: Counter[str] = field(default_factory=Counter[str])
    cancelled: Counter[str] = field(default_factory=Counter[str])

    @property
    def text(self) -> str:
        return f"Write to {self.mark}@example.com about {self.mark}."


class Tenants(RuleBasedStateMachine):
    """`upstream` is set by the test."""

    upstream: Upstream

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.stack = contextlib.AsyncExitStack()
        price = {"m": Prices(input="1", output="2")}
        endpoints = {"us": table(self.upstream, "openai", "us", "m", prices=price)}
        opening = self.stack.enter_async_context(opened(self.folder / "home", endpoints, RULES))
        self.gateway: Gateway = self.runner.run(opening)
        self.tenants = {name: Tenant(name, f"{name}quartz") for name in NAMES}
        self.numbers = itertools.count()
        for tenant in self.tenants.values():
            self._new_key(tenant)

    def _new_key(self, tenant: Tenant, limits: Limits = NO_LIMITS) -> None:
        caller, secret = self.gateway.keys.create(tenant.name, project=tenant.name, limits=limits)
        tenant.key, tenant.secret = caller.id, secret
        tenant.keys.append(caller.id)

    def _other(self, tenant: Tenant) -> Tenant:
        return next(one for one in self.tenants.values() if one is not tenant)

    async def _ask(self, tenant: Tenant, kind: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """The answer; None where the tenant's own limits refuse it. The other's words are not in it."""
        answer = await self.gateway.post(
            PATHS[kind], {"model": "m", **body}, authorization=f"Bearer {tenant.secret}"
        )
        assert self._other(tenant).mark not in answer.text
        assert answer.status_code in (200, 429), answer.text
        if answer.status_code == 429:
            return None
        if body.get("stream"):
            lines = [
                x.removeprefix("data: ") for x in answer.text.splitlines() if x[:6] == "data: "
            ]
            events = [json.loads(line) for line in lines if line != "[DONE]"]
            said = "".join(
                c["delta"].get("content") or "" for one in events for c in one["choices"]
            )
            told = {"said": said, "usage": events[-1]["usage"]}
        else:
            told = answer.json()
        self._count(tenant, told["usage"])
        return told

    def _count(self, tenant: Tenant, usage: dict[str, Any]) -> None:
        prompt = usage.get("prompt_tokens", usage.get("input_tokens", 0))
        said = usage.get("completion_tokens", usage.get("output_tokens", 0))
        tenant.tokens[tenant.key] += prompt + said

    # --- what tenants do ----------------------------------------------------------------------------

    @rule(name=TENANTS, stream=st.booleans())
    def chat(self, name: str, stream: bool) -> None:
        tenant = self.tenants[name]
        self.runner.run(self._chat(tenant, stream))

    async def _chat(self, tenant: Tenant, stream: bool) -> None:
        more = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        body = {"messages": [{"role": "user", "content": tenant.text}], **more}
        told = await self._ask(tenant, "chat", body)
        if told:
            said = told["said"] if stream else told["choices"][0]["message"]["content"]
            # Both tenants' values had the same placeholder.
            assert said == tenant.text

    @rule(times=st.integers(1, 4))
    def both_at_once(self, times: int) -> None:
        async def all_of_them() -> None:
            ways = [(t, stream) for t in self.tenants.values() for stream in (True, False)] * times
            await asyncio.gather(*(self._chat(tenant, stream) for tenant, stream in ways))

        self.runner.run(all_of_them())

    @rule(name=TENANTS)
    def cancel(self, name: str) -> None:
        self.runner.run(self._cancel(self.tenants[name]))

    async def _cancel(self, tenant: Tenant) -> None:
        hall = self.gateway.hall
        request = ChatRequest("m", (Message("user", tenant.text),), stream=True)
        try:
            exchange = await hall.open(await hall.identify(tenant.secret), request)
        except (LimitError, BudgetError):
            return
        async with contextlib.aclosing(exchange.events()) as events:
            async for _ in events:
                break
        tenant.cancelled[tenant.key] += 1

    @rule(name=TENANTS, goes_on=st.booleans())
    def response(self, name: str, goes_on: bool) -> None:
        tenant = self.tenants[name]
        body: dict[str, Any] = {"input": tenant.text}
        if goes_on and tenant.responses:
            body["previous_response_id"] = tenant.responses[-1]
        told = self.runner.run(self._ask(tenant, "response", body))
        if told:
            tenant.responses.append(told["id"])

    @rule(name=TENANTS, delete=st.booleans())
    def another_ones_response(self, name: str, delete: bool) -> None:
        tenant = self.tenants[name]
        for theirs in self._other(tenant).responses:
            self.runner.run(self._foreign(tenant, theirs, delete))

    async def _foreign(self, tenant: Tenant, theirs: str, delete: bool) -> None:
        told = {"authorization": f"Bearer {tenant.secret}"}
        method = "DELETE" if delete else "GET"
        answer = await self.gateway.client.request(method, f"/v1/responses/{theirs}", headers=told)
        assert answer.status_code == 404
        body = {"model": "m", "input": tenant.text, "previous_response_id": theirs}
        answer = await self.gateway.post("/v1/responses", body, **told)
        assert answer.status_code == 400
        assert self._other(tenant).mark not in answer.text

    @rule(name=TENANTS)
    def vectors(self, name: str) -> None:
        tenant = self.tenants[name]
        self.runner.run(self._ask(tenant, "vectors", {"input": [tenant.text, tenant.mark]}))

    @rule(name=TENANTS)
    def key_revoked(self, name: str) -> None:
        tenant = self.tenants[name]
        self.gateway.keys.revoke(tenant.key)
        body = {"model": "m", "messages": [{"role": "user", "content": tenant.text}]}
        asked = self.gateway.post(PATHS["chat"], body, authorization=f"Bearer {tenant.secret}")
        assert self.runner.run(asked).status_code == 401
        self._new_key(tenant)
        # A response is its key's: who has a new one begins anew.
        tenant.responses.clear()

    @rule(name=TENANTS, requests=st.integers(1, 3))
    def budget_changed(self, name: str, requests: int) -> None:
        tenant = self.tenants[name]
        self.gateway.keys.revoke(tenant.key)
        self._new_key(tenant, Limits(requests_per_minute=requests, tokens_per_day=100_000))
        tenant.responses.clear()

    # --- what must hold in the end ------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            self._records_are_apart()
            self._spend_is_apart()
        finally:
            self.runner.run(self.stack.aclose())
            self.runner.close()
            shutil.rmtree(self.folder)

    def _records_are_apart(self) -> None:
        record = self.gateway.record
        owners = {key: tenant for tenant in self.tenants.values() for key in tenant.keys}
        for entry in record.entries():
            if entry.kind != "exchange.opened":
                continue
            exchange = record.exchange(entry.subject)
            assert exchange is not None
            tenant = owners[entry.body["key"]]
            parts = [exchange.opened, *([exchange.closed] if exchange.closed else [])]
            words = json.dumps([[one.body, record.contents(one)] for one in parts])
            assert self._other(tenant).mark not in words
            assert tenant.mark not in json.dumps([one.body for one in parts])

    def _spend_is_apart(self) -> None:
        with self.gateway.record.reading() as connection:
            found = statistics.spend(connection, by=("key", "project"))
        spent = {one.key: one for one in found}
        for tenant in self.tenants.values():
            for key in tenant.keys:
                one = spent.get(key)
                assert one is None or one.project == tenant.name
                used = one.prompt_tokens + one.completion_tokens if one else 0
                if not tenant.cancelled[key]:
                    assert used == tenant.tokens[key]
                else:
                    assert used >= tenant.tokens[key]


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with scripted.running() as running:
        yield running


def test_nothing_crosses(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRIPTED_KEY", "scripted-secret")
    machine = type("Machine", (Tenants,), {"upstream": upstream})
    many = int(os.environ.get("DAULAT_TENANT_RUNS", "15"))
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=many,
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
