"""Measures what keeping to a structure costs a token: the starter model, with and without.

Two ways, both also as a share of the starter's decoding step in the same run (`docs/benchmarks.md` has the
table):

    greedy    temperature 0: the starter answers a question; the whole mask is computed only where its likeliest
              token is not allowed.
    each      any other temperature: the whole mask for every token of a given text.

    python benchmarks/structured.py [--runs 5]

Writes benchmarks/results/structured.json and the table in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from common import RESULTS, SHORT, checkpoint, tokens
from start import environment_facts, write_table

from daulat.engine.grammars import Grammars
from daulat.engine.guide import Guide
from daulat.engine.loading import load_native
from daulat.engine.sampler import Sampler
from daulat.engine.step import Chunk
from daulat.models.numbers import Floats
from daulat.models.tokenizer import Tokenizer, load_tokenizer
from daulat.models.tools import GENERIC
from daulat.values.request import Sampling, Structure, Tool, Toolbox

RESULT = RESULTS / "structured.json"
MOST = 96  # tokens of an answer
NEVER = np.float32(-np.inf)

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


@dataclass(frozen=True)
class Case:
    """A structure, what the starter is asked, and a text of that structure."""

    name: str
    structure: Structure | None
    tools: Any
    question: str
    text: str


CASES = (
    Case(
        "a schema of JSON",
        Structure("json", PERSON, "schema"),
        None,
        "Describe Siti Rahma, aged 41, who lives in Bandung, in JSON.",
        '{"name": "Siti Rahma", "age": 41, "tags": ["reads a lot", "walks in the mountains"], '
        '"home": {"city": "Bandung"}}',
    ),
    Case(
        "any object of JSON",
        Structure("json", {"type": "object"}, "schema"),
        None,
        "Describe Siti Rahma, aged 41, who lives in Bandung, in JSON.",
        '{"name": "Siti Rahma", "list": [1, 2.5, true, null], "text": "' + PROSE + '"}',
    ),
    Case(
        "a string of JSON",
        Structure("json", {"type": "string"}, "schema"),
        None,
        "What should I take with me to the mountains?",
        f'"{PROSE * 4}"',
    ),
    Case(
        "an expression with counted words",
        Structure("regex", r"[A-Z][a-z]+( [a-z]+,?){3,40}\. \d{4}-\d{2}-\d{2}", "regex"),
        None,
        "Say in one sentence what I should take with me to the mountains, and today's date.",
        "The weather of the mountains changes quickly, so take a coat, some water. 2026-11-21",
    ),
    Case(
        "an expression with counted letters",
        Structure("regex", r"[A-Z][a-zA-Z ,]{5,200}\.", "regex"),
        None,
        "Say in one sentence what I should take with me to the mountains.",
        "The weather of the mountains changes quickly, so take a coat, some water and a map.",
    ),
    Case(
        "free text beside tools",
        None,
        (Toolbox((WEATHER,)), GENERIC),
        "What should I take with me to the mountains?",
        PROSE * 3,
    ),
    Case(
        "a call of a tool",
        None,
        (Toolbox((WEATHER,), choice="required"), GENERIC),
        "What is the weather in Bandung?",
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Bandung"}}\n</tool_call>',
    ),
)


class Bench:
    """The starter, its tokenizer, and what was measured of them alone."""

    def __init__(self) -> None:
        self.decoder = load_native(checkpoint(), threads=os.cpu_count() or 1)
        self.tokenizer: Tokenizer = load_tokenizer(checkpoint())
        self.size = self.tokenizer.vocab_size
        self.grammars = Grammars()
        self.sampler = Sampler(Sampling(temperature=0), 1, [0])
        first = self.grammars.grammar("s", self.tokenizer, Structure("choice", ("a",), "c"), None)
        self.tree, _ = timed(lambda: self.grammars.guide("s", self.tokenizer, self.size, first))

    def guide(self, case: Case) -> tuple[float, Guide]:
        """A new one, and milliseconds."""
        grammar = self.grammars.grammar("s", self.tokenizer, case.structure, case.tools)
        return timed(lambda: self.grammars.guide("s", self.tokenizer, self.size, grammar))

    def steps(self) -> list[float]:
        """Milliseconds of plain greedy steps behind a short prompt."""
        cache = self.decoder.new_cache(SHORT + MOST)
        self.decoder.forward([Chunk(tokens(SHORT, 1), cache)])

        def step(token: int) -> int:
            logits = self.decoder.forward([Chunk([token], cache, written=True)])
            return self.sampler.choose(logits[0]).token

        spent: list[float] = []
        token = 1000
        for _ in range(MOST):
            milliseconds, token = timed(lambda token=token: step(token))
            spent.append(milliseconds)
        return spent

    def each(self, case: Case) -> list[float]:
        """Milliseconds a token of the case's text: all that may come, taken from the logits, and on."""
        _, guide = self.guide(case)
        logits = np.zeros(self.size, np.float32)
        spent: list[float] = []
        for token in self.tokenizer.encode(case.text, special=False):

            def step(token: int = token) -> None:
                allowed = guide.allowed()
                assert allowed[token], case.text
                np.where(allowed, logits, NEVER)
                guide.advance(token)

            spent.append(worked(step))
        return spent

    def greedy(self, case: Case) -> tuple[list[float], int]:
        """Milliseconds a token of the starter's answer beyond plain choosing; how often another was its own."""
        _, guide = self.guide(case)
        prompt = self.tokenizer.encode(
            f"<|im_start|>user\n{case.question}<|im_end|>\n<|im_start|>assistant\n", special=True
        )
        cache = self.decoder.new_cache(len(prompt) + MOST)
        (logits,) = self.decoder.forward([Chunk(prompt, cache)])
        spent: list[float] = []
        asked = 0
        while len(spent) < MOST:
            likeliest = self.sampler.choose(logits).token  # and the logits are near
            plain = worked(lambda logits=logits: self.sampler.choose(logits))
            made: list[int] = []

            def step(logits: Floats = logits, made: list[int] = made) -> None:
                token = self.sampler.choose(logits, guide).token
                if token not in self.tokenizer.eos_ids:
                    guide.advance(token)
                made.append(token)

            spent.append(worked(step) - plain)
            asked += made[0] != likeliest
            if made[0] in self.tokenizer.eos_ids or guide.finished:
                break
            (logits,) = self.decoder.forward([Chunk(made, cache, written=True)])
        return spent, asked


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Milliseconds by the clock, and what was made."""
    began = time.perf_counter()
    made = work()
    return (time.perf_counter() - began) * 1000, made


def worked(work: Callable[[], Any]) -> float:
    """Milliseconds of the processor, which do not see other programs."""
    began = time.thread_time()
    work()
    return (time.thread_time() - began) * 1000


def measure(runs: int) -> dict[str, Any]:
    bench = Bench()
    step = statistics.median(x for _ in range(runs) for x in bench.steps())
    cases: dict[str, Any] = {}
    for case in CASES:
        builds = [bench.guide(case)[0] for _ in range(runs)]
        each = [x for _ in range(runs) for x in bench.each(case)]
        answers = [bench.greedy(case) for _ in range(runs)]
        greedy = [x for answer, _ in answers for x in answer]
        cases[case.name] = {
            "build_ms": round(statistics.median(builds), 3),
            "each": _summary(each, step),
            "greedy": _summary(greedy, step)
            | {
                "tokens": len(answers[0][0]),
                "not_allowed": round(answers[0][1] / len(answers[0][0]), 4),
            },
        }
        print(f"{case.name:36} {cases[case.name]}")
    return {
        "step_ms": round(step, 3),
        "vocabulary_tree_ms": round(bench.tree, 1),
        "cases": cases,
        "llguidance": version("llguidance"),
        "facts": environment_facts(),
    }


def _summary(spent: Sequence[float], step: float) -> dict[str, float]:
    mean = statistics.fmean(spent)
    return {
        "ms_mean": round(mean, 4),
        "ms_p99": round(float(np.quantile(spent, 0.99)), 4),
        "share_of_step": round(mean / step, 4),
    }


def table(result: dict[str, Any]) -> str:
    lines = [
        "| form of the answer | likeliest token not allowed | temperature 0: ms, share of a step | "
        "other temperatures: ms, share | prepared in ms |",
        "|---|---|---|---|---|",
    ]
    for name, found in result["cases"].items():
        greedy, each = found["greedy"], found["each"]
        lines.append(
            f"| {name} | {greedy['not_allowed']:.0%} "
            f"| {greedy['ms_mean']:.3f}, {greedy['share_of_step']:.1%} | "
            f"{each['ms_mean']:.3f}, {each['share_of_step']:.1%} | {found['build_ms']:.1f} |"
        )
    last = (
        f"A step of the starter took {result['step_ms']:.2f} ms in the same run, and the vocabulary's tree "
        f"{result['vocabulary_tree_ms']:.0f} ms, once for each model."
    )
    return "\n".join([*lines, "", last, "", result["facts"]])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    found = measure(parser.parse_args().runs)
    RESULT.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    write_table("structured", table(found))
