"""Measures Daulat before a remote endpoint, beside LiteLLM's proxy: `python benchmarks/gateway.py`.

The endpoint is the scripted upstream on loopback; load, gateway and upstream share the machine. A question of
200 tokens is said back, and every answer is checked to be the one to its own question (questions.py). Parts:

    added     what the gateway adds to the time of a chat that is not streamed, at several rates: the same
              load straight to the upstream, then through the gateway. Added p50 is the difference of the two
              p50, added p99 that of the two p99. The upstream is the same process, and the gateway runs
              during both.
    rate      the highest rate with no failure: a rate counts if, held for --hold seconds, no answer fails,
              99 % of it is achieved and p99 is below a second. Rates grow by half until one does not count;
              then the gap is halved (geometrically) until it is below 5 %.
    streams   what the gateway adds to the time of the first text, measured like `added` with streams of 200
              chunks; and 1,000 streams held together for a minute
    memory    resident memory over --requests requests behind the warm-up, each tenth a stream
    peer      has added, rate and streams done for the peers that --peer names too, in turn with ours;
              without these it brings added and rate along

`--peer litellm=/path/to/its/python`; benchmarks/gateways.py says how to install it. Rounds take the gateways in
turn, each started anew; medians over the rounds are reported. A part that is not measured keeps its last
figures. Writes benchmarks/results/gateway.json and the tables in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import gateways
from gateway_tables import Told, table
from gateways import Start, Target, Unmeasured, loaded
from rich.console import Console
from rich.progress import Progress
from start import RESULTS as START_RESULTS
from start import conditions, facts, write_table

RESULTS = START_RESULTS.with_name("gateway.json")
TURNS = ("added", "rate", "streams")
PARTS = (*TURNS, "memory", "peer")
RATES = (100, 300, 600, 1000)
ACHIEVED, BOUND_MS, NARROW, GROW, MOST = 0.99, 1000.0, 1.05, 1.5, 20_000
WARM = 500
CHUNKS, PACE = 200, 0.02
HELD_CHUNKS, HELD_PACE, HELD_RATE = 240, 0.3, 100
"""A stream lasts 72 s; the last begins 10 s behind the first."""
PACKAGES = (
    "daulat",
    "starlette",
    "uvicorn",
    "uvloop",
    "httptools",
    "httpx2",
    "msgspec",
    "sqlalchemy",
)

console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure, and how long."""

    parts: frozenset[str]
    rounds: int
    hold: float
    rates: Sequence[int]
    streams: int
    stream_rate: float
    requests: int
    pythons: Mapping[str, str]

    def started(self) -> dict[str, Start]:
        """Ours first."""
        peers = gateways.peers(self.pythons) if "peer" in self.parts else {}
        return {"daulat": gateways.daulat, **peers}


# --- single measurements ----------------------------------------------------------------------------------


def counts(told: Told) -> bool:
    """May this rate be called one that the gateway sustains?"""
    return (
        not told["failures"]
        and told["achieved"] >= ACHIEVED * told["asked"]
        and told["p99_ms"] < BOUND_MS
    )


def curve(straight: Target, through: Target, plan: Plan) -> dict[str, Told]:
    """At each rate first the one, then the other; up to the first that the gateway does not sustain."""
    found: dict[str, Told] = {}
    for rate in plan.rates:
        pair = {
            way: loaded(target, "rate", rate=rate, seconds=plan.hold)
            for way, target in (("straight", straight), ("through", through))
        }
        found[str(rate)] = {**pair, **_added(pair, "", counts(pair["through"]))}
        console.print(f"{through.name}, {rate}/s: {_short(pair['through'])}")
        if not counts(pair["through"]):
            recovered(through)
            break
    return found


def _added(pair: Mapping[str, Told], name: str, sustained: bool) -> Told:
    if not sustained:
        return {"added_p50_ms": None, "added_p99_ms": None}
    return {
        f"added_{p}_ms": round(
            pair["through"][f"{name}{p}_ms"] - pair["straight"][f"{name}{p}_ms"], 3
        )
        for p in ("p50", "p99")
    }


def _short(told: Told) -> str:
    times = " / ".join(f"{told[p]:.2f}" for p in ("p50_ms", "p99_ms", "max_ms") if p in told)
    failed = f", failed: {told['failures']} {told['quoted']}" if told["failures"] else ""
    return f"{told.get('achieved', 0)}/s, p50 / p99 / max {times} ms{failed}"


