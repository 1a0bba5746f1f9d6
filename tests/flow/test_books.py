"""Money, step by step: whatever ends a request, its books agree and nothing stays set aside."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from daulat.endpoints.scripted import Upstream
from daulat.errors import (
    BudgetError,
    DaulatError,
    UnavailableError,
    UpstreamError,
    UpstreamUnavailableError,
)
from daulat.flow import trying
from daulat.record import Record
from daulat.route import Route
from daulat.settings import Prices
from daulat.values.money import amount
from daulat.values.plan import Limits
from daulat.values.request import EmbeddingRequest, ModerationRequest
from tests.flow.halls import Hallway, Stepped, agree, cancelled_at, hallway, limited, settled

Ask = Callable[[Hallway], Awaitable[Any]]


async def embed(hallway: Hallway, model: str) -> None:
    exchange = await hallway.hall.open(hallway.caller, EmbeddingRequest(model, ("one", "two")))
    await exchange.embed()


async def moderate(hallway: Hallway, model: str) -> None:
    exchange = await hallway.hall.open(hallway.caller, ModerationRequest(model, ("one",)))
    await exchange.moderate()


ASKS: dict[str, Ask] = {
    "stream": lambda h: h.ask("m"),
    "whole": lambda h: h.ask("m", stream=False),
    "left early": lambda h: h.ask("slowly", after=3),
    "retry": lambda h: h.ask("again"),
    "retry whole": lambda h: h.ask("again", stream=False),
    "fallback": lambda h: h.ask("fallback"),
    "hedge": lambda h: h.ask("hedge"),
    "hedge whole": lambda h: h.ask("hedge", stream=False),
    "continued": lambda h: h.ask("continued"),
    "dies whole": lambda h: h.ask("dies", stream=False),
    "embeddings": lambda h: embed(h, "m"),
    "embeddings retried": lambda h: embed(h, "again"),
    "embeddings misreported": lambda h: embed(h, "lies"),
    "moderation": lambda h: moderate(h, "m"),
}

MODELS = {
    "m": "m",
    "slowly": "m+slow_second_chunk@2",
    "again": "m+error_500_then_ok",
    "fails": "m+error_500",
    "dies": "m+dies_mid_stream@4",
    "late": "m+headers_slow",
    "lies": "m+wrong_usage@3",
}


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trying, "_FIRST_BACKOFF", 0.01)


def tables(upstream: Upstream, **more: Any) -> dict[str, dict[str, Any]]:
    """Two endpoints: `a` has all models, `b` those that answer."""
    url = f"{upstream.url}/v1"
    return {
        "a": {"url": url, "models": tuple(MODELS), "names": MODELS, "retries": 1, **more},
        "b": {"url": url, "models": ("m",)},
    }


ROUTES = {
    "fallback": Route(("a/fails", "b/m")),
    "hedge": Route(("a/late", "b/m"), hedge=0.02),
    "continued": Route(("a/dies", "b/m")),
}


@pytest.mark.parametrize("name", ASKS)
async def test_all_agrees_at_the_end(name: str, upstream: Upstream, tmp_path: Path) -> None:
    async with hallway(tmp_path / "r.db", tmp_path, tables(upstream), routes=ROUTES) as here:
        try:
            await ASKS[name](here)
        except UpstreamError:
            assert "dies" in name
        await settled(lambda: agree(here.record))
        said = agree(here.record)
        assert said.money > 0 or name == "moderation"


@pytest.mark.parametrize("name", ASKS)
async def test_cancelled_at_any_wait(name: str, upstream: Upstream, tmp_path: Path) -> None:
    """Nothing stays set aside or open, and what the chain says is what the books say."""
    async with hallway(tmp_path / "r.db", tmp_path, tables(upstream), routes=ROUTES) as here:
        for number in range(400):
            here.hall._breakers._states.clear()
            if not await cancelled_at(_asked(here, ASKS[name]), number):
                break
            await settled(lambda: agree(here.record))
        assert number > 3


async def _asked(here: Hallway, ask: Ask) -> None:
    await ask(here)


@pytest.mark.parametrize("name", ASKS)
async def test_dead_at_any_wait(name: str, upstream: Upstream, tmp_path: Path) -> None:
    """As a process's death at each wait leaves it, the next start books no less than was billed."""
    copies: list[tuple[Path, int]] = []

    def snapshot(wait: int) -> None:
        copy = tmp_path / f"copy{wait}.db"
        with sqlite3.connect(tmp_path / "r.db") as source, sqlite3.connect(copy) as target:
            source.backup(target)
        billed = upstream.ledger()["totals"]
        copies.append((copy, billed["prompt_tokens"] + billed["completion_tokens"]))

    async with hallway(tmp_path / "r.db", tmp_path, tables(upstream), routes=ROUTES) as here:
        try:
            await Stepped(_asked(here, ASKS[name]), snapshot)
        except UpstreamError:
            assert "dies" in name
    assert len(copies) > 3
    for copy, billed in copies:
        record = Record.open(copy)
        lost = record.recover(lambda _: False)
        booked = agree(record).tokens
        # A stream that was cut is booked as far as it was heard: the rest was on its way.
        assert booked >= billed or name == "left early"
        assert record.recover(lambda _: False) == 0
        assert lost <= 1
        record.close()


