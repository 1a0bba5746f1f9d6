"""Adapters against PEFT on transformers in float32, and that nobody's answer depends on another's adapter."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from peft import PeftModel
from safetensors.torch import load_file, save_file

from daulat.engine.adapter import Adapter
from daulat.engine.decoder import Decoder
from daulat.engine.loading import load_adapter, load_native
from daulat.engine.native import layout
from daulat.engine.native.matrices import Numbers
from daulat.engine.step import Chunk, wanted_rows
from daulat.models.checkpoint import Checkpoint, open_checkpoint
from daulat.models.lora import CONFIG, TENSORS, LoraFile
from daulat.models.lora_sites import base_of
from daulat.models.tokenizer import load_tokenizer
from tests.engine.adapters import ALL, TARGETS, adapted, saved
from tests.engine.checkpoints import make, write
from tests.engine.company import bits
from tests.engine.conftest import tolerance

pytestmark = pytest.mark.usefixtures("one_thread")

TOLERANCE = 1e-4
PROMPT = [(7 * i * i + 3 * i) % 300 for i in range(61)]
PROMPTS = [[(5 * i * i + 7 * i + k) % 300 for i in range(n)] for k, n in enumerate((45, 3, 30, 18))]
Load = Callable[..., Decoder]


def read(folder: Path, checkpoint: Checkpoint) -> Adapter:
    """A folder of PEFT's as our engine has it."""
    files = {name: folder / name for name in (CONFIG, TENSORS)}
    base = base_of(checkpoint)
    return load_adapter(LoraFile(folder.name, files, base), str(folder), base.layers)


def logits_of(decoder: Decoder, prompt: list[int], adapter: Adapter | None) -> torch.Tensor:
    chunk = Chunk(prompt, decoder.new_cache(len(prompt)), adapter=adapter)
    return torch.from_numpy(decoder.forward([chunk], every=True))


