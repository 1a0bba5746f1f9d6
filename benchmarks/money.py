"""Measures money against the upstream's own books: `python benchmarks/money.py`.

The scripted upstream bills what it sends (docs/scripted.md), one entry a request. Parts:

    drift     --requests mixed requests, with faults drawn by a seed, before four kinds of endpoints: what
              `daulat spend --json` says of each endpoint and model, less what the upstream's ledger says. Where
              the upstream tells what it bills, the difference must be 0. Where it cannot tell (a stream that is
              cut, an answer that is lost, usage that is wrong or left out), the rows stand apart.
    budgets   --clients clients at once on one budget that covers half of what they ask; one server process and
              four on one database, SQLite and (with --postgresql URL, an empty database) PostgreSQL

Writes benchmarks/results/money.json and the tables in docs/benchmarks.md. A part that is not measured keeps its
last figures.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import houses
from rich.console import Console
from rich.progress import Progress
from spending import on_one_budget
from start import RESULTS as START_RESULTS
from start import conditions, facts, write_table

from daulat.endpoints import scripted
from daulat.endpoints.scripted import Chance, Delays, Script, Upstream
from daulat.endpoints.scripted.faults import chosen
from daulat.endpoints.scripted.script import words
from daulat.values.money import Price, Rates, amount, per_million, shown
from daulat.values.plan import Limits

RESULTS = START_RESULTS.with_name("money.json")
CONCURRENT, AGAIN = 48, 10
KINDS = ("openai", "anthropic", "gemini", "watsonx")
SHARES = (55, 15, 15, 15)
EMBEDS = frozenset({"openai", "watsonx"})
"""Gemini does not say what an embedding used: that is an estimate."""
PRICE = Price(
    Rates(per_million("2.5"), per_million("10"), per_million("1.25"), per_million("3.125"))
)
COLUMNS = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens")

# Faults after which the upstream's usage is known, or nothing is billed: drawn for all but the models below.
CHANCES = {
    "error_500": 0.01,
    "error_503": 0.01,
    "rate_limited_then_ok": 0.002,
    "error_500_then_ok": 0.03,
    "overloaded_529": 0.002,
    "context_length": 0.01,
    "redirect": 0.002,
    "slow_second_chunk": 0.01,
    "headers_slow": 0.01,
    "split_tool_name": 0.02,
    "split_bytes": 0.01,
    "duplicate_done": 0.01,
    "keepalive_comments": 0.02,
    "crlf": 0.02,
    "refusal": 0.01,
    "empty_answer": 0.005,
    "content_filter@3": 0.005,
}
# Models whose usage the upstream does not tell, or tells wrong: what is booked is an estimate.
UNTRUE = {
    "died": ("dies_mid_stream@6", True),
    "ended": ("ends_without_done@6", True),
    "failed": ("error_event_mid_stream@6", True),
    "garbage": ("garbage_json@6", True),
    "lost": ("dies_mid_body", False),
    "closed": ("dies_before_headers", True),
    "silent": ("no_usage", True),
    "zero": ("wrong_usage@0", True),
    "absurd": ("wrong_usage@2", True),
    "half": ("wrong_usage@4", True),
}
LEFT = "left"
EXACT = "exact"
MODELS = (EXACT, LEFT, *UNTRUE)

console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Wish:
    """One request of the load.

    Attributes:
        leaves: after so many events of its stream; 0: it stays.
    """

    form: str
    model: str
    tokens: int
    leaves: int = 0


# --- the load ---------------------------------------------------------------------------------------


def wishes(count: int, seed: int) -> Iterator[Wish]:
    """The same for the same seed: seven of ten exact, the rest left or untrue."""
    draw = random.Random(seed)  # noqa: S311 - a workload
    for _ in range(count):
        kind = draw.choices(KINDS, SHARES)[0]
        tokens = draw.randint(4, 60)
        what = draw.random()
        if what < 0.03:
            yield Wish("stream", f"{kind}-{LEFT}", 60, draw.randint(2, 40))
        elif what < 0.06:
            name, (_fault, streams) = draw.choice(list(UNTRUE.items()))
            yield Wish("stream" if streams else "whole", f"{kind}-{name}", tokens)
        elif what < 0.10:
            yield Wish(draw.choice(("stream", "whole")), "fallback", tokens)
        else:
            forms = ("stream", "whole", "tools", "tools streamed", "embeddings")
            form = draw.choices(forms, (40, 25, 10, 10, 15))[0]
            if form == "embeddings" and kind not in EMBEDS:
                form = "whole"
            yield Wish(form, f"{kind}-{EXACT}", tokens)


TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "What the weather is.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def body(wish: Wish) -> dict[str, Any]:
    text = words(wish.tokens)
    if wish.form == "embeddings":
        return {"model": wish.model, "input": [text, text[:40]]}
    streamed = "stream" in wish.form
    asked: dict[str, Any] = {
        "model": wish.model,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}],
        "max_tokens": 120,
        "stream": streamed,
    }
    if wish.form.startswith("tools"):
        asked["tools"] = [TOOL]
    if streamed:
        asked["stream_options"] = {"include_usage": True}
    return asked


async def loaded(url: str, key: str, asked: Sequence[Wish]) -> dict[str, int]:
    """All of them, so many at once; how many ended with which status."""
    statuses: dict[str, int] = {}
    waiting = iter(asked)
    timeout = aiohttp.ClientTimeout(total=120)
    with Progress(console=console) as progress:
        bar = progress.add_task("requests", total=len(asked))
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

            async def client() -> None:
                for wish in waiting:
                    status = await _one(session, url, key, wish)
                    statuses[status] = statuses.get(status, 0) + 1
                    progress.advance(bar)

            await asyncio.gather(*(client() for _ in range(CONCURRENT)))
    return dict(sorted(statuses.items()))


async def _one(session: aiohttp.ClientSession, url: str, key: str, wish: Wish) -> str:
    """Asked again while all endpoints of the model are being left alone, as a client would."""
    status = ""
    for _ in range(AGAIN):
        status = await _tried(session, url, key, wish)
        if status != "left alone":
            break
        await asyncio.sleep(1.0)
    return status


async def _tried(session: aiohttp.ClientSession, url: str, key: str, wish: Wish) -> str:
    path = "embeddings" if wish.form == "embeddings" else "chat/completions"
    headers = {"Authorization": f"Bearer {key}"}
    async with session.post(f"{url}/v1/{path}", json=body(wish), headers=headers) as answer:
        if not wish.leaves or answer.status != 200:
            text = await answer.text()
            alone = answer.status == 502 and "will be asked again in" in text
            return "left alone" if alone and wish.model.endswith(EXACT) else str(answer.status)
        events = 0
        async for line in answer.content:
            events += line.startswith(b"data:")
            if events >= wish.leaves:
                answer.close()
                return "left"
        return "200"


# --- the books --------------------------------------------------------------------------------------


def settings(upstream: Upstream) -> str:
    """An endpoint of each kind; the models of each have names of their own at the upstream."""
    return "\n".join(_endpoint(kind, upstream.url) for kind in KINDS) + (
        '\n[endpoints.broken]\nkind = "openai"\nplace = "own-network"\nkey = "env:SCRIPTED_KEY"\n'
        f'url = "{upstream.url}/v1"\nretries = 0\nmodels = ["broken"]\n'
        'names = { broken = "broken+error_503" }\n'
        '[endpoints.broken.prices.broken]\ninput = "2.5"\noutput = "10"\n'
        '[routes.fallback]\nto = ["broken/broken", "anthropic/anthropic-exact"]\n'
    )


_PATHS = {"openai": "/v1", "anthropic": "/v1", "gemini": "/v1beta", "watsonx": "/ml/v1"}


def _endpoint(kind: str, url: str) -> str:
    models = [f"{kind}-{name}" for name in MODELS]
    names = {f"{kind}-{name}": f"{kind}-{name}+{fault}" for name, (fault, _) in UNTRUE.items()}
    prices = "".join(
        f'[endpoints.{kind}.prices.{model}]\ninput = "2.5"\noutput = "10"\n'
        'cached = "1.25"\ncache_write = "3.125"\n'
        for model in models
    )
    pairs = ", ".join(f'"{name}" = "{other}"' for name, other in names.items())
    extra = f'project = "p"\ntoken_url = "{url}/identity/token"\n' if kind == "watsonx" else ""
    return (
        f'[endpoints.{kind}]\nkind = "{kind}"\nurl = "{url}{_PATHS[kind]}"\nplace = "own-network"\n'
        f'key = "env:SCRIPTED_KEY"\nretries = 2\nmodels = {json.dumps(models)}\n{extra}'
        f"names = {{ {pairs} }}\n{prices}"
    )


def billed(upstream: Upstream) -> dict[str, dict[str, int]]:
    """The upstream's sums by model, without the fault in its name; money by the prices of the settings."""
    sums: dict[str, dict[str, int]] = {}
    for entry in upstream.ledger()["entries"]:
        told = sums.setdefault(
            entry["model"].partition("+")[0], dict.fromkeys((*COLUMNS, "money"), 0)
        )
        for name in COLUMNS:
            told[name] += entry[name]
        fresh = entry["prompt_tokens"] - entry["cached_tokens"] - entry["cache_written_tokens"]
        rates = PRICE.rates
        told["money"] += (
            fresh * rates.input
            + entry["cached_tokens"] * rates.cached
            + entry["cache_written_tokens"] * rates.cache_write
            + entry["completion_tokens"] * rates.output
        )
    return sums


