"""A thousand answers to a few questions: the same to each, to the bit, whatever goes on beside them.

Batches of one to sixteen, prompts read whole or in small pieces, what others computed taken over or not, memory
so short that answers are pushed out and computed anew: through the engine as the server runs it. Half of the
answers come with a probe of their hidden states.
"""

from __future__ import annotations

import itertools
import queue
from collections.abc import Iterator
from dataclasses import replace

import pytest

from daulat.engine.loading import load_native
from daulat.engine.native.decoder import NativeDecoder
from daulat.engine.probe import FIGURES
from daulat.engine.runner import Engine
from daulat.engine.scheduler import Limits
from daulat.engine.sequence import Ended, GenerationSequence, Outcome, TextPart
from daulat.models.checkpoint import open_checkpoint
from daulat.values.request import Sampling
from tests.engine.checkpoints import make, write
from tests.engine.tiny import Numbers, NumberStream

SHARED = [(7 * i * i + 3 * i) % 300 for i in range(75)]
PROMPTS = [SHARED + [(k * i) % 300 for i in range(5 + 9 * k)] for k in range(4)]
LIMIT = 24
GREEDY = Sampling(temperature=0.0, ignore_eos=True, logprobs=2)
DRAWN = Sampling(temperature=1.3, top_p=0.95, ignore_eos=True, logprobs=2)
CASES = [
    (prompt, replace(sampling, probe=(i + k) % 2 == 0))
    for i, prompt in enumerate(PROMPTS)
    for k, sampling in enumerate((GREEDY, DRAWN))
]
Said = tuple[tuple[TextPart, ...], tuple[float, ...]]


@pytest.fixture(scope="module", params=["float32", "int8"])
def decoder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> NativeDecoder:
    """With 8 bits, prompts are read by matrix units where there are any."""
    folder = write(make("llama head size"), tmp_path_factory.mktemp("determinism"))
    return load_native(open_checkpoint(folder), request.param, threads=2)


def ask(
    case: tuple[list[int], Sampling], heard: queue.Queue[tuple[int, Outcome]], place: int
) -> GenerationSequence:
    prompt, sampling = case
    return GenerationSequence(
        prompt,
        sampling,
        LIMIT,
        seed=11,
        index=0,
        vocabulary=Numbers(),
        text=NumberStream(),
        listener=lambda outcome: heard.put((place, outcome)),
    )


def answers(engine: Engine, cases: list[tuple[list[int], Sampling]]) -> tuple[list[Said], int]:
    """What is said to each with its probe, and how many tokens of prompts were taken over."""
    heard: queue.Queue[tuple[int, Outcome]] = queue.Queue()
    parts: list[list[TextPart]] = [[] for _ in cases]
    probes: list[tuple[float, ...]] = [()] * len(cases)
    engine.submit([ask(case, heard, place) for place, case in enumerate(cases)])
    left, cached = len(cases), 0
    while left:
        place, outcome = heard.get(timeout=60)
        if isinstance(outcome, TextPart):
            parts[place].append(outcome)
            continue
        assert isinstance(outcome, Ended)
        left -= 1
        cached += outcome.cached_tokens
        probes[place] = outcome.probe
    return [(tuple(said), probe) for said, probe in zip(parts, probes, strict=True)], cached


def settings() -> Iterator[tuple[int, Limits]]:
    sizes = itertools.cycle((1, 2, 3, 5, 8, 13, 16))
    for chunk, kept, memory in itertools.product((16, 50, 512), (0, 4096), (4096, 416)):
        for _ in range(2):
            size = next(sizes)
            yield size, Limits(size, 64, memory, chunk, min(kept, memory))


def test_a_thousand_answers_are_one(decoder: NativeDecoder) -> None:
    alone = Engine(decoder, Limits(1, 64, 4096, 512), "alone")
    expected = [answers(alone, [case])[0][0] for case in CASES]
    turned = [(prompt, replace(one, probe=not one.probe)) for prompt, one in CASES]
    # Who asks for a probe hears the same words with the same probabilities.
    assert [said for said, _ in answers(alone, turned)[0]] == [said for said, _ in expected]
    alone.close()
    assert [len(probe) for _, probe in expected] == [FIGURES * s.probe for _, s in CASES]
    assert len(set(expected)) == len(CASES)
    given = taken_over = 0
    for number, (size, limits) in enumerate(settings()):
        engine = Engine(decoder, limits, f"{size}")
        cases = [(number + i * i) % len(CASES) for i in range(44)]
        said, cached = answers(engine, [CASES[case] for case in cases])
        engine.close()
        assert said == [expected[case] for case in cases], limits
        given += len(said)
        taken_over += cached
    assert given >= 1000
    assert taken_over > 0