def expected_of(oracle: Any, prompt: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return oracle(torch.tensor([prompt])).logits[0].float()


def greedy(decoder: Decoder, prompt: list[int], adapter: Adapter | None, count: int) -> list[int]:
    cache = decoder.new_cache(len(prompt) + count)
    tokens: list[int] = []
    step = prompt
    for _ in range(count):
        tokens.append(int(decoder.forward([Chunk(step, cache, adapter=adapter)])[0].argmax()))
        step = tokens[-1:]
    return tokens


def agree(decoder: Decoder, oracle: PeftModel, adapter: Adapter) -> None:
    """Logits of every position, and 32 greedy tokens."""
    expected = expected_of(oracle, PROMPT)
    with oracle.disable_adapter():
        bare = expected_of(oracle, PROMPT)
    assert (bare - expected).abs().max() > 0.05  # the adapter matters
    assert (logits_of(decoder, PROMPT, adapter) - expected).abs().max() <= TOLERANCE
    assert (logits_of(decoder, PROMPT, None) - bare).abs().max() <= TOLERANCE
    with torch.inference_mode():
        whole = oracle.generate(
            input_ids=torch.tensor([PROMPT]), max_new_tokens=32, do_sample=False, eos_token_id=None
        )
    assert greedy(decoder, PROMPT, adapter, 32) == whole[0, len(PROMPT) :].tolist()


@pytest.mark.parametrize("case", list(TARGETS))
def test_every_family_as_peft_computes_it(case: str, tmp_path: Path, load: Load) -> None:
    model = make(case)
    checkpoint = open_checkpoint(write(model, tmp_path / "base"))
    oracle = adapted(model, TARGETS[case], seed=1)
    agree(load(checkpoint), oracle, read(saved(oracle, tmp_path / "lora"), checkpoint))


CONFIGS: dict[str, dict[str, Any]] = {
    "one module": {"target_modules": ["v_proj"]},
    "rank 1": {"r": 1},
    "rank 40": {"r": 40},
    "rank 100": {"r": 100, "lora_alpha": 7.5},
    "rslora": {"use_rslora": True},
    "patterns": {
        "rank_pattern": {"q_proj": 5, r"layers.1.mlp.(up_proj|down_proj)": 17},
        "alpha_pattern": {r"^model.layers.0.self_attn.k_proj": 3, r".*\.mlp\.gate_proj": 11},
    },
    "rslora with patterns": {
        "use_rslora": True,
        "rank_pattern": {"v_proj": 3},
        "alpha_pattern": {"v_proj": 9},
    },
    "some layers": {"layers_to_transform": [0, 2]},
    "layer 0": {"layers_to_transform": 0},
    "all linear": {"target_modules": "all-linear"},
    "a regular expression": {"target_modules": r".*\.(q_proj|down_proj)"},
    "but one": {"exclude_modules": ["k_proj"]},
}


@pytest.mark.parametrize("config", list(CONFIGS))
def test_what_a_configuration_may_say(config: str, tmp_path: Path, load: Load) -> None:
    model = make("llama")
    checkpoint = open_checkpoint(write(model, tmp_path / "base"))
    oracle = adapted(model, ALL, seed=2, **CONFIGS[config])
    agree(load(checkpoint), oracle, read(saved(oracle, tmp_path / "lora"), checkpoint))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_adapters_in_half_precision(dtype: torch.dtype, tmp_path: Path, load: Load) -> None:
    model = make("llama")
    checkpoint = open_checkpoint(write(model, tmp_path / "base"))
    folder = saved(adapted(model, ALL, seed=3), tmp_path / "lora")
    halves = {name: tensor.to(dtype) for name, tensor in load_file(folder / TENSORS).items()}
    save_file(halves, folder / TENSORS)
    oracle = PeftModel.from_pretrained(make("llama"), folder).eval()
    agree(load(checkpoint), oracle, read(folder, checkpoint))


class Several:
    """A base with three adapters of different ranks and targets."""

    def __init__(self, case: str, folder: Path) -> None:
        model = make(case)
        self.checkpoint = open_checkpoint(write(model, folder / "base"))
        targets = TARGETS[case]
        self.adapters: list[Adapter | None] = [None]
        for k, (rank, names) in enumerate([(8, targets), (33, targets[:2]), (3, targets[-2:])]):
            made = adapted(model, names, seed=10 + k, r=rank)
            self.adapters.append(read(saved(made, folder / f"lora{k}"), self.checkpoint))


@pytest.fixture(scope="module", params=["llama", "granite", "bigcode", "granite moe", "gemma 3"])
def several(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Several:
    return Several(request.param, tmp_path_factory.mktemp("several"))


@pytest.mark.parametrize("numbers", ["float32", "int8"])
def test_the_same_bits_in_any_company_however_cut_by_any_number_of_threads(
    several: Several, numbers: Numbers
) -> None:
    """With 8 bits, by matrix units where there are any."""
    whole = several.adapters
    companies = [(), whole, [*whole, *whole, *whole, *whole, *whole]]
    for which in whole:
        expected = None
        for threads, piece, company in itertools.product((1, 2, 3), (1, 7, 45), companies):
            decoder = load_native(several.checkpoint, numbers, threads=threads)
            got = bits(decoder, PROMPTS, piece, company, which, 8)
            expected = expected or got
            assert got == expected, (threads, piece, len(company))


def test_a_base_alone_gives_the_bits_of_a_decoder_that_never_saw_an_adapter(
    several: Several,
) -> None:
    fresh = bits(load_native(several.checkpoint, threads=2), PROMPTS, 7, (), None, 8)
    used = load_native(several.checkpoint, threads=2)
    bits(used, PROMPTS, 7, several.adapters, several.adapters[1], 8)
    assert bits(used, PROMPTS, 7, several.adapters, None, 8) == fresh


@pytest.mark.parametrize("numbers", ["float32", "int8"])
@pytest.mark.parametrize(("threads", "apart"), [(1, False), (3, False), (2, True), (3, True)])
def test_rows_that_are_asked_for_are_what_they_are_among_all(
    several: Several,
    numbers: Numbers,
    threads: int,
    apart: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last block computes nothing else (`program`), and threads may go apart (`layout`).

    Whoever is there, and behind any context.
    """
    monkeypatch.setattr(layout, "LEAST", 1)
    decoder = load_native(several.checkpoint, numbers, threads=threads)
    random = np.random.default_rng(7)
    for counts in ((1, 19), (5, 1, 33), (3, 1), (40,), (2, 2, 2, 2, 2), (230,), (9, 131, 1, 70)):
        pairs = [(decoder.new_cache(480), decoder.new_cache(480)) for _ in counts]
        for _ in range(2):  # the second step has the first for its context
            steps = [
                Chunk(
                    random.integers(0, 300, count).tolist(),
                    cache,
                    adapter=several.adapters[int(random.integers(4))],
                    wanted=sorted(random.choice(count, random.integers(count + 1), replace=False)),
                    written=bool(random.integers(5) == 0),
                )
                for count, (cache, _) in zip(counts, pairs, strict=True)
            ]
            decoder.goes_apart = apart
            asked = decoder.forward(steps)
            decoder.goes_apart = False
            twins = [
                replace(step, cache=twin) for step, (_, twin) in zip(steps, pairs, strict=True)
            ]
            rows = wanted_rows(steps, np.cumsum([0, *counts[:-1]]).tolist())
            assert (asked == decoder.forward(twins, every=True)[rows]).all(), (counts, steps)


def test_a_batch_gives_each_what_it_gets_alone(several: Several, load: Load) -> None:
    decoder = load(several.checkpoint)
    alone = [
        greedy(decoder, prompt, adapter, 32)
        for prompt, adapter in zip(PROMPTS, several.adapters, strict=True)
    ]
    assert len({tuple(tokens) for tokens in alone}) == 4
    caches = [decoder.new_cache(80) for _ in PROMPTS]
    steps = list(PROMPTS)
    together: list[list[int]] = [[] for _ in PROMPTS]
    for _ in range(32):
        chunks = [
            Chunk(s, c, adapter=a) for s, c, a in zip(steps, caches, several.adapters, strict=True)
        ]
        for answer, row in zip(together, decoder.forward(chunks), strict=True):
            answer.append(int(row.argmax()))
        steps = [answer[-1:] for answer in together]
    assert together == alone


def test_both_ways_agree_on_any_mixture(several: Several, tmp_path: Path) -> None:
    """Rows of several adapters, cut at every possible place, machine code beside the plain decoder."""
    from daulat.engine.plain import load_decoder

    plain, native = load_decoder(several.checkpoint), load_native(several.checkpoint, threads=3)
    for counts in itertools.product((1, 5, 19), repeat=3):
        sides = []
        for decoder in (plain, native):
            chunks = [
                Chunk(
                    PROMPT[:count],
                    decoder.new_cache(count),
                    adapter=several.adapters[(k + sum(counts)) % 4],
                )
                for k, count in enumerate(counts)
            ]
            sides.append(decoder.forward(chunks, every=True))
        assert np.abs(sides[0] - sides[1]).max() <= TOLERANCE


def test_the_starter_as_peft_computes_it(starter_gguf: Path, tmp_path: Path, load: Load) -> None:
    """A GGUF's q and k rows lie in another order in the file: PEFT's adapters fit all the same."""
    source: Any = {
        "pretrained_model_name_or_path": starter_gguf.parent,
        "gguf_file": starter_gguf.name,
    }
    model = hf.AutoModelForCausalLM.from_pretrained(
        **source, dtype=torch.float32, attn_implementation="eager"
    )
    oracle = adapted(model, ALL, seed=7, size=0.2, r=16)
    checkpoint = open_checkpoint(starter_gguf)
    adapter = read(saved(oracle, tmp_path / "lora"), checkpoint)
    tokens = load_tokenizer(checkpoint).encode("The capital of Indonesia is", special=True)
    decoder = load(checkpoint)
    expected = expected_of(oracle, tokens)
    with oracle.disable_adapter():
        bare = expected_of(oracle, tokens)
    assert (bare - expected).abs().max() > 0.5
    largest = tolerance(decoder) * float(expected.abs().max()) / 5
    assert (logits_of(decoder, tokens, adapter) - expected).abs().max() <= largest
    with torch.inference_mode():
        whole = oracle.generate(
            input_ids=torch.tensor([tokens]), max_new_tokens=32, do_sample=False, eos_token_id=None
        )
    assert greedy(decoder, tokens, adapter, 32) == whole[0, len(tokens) :].tolist()
