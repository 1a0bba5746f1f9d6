"""Measures what keeping to a structure costs a token: the starter model, with and without.

The starter answers a question in three ways, each also a share of its decoding step in the same run
(`docs/benchmarks.md` has the table):

    greedy    temperature 0: all that is allowed is found only where its likeliest token is not.
    drawn     temperature 1: only where four tokens that it draws are not allowed.
    nucleus   temperature 1 and top_p 0.95: only where that, or whether a token is in the nucleus, takes more
              than 256 questions.

    python benchmarks/structured.py [--runs 5]

Writes benchmarks/results/structured.json and the table in docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from common import RESULTS, SHORT, checkpoint, tokens
from start import environment_facts, write_table

from daulat.engine.grammars import Grammars
from daulat.engine.guide import Guide, Mask
from daulat.engine.loading import load_native
from daulat.engine.sampler import Sampler
from daulat.engine.step import Chunk
from daulat.models.numbers import Floats
from daulat.models.tokenizer import Tokenizer, load_tokenizer
from daulat.models.tools import GENERIC
from daulat.values.request import Sampling, Structure, Tool, Toolbox

RESULT = RESULTS / "structured.json"
MOST = 96  # tokens of an answer

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
WAYS = {
    "greedy": Sampling(temperature=0),
    "drawn": Sampling(temperature=1),
    "nucleus": Sampling(temperature=1, top_p=0.95),
}
WEATHER = Tool("weather", None, {"type": "object", "properties": {"city": {"type": "string"}}})


@dataclass(frozen=True)
class Case:
    """A structure, and what the starter is asked."""

    name: str
    structure: Structure | None
    tools: Any
    question: str


CASES = (
    Case(
        "a schema of JSON",
        Structure("json", PERSON, "schema"),
        None,
        "Describe Siti Rahma, aged 41, who lives in Bandung, in JSON.",
    ),
    Case(
        "any object of JSON",
        Structure("json", {"type": "object"}, "schema"),
        None,
        "Describe Siti Rahma, aged 41, who lives in Bandung, in JSON.",
    ),
    Case(
        "a string of JSON",
        Structure("json", {"type": "string"}, "schema"),
        None,
        "What should I take with me to the mountains?",
    ),
    Case(
        "an expression with counted words",
        Structure("regex", r"[A-Z][a-z]+( [a-z]+,?){3,40}\. \d{4}-\d{2}-\d{2}", "regex"),
        None,
        "Say in one sentence what I should take with me to the mountains, and today's date.",
    ),
    Case(
        "an expression with counted letters",
        Structure("regex", r"[A-Z][a-zA-Z ,]{5,200}\.", "regex"),
        None,
        "Say in one sentence what I should take with me to the mountains.",
    ),
    Case(
        "free text beside tools",
        None,
        (Toolbox((WEATHER,)), GENERIC),
        "What should I take with me to the mountains?",
    ),
    Case(
        "a call of a tool",
        None,
        (Toolbox((WEATHER,), choice="required"), GENERIC),
        "What is the weather in Bandung?",
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
        self.plain: dict[str, list[float]] = {}
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

    def answer(self, case: Case, sampling: Sampling, seed: int) -> tuple[list[float], int]:
        """Milliseconds a token of its answer beyond plain choosing; how often its first was refused."""
        _, guide = self.guide(case)
        chat = f"<|im_start|>user\n{case.question}<|im_end|>\n<|im_start|>assistant\n"
        prompt = self.tokenizer.encode(chat, special=True)
        free, held = Sampler(sampling, seed, [0]), Sampler(sampling, seed, [0])
        watched = Watched(guide)
        cache = self.decoder.new_cache(len(prompt) + MOST)
        (logits,) = self.decoder.forward([Chunk(prompt, cache)])
        spent: list[float] = []
        while len(spent) < MOST:
            free.choose(logits)  # the logits are near
            plain = worked(lambda logits=logits: free.choose(logits))
            self.plain.setdefault(_way(sampling), []).append(plain)
            made: list[int] = []

            def step(logits: Floats = logits, made: list[int] = made) -> None:
                token = held.choose(logits, watched).token
                if token not in self.tokenizer.eos_ids:
                    guide.advance(token)
                made.append(token)

            spent.append(worked(step) - plain)
            if made[0] in self.tokenizer.eos_ids or guide.finished:
                break
            watched.next()
            (logits,) = self.decoder.forward([Chunk(made, cache, written=True)])
        return spent, watched.refused

    def answers(self, case: Case, sampling: Sampling, runs: int, step: float) -> dict[str, float]:
        """The cost of a token over some answers: at temperature 0 all alike, else more of them."""
        seeds = range(runs if sampling.temperature == 0 else 4 * runs)
        answers = [self.answer(case, sampling, seed) for seed in seeds]
        spent = [x for answer, _ in answers for x in answer]
        mean = statistics.fmean(spent)
        told = {
            "ms_mean": round(mean, 4),
            "ms_p99": round(float(np.quantile(spent, 0.99)), 4),
            "share_of_step": round(mean / step, 4),
            "tokens": len(spent),
        }
        if sampling.top_p == 1:  # else no token is asked about alone
            told["not_allowed"] = round(sum(refused for _, refused in answers) / len(spent), 4)
        return told


class Watched:
    """A guide, and for how many tokens the first that it was asked about was refused."""

    def __init__(self, guide: Guide) -> None:
        self._guide = guide
        self._first = True
        self.refused = 0

    def next(self) -> None:
        self._first = True

    def allows(self, token: int) -> bool:
        found = self._guide.allows(token)
        self.refused += self._first and not found
        self._first = False
        return found

    def allowed(self) -> Mask:
        return self._guide.allowed()


def _way(sampling: Sampling) -> str:
    return next(name for name, one in WAYS.items() if one == sampling)


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
        cases[case.name] = {
            "build_ms": round(statistics.median(builds), 3),
            **{way: bench.answers(case, sampling, runs, step) for way, sampling in WAYS.items()},
        }
        print(f"{case.name:36} {cases[case.name]}")
    return {
        "step_ms": round(step, 3),
        "plain_ms": {way: round(statistics.median(spent), 3) for way, spent in bench.plain.items()},
        "vocabulary_tree_ms": round(bench.tree, 1),
        "cases": cases,
        "llguidance": version("llguidance"),
        "facts": environment_facts(),
    }


def table(result: dict[str, Any]) -> str:
    lines = [
        "| form of the answer | temperature 0: not allowed; ms, share of a step | "
        "temperature 1: not allowed; ms, share | and top_p 0.95: ms, share | prepared in ms |",
        "|---|---|---|---|---|",
    ]
    for name, found in result["cases"].items():
        told = [
            f"{one['not_allowed']:.0%}; {_cost(one)}" for one in (found["greedy"], found["drawn"])
        ]
        row = [name, *told, _cost(found["nucleus"]), f"{found['build_ms']:.1f}"]
        lines.append(f"| {' | '.join(row)} |")
    plain = result["plain_ms"]
    last = (
        f"A step of the starter took {result['step_ms']:.2f} ms in the same run, and the vocabulary's tree "
        f"{result['vocabulary_tree_ms']:.0f} ms, once for each model. Without a form a token was chosen in "
        f"{plain['greedy']:.2f} ms, {plain['drawn']:.2f} ms and {plain['nucleus']:.2f} ms."
    )
    return "\n".join([*lines, "", last, "", result["facts"]])


def _cost(found: dict[str, float]) -> str:
    return f"{found['ms_mean']:.3f}, {found['share_of_step']:.1%}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    found = measure(parser.parse_args().runs)
    RESULT.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    write_table("structured", table(found))