# --- limits and later attempts ----------------------------------------------------------------------


async def test_a_budget_that_forbids_a_fallback_leaves_the_upstreams_error(
    upstream: Upstream, tmp_path: Path
) -> None:
    """What was refused is in the chain; the client hears what the endpoint said, and why no other was asked."""
    dear = tables(upstream)
    dear["b"]["prices"] = {"m": _prices("1000")}
    async with hallway(tmp_path / "r.db", tmp_path, dear, routes=ROUTES) as here:
        poor = limited(here, Limits(money_in_all=amount("0.01")))
        with pytest.raises(UpstreamUnavailableError) as caught:
            await poor.ask("fallback")
        assert re.search("was not asked: .* in all", caught.value.message)
        await settled(lambda: agree(here.record))
        kinds = [entry.kind for entry in here.record.entries()]
        assert kinds.count("exchange.attempted") == 2
        refused = [e for e in here.record.entries() if e.body.get("refused")]
        assert [len(entry.body["ended"]) for entry in refused] == [1]


async def test_a_budget_that_forbids_the_first_attempt(upstream: Upstream, tmp_path: Path) -> None:
    async with hallway(tmp_path / "r.db", tmp_path, tables(upstream)) as here:
        poor = limited(here, Limits(money_in_all=amount("0.0001")))
        with pytest.raises(BudgetError, match="in all"):
            await poor.ask("m")
        agree(here.record)
        assert upstream.ledger()["totals"]["requests"] == 0


async def test_a_budget_that_forbids_a_retry_leaves_the_upstreams_error(
    upstream: Upstream, tmp_path: Path
) -> None:
    """The first try dies and is booked; what is left does not cover a second one."""
    async with hallway(tmp_path / "r.db", tmp_path, tables(upstream)) as here:
        one = limited(here, Limits(tokens_per_month=300))
        with pytest.raises(UpstreamUnavailableError, match="broke the connection"):
            await one.ask("dies", stream=False, most=50)
        await settled(lambda: agree(here.record))
        assert upstream.ledger()["totals"]["requests"] == 1


def _prices(text: str) -> Any:
    return Prices(input=text, output=text)


async def test_a_model_without_a_price_is_not_asked_where_a_budget_holds(
    upstream: Upstream, tmp_path: Path
) -> None:
    unpriced = tables(upstream)
    unpriced["b"] |= {"prices": {}, "place": "abroad"}
    routes = {**ROUTES, "back": Route(("b/m", "a/m")), "none": Route(("b/m",))}
    async with hallway(tmp_path / "r.db", tmp_path, unpriced, routes=routes) as here:
        with pytest.raises(UpstreamUnavailableError):
            await here.ask("fallback")
        assert {e["model"] for e in upstream.ledger()["entries"]} == {"m+error_500"}
        await here.ask("back")
        await settled(lambda: agree(here.record))
        with pytest.raises(UnavailableError, match="nobody said what m costs"):
            await here.ask("none")


async def test_all_left_alone(upstream: Upstream, tmp_path: Path) -> None:
    """What was set aside for a request that nobody was asked for is given back."""
    async with hallway(tmp_path / "r.db", tmp_path, tables(upstream)) as here:
        for _ in range(8):
            with pytest.raises(DaulatError):
                await here.ask("fails")
        assert upstream.ledger()["totals"]["requests"] < 16
        await settled(lambda: agree(here.record))


async def test_a_whole_answer_that_is_lost_is_booked_at_its_most(
    upstream: Upstream, tmp_path: Path
) -> None:
    slow = tables(upstream, total_seconds=0.2, retries=0)
    async with hallway(tmp_path / "r.db", tmp_path, slow) as here:
        with pytest.raises(UpstreamError):
            await here.ask("late", stream=False, most=50)
        await settled(lambda: agree(here.record))
        await asyncio.sleep(1.2)
        billed = upstream.ledger()["totals"]
        assert agree(here.record).tokens >= billed["prompt_tokens"] + billed["completion_tokens"]
        assert agree(here.record).tokens > 50
