"""What the cache is worth, and whether it leaks: `python benchmarks/serving.py`.

Two parts, through the engine as the server runs it, with the starter model. `prefix`: sixteen requests that
begin with the same 800 tokens, one behind the other, with and without what the first of them computed, in turn.
`long`: two thousand requests of every size, some of them alike, some cancelled, with memory for a part of them;
resident memory is read as it goes. Writes benchmarks/results/serving.json and the table in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import random
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import psutil
from common import RESULTS, cache_folder, tokens
from start import MODEL, environment_facts, write_table

from daulat.engine.loading import load_native
from daulat.engine.runner import Engine
from daulat.engine.scheduler import Limits
from daulat.engine.sequence import Ended, GenerationSequence, Outcome
from daulat.models.catalogue import Catalogue
from daulat.models.pull import pull
from daulat.models.tokenizer import load_tokenizer
from daulat.values.request import Sampling

SHARED, REQUESTS = 800, 16
LONG = 2000


class Model:
    """The starter, and sequences for it."""

    def __init__(self) -> None:
        entry = Catalogue(cache_folder()).get(MODEL)
        assert entry is not None
        checkpoint = entry.open()
        self.tokenizer = load_tokenizer(checkpoint)
        self.decoder = load_native(checkpoint, threads=os.cpu_count() or 1)

    def ask(
        self, prompt: Sequence[int], limit: int, heard: queue.Queue[Outcome], tenant: str
    ) -> GenerationSequence:
        return GenerationSequence(
            prompt,
            Sampling(temperature=0.0, ignore_eos=True),
            limit,
            0,
            0,
            self.tokenizer,
            self.tokenizer.stream(),
            heard.put,
            tenant,
        )


def prefix(model: Model, rounds: int) -> dict[str, Any]:
    """Seconds to the first token, medians over the requests behind the first, round by round."""
    found: dict[str, list[float]] = {"without": [], "with": []}
    for number in range(rounds):
        for name, tenant in (("without", lambda k: f"{k}"), ("with", lambda _: "one")):
            engine = Engine(model.decoder, Limits(16, 64, 60_000, 512, 60_000), name)
            shared = tokens(SHARED, number)
            seconds: list[float] = []
            for k in range(REQUESTS):
                heard: queue.Queue[Outcome] = queue.Queue()
                started = time.perf_counter()
                own = tokens(16, 1000 + k)
                engine.submit([model.ask([*shared, *own], 1, heard, tenant(k))])
                while not isinstance(heard.get(timeout=120), Ended):
                    pass
                seconds.append(time.perf_counter() - started)
            engine.close()
            found[name].append(statistics.median(seconds[1:]))
    ratio = statistics.median(
        slow / quick for slow, quick in zip(found["without"], found["with"], strict=True)
    )
    return {**found, "ratio": ratio}


def long_run(model: Model, count: int) -> dict[str, Any]:
    """Resident MiB after each tenth of the requests, and the blocks that are left over."""
    chance = random.Random(7)  # noqa: S311 - a workload
    engine = Engine(model.decoder, Limits(16, 64, 6000, 512, 3000), "long")
    process, resident = psutil.Process(), list[float]()
    heard: queue.Queue[Outcome] = queue.Queue()
    for part in range(10):
        waiting = count // 10
        at_work: list[GenerationSequence] = []
        while waiting or at_work:
            while waiting and len(at_work) < 32:
                shared = tokens(chance.choice([0, 64, 300]), chance.randrange(4))
                own = tokens(chance.randrange(1, 200), chance.randrange(1 << 30))
                limit = chance.choice([1, 8, 24, 60])
                one = model.ask([*shared, *own], limit, heard, str(chance.randrange(3)))
                engine.submit([one])
                if chance.random() < 0.1:
                    engine.cancel([one])
                at_work.append(one)
                waiting -= 1
            with contextlib.suppress(queue.Empty):
                heard.get(timeout=0.05)
            at_work = [one for one in at_work if not (one.ended or one.cancelled)]
        resident.append(process.memory_info().rss / (1 << 20))
        print(f"{(part + 1) * count // 10} requests: {resident[-1]:.0f} MiB", flush=True)
    while engine.running or engine.waiting:
        time.sleep(0.05)
    blocks = engine.blocks
    engine.close()
    return {
        "requests": count,
        "resident_mib": [round(one, 1) for one in resident],
        "growth": resident[-1] / resident[1] - 1,
        "leaked_blocks": blocks.count - blocks.available,
    }


def table(result: dict[str, Any]) -> str:
    shared, long = result["prefix"], result["long"]
    quick, slow = (statistics.median(shared[name]) for name in ("with", "without"))
    return "\n".join(
        [
            "| | | aim |",
            "|---|---|---|",
            f"| first token behind {SHARED} shared tokens, computed anew | {slow:.3f} s | |",
            f"| the same, found | {quick:.3f} s, {shared['ratio']:.1f} times sooner | 5 times |",
            f"| resident memory, "
            f"from the {long['requests'] // 5}th to the {long['requests']}th mixed request | "
            f"{long['growth']:+.1%} ({long['resident_mib'][1]:.0f} to "
            f"{long['resident_mib'][-1]:.0f} MiB) | at most +3 % |",
            f"| blocks left over | {long['leaked_blocks']} | 0 |",
            "",
            result["facts"],
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the cache: what it saves, what it keeps.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=LONG)
    options = parser.parse_args()
    pull(Catalogue(cache_folder()), "starter")
    model = Model()
    result = {
        "prefix": prefix(model, max(1, options.rounds)),
        "long": long_run(model, max(100, options.requests)),
        "facts": environment_facts(),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "serving.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    write_table("serving", table(result))
    print(table(result))


if __name__ == "__main__":
    main()
