"""Every family against transformers in float32: logits, greedy answers, pieces, company."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from daulat.engine.decoder import Decoder
from daulat.engine.step import Chunk
from daulat.models.checkpoint import open_checkpoint
from tests.engine.checkpoints import (
    CASES,
    NEW_STYLE_KEYS,
    OLD_STYLE,
    edit_config,
    edit_tensors,
    make,
    read_back,
    write,
)

pytestmark = pytest.mark.usefixtures("one_thread")

TOLERANCE = 1e-4
PROMPTS = [
    [(7 * i * i + 3 * i + k) % 300 for i in range(length)] for k, length in enumerate((97, 9, 40))
]
Pair = tuple[PreTrainedModel, Decoder]
Load = Callable[..., Decoder]


@pytest.fixture(scope="module", params=list(CASES))
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, load: Load
) -> Pair:
    oracle = make(request.param)
    folder = write(oracle, tmp_path_factory.mktemp("checkpoint"))
    return oracle, load(open_checkpoint(folder))


def _expected(oracle: PreTrainedModel, tokens: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return oracle(torch.tensor([tokens])).logits[0].float()


def _difference(oracle: PreTrainedModel, folder: Path, load: Load) -> float:
    """The largest over all positions of the long prompt."""
    decoder = load(open_checkpoint(folder))
    ours = decoder.forward([Chunk(PROMPTS[0], decoder.new_cache(len(PROMPTS[0])))], every=True)
    expected = _expected(oracle, PROMPTS[0])
    assert expected.std() > 0.05
    return float((torch.from_numpy(ours) - expected).abs().max())


def _greedy(decoder: Decoder, prompt: list[int], count: int) -> list[int]:
    cache = decoder.new_cache(len(prompt) + count)
    tokens: list[int] = []
    step = prompt
    for _ in range(count):
        token = int(decoder.forward([Chunk(step, cache)])[0].argmax())
        tokens.append(token)
        step = [token]
    return tokens


def test_logits_of_every_position(pair: Pair) -> None:
    oracle, decoder = pair
    for prompt in PROMPTS:
        ours = decoder.forward([Chunk(prompt, decoder.new_cache(len(prompt)))], every=True)
        expected = _expected(oracle, prompt)
        assert expected.std() > 0.05
        assert (torch.from_numpy(ours) - expected).abs().max() <= TOLERANCE


def test_a_greedy_answer_token_for_token(pair: Pair) -> None:
    oracle, decoder = pair
    with torch.inference_mode():
        whole = oracle.generate(
            torch.tensor([PROMPTS[0]]), max_new_tokens=64, do_sample=False, eos_token_id=None
        )
    assert _greedy(decoder, PROMPTS[0], 64) == whole[0, len(PROMPTS[0]) :].tolist()


@pytest.mark.parametrize("piece", [1, 7, 32])
def test_a_prompt_in_pieces_equals_the_whole(pair: Pair, piece: int) -> None:
    _, decoder = pair
    prompt = PROMPTS[0]
    whole = decoder.forward([Chunk(prompt, decoder.new_cache(len(prompt)))], every=True)
    cache = decoder.new_cache(len(prompt))
    parts = [
        decoder.forward([Chunk(prompt[i : i + piece], cache)], every=True)
        for i in range(0, len(prompt), piece)
    ]
    assert np.abs(np.concatenate(parts) - whole).max() <= TOLERANCE


def test_in_company_equals_alone(pair: Pair) -> None:
    """Three sequences a step, one of them answering while the others' prompts are still read."""
    _, decoder = pair
    alone = [_greedy(decoder, prompt, 24) for prompt in PROMPTS]
    caches = [decoder.new_cache(len(prompt) + 24) for prompt in PROMPTS]
    left = [list(prompt) for prompt in PROMPTS]
    answers: list[list[int]] = [[] for _ in PROMPTS]
    while any(len(answer) < 24 for answer in answers):
        turn = [i for i, answer in enumerate(answers) if len(answer) < 24]
        pieces = [left[i][:11] or [answers[i][-1]] for i in turn]
        rows = decoder.forward([Chunk(p, caches[i]) for p, i in zip(pieces, turn, strict=True)])
        for i, row in zip(turn, rows, strict=True):
            left[i] = left[i][11:]
            if not left[i]:
                answers[i].append(int(row.argmax()))
    assert answers == alone