def booked(home: Path) -> dict[str, dict[str, int]]:
    """What `daulat spend --json` says, by model."""
    command = [sys.executable, "-m", "daulat", "--home", str(home), "spend", "--by", "model"]
    environment = {**os.environ, "LANGUAGE": "en", "SCRIPTED_KEY": houses.UPSTREAM_KEY}
    done = subprocess.run(
        [*command, "--json"], check=True, capture_output=True, text=True, env=environment
    )
    rows = json.loads(done.stdout)["rows"]
    return {
        row["model"]: {**{n: row[n] for n in COLUMNS}, "money": amount(row["money"])}
        for row in rows
    }


def drift(requests: int, seed: int) -> dict[str, Any]:
    """The upstream's books and ours, model by model."""
    chances = tuple(Chance(chosen(name), share) for name, share in CHANCES.items())
    script = Script(
        delays=Delays(between=0.001, late=0.3),
        chances=chances,
        seed=seed,
        cached_tokens=5,
        reasoning_tokens=3,
    )
    with tempfile.TemporaryDirectory() as folder, scripted.running(script) as upstream:
        home = Path(folder) / "home"
        houses.settings(home, settings(upstream))
        key = houses.key(home, Limits(money_in_all=amount(10**6)))
        with houses.running(home) as (server,):
            statuses = asyncio.run(loaded(server.url, key, list(wishes(requests, seed))))
        theirs, ours = billed(upstream), booked(home)
        entries = upstream.ledger()["entries"]
    asked, faults = len(entries), Counter(e["fault"] for e in entries if e["fault"])
    rows = {
        model: {"billed": theirs.get(model, {}), "booked": ours.get(model, {})}
        for model in sorted(theirs.keys() | ours.keys())
        if model
    }
    exact = {model: row for model, row in rows.items() if model.endswith((EXACT, "broken"))}
    return {
        "requests": requests,
        "seed": seed,
        "upstream_requests": asked,
        "faults": dict(sorted(faults.items())),
        "statuses": statuses,
        "exact": all(row["billed"] == row["booked"] for row in exact.values()),
        "rows": rows,
    }


