"""Every family against transformers in float32: logits, greedy answers, pieces, company."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from daulat.engine.decoder import Chunk, Decoder
from daulat.engine.loading import load_decoder
from daulat.models.checkpoint import open_checkpoint
from tests.engine.checkpoints import CASES, make, write

TOLERANCE = 1e-4
PROMPTS = [
    [(7 * i * i + 3 * i + k) % 300 for i in range(length)] for k, length in enumerate((61, 9, 40))
]


@pytest.fixture(scope="module", params=list(CASES))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    oracle = make(request.param)
    folder = write(oracle, tmp_path_factory.mktemp("checkpoint"))
    return oracle, load_decoder(open_checkpoint(folder))


def _expected(oracle, tokens: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return oracle(torch.tensor([tokens])).logits[0].float()


def _greedy(decoder: Decoder, prompt: list[int], count: int) -> list[int]:
    cache = decoder.new_cache(len(prompt) + count)
    tokens: list[int] = []
    step = prompt
    for _ in range(count):
        token = int(decoder.forward([Chunk(step, cache)])[0].argmax())
        tokens.append(token)
        step = [token]
    return tokens


def test_logits_of_every_position(pair) -> None:
    oracle, decoder = pair
    for prompt in PROMPTS:
        ours = decoder.forward([Chunk(prompt, decoder.new_cache(len(prompt)))], every=True)
        expected = _expected(oracle, prompt)
        assert expected.std() > 0.05
        assert (ours - expected).abs().max() <= TOLERANCE


def test_a_greedy_answer_token_for_token(pair) -> None:
    oracle, decoder = pair
    with torch.inference_mode():
        whole = oracle.generate(
            torch.tensor([PROMPTS[0]]), max_new_tokens=64, do_sample=False, eos_token_id=None
        )
    assert _greedy(decoder, PROMPTS[0], 64) == whole[0, len(PROMPTS[0]) :].tolist()


@pytest.mark.parametrize("piece", [1, 7, 32])
def test_a_prompt_in_pieces_equals_the_whole(pair, piece: int) -> None:
    _, decoder = pair
    prompt = PROMPTS[0]
    whole = decoder.forward([Chunk(prompt, decoder.new_cache(len(prompt)))], every=True)
    cache = decoder.new_cache(len(prompt))
    parts = [
        decoder.forward([Chunk(prompt[i : i + piece], cache)], every=True)
        for i in range(0, len(prompt), piece)
    ]
    assert (torch.cat(parts) - whole).abs().max() <= TOLERANCE


def test_in_company_equals_alone(pair) -> None:
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
def test_shards_with_an_index(case: str, tmp_path: Path) -> None:
    oracle = make(case)
    folder = write(oracle, tmp_path, shard="100KB")
    assert (folder / "model.safetensors.index.json").exists()
    decoder = load_decoder(open_checkpoint(folder))
    ours = decoder.forward([Chunk(PROMPTS[1], decoder.new_cache(20))], every=True)
    assert (ours - _expected(oracle, PROMPTS[1])).abs().max() <= TOLERANCE
