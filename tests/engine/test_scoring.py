"""Log-probabilities and hidden states against transformers, and the same bits however they were asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from transformers import PreTrainedModel

from daulat.engine import scoring
from daulat.engine.cache import BLOCK_TOKENS, SequenceCache
from daulat.engine.decoder import Decoder
from daulat.engine.loading import load_native
from daulat.engine.logprobs import likeliest, score_rows
from daulat.engine.rows import rows_of
from daulat.engine.runner import Engine
from daulat.engine.scheduler import Limits
from daulat.engine.scoring import Question, finish, hidden, score
from daulat.engine.sequence import Ended, Failed, GenerationSequence, Outcome, PromptPart, TextPart
from daulat.engine.step import Chunk, Floats, written_rows
from daulat.engine.stock import Stock, blocks_behind
from daulat.errors import ContextLengthError, ModelFileError, RequestError, UnavailableError
from daulat.models.checkpoint import open_checkpoint
from daulat.values.answer import TokenLogprob
from daulat.values.request import Sampling
from tests.engine.checkpoints import make, write
from tests.engine.tiny import Bytes, ByteStream, tiny_decoder

pytestmark = pytest.mark.usefixtures("one_thread")

TOLERANCE = 1e-4
VOCABULARY = 300
TOKENS = [(7 * i * i + 3 * i) % VOCABULARY for i in range(400)]
Load = Callable[..., Any]
Pair = tuple[PreTrainedModel, Any]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[PreTrainedModel, Path]]:
    names = ("llama", "llama head size", "granite", "mistral window", "gemma 3")
    made = {name: make(name) for name in names}
    return {
        name: (model, write(model, tmp_path_factory.mktemp("scoring")))
        for name, model in made.items()
    }


@pytest.fixture(scope="module", params=["llama", "granite", "mistral window", "gemma 3"])
def pair(
    request: pytest.FixtureRequest,
    folders: dict[str, tuple[PreTrainedModel, Path]],
    load: Load,
) -> Pair:
    oracle, folder = folders[request.param]
    return oracle, load(open_checkpoint(folder))


@pytest.fixture(scope="module", params=[("llama", "float32"), ("llama head size", "int8")])
def native(request: pytest.FixtureRequest, folders: dict[str, tuple[PreTrainedModel, Path]]) -> Any:
    """In float32 all through; and with keys and values by pairs, read by matrix units where there are any."""
    family, numbers = request.param
    return load_native(open_checkpoint(folders[family][1]), numbers)


def log_softmax(oracle: PreTrainedModel, tokens: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return oracle(torch.tensor([tokens])).logits[0].double().log_softmax(-1)


def expected_score(oracle: PreTrainedModel, prefix: list[int], tokens: list[int]):
    rows = log_softmax(oracle, prefix + tokens)[len(prefix) - 1 : -1]
    greedy = bool((rows.argmax(-1) == torch.tensor(tokens)).all())
    return rows.gather(1, torch.tensor(tokens)[:, None])[:, 0], greedy


# --- rows of logits -----------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 9), st.integers(1, 700), st.integers(0, 12), st.integers(0, 99), st.booleans()
)
def test_rows_against_torch(rows: int, vocab: int, top: int, seed: int, ties: bool) -> None:
    random = np.random.default_rng(seed)
    logits = (random.standard_normal((rows, vocab)) * 5).astype(np.float32)
    if ties:
        logits = np.round(logits)
    tokens = random.integers(0, vocab, (rows, 3))
    found = score_rows(logits, tokens, top)
    oracle = torch.from_numpy(logits).double().log_softmax(-1)
    assert np.abs(found.logprobs - oracle.gather(1, torch.from_numpy(tokens)).numpy()).max() <= 1e-9
    for r in range(rows):
        best = sorted(range(vocab), key=lambda i, r=r: (-logits[r, i], i))[:top]
        assert [token for token, _ in found.tops[r]] == best
        assert np.allclose([p for _, p in found.tops[r]], oracle[r, best], atol=1e-9)
        # The bits of a row are the same alone, and those of a top token those of the token asked for.
        alone = score_rows(logits[r : r + 1], tokens[r : r + 1], top)
        assert alone.logprobs.tobytes() == found.logprobs[r : r + 1].tobytes()
        assert alone.tops[0] == found.tops[r]
        named = score_rows(logits[r : r + 1], np.array([best], dtype=np.intp))
        assert named.logprobs[0].tolist() == [p for _, p in found.tops[r]]


def test_a_large_vocabulary_goes_in_blocks_with_the_same_bits() -> None:
    logits = np.random.default_rng(0).standard_normal((23, 49_152), dtype=np.float32)
    tokens = np.arange(23)[:, None] * 2000
    whole = score_rows(logits, tokens)
    parts = [score_rows(logits[i : i + 1], tokens[i : i + 1]).logprobs for i in range(23)]
    assert np.concatenate(parts).tobytes() == whole.logprobs.tobytes()
    expected = torch.from_numpy(logits).double().log_softmax(-1)[range(23), tokens[:, 0]]
    assert np.abs(whole.logprobs[:, 0] - expected.numpy()).max() <= 1e-12


def test_no_rows_and_more_likeliest_than_there_are() -> None:
    assert score_rows(np.zeros((0, 5), np.float32), np.zeros((0, 1), np.intp)).logprobs.size == 0
    assert likeliest(np.array([1, 3, 3], np.float32), 9).tolist() == [1, 2, 0]


@pytest.mark.parametrize("most", [1, VOCABULARY * 5, 1 << 23])
def test_wanted_rows_come_in_blocks(pair: Pair, most: int) -> None:
    oracle, decoder = pair
    wanted = [[0, 3, 4], [], [8], None, list(range(40))]
    texts = [TOKENS[i : i + 41] for i in range(5)]
    chunks = [
        Chunk(text, decoder.new_cache(41), wanted=rows)
        for text, rows in zip(texts, wanted, strict=True)
    ]
    got: dict[int, list[np.ndarray]] = {i: [] for i in range(5)}
    ends: list[int] = []
    for rows in rows_of(decoder, chunks, most):
        assert rows.logits.size <= max(most, VOCABULARY)
        got[rows.chunk].append(rows.logits.copy())
        ends += [rows.chunk] if rows.last else []
    assert ends == [0, 2, 3, 4]
    assert got[1] == []
    for i, rows in enumerate(wanted):
        if rows != []:
            with torch.inference_mode():
                logits = oracle(torch.tensor([texts[i]])).logits[0].numpy()
            found = np.concatenate(got[i])
            assert np.abs(found - logits[[40] if rows is None else rows]).max() <= TOLERANCE
    assert all(chunk.cache.length == 41 for chunk in chunks)


@pytest.mark.parametrize("wanted", [[-1], [3], [0, 5]])
def test_rows_that_are_not_there_are_refused(wanted: list[int]) -> None:
    with pytest.raises(IndexError, match="wanted"):
        Chunk([1, 2, 3], tiny_decoder().new_cache(3), wanted=wanted)


def test_states_then_logits_are_the_bits_of_one_pass(native: Any) -> None:
    def chunk() -> Chunk:
        return Chunk(TOKENS[:50], native.new_cache(50), wanted=range(50))

    whole = native.forward([chunk()])
    states = native.states([chunk()])
    for rows in (1, 7, 50):
        parts = [
            native.logits(states[i : i + rows], [False] * len(states[i : i + rows]))
            for i in range(0, 50, rows)
        ]
        assert np.array_equal(np.concatenate(parts), whole)


# --- scores of continuations ---------------------------------------------------------------------------


QUESTIONS = [
    Question(TOKENS[:30] + TOKENS[60 + i : 75 + 3 * i], [TOKENS[i : i + n] for n in (1, 2, 9, 1)])
    for i in range(5)
]


def test_scores_against_transformers(pair: Pair) -> None:
    oracle, decoder = pair
    for question, row in zip(QUESTIONS, finish(score(decoder, QUESTIONS)), strict=True):
        for tokens, found in zip(question.continuations, row, strict=True):
            expected, greedy = expected_score(oracle, list(question.prefix), list(tokens))
            assert np.abs(np.array(found.logprobs) - expected.numpy()).max() <= TOLERANCE
            assert found.total == pytest.approx(float(expected.sum()), abs=1e-3)
            assert found.greedy is greedy


def test_what_is_greedy(pair: Pair) -> None:
    oracle, decoder = pair
    with torch.inference_mode():
        whole = oracle.generate(
            torch.tensor([TOKENS[:20]]), max_new_tokens=4, do_sample=False, eos_token_id=None
        )
    likely: list[int] = whole[0, 20:].tolist()
    other = [*likely[:3], (likely[3] + 1) % VOCABULARY]
    ((yes, no, one),) = finish(score(decoder, [Question(TOKENS[:20], [likely, other, likely[:1]])]))
    assert (yes.greedy, no.greedy, one.greedy) == (True, False, True)


@settings(max_examples=25, deadline=None)
@given(
    step=st.integers(1, 90),
    held=st.integers(1, 400),
    spans=st.lists(
        st.tuples(
            st.integers(0, 3),
            st.integers(1, 60),
            st.lists(st.tuples(st.integers(0, 300), st.integers(1, 12)), max_size=4),
        ),
        min_size=1,
        max_size=5,
    ),
)
def test_scores_have_the_same_bits_in_any_company(
    native: Any,
    step: int,
    held: int,
    spans: list[tuple[int, int, list[tuple[int, int]]]],
) -> None:
    questions = [
        Question(TOKENS[a : a + n], [TOKENS[b : b + m] for b, m in rest]) for a, n, rest in spans
    ]
    together = finish(score(native, questions, step=step, held=held))
    for question, row in zip(questions, together, strict=True):
        for tokens, found in zip(question.continuations, row, strict=True):
            text = [*question.prefix, *tokens]
            cache = native.new_cache(len(text))
            logits = native.forward([Chunk(text, cache)], every=True)
            before = logits[len(question.prefix) - 1 : -1]
            slow = score_rows(before, np.array(tokens)[:, None]).logprobs[:, 0]
            assert list(found.logprobs) == slow.tolist()
            assert found.greedy == bool((before.argmax(1) == tokens).all())


def test_a_shared_prefix_is_computed_once() -> None:
    decoder = Counting(tiny_decoder())
    prefix = [1 + i % 200 for i in range(100)]
    questions = [Question([*prefix, 10 + i, 11], [[1], [2], [3], [4]]) for i in range(8)]
    finish(score(decoder, questions))  # pyright: ignore[reportArgumentType]
    assert decoder.tokens == 100 + 8 * 2
    assert decoder.rows == 8


class Counting:
    """A decoder that counts its work."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self.architecture, self.new_cache = decoder.architecture, decoder.new_cache
        self.tokens = self.rows = 0

    def states(self, chunks: list[Chunk]) -> Floats:
        self.tokens += sum(len(chunk.tokens) for chunk in chunks)
        return self._decoder.states(chunks)

    def logits(self, states: Floats, written: Sequence[bool]) -> Floats:
        self.rows += len(states)
        return self._decoder.logits(states, written)

    def forward(self, chunks: list[Chunk]) -> Floats:
        return self.logits(self.states(chunks), written_rows(chunks))