def highest(target: Target, plan: Plan) -> Told:
    """The highest rate that counts, and all that were tried."""
    good, bad, rate, tried = 0, MOST, plan.rates[0], list[Told]()
    while rate >= 1 and (not good or bad / good > NARROW):
        told = loaded(target, "rate", rate=rate, seconds=plan.hold)
        tried.append(told)
        console.print(f"{target.name}, {rate}/s: {'+' if counts(told) else '-'} {_short(told)}")
        if counts(told):
            good = rate
        else:
            bad = rate
            recovered(target)
        middle = round((max(good, 1) * bad) ** 0.5) if bad < MOST else round(good * GROW)
        if middle in (good, bad):
            break
        rate = min(middle, MOST)
    return {"highest": good, "tried": tried}


def recovered(target: Target) -> None:
    """Wait until an overload is over.

    Raises:
        Unmeasured: it is not, after a minute.
    """
    for _ in range(30):
        told = loaded(target, "rate", rate=5, seconds=2, warm=0, timeout=30)
        if not told["failures"] and told["p99_ms"] < BOUND_MS:
            return
    raise Unmeasured(f"{target.name} does not recover from an overload: {told['quoted']}")


def first_text(straight: Target, through: Target, plan: Plan) -> Told:
    """Streams at a constant rate, each of 200 chunks at the upstream's pace."""
    count = round(plan.stream_rate * plan.hold * 3)
    pair: dict[str, Told] = {}
    for way, target in (("straight", straight), ("through", through)):
        loaded(target, "streams", rate=plan.stream_rate, requests=20, tokens=CHUNKS, timeout=60)
        pair[way] = loaded(
            target, "streams", rate=plan.stream_rate, requests=count, tokens=CHUNKS, timeout=60
        )
    told = {**pair, **_added(pair, "first_", not pair["through"]["failures"])}
    console.print(f"{through.name}, first text: {told['added_p50_ms']} / {told['added_p99_ms']} ms")
    return told


def held(target: Target, plan: Plan) -> Told:
    """Many streams at once, all of them for a minute."""
    told = loaded(
        target,
        "streams",
        rate=HELD_RATE,
        requests=plan.streams,
        tokens=HELD_CHUNKS,
        timeout=2.5 * HELD_CHUNKS * HELD_PACE,
        connections=plan.streams,
    )
    console.print(
        f"{target.name}, {plan.streams} streams: {told['answered']} whole, {told['failures']}"
    )
    return {**told, "resident_mib": round(target.resident(), 1)}


