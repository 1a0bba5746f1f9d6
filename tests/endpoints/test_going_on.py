"""This machine goes on with an answer that was begun elsewhere: the same words as if it had said them all."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from daulat.endpoints.native import NativeEndpoint
from daulat.endpoints.pool import Pool
from daulat.models.catalogue import Catalogue, ModelEntry
from daulat.models.tokenizer import Tokenizer
from daulat.settings import Engine
from daulat.values.answer import Done, Finish, Piece, Usage
from daulat.values.plan import Caller, Step
from daulat.values.request import ChatRequest, Message, Sampling

PROMPTS = (
    "What is the capital of France?",
    "Name three colours.",
    "What do bees make?",
    "Explain gravity to a child.",
    "Apa ibu kota Indonesia?",
    "Write a Python function that adds two numbers.",
)
TOKENS = 32


@pytest.fixture
async def native(furnish: Callable[[Path], Path], tmp_path: Path) -> AsyncIterator[NativeEndpoint]:
    home = furnish(tmp_path / "home")
    endpoint = NativeEndpoint(Pool(Catalogue(home), Engine(threads=1)))
    yield endpoint
    await endpoint.close()


async def _said(
    native: NativeEndpoint, entry: ModelEntry, prompt: str, begun: str = "", most: int = TOKENS
) -> tuple[str, Usage, str]:
    step = Step("native", "this-machine", "open", entry.name, entry.digest)
    request = ChatRequest(
        entry.name,
        (Message("user", prompt),),
        Sampling(max_tokens=most, temperature=0.0),
        stream=True,
    )
    text, usage, reason = "", Usage(0), ""
    async for event in native.generate(replace(request, begun=begun), step, Caller("t", "t")):
        match event:
            case Piece():
                text += event.text
            case Finish():
                reason = event.reason
            case Done():
                usage = event.usage
            case _:
                raise AssertionError(event)
    return text, usage, reason


def _halves(tokenizer: Tokenizer, text: str) -> list[tuple[str, str, int]]:
    """Cuts between two words where both parts have the tokens of the whole; with how many the first has."""
    whole = list(tokenizer.encode(text, special=False))
    found: list[tuple[str, str, int]] = []
    for match in re.finditer(r"(?<=\w)(?= \w)", text):
        head, tail = text[: match.start()], text[match.start() :]
        tokens = list(tokenizer.encode(head, special=False))
        if tokens + list(tokenizer.encode(tail, special=False)) == whole:
            found.append((head, tail, len(tokens)))
    return found


async def test_the_second_half_is_the_same_words(
    native: NativeEndpoint, starter_entry: ModelEntry
) -> None:
    async with native.pool.use(starter_entry.name, starter_entry.digest) as model:
        tokenizer = model.tokenizer
    for prompt in PROMPTS:
        whole, all_of_it, reason = await _said(native, starter_entry, prompt)
        halves = _halves(tokenizer, whole)
        head, tail, tokens = halves[len(halves) // 2]
        rest, usage, again = await _said(native, starter_entry, prompt, head, TOKENS - tokens)
        assert rest == tail, prompt
        assert again == reason
        assert usage.prompt_tokens == all_of_it.prompt_tokens + tokens
        assert usage.completion_tokens == all_of_it.completion_tokens - tokens


async def test_cut_anywhere_the_text_is_one(
    native: NativeEndpoint, starter_entry: ModelEntry
) -> None:
    """Inside a word, behind a space: other tokens than the model would have chosen, and no character twice."""
    prompt = PROMPTS[0]
    whole, _, _ = await _said(native, starter_entry, prompt)
    same = 0
    for cut in range(1, len(whole), 5):
        rest, _, _ = await _said(native, starter_entry, prompt, whole[:cut])
        assert rest
        assert "�" not in rest
        same += whole.startswith((whole[:cut] + rest)[: len(whole)])
    assert same > 0