def summed(rows: Mapping[str, Any], names: Sequence[str], which: str) -> dict[str, int]:
    """The columns of the models whose names end so, added up."""
    chosen_ = [row[which] for model, row in rows.items() if model.endswith(tuple(names))]
    return {name: sum(row.get(name, 0) for row in chosen_) for name in (*COLUMNS, "money")}


def drift_table(told: Mapping[str, Any]) -> str:
    """One line for each kind of request; drift is what is booked less what is billed."""
    lines = [
        "| requests | billed | prompt | answer | cached | reasoning | money | drift of money |",
        "|---|---|---|---|---|---|---|---|",
    ]
    groups = [(WORDS[EXACT], (EXACT, "broken")), (WORDS[LEFT], (LEFT,))]
    groups += [(f"`{fault}`", (name,)) for name, (fault, _streams) in UNTRUE.items()]
    for label, names in groups:
        theirs, ours = (summed(told["rows"], names, which) for which in ("billed", "booked"))
        gaps = [f"{ours[name] - theirs[name]:+,}".replace("+0", "0") for name in COLUMNS]
        gap = ours["money"] - theirs["money"]
        share = f"{gap / theirs['money']:+.1%}" if theirs["money"] and gap else "0"
        lines.append(
            f"| {label} | ${shown(theirs['money'])} | {' | '.join(gaps)} | "
            f"{'0' if not gap else ('-' if gap < 0 else '+') + '$' + shown(abs(gap))} | {share} |"
        )
    faults = sum(told["faults"].values())
    return "\n".join(
        [
            *lines,
            "",
            f"{told['requests']:,} requests of clients, {told['upstream_requests']:,} at the upstream, "
            f"{faults:,} of them with a fault; seed {told['seed']}.",
        ]
    )


