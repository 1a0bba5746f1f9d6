"""The engine over PyTorch's decoder, wherever that computes: all that the engine gives, it gives there too."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import functools
import json
import queue
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from daulat.engine.adapter import Adapter
from daulat.engine.cache import BLOCK_TOKENS, SequenceCache
from daulat.engine.decoder import Decoder, _grouped, one_by_one
from daulat.engine.grammars import Grammars
from daulat.engine.graphs import Replay
from daulat.engine.plain import load_decoder
from daulat.engine.runner import Engine
from daulat.engine.scheduler import Limits
from daulat.engine.scoring import Question, finish, hidden, score
from daulat.engine.sequence import Ended, GenerationSequence, Outcome, TextPart
from daulat.engine.step import Chunk
from daulat.engine.stock import Stock
from daulat.models.catalogue import ModelEntry
from daulat.models.checkpoint import Checkpoint, open_checkpoint
from daulat.models.tokenizer import load_tokenizer
from daulat.values.request import Sampling, Structure
from tests.engine.adapters import ALL, TARGETS, adapted, saved
from tests.engine.checkpoints import make, write
from tests.engine.conftest import EXACT
from tests.engine.places import Place
from tests.engine.test_lora import read
from tests.engine.tiny import Numbers, NumberStream

pytestmark = pytest.mark.usefixtures("one_thread")

SHARED = [(7 * i * i + 3 * i) % 300 for i in range(75)]
PROMPTS = [SHARED + [(k * i) % 300 for i in range(5 + 9 * k)] for k in range(4)]
LIMIT = 20
GREEDY = Sampling(temperature=0.0, ignore_eos=True, logprobs=1)
Said = list[tuple[str, float]]


class Base:
    """A checkpoint with two adapters, and what its decoder writes alone, without an engine."""

    def __init__(self, case: str, folder: Path) -> None:
        model = make(case)
        self.checkpoint: Checkpoint = open_checkpoint(write(model, folder / "base"))
        targets = ALL if case == "llama" else ALL[:4]
        made = [adapted(model, targets, seed=k, r=rank) for k, rank in ((1, 8), (2, 3))]
        self.adapters: list[Adapter | None] = [None]
        for k, one in enumerate(made):
            self.adapters.append(read(saved(one, folder / f"lora{k}"), self.checkpoint))
        self.plain = load_decoder(self.checkpoint)
        self.alone = functools.cache(self._alone)

    def _alone(self, prompt: tuple[int, ...], adapter: Adapter | None) -> Said:
        cache = self.plain.new_cache(len(prompt) + LIMIT)
        step: list[int] = list(prompt)
        said: Said = []
        for _ in range(LIMIT):
            row = torch.from_numpy(self.plain.forward([Chunk(step, cache, adapter)])[0])
            step = [int(row.argmax())]
            said.append((chr(0x4E00 + step[0]), float(row.log_softmax(0)[step[0]])))
        return said


@pytest.fixture(scope="module", params=["llama", "granite moe", "gemma 3"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Base:
    return Base(request.param, tmp_path_factory.mktemp("torch"))


@pytest.fixture(scope="module")
def decoder(base: Base, place: Place) -> Decoder:
    return load_decoder(base.checkpoint, device=place.device, capture=place.capture)


class Counted(GenerationSequence):
    """Counts how often any is pushed out."""

    pushed_out = 0

    def push_out(self) -> None:
        Counted.pushed_out += 1
        super().push_out()


def ask(
    engine: Engine, prompts: Sequence[list[int]], adapters: Sequence[Adapter | None]
) -> tuple[list[Said], int, int]:
    """What is said to each, how many tokens of prompts were taken over, how often one was pushed out."""
    Counted.pushed_out = 0
    heard: queue.Queue[tuple[int, Outcome]] = queue.Queue()
    said: list[Said] = [[] for _ in prompts]
    sequences = [
        Counted(
            prompt,
            GREEDY,
            LIMIT,
            seed=1,
            index=0,
            vocabulary=Numbers(),
            text=NumberStream(),
            listener=lambda outcome, k=k: heard.put((k, outcome)),
            adapter=adapter,
        )
        for k, (prompt, adapter) in enumerate(zip(prompts, adapters, strict=True))
    ]
    engine.submit(sequences)
    left, cached = len(prompts), 0
    while left:
        k, outcome = heard.get(timeout=120)
        if isinstance(outcome, TextPart):
            said[k] += zip(outcome.text, (one.logprob for one in outcome.logprobs), strict=True)
            continue
        assert isinstance(outcome, Ended), outcome
        left, cached = left - 1, cached + outcome.cached_tokens
    return said, cached, Counted.pushed_out


LIMITS = {
    "alone": Limits(1, 64, 4096, 512),
    "in pieces, beginnings kept": Limits(5, 64, 4096, 16, 4096),
    "so little memory that some are pushed out": Limits(5, 64, 11 * BLOCK_TOKENS, 50),
}


@pytest.mark.parametrize("limits", list(LIMITS))
def test_answers_are_those_of_the_decoder_alone(base: Base, decoder: Decoder, limits: str) -> None:
    engine = Engine(decoder, LIMITS[limits], limits)
    pairs = [(p, a) for a in base.adapters for p in PROMPTS] + [(PROMPTS[0], None)] * 2
    said, cached, pushed_out = ask(engine, *zip(*pairs, strict=True))
    engine.close()
    for (prompt, adapter), found in zip(pairs, said, strict=True):
        expected = base.alone(tuple(prompt), adapter)
        assert "".join(text for text, _ in found) == "".join(text for text, _ in expected)
        numbers = [[logprob for _, logprob in one] for one in (found, expected)]
        assert np.abs(np.subtract(*numbers)).max() <= EXACT
    assert (cached > 0) == (limits != "alone")
    assert (pushed_out > 0) == ("pushed out" in limits)
    assert engine.blocks.available == engine.blocks.count


def test_scores_and_states(base: Base, decoder: Decoder) -> None:
    """Between the answers' steps, in memory of their own."""
    questions = [Question(SHARED[: 40 + i], [SHARED[i : i + n] for n in (1, 5)]) for i in range(3)]
    engine = Engine(decoder, Limits(8, 64, 4096, 512), "jobs")
    scores = engine.do(lambda model: score(model, questions, step=32))
    states = engine.do(lambda model: hidden(model, [SHARED], "mean", step=32))
    ask(engine, PROMPTS, [None] * len(PROMPTS))
    expected = finish(score(base.plain, questions))
    for found, row in zip(scores.result(60), expected, strict=True):
        for one, other in zip(found, row, strict=True):
            assert np.abs(np.subtract(one.logprobs, other.logprobs)).max() <= EXACT
            assert one.greedy == other.greedy
    mean = finish(hidden(base.plain, [SHARED], "mean"))[0]
    assert np.abs(states.result(60)[0] - mean).max() <= EXACT
    engine.close()


