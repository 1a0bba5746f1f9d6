"""What a comparison will cost, before it is begun: expected, and at the most; with what that assumes.

Prompts are counted by the house's estimate (`values.tokens`), the most by the bound that the ledger sets
aside for each answer. How long answers will be is what is known least: where an endpoint has answered this
task before, as long as those answers; else a guess. Not here: limits (`record.ledger`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from daulat.evaluate.answers import Answer
from daulat.evaluate.asking import Answering, Asking, Question
from daulat.values.answer import Usage
from daulat.values.tokens import counted

GUESSED_TOKENS: Final = 256
"""Of an answer that nobody knows anything of."""
ENOUGH: Final = 5
_FRAME_TOKENS: Final = 4
"""What a chat template puts around a message, about."""

Basis = Literal["answers", "guess"]


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is to come of one endpoint. Money in `values.money`'s amounts; None: nobody said what it costs.

    Attributes:
        questions: that are to be asked, further samples too.
        prompt_tokens: of all of them; `answer_tokens`: of one answer, expected.
        basis: that expectation is by earlier answers, or a guess.
        judges: these are the judge's.
    """

    endpoint: str
    questions: int
    prompt_tokens: int
    answer_tokens: int
    basis: Basis
    expected: int | None
    most: int | None
    judges: bool = False


async def forecast(
    asking: Asking,
    answering: Mapping[str, Answering],
    questions: Iterable[Question],
    earlier: Iterable[Answer],
    max_tokens: int,
) -> tuple[Forecast, ...]:
    """By endpoint, in the order of `answering`.

    Args:
        questions: that are to be asked.
        earlier: answers that are there already, of whatever question of the task.
    """
    by_name: dict[str, list[Question]] = {name: [] for name in answering}
    for question in questions:
        by_name[question.model].append(question)
    lengths: dict[str, list[int]] = {name: [] for name in answering}
    for answer in earlier:
        if answer.status == "answered" and answer.endpoint in lengths:
            lengths[answer.endpoint].append(answer.completion_tokens)
    return tuple(
        [
            await _forecast(asking, answering[name], asked, lengths[name], max_tokens)
            for name, asked in by_name.items()
        ]
    )


async def _forecast(
    asking: Asking,
    answering: Answering,
    questions: Sequence[Question],
    lengths: Sequence[int],
    max_tokens: int,
) -> Forecast:
    known = len(lengths) >= ENOUGH
    length = -(-sum(lengths) // len(lengths)) if known else min(max_tokens, GUESSED_TOKENS)
    prompts = [_prompt_tokens(question) for question in questions]
    price = answering.price
    expected = None
    if price is not None:
        expected = sum(price.cost(Usage(tokens, length)) for tokens in prompts)
    mosts = [await asking.most(question) for question in questions]
    most = None if None in mosts else sum(one or 0 for one in mosts)
    basis: Basis = "answers" if known else "guess"
    return Forecast(answering.name, len(questions), sum(prompts), length, basis, expected, most)


def _prompt_tokens(question: Question) -> int:
    return sum(counted(m.content) + _FRAME_TOKENS for m in question.messages)