WORDS = {
    EXACT: "all whose usage is told: streams, whole, tools, embeddings, retries, fallbacks, refusals, errors",
    LEFT: "streams that the client left",
}


# --- budgets ----------------------------------------------------------------------------------------


def budgets(clients: int, postgresql: str) -> dict[str, Any]:
    """One budget for all clients, which would need twice as much."""
    found: dict[str, Any] = {}
    for place, url in (("SQLite", ""), ("PostgreSQL", postgresql)):
        if place == "PostgreSQL" and not url:
            continue
        for servers in (1, 4):
            if url:
                houses.emptied(url)
            with tempfile.TemporaryDirectory() as folder:
                told = on_one_budget(
                    Path(folder) / "home", servers=servers, clients=clients, requests=10, record=url
                )
            console.print(f"{place}, {servers}: {told['answered']} in {told['seconds']} s")
            found[f"{place}, {servers} server{'s' if servers > 1 else ''}"] = told
    return found


def budgets_table(told: Mapping[str, Any]) -> str:
    lines = [
        "| | answered | refused (429) | over the budget | unused | answers/s |",
        "|---|---|---|---|---|---|",
    ]
    for name, one in told.items():
        lines.append(
            f"| {name} | {one['answered']:,} | {one['statuses'].get('429', 0):,} | "
            f"{one['over']} | {one['unused_share']:.1%} | {one['answers_a_second']:g} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure money against the upstream's own books.")
    parser.add_argument("--part", choices=["drift", "budgets"], action="append")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--postgresql", default="", metavar="URL")
    given = parser.parse_args()
    parts = given.part or ["drift", "budgets"]
    result = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    result |= conditions()
    if "drift" in parts:
        result["drift"] = drift(given.requests, given.seed)
        write_table("money-drift", f"{drift_table(result['drift'])}\n\n{facts(result)}")
    if "budgets" in parts:
        result["budgets"] = budgets(given.clients, given.postgresql)
        write_table("money-budgets", f"{budgets_table(result['budgets'])}\n\n{facts(result)}")
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if "drift" in parts and not result["drift"]["exact"]:
        sys.exit("What the upstream told was not booked to the last amount.")


if __name__ == "__main__":
    main()