@pytest.mark.parametrize("case", ["llama", "mixtral", "gpt-neo"])
def test_shards_with_an_index(case: str, tmp_path: Path, load: Load) -> None:
    oracle = make(case)
    folder = write(oracle, tmp_path, shard="100KB")
    assert (folder / "model.safetensors.index.json").exists()
    assert _difference(oracle, folder, load) <= TOLERANCE


@pytest.mark.parametrize("style", list(OLD_STYLE))
def test_descriptions_written_before_transformers_5(style: str, tmp_path: Path, load: Load) -> None:
    case, changes = OLD_STYLE[style]
    folder = write(make(case), tmp_path)
    edit_config(folder, {**changes, "torch_dtype": "float32"}, without=NEW_STYLE_KEYS)
    assert _difference(read_back(folder), folder, load) <= TOLERANCE


@pytest.mark.parametrize("case", list(CASES))
def test_what_a_description_leaves_out_is_the_usual(case: str, tmp_path: Path, load: Load) -> None:
    oracle = make(case)
    folder = write(oracle, tmp_path)
    usual = type(oracle.config)().to_dict()
    config = json.loads((folder / "config.json").read_text())
    dropped = [
        key
        for key, value in config.items()
        if key not in ("model_type", "architectures") and usual.get(key, ...) == value
    ]
    assert dropped
    edit_config(folder, {}, without=tuple(dropped))
    assert _difference(read_back(folder), folder, load) <= TOLERANCE


@pytest.mark.parametrize(
    ("case", "place"),
    [
        ("gpt-neo", "transformer.h.{}.attn.attention.{}"),
        ("bigcode", "transformer.h.{}.attn.{}"),
    ],
)
def test_stored_masks_are_passed_over(case: str, place: str, tmp_path: Path, load: Load) -> None:
    oracle = make(case)
    folder = write(oracle, tmp_path)
    mask = torch.ones(1, 1, 512, 512, dtype=torch.bool).tril()
    layers = range(oracle.config.num_hidden_layers)
    masks = {place.format(i, "bias"): mask.clone() for i in layers}
    fillings = {place.format(i, "masked_bias"): torch.tensor(-1e9) for i in layers}
    edit_tensors(folder, masks | fillings)
    assert _difference(oracle, folder, load) <= TOLERANCE


def test_a_tied_matrix_stored_twice(tmp_path: Path, load: Load) -> None:
    oracle = make("granite")
    folder = write(oracle, tmp_path)
    edit_tensors(folder, {"lm_head.weight": oracle.lm_head.weight.detach().clone()})
    assert _difference(oracle, folder, load) <= TOLERANCE


@pytest.mark.parametrize(
    ("text", "vision"),
    [("language_model.model.", "vision_tower."), ("model.language_model.", "model.vision_tower.")],
)
def test_the_text_part_of_gemma_3_with_vision(
    text: str, vision: str, tmp_path: Path, load: Load
) -> None:
    oracle = make("gemma 3")
    folder = write(oracle, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    nested = {"model_type": "gemma3", "text_config": config, "vision_config": {"hidden_size": 8}}
    (folder / "config.json").write_text(json.dumps(nested))
    tensors = load_file(folder / "model.safetensors")
    tensors = {text + name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    tensors[f"{vision}encoder.weight"] = torch.zeros(8, 8)
    save_file(tensors, folder / "model.safetensors")
    assert _difference(oracle, folder, load) <= TOLERANCE


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_stored_in_half_precision(dtype: torch.dtype, tmp_path: Path, load: Load) -> None:
    folder = write(make("llama").to(dtype), tmp_path)
    assert _difference(read_back(folder), folder, load) <= TOLERANCE
