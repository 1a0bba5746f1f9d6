"""Measures what keeping to a structure costs: the mask's own time a token, with the starter's tokenizer.

Real texts are taken token by token through their grammars; what is timed is what a structured token
has beyond a plain one: computing the mask, applying it to the logits, and moving on. The share is
that of a decoding step of the starter (`--step`, milliseconds; docs/benchmarks.md has the figures).

    python benchmarks/structured.py [--runs 5] [--step 5.2]

Writes benchmarks/results/structured.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from daulat.engine.grammars import Grammar, Grammars
from daulat.engine.sampler import Sampler
from daulat.models.catalogue import Catalogue
from daulat.models.pull import pull
from daulat.models.tokenizer import Tokenizer, load_tokenizer
from daulat.models.tools import GENERIC
from daulat.values.request import Sampling, Structure, Tool, Toolbox

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "structured.json"

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 60}},
        "home": {"anyOf": [{"type": "null"}, {"type": "object", "properties": {"city": {"type": "string"}}}]},
    },
    "required": ["name", "age", "tags", "home"],
}  # fmt: skip
WEATHER = Tool("weather", None, {"type": "object", "properties": {"city": {"type": "string"}}})
PROSE = (
    "The weather of the mountains changes quickly, so take a coat, some water and a map with you. "
)

CASES: dict[str, tuple[Structure | None, Any, str]] = {
    "schema": (
        Structure("json", PERSON, "schema"),
        None,
        '{"name": "Siti Rahma", "age": 41, "tags": ["reads a lot", "walks in the mountains"], '
        '"home": {"city": "Bandung"}}',
    ),
    "any JSON object": (
        Structure("json", {"type": "object"}, "schema"),
        None,
        '{"name": "Siti Rahma", "list": [1, 2.5, true, null], "text": "' + PROSE + '"}',
    ),
    "long string": (Structure("json", {"type": "string"}, "schema"), None, f'"{PROSE * 4}"'),
    "expression": (
        Structure("regex", r"[A-Z][a-z]+( [a-z]+,?){3,40}\. \d{4}-\d{2}-\d{2}", "regex"),
        None,
        "The weather of the mountains changes quickly, so take a coat, some water. 2026-11-21",
    ),
    "free text beside tools": (None, (Toolbox((WEATHER,)), GENERIC), PROSE * 3),
    "a tool call": (
        None,
        (Toolbox((WEATHER,)), GENERIC),
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Bandung"}}\n</tool_call>',
    ),
}


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    made = work()
    return (time.perf_counter() - began) * 1000, made


def worked(work: Callable[[], Any]) -> tuple[float, float]:
    """Milliseconds by the clock, and of the processor: the second does not see other programs."""
    began = time.thread_time()
    clock, _ = timed(work)
    return clock, (time.thread_time() - began) * 1000


def walk(
    grammars: Grammars, tokenizer: Tokenizer, grammar: Grammar, text: str, plain: float
) -> tuple[float, list[float], list[float]]:
    """Milliseconds to build a guide, and for each token (clock, processor) beyond plain sampling."""
    size = tokenizer.vocab_size
    build, guide = timed(lambda: grammars.guide("starter", tokenizer, size, grammar))
    logits = np.zeros(size, np.float32)
    sampler = Sampler(Sampling(temperature=0), 1, [0])
    spent: list[float] = []
    used: list[float] = []
    for token in tokenizer.encode(text, special=False):

        def step(token: int = token) -> None:
            allowed = guide.allowed()
            assert allowed[token], text
            sampler.choose(logits, allowed)
            guide.advance(token)

        clock, processor = worked(step)
        spent.append(clock - plain)
        used.append(processor - plain)
    return build, spent, used


def main(runs: int, step: float) -> None:
    default = Path.home() / ".cache" / "daulat-test-models"
    catalogue = Catalogue(Path(os.environ.get("DAULAT_TEST_CACHE", default)))
    entry = catalogue.get("SmolLM2-135M-Instruct") or pull(catalogue, "starter")
    tokenizer = load_tokenizer(entry.open())
    grammars = Grammars()
    sampler = Sampler(Sampling(temperature=0), 1, [0])
    logits = np.zeros(tokenizer.vocab_size, np.float32)
    plain = statistics.median(timed(lambda: sampler.choose(logits))[0] for _ in range(200))
    first = grammars.grammar("starter", tokenizer, Structure("choice", ("a",), "c"), None)
    tree, _ = timed(lambda: grammars.guide("starter", tokenizer, tokenizer.vocab_size, first))
    results: dict[str, Any] = {}
    for name, (structure, tools, text) in CASES.items():
        grammar = grammars.grammar("starter", tokenizer, structure, tools)
        builds: list[float] = []
        spent: list[float] = []
        used: list[float] = []
        for _ in range(runs):
            build, times, processor = walk(grammars, tokenizer, grammar, text, plain)
            builds.append(build)
            spent += times
            used += processor
        mean = statistics.fmean(used)
        results[name] = {
            "tokens": len(spent) // runs,
            "build_ms": round(statistics.median(builds), 3),
            "token_ms_mean": round(statistics.fmean(spent), 4),
            "token_processor_ms_mean": round(mean, 4),
            "token_ms_median": round(statistics.median(spent), 4),
            "token_ms_p99": round(float(np.quantile(spent, 0.99)), 4),
            "share_of_step": round(mean / step, 4),
        }
        print(f"{name:24} {results[name]}")
    report = {
        "machine": platform.processor() or platform.machine(),
        "llguidance": version("llguidance"),
        "vocabulary": tokenizer.vocab_size,
        "step_ms": step,
        "sampling_ms": round(plain, 4),
        "vocabulary_tree_ms": round(tree, 1),
        "cases": results,
    }
    RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--step", type=float, default=5.2, help="ms of a decoding step")
    options = parser.parse_args()
    main(options.runs, options.step)