@pytest.mark.parametrize("kernels", ["plain", "native"])
@pytest.mark.parametrize("common", [20, 32, 50])
def test_a_cache_branches_and_rewinds(kernels: str, common: int, native: Any) -> None:
    """Within a block, between two, and behind a full one."""
    decoder = tiny_decoder() if kernels == "plain" else native
    text = [1 + i for i in range(common + 10)]

    def last(cache: Any, tokens: list[int]) -> Floats:
        return decoder.forward([Chunk(tokens, cache)])[0]

    def alone(tokens: list[int]) -> Floats:
        cache = decoder.new_cache(len(tokens))
        last(cache, tokens[:common])
        return last(cache, tokens[common:])

    cache = SequenceCache(decoder.new_memory(5), range(2))
    last(cache, text[:common])
    twin = cache.branch([4, 2])
    other = [9] * 10
    assert np.array_equal(last(twin, other), alone(text[:common] + other))
    assert np.array_equal(last(cache, text[common:]), alone(text))
    cache.rewind(common)
    assert np.array_equal(last(cache, other), alone(text[:common] + other))
    assert (cache.length, twin.length) == (common + 10, common + 10)
    assert twin.numbers == [0, 4, 2][common < BLOCK_TOKENS :]
    for length in (-1, common + 11):
        with pytest.raises(ValueError, match="rewound"):
            cache.rewind(length)
    with pytest.raises(ValueError, match="room"):
        cache.branch([])