def memory(target: Target, plan: Plan) -> Told:
    """Resident memory behind a warm-up of a tenth of the requests, then at each twentieth of them."""
    warm = max(1, plan.requests // 10)
    sizes = list[tuple[int, float]]()
    with Progress(console=console) as progress:
        bar = progress.add_task("warm-up", total=warm)

        def heard(done: int) -> None:
            progress.update(bar, completed=done)

        loaded(target, "many", heard, requests=warm, streamed=10)
        sizes.append((0, target.resident()))
        bar = progress.add_task("requests", total=plan.requests)

        def seen(done: int) -> None:
            progress.update(
                bar, completed=done, description=f"{sizes[-1][1]:.0f} MiB after {sizes[-1][0]:,}"
            )
            if done >= sizes[-1][0] + plan.requests // 20:
                sizes.append((done, target.resident()))

        told = loaded(target, "many", seen, requests=plan.requests, streamed=10)
    first, last = sizes[0][1], sizes[-1][1]
    return {
        **told,
        "requests": plan.requests,
        "warm": warm,
        "resident_mib": [[done, round(size, 1)] for done, size in sizes],
        "growth": round(last / first - 1, 4),
        "bytes_a_request": round((last - first) * (1 << 20) / plan.requests, 1),
    }


# --- rounds -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def both(start: Start, pace: float = 0.0) -> Iterator[tuple[Target, Target]]:
    """A new upstream, and a gateway before it that has loaded what it loads with its first requests."""
    with gateways.upstream(pace) as straight, start(straight) as through:
        if not pace:
            loaded(through, "many", requests=WARM, under_way=8, streamed=10)
        yield straight, through


def rounds(plan: Plan) -> dict[str, Any]:
    """All rounds of all parts but memory: part -> gateway -> a value for each round."""
    found: dict[str, dict[str, list[Any]]] = {}

    def keep(part: str, name: str, value: Any) -> None:
        found.setdefault(part, {}).setdefault(name, []).append(value)

    for number in range(plan.rounds if plan.parts & {*TURNS} else 0):
        for name, start in plan.started().items():
            console.rule(f"round {number + 1}: {name}")
            if plan.parts & {"added", "rate"}:
                with both(start) as (straight, through):
                    if "added" in plan.parts:
                        keep("added", name, curve(straight, through, plan))
                    if "rate" in plan.parts:
                        keep("rate", name, highest(through, plan))
            if "streams" in plan.parts:
                with both(start, PACE) as (straight, through):
                    keep("first_text", name, first_text(straight, through, plan))
    return found


def measured(plan: Plan) -> dict[str, Any]:
    """Each part with its figures."""
    found = rounds(plan)
    if "streams" in plan.parts:
        found["held"] = {}
        for name, start in plan.started().items():
            with both(start, HELD_PACE) as (_, through):
                found["held"][name] = held(through, plan)
    if "memory" in plan.parts:
        with both(gateways.daulat) as (_, through):
            found["memory"] = {"daulat": memory(through, plan)}
    return found


# --- the command --------------------------------------------------------------------------------------------


def _facts(plan: Plan) -> str:
    known = conditions()
    mine = {name: version(name) for name in PACKAGES}
    python = known["versions"]["python"]
    known |= {"versions": {"python": python, **mine}, "model": "the scripted upstream on loopback"}
    theirs = [gateways.versions(name, python) for name, python in plan.pythons.items()]
    beside = " Peers: " + "; ".join(theirs) + "." if "peer" in plan.parts and theirs else ""
    return facts(known) + beside


def _kept() -> dict[str, Any]:
    try:
        return json.loads(RESULTS.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def _write(plan: Plan, found: Mapping[str, Any]) -> str:
    """Into the file of results and the page; the tables."""
    told = _facts(plan)
    new = {part: {"facts": told, "figures": figures} for part, figures in found.items()}
    result = {**_kept(), **new}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    tables = table(result)
    write_table("gateway", tables)
    return tables


def _parts(text: str) -> frozenset[str]:
    parts = frozenset(text.split(","))
    if not parts <= set(PARTS):
        raise argparse.ArgumentTypeError(f"{text!r}: some of {','.join(PARTS)}")
    return parts if "peer" not in parts or parts & {*TURNS} else parts | {"added", "rate"}


def _rates(text: str) -> list[int]:
    rates = [int(one) for one in text.split(",")]
    if not all(1 <= one <= MOST for one in rates):
        raise argparse.ArgumentTypeError(f"{text!r}: rates are 1 to {MOST}")
    return sorted(rates)


def _python(text: str) -> tuple[str, str]:
    """`name=/path/to/python`."""
    name, _, path = text.partition("=")
    if name not in gateways.PACKAGES or not os.access(path, os.X_OK):
        known = ", ".join(gateways.PACKAGES)
        raise argparse.ArgumentTypeError(f"{text!r}: name=/path/to/python, of {known}")
    return name, path


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the gateway beside its peers.")
    add = parser.add_argument
    add("--part", type=_parts, help="some of " + ",".join(PARTS))
    add("--rounds", type=int, default=3)
    add("--hold", type=float, default=10.0, help="seconds that each rate is held")
    add(
        "--rates",
        type=_rates,
        default=list(RATES),
        help="of the curves; the search begins at the first",
    )
    add("--streams", type=int, default=1000, help="held at once")
    add(
        "--stream-rate",
        type=float,
        default=10.0,
        help="streams begun a second, for their first text",
    )
    add("--requests", type=int, default=300_000, help="for the memory")
    add("--peer", action="append", type=_python, default=[], metavar="NAME=PYTHON")
    options = parser.parse_args()
    if options.part is None:
        options.part = frozenset(PARTS)
    elif "peer" in options.part and not options.peer:
        parser.error("the part `peer` needs --peer NAME=PYTHON")
    return options


def main() -> None:
    options = _options()
    plan = Plan(
        options.part,
        max(1, options.rounds),
        max(1.0, options.hold),
        options.rates,
        max(1, options.streams),
        max(0.1, options.stream_rate),
        max(100, options.requests),
        dict(options.peer),
    )
    # A thousand streams are two thousand connections of the gateway.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        found = measured(plan)
    except Unmeasured as why:
        sys.exit(str(why))
    print(_write(plan, found))


if __name__ == "__main__":
    main()