def test_an_answer_keeps_to_its_schema(starter_entry: ModelEntry, place: Place) -> None:
    """In bfloat16, as a device computes."""
    checkpoint = starter_entry.open()
    decoder = load_decoder(checkpoint, torch.bfloat16, device=place.device, capture=place.capture)
    tokenizer = load_tokenizer(checkpoint)
    schema: Any = {
        "type": "object",
        "properties": {"city": {"enum": ["Jakarta", "Medan"]}},
        "required": ["city"],
        "additionalProperties": False,
    }
    grammars = Grammars()
    grammar = grammars.grammar("starter", tokenizer, Structure("json", schema, "schema"), None)
    heard: queue.Queue[Outcome] = queue.Queue()
    one = GenerationSequence(
        tokenizer.encode("A city, as JSON: ", special=True),
        Sampling(temperature=0.0),
        40,
        0,
        0,
        tokenizer,
        tokenizer.stream(keep_space=True, spelled=grammar.spelled),
        heard.put,
        guide=grammars.guide("starter", tokenizer, decoder.architecture.vocab, grammar),
        until=grammar.until,
    )
    engine = Engine(decoder, Limits(2, 2, 512, 64), "schema")
    engine.submit([one])
    text = ""
    while isinstance(outcome := heard.get(timeout=120), TextPart):
        text += outcome.text
    engine.close()
    assert isinstance(outcome, Ended)
    assert json.loads(text)["city"] in ("Jakarta", "Medan")