class Opens(RuleBasedStateMachine):
    """Caches of a stock that branch off, grow and are closed: no block is two caches' to write."""

    def __init__(self) -> None:
        super().__init__()
        self.stock = Stock(tiny_decoder(), 12)
        self.opened: list[tuple[SequenceCache, SequenceCache]] = []
        self.free = 12

    @rule(which=st.integers(0, 20), more=st.integers(0, 150), fill=st.floats(0, 1))
    def open(self, which: int, more: int, fill: float) -> None:
        caches = [self.stock.nothing, *(cache for cache, _ in self.opened)]
        trunk = caches[which % len(caches)]
        tokens = trunk.length + more
        need = blocks_behind(trunk.length, tokens)
        assert self.stock.has(trunk, tokens) == (need <= self.free)
        if self.stock.has(trunk, tokens):
            cache = self.stock.open(trunk, tokens)
            assert (cache.length, cache.capacity >= tokens) == (trunk.length, True)
            cache.advance(int(fill * more))
            self.opened.append((cache, trunk))
            self.free -= need

    @rule(which=st.integers(0, 20))
    def close(self, which: int) -> None:
        trunks = {trunk for _, trunk in self.opened}
        leaves = [cache for cache, _ in self.opened if cache not in trunks]
        if leaves:
            leaf = leaves[which % len(leaves)]
            trunk = next(trunk for cache, trunk in self.opened if cache is leaf)
            self.stock.close([leaf])
            self.opened = [pair for pair in self.opened if pair[0] is not leaf]
            self.free += len([n for n in leaf.numbers if n not in self.shared(leaf, trunk)])

    @staticmethod
    def shared(cache: SequenceCache, trunk: SequenceCache) -> set[int]:
        return set(cache.numbers) & set(trunk.numbers)

    @invariant()
    def blocks_that_are_not_full_are_one_caches(self) -> None:
        writable = [n for c, _ in self.opened for n in c.numbers[c.length // BLOCK_TOKENS :]]
        assert len(writable) == len(set(writable))


TestOpens = Opens.TestCase


@pytest.mark.parametrize(
    ("question", "error"),
    [
        (Question([], [[1]]), RequestError),
        (Question([1], [[]]), RequestError),
        (Question([1], [[256]]), RequestError),
        (Question([-1], [[1]]), RequestError),
        (Question([1] * 512, [[1]]), ContextLengthError),
    ],
)
def test_what_has_no_score(question: Question, error: type[Exception]) -> None:
    with pytest.raises(error):
        finish(score(tiny_decoder(), [question]))
    with pytest.raises(RequestError):
        finish(hidden(tiny_decoder(), [[]], "last"))
    assert finish(score(tiny_decoder(), [])) == []
    assert finish(score(tiny_decoder(), [Question([1], [])])) == [[]]


def test_a_model_of_broken_numbers() -> None:
    decoder = tiny_decoder()
    decoder._top["norm"][:] = float("nan")
    with pytest.raises(ModelFileError):
        finish(score(decoder, [Question([1, 2], [[3]])]))


# --- hidden states ----------------------------------------------------------------------------------


def test_hidden_states_against_transformers(pair: Pair) -> None:
    oracle, decoder = pair
    texts = [TOKENS[:50], TOKENS[9:12], TOKENS[200:201]]
    ways = [finish(hidden(decoder, texts, way, step=20)) for way in ("last", "mean", "all")]
    for text, last, mean, every in zip(texts, *ways, strict=True):
        with torch.inference_mode():
            expected = oracle(torch.tensor([text]), output_hidden_states=True).hidden_states[-1][0]
        assert every.shape == expected.shape
        assert np.abs(every - expected.numpy()).max() <= TOLERANCE
        assert np.abs(last - expected[-1].numpy()).max() <= TOLERANCE
        assert np.abs(mean - expected.mean(0).numpy()).max() <= TOLERANCE


@pytest.mark.parametrize("pooling", ["last", "mean", "all"])
def test_hidden_states_have_the_same_bits_however_cut(
    native: Any, pooling: scoring.Pooling
) -> None:
    texts = [TOKENS[i : i + 37 + i] for i in range(4)]
    whole = finish(hidden(native, texts, pooling))
    for step, held in ((1, 1), (7, 60), (90, 10_000)):
        again = finish(hidden(native, texts, pooling, step=step, held=held))
        assert all(np.array_equal(a, b) for a, b in zip(whole, again, strict=True))


# --- the prompt's scores in an answer ---------------------------------------------------------------


def prompt_scores(
    decoder: Any, prompt: list[int], limits: Limits, limit: int, top: int, company: int = 0
) -> tuple[list[TokenLogprob], list[TokenLogprob], Outcome]:
    """Through the engine's thread: the prompt's, the answer's, and the end."""
    engine = Engine(decoder, limits, "scores")
    heard: list[list[Outcome]] = [[] for _ in range(company + 1)]
    sampling = Sampling(temperature=0.0, logprobs=top, ignore_eos=True)

    def sequence(k: int, text: list[int], echo: bool) -> GenerationSequence:
        shown = [b"."] * len(text) if echo else None
        return GenerationSequence(
            text, sampling, limit, 1, 0, Names(), ByteStream(), heard[k].append, echo=shown
        )

    others = [sequence(k + 1, TOKENS[k : 2 * k + 9], k % 2 == 0) for k in range(company)]
    try:
        engine.submit([*others, sequence(0, prompt, True)])
        wait_for_ends(*heard)
    finally:
        engine.close()
    parts = [o for o in heard[0] if isinstance(o, PromptPart)]
    assert heard[0][: len(parts)] == parts
    texts = [o for o in heard[0] if isinstance(o, TextPart)]
    first = [one for part in parts for one in part.logprobs]
    return first, [one for text in texts for one in text.logprobs], heard[0][-1]


def wait_for_ends(*heard: list[Outcome]) -> None:
    deadline = time.monotonic() + 60
    while not all(h and isinstance(h[-1], Ended | Failed) for h in heard):
        assert time.monotonic() < deadline, "an answer did not end"
        time.sleep(0.001)


class Names(Bytes):
    """More than 256 tokens."""

    def token_text(self, token: int) -> str:
        return chr(token)

    def token_bytes(self, token: int) -> bytes:
        return token.to_bytes(2, "big")


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_prompt_scores_against_transformers(pair: Pair, limit: int) -> None:
    oracle, decoder = pair
    prompt = TOKENS[:77]
    found, answer, end = prompt_scores(decoder, prompt, Limits(4, 9, 2000, 16), limit, 3)
    rows = log_softmax(oracle, prompt)
    assert [one.data for one in found] == [t.to_bytes(2, "big") for t in prompt]
    assert {one.shown for one in found} == {b"."}
    assert np.isnan(found[0].logprob)
    assert found[0].top == ()
    for i, one in enumerate(found[1:], start=1):
        assert one.logprob == pytest.approx(float(rows[i - 1, prompt[i]]), abs=TOLERANCE)
        best = rows[i - 1].topk(3)
        assert [p.logprob for p in one.top] == pytest.approx(best.values.tolist(), abs=TOLERANCE)
        assert [p.data for p in one.top] == [t.to_bytes(2, "big") for t in best.indices.tolist()]
    assert isinstance(end, Ended)
    assert (end.reason, end.completion_tokens, len(answer)) == ("length", limit, limit)
    if limit:
        assert answer[0].logprob == pytest.approx(float(rows[-1].max()), abs=TOLERANCE)


@settings(max_examples=20, deadline=None)
@given(
    length=st.integers(1, 120),
    chunk=st.integers(16, 90),
    company=st.integers(0, 4),
    limit=st.integers(0, 2),
)
def test_prompt_scores_have_the_same_bits_in_any_company(
    native: Any, length: int, chunk: int, company: int, limit: int
) -> None:
    prompt = TOKENS[:length]
    limits = Limits(3, 9, 2000, chunk)
    found, _, _ = prompt_scores(native, prompt, limits, limit, 2, company)
    logits = native.forward([Chunk(prompt, native.new_cache(length))], every=True)
    slow = score_rows(logits[:-1], np.array(prompt[1:], dtype=np.intp)[:, None], 2)
    assert len(found) == length
    assert [one.logprob for one in found[1:]] == slow.logprobs[:, 0].tolist()
    tops = [tuple((int.from_bytes(p.data), p.logprob) for p in one.top) for one in found[1:]]
    assert tops == list(slow.tops)


def test_a_long_prompt_is_scored_in_blocks(native: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(3, 9, 2000, 64)
    whole, _, _ = prompt_scores(native, TOKENS[:100], limits, 0, 1)
    made, blocks = native.logits, []
    monkeypatch.setattr(native, "logits", lambda *a: blocks.append(len(a[0])) or made(*a))
    monkeypatch.setattr(rows_of, "__defaults__", (VOCABULARY * 7,))
    found, _, _ = prompt_scores(native, TOKENS[:100], limits, 0, 1)
    assert found[1:] == whole[1:]
    steps = [100] if native.reads_at_once else [64, 36]
    assert blocks == [min(7, step - at) for step in steps for at in range(0, step, 7)]


def test_the_token_that_ends_an_answer_is_scored_with_the_prompt() -> None:
    """So that prompt and answer have as many scores as tokens, which evaluation programs count on."""
    decoder = tiny_decoder()
    decoder._top["norm"][:] = 0.0  # all tokens are equally likely: the first, which ends answers
    engine = Engine(decoder, Limits(2, 2, 500, 16), "end")
    heard: list[Outcome] = []
    sampling = Sampling(temperature=0.0, logprobs=1)
    one = GenerationSequence(
        [5, 6, 7], sampling, 1, 0, 0, Bytes(), ByteStream(), heard.append, echo=[b"", b"", b""]
    )
    engine.submit([one])
    wait_for_ends(heard)
    engine.close()
    prompt, text, end = heard
    assert isinstance(prompt, PromptPart)
    assert isinstance(text, TextPart)
    assert isinstance(end, Ended)
    assert len(prompt.logprobs) == 3
    assert (text.text, len(text.logprobs)) == ("", 1)
    assert text.logprobs[0].logprob == pytest.approx(-np.log(256))
    assert (end.reason, end.completion_tokens) == ("stop", 1)


# --- work between the answers' steps ------------------------------------------------------------------


def test_an_engine_scores_between_its_answers(native: Any) -> None:
    slow, mean = finish(score(native, QUESTIONS)), finish(hidden(native, [TOKENS[:40]], "mean"))
    engine = Engine(native, Limits(4, 9, 2000, 16), "jobs")
    heard: list[Outcome] = []
    writer = GenerationSequence(
        TOKENS[:9],
        Sampling(temperature=0.0, ignore_eos=True),
        60,
        0,
        0,
        Names(),
        ByteStream(),
        heard.append,
    )
    engine.submit([writer])
    jobs = [engine.do(lambda model: score(model, QUESTIONS, step=16)) for _ in range(2)]
    states = engine.do(lambda model: hidden(model, [TOKENS[:40]], "mean"))
    bad = engine.do(lambda model: score(model, [Question([], [[1]])]))
    assert [job.result(60) for job in jobs] == [slow, slow]
    assert np.array_equal(states.result(60)[0], mean[0])
    with pytest.raises(RequestError):
        bad.result(60)
    dropped = engine.do(lambda model: score(model, QUESTIONS * 200, step=16))
    assert dropped.cancel()
    assert engine.do(lambda model: score(model, QUESTIONS)).result(60) == slow
    left = engine.do(lambda model: score(model, QUESTIONS * 200, step=16))
    engine.close()
    with pytest.raises(UnavailableError):
        left.result(60)
    with pytest.raises(CancelledError):
        dropped.result(0)
    with pytest.raises(UnavailableError):
        engine.do(lambda model: score(model, QUESTIONS))
    assert heard
