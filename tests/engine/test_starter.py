"""The starter model as it is shipped: the same words as transformers with the same dequantised weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf

from daulat.engine.decoder import Decoder
from daulat.engine.loading import load_native
from daulat.engine.scoring import Question, finish, hidden, score
from daulat.engine.step import Chunk
from daulat.models.checkpoint import open_checkpoint
from daulat.models.templates import ChatTemplates
from daulat.models.tokenizer import Tokenizer, load_tokenizer
from daulat.values.request import Message
from tests.engine.conftest import tolerance

pytestmark = pytest.mark.usefixtures("one_thread")

PROMPTS = [
    "What is the capital of France?",
    "Name three colours.",
    "Write one sentence about the sea.",
    "Why is the sky blue?",
    "Translate 'good morning' into Spanish.",
    "What do bees make?",
    "Explain gravity to a child.",
    "Give me a recipe for pancakes.",
    "Who wrote Romeo and Juliet?",
    "Is water wet?",
    "List the days of the week.",
    "Apa ibu kota Indonesia?",
    "What is the opposite of hot?",
    "Write a Python function that adds two numbers.",
    "How do plants make food?",
    "Tell me a short joke.",
    "What is a database index?",
    "Summarise: The cat sat on the mat. The dog came. The cat left.",
    "Ünïcödé — does it “work”? 🎉 日本語",
    "Rewrite politely: give me the report now.",
]
LENGTH = 32


class Starter:
    """Both engines over one file."""

    def __init__(self, path: Path, load: Callable[..., Decoder]) -> None:
        self.path = path
        checkpoint = open_checkpoint(path)
        self.tokenizer: Tokenizer = load_tokenizer(checkpoint)
        self.decoder: Decoder = load(checkpoint)
        source: Any = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
        self.oracle = hf.AutoModelForCausalLM.from_pretrained(
            **source, dtype=torch.float32, attn_implementation="eager"
        ).eval()
        self.oracle_tokenizer = hf.AutoTokenizer.from_pretrained(**source)
        self.templates = ChatTemplates()

    def prompt(self, question: str) -> list[int]:
        template = self.tokenizer.chat_template
        assert template is not None
        messages = (Message("user", question),)
        text = self.templates.render(template, messages, self.tokenizer.template_variables)
        return self.tokenizer.encode(text, special=False)

    def ours(self, prompt: list[int]) -> list[int]:
        cache = self.decoder.new_cache(len(prompt) + LENGTH)
        tokens: list[int] = []
        pending = prompt
        while len(tokens) < LENGTH and not set(tokens) & self.tokenizer.eos_ids:
            logits = self.decoder.forward([Chunk(pending, cache)])
            tokens.append(int(logits[0].argmax()))
            pending = tokens[-1:]
        return tokens

    def theirs(self, prompt: list[int]) -> list[int]:
        whole = self.oracle.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=LENGTH,
            do_sample=False,
            eos_token_id=sorted(self.tokenizer.eos_ids),
        )
        return whole[0, len(prompt) :].tolist()


@pytest.fixture(scope="module")
def starter(starter_gguf: Path, load: Callable[..., Decoder]):
    both = Starter(starter_gguf, load)
    yield both
    both.templates.close()


@pytest.mark.parametrize("question", PROMPTS)
def test_the_same_prompt_and_the_same_answer(starter: Starter, question: str) -> None:
    prompt = starter.prompt(question)
    theirs = starter.oracle_tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_dict=False
    )
    assert prompt == theirs
    answer = starter.ours(prompt)
    assert answer == starter.theirs(prompt)
    text = starter.tokenizer.decode(answer)
    assert text == starter.oracle_tokenizer.decode(answer, skip_special_tokens=True)
    assert len(text.split()) > 1


def test_inputs_of_8_bits_choose_the_same_words(starter: Starter) -> None:
    """What is the default: behind each token of the prompts and of transformers' answers."""
    decoder = load_native(open_checkpoint(starter.path), threads=2)
    same: list[bool] = []
    for question in PROMPTS:
        prompt = starter.prompt(question)
        tokens = prompt + starter.theirs(prompt)
        ours = decoder.forward([Chunk(tokens, decoder.new_cache(len(tokens)))], every=True)
        with torch.inference_mode():
            theirs = starter.oracle(torch.tensor([tokens])).logits[0].numpy()
        same += (ours.argmax(1) == theirs.argmax(1)).tolist()
        assert np.abs(ours - theirs).mean() <= 0.4
    assert len(same) > 1000
    assert np.mean(same) >= 0.95


def test_it_answers_sensibly(starter: Starter) -> None:
    assert "Paris" in starter.tokenizer.decode(starter.ours(starter.prompt(PROMPTS[0])))


LABELS = (" yes", " no", " I do not know that", " It is a question of taste, and of time.")


def test_scores_and_hidden_states_are_those_of_transformers(starter: Starter) -> None:
    prefixes = [starter.prompt(question) for question in PROMPTS[::4]]
    labels = [starter.tokenizer.encode(label, special=False) for label in LABELS]
    found = finish(score(starter.decoder, [Question(prefix, labels) for prefix in prefixes]))
    states = finish(hidden(starter.decoder, prefixes, "all"))
    for prefix, row, state in zip(prefixes, found, states, strict=True):
        for label, one in zip(labels, row, strict=True):
            with torch.inference_mode():
                out = starter.oracle(torch.tensor([prefix + label]), output_hidden_states=True)
            rows = out.logits[0, len(prefix) - 1 : -1].double().log_softmax(-1)
            expected = rows.gather(1, torch.tensor(label)[:, None])[:, 0]
            assert (torch.tensor(one.logprobs) - expected).abs().max() <= tolerance(starter.decoder)
            assert one.greedy == bool((rows.argmax(-1) == torch.tensor(label)).all())
        theirs = out.hidden_states[-1][0, : len(prefix)].numpy()
        assert np.abs(state - theirs).max() <= tolerance(starter.decoder) * np.abs(theirs).max()