# --- the format of a device ------------------------------------------------------------------------

FAMILIES = ["llama", "granite", "mistral window", "granite moe", "bigcode", "gpt-neo", "gemma 3"]


@pytest.mark.parametrize("case", FAMILIES)
def test_bfloat16_is_as_near_as_transformers_comes(case: str, place: Place, tmp_path: Path) -> None:
    """To what the same weights give in float32: read in pieces, and written in one memory."""
    oracle = make(case).to(torch.bfloat16)
    checkpoint = open_checkpoint(write(oracle, tmp_path))
    decoder = load_decoder(checkpoint, torch.bfloat16, device=place.device, capture=place.capture)
    text = [token for prompt in PROMPTS for token in prompt[-50:]]
    cache = SequenceCache(decoder.new_memory(8), range(8))
    pieces = [text[:90], text[90:150], *([token] for token in text[150:])]
    found = np.concatenate([decoder.forward([Chunk(p, cache)], every=True) for p in pieces])
    with torch.inference_mode():
        theirs = oracle(torch.tensor([text])).logits[0].float()
        exact = oracle.float()(torch.tensor([text])).logits[0]
    ours, theirs = (torch.from_numpy(found) - exact).abs(), (theirs - exact).abs()
    assert ours.mean() <= 1.2 * theirs.mean()
    assert ours.max() <= 2 * theirs.max()


@settings(max_examples=40, deadline=None)
@given(counts=st.lists(st.integers(0, 9), min_size=1, max_size=7), seed=st.integers(0, 99))
def test_rows_grouped_by_experts(counts: list[int], seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    rows = torch.randn(sum(counts), 16, generator=random)
    matrices = torch.randn(len(counts), 24, 16, generator=random)
    ends = torch.tensor(counts).cumsum(0).to(torch.int32)
    plain = [row @ matrices[e].T for e, row in enumerate(rows.split(counts))]
    for found in (one_by_one(rows, matrices, ends), _grouped(rows, matrices, ends)):
        assert torch.allclose(found, torch.cat(plain), atol=1e-5)


@pytest.mark.parametrize("case", FAMILIES)
def test_all_that_a_step_makes_is_on_the_models_device(case: str, tmp_path: Path) -> None:
    """On PyTorch's device without numbers, which takes no operand from elsewhere; with adapters, and padded."""
    model = make(case)
    checkpoint = open_checkpoint(write(model, tmp_path / "base"))
    adapter = read(saved(adapted(model, TARGETS[case], seed=1), tmp_path / "lora"), checkpoint)
    decoder = OnMeta(checkpoint)
    memory = decoder.new_memory(15)
    caches = [SequenceCache(memory, range(4 * k, 4 * k + 4)) for k in range(3)]
    for counts, who in (((50, 1, 9), adapter), ((1, 20, 1), adapter), ((1, 1, 1), None)):
        decoder.forward([Chunk([1] * n, c, who) for n, c in zip(counts, caches, strict=True)])
    assert decoder.captured == 1
    changes = [change for layer in decoder._changes_of(adapter) for change in layer]
    assert {one.device.type for change in changes for one in (change.a, change.b)} == {"meta"}
    graphs = decoder._graphs
    assert Stock(decoder, 4).nothing.memory is not memory
    assert decoder._graphs is graphs, "what scores needs memory of its own, and steps stay captured"
    twin = caches[0].branch(range(12, 15))
    decoder.forward([Chunk([1], twin)])
    decoder.logits(np.zeros((2, decoder.architecture.hidden), np.float32), [False, True])


class OnMeta(Decoder):
    """A decoder on that device; what is wanted of it comes back as zeros."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        plain = load_decoder(checkpoint, torch.bfloat16)
        top, *blocks = (
            {slot: one.to("meta") for slot, one in slots.items()}
            for slots in (plain._top, *plain._blocks)
        )
        super().__init__(plain.architecture, top, blocks, self._count)
        self.captured = 0

    def _count(self, compute: Callable[[], Tensor]) -> Replay:
        self.captured += 1
        return compute

    def _logits(self, states: Tensor) -> Tensor:
        logits = super()._logits(states)
        assert logits.device.type == "meta"
        return torch.zeros_like(logits, device="cpu")
