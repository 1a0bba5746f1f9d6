"""How likely texts are, and what the model makes of them: many continuations of many prefixes in few steps.

What prefixes begin with in common is computed once, each prefix once, and its continuations branch off:
a continuation of one token costs nothing but a column of its prefix's logits. Branches share the blocks that
are full, and copy the last. Numbers do not depend on the company. All of this works in steps of a bounded size
and is made for `Engine.do`; `finish` runs it where no engine's thread is at work on the same model.

Not here: sampling (`sampler`), text (these are tokens), templates. Shapes: H hidden.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from daulat.engine.cache import SequenceCache, blocks_for
from daulat.engine.logprobs import require_finite, score_rows
from daulat.engine.rows import rows_of
from daulat.engine.step import Chunk, Computer, Floats
from daulat.engine.stock import Stock, blocks_behind
from daulat.errors import ContextLengthError, RequestError

T = TypeVar("T")
Steps = Generator[None, None, T]
Tokens = Sequence[int]
Pooling = Literal["last", "mean", "all"]

STEP = 512
"""Tokens in one step."""
HELD = 8_192
"""Tokens that all caches hold together, or one text; those beyond that are taken in turns."""


@dataclass(frozen=True, slots=True)
class Question:
    """A prefix, and what may follow it; none of them empty."""

    prefix: Tokens
    continuations: Sequence[Tokens]


@dataclass(frozen=True, slots=True)
class Score:
    """Attributes:
    logprobs: natural-log probability of each of the continuation's tokens behind all before it.
    greedy: each was the likeliest token where it stands.
    """

    logprobs: tuple[float, ...]
    greedy: bool

    @property
    def total(self) -> float:
        return sum(self.logprobs)


def finish(steps: Steps[T]) -> T:
    """Run work in steps to its end, on this thread."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def score(
    computer: Computer, questions: Sequence[Question], *, step: int = STEP, held: int = HELD
) -> Steps[list[list[Score]]]:
    """The scores of each question's continuations, in order.

    Raises:
        RequestError: an empty prefix or continuation, or a token that the model does not have.
        ContextLengthError: a prefix and a continuation do not fit the model's context.
        ModelFileError: the model gives non-finite logits.
    """
    for question in questions:
        for tokens in (question.prefix, *question.continuations):
            _check(computer, tokens)
        longest = max((len(c) for c in question.continuations), default=0)
        _check_length(computer, len(question.prefix) + longest)
    shared = _in_common([q.prefix[:-1] for q in questions]) if len(questions) > 1 else ()
    stock = _stock(computer, len(shared), questions, held)
    trunk = stock.open(stock.nothing, len(shared))
    for chunks, _ in _steps([_Feed(shared, trunk)], step, every=False):
        computer.states(chunks)
        yield
    found: list[list[Score]] = []
    while len(found) < len(questions):
        lanes = stock.open_all(trunk, map(_need, islice(questions, len(found), None)))
        turn = questions[len(found) : len(found) + len(lanes)]
        found += yield from _score_turn(computer, stock, trunk, lanes, turn, step)
    return found


def hidden(
    computer: Computer,
    texts: Sequence[Tokens],
    pooling: Pooling,
    *,
    step: int = STEP,
    held: int = HELD,
) -> Steps[list[Floats]]:
    """Each text's last hidden states, behind the last norm, float32.

    Args:
        pooling: `last` token's [H], `mean` of all tokens' [H], or `all` tokens' [tokens, H].

    Raises:
        RequestError, ContextLengthError: see `score`.
    """
    for tokens in texts:
        _check(computer, tokens)
        _check_length(computer, len(tokens))
    stock = _stock(computer, 0, [Question(tokens, ()) for tokens in texts], held)
    found: list[Floats] = []
    while len(found) < len(texts):
        lanes = stock.open_all(stock.nothing, map(len, islice(texts, len(found), None)))
        turn = texts[len(found) : len(found) + len(lanes)]
        feeds = [_Feed(tokens, cache) for tokens, cache in zip(turn, lanes, strict=True)]
        pools = [_Pool(pooling, len(tokens)) for tokens in turn]
        for chunks, whose in _steps(feeds, step, every=pooling != "last"):
            states, end = computer.states(chunks), 0
            for place, chunk in zip(whose, chunks, strict=True):
                start, end = end, end + len(chunk.wanted or ())
                pools[place].add(states[start:end])
            yield
        found += [pool.result() for pool in pools]
        stock.close(lanes)
    return found


def _check(computer: Computer, tokens: Tokens) -> None:
    vocabulary = computer.architecture.vocab
    if not tokens:
        raise RequestError("An empty text has no score; give at least one token.")
    if min(tokens) < 0 or max(tokens) >= vocabulary:
        raise RequestError(f"A token is not in the vocabulary, which has {vocabulary} tokens.")


def _check_length(computer: Computer, tokens: int) -> None:
    context = computer.architecture.context
    if tokens > context:
        raise ContextLengthError(
            f"The text has {tokens} tokens, the model's context {context}. Shorten the text."
        )


# --- scores -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Feed:
    """Tokens on their way into a cache, behind what is in it. `given`: how many are in or in the next step."""

    tokens: Tokens
    cache: SequenceCache
    given: int = 0


@dataclass(slots=True)
class _Open:
    """A continuation whose score is being made."""

    tokens: Tokens
    logprobs: list[float] = field(default_factory=list[float])
    greedy: bool = True

    def add(self, logits: NDArray[np.float32], tokens: Tokens) -> None:
        """The next tokens, with the logits [tokens, V] before them."""
        require_finite(logits)
        wanted = np.array(tokens, dtype=np.intp)
        found = score_rows(logits, wanted[:, None])
        self.logprobs += found.logprobs[:, 0].tolist()
        self.greedy = self.greedy and bool((logits.argmax(axis=1) == wanted).all())


def _in_common(texts: Sequence[Tokens]) -> Tokens:
    """What all begin with: what the first and the last in dictionary order do."""
    first, last = min(texts, key=tuple), max(texts, key=tuple)
    count = 0
    while count < min(len(first), len(last)) and first[count] == last[count]:
        count += 1
    return first[:count]


def _need(question: Question) -> int:
    """Places in a cache: a continuation's last token is never fed."""
    return len(question.prefix) + max((len(c) - 1 for c in question.continuations), default=0)


def _stock(computer: Computer, shared: int, questions: Sequence[Question], held: int) -> Stock:
    """Blocks for what all share and the largest of the questions at least, and no more than all need."""
    own = [blocks_behind(shared, _need(question)) for question in questions]
    all_at_once = sum(own) + sum(
        blocks_behind(len(question.prefix), len(question.prefix) + len(tokens) - 1)
        for question in questions
        for tokens in question.continuations
    )
    most = max(blocks_for(held), max(own, default=0))
    return Stock(computer, blocks_for(shared) + min(most, all_at_once))


def _score_turn(
    computer: Computer,
    stock: Stock,
    trunk: SequenceCache,
    lanes: Sequence[SequenceCache],
    turn: Sequence[Question],
    step: int,
) -> Steps[list[list[Score]]]:
    """Questions, each in a lane that goes on from the trunk."""
    answers = [[_Open(tokens) for tokens in question.continuations] for question in turn]
    feeds = [_Feed(q.prefix[trunk.length :], lane) for q, lane in zip(turn, lanes, strict=True)]
    for chunks, whose in _steps(feeds, step, every=False):
        for rows in rows_of(computer, chunks):
            _first_tokens(rows.logits[0], answers[whose[rows.chunk]])
        yield
    groups = [
        _Group(len(question.prefix), lane, [one for one in row if len(one.tokens) > 1])
        for question, lane, row in zip(turn, lanes, answers, strict=True)
    ]
    while groups := [group for group in groups if group.left]:
        yield from _tails(computer, stock, groups, step)
    stock.close(lanes)
    return [[Score(tuple(one.logprobs), one.greedy) for one in row] for row in answers]


def _first_tokens(logits: NDArray[np.float32], answers: Sequence[_Open]) -> None:
    """All continuations' first tokens, by the logits [V] behind their prefix."""
    require_finite(logits)
    first = np.array([[one.tokens[0] for one in answers]], dtype=np.intp)
    best = int(logits.argmax())
    for one, logprob in zip(answers, score_rows(logits[None], first).logprobs[0], strict=True):
        one.logprobs.append(float(logprob))
        one.greedy = one.tokens[0] == best


@dataclass(frozen=True, slots=True)
class _Group:
    """A prefix of so many tokens, which is in `lane`, and its continuations of several tokens."""

    length: int
    lane: SequenceCache
    left: list[_Open]

    @property
    def next(self) -> int:
        """Tokens of the next continuation that have to be fed."""
        return len(self.left[-1].tokens) - 1


@dataclass(frozen=True, slots=True)
class _Tail:
    """A continuation on its way into a cache."""

    one: _Open
    feed: _Feed


def _tails(computer: Computer, stock: Stock, groups: Sequence[_Group], step: int) -> Steps[None]:
    """What follows the first tokens of one continuation of each group, and of more until a step is full."""
    tails: list[_Tail] = []
    for group in groups:
        group.lane.rewind(group.length)
        tails.append(_tail(group.left.pop(), group.lane))
    room = step - sum(len(tail.feed.tokens) for tail in tails)
    branches: list[SequenceCache] = []
    for group in groups:
        while group.left and room > 0 and stock.has(group.lane, group.length + group.next):
            branches.append(stock.open(group.lane, group.length + group.next))
            room -= group.next
            tails.append(_tail(group.left.pop(), branches[-1]))
    for chunks, whose in _steps([tail.feed for tail in tails], step, every=True):
        for rows in rows_of(computer, chunks):
            one = tails[whose[rows.chunk]].one
            at = len(one.logprobs)
            one.add(rows.logits, one.tokens[at : at + len(rows.logits)])
        yield
    stock.close(branches)


def _tail(one: _Open, cache: SequenceCache) -> _Tail:
    return _Tail(one, _Feed(one.tokens[:-1], cache))


def _steps(
    feeds: Sequence[_Feed], most: int, *, every: bool
) -> Iterator[tuple[list[Chunk], list[int]]]:
    """Steps of up to `most` tokens, until every feed is in; with whose each chunk is, by its place.

    Wanted are all tokens (`every`), or only a feed's very last.
    """
    chunks: list[Chunk] = []
    whose: list[int] = []
    room = most
    for place, feed in enumerate(feeds):
        while feed.given < len(feed.tokens):
            tokens = feed.tokens[feed.given : feed.given + room]
            feed.given += len(tokens)
            done = feed.given == len(feed.tokens)
            wanted = range(0 if every else len(tokens) - done, len(tokens))
            chunks.append(Chunk(tokens, feed.cache, wanted=wanted))
            whose.append(place)
            room -= len(tokens)
            if not room:
                yield chunks, whose
                chunks, whose, room = [], [], most
    if chunks:
        yield chunks, whose


# --- hidden states ----------------------------------------------------------------------------------


class _Pool:
    """One text's states as they come."""

    def __init__(self, pooling: Pooling, tokens: int) -> None:
        self._pooling = pooling
        self._tokens = tokens
        self._sum: NDArray[np.float64] | None = None
        self._parts: list[Floats] = []

    def add(self, states: Floats) -> None:
        """The next wanted tokens' states, [any, H]."""
        if self._pooling != "mean":
            self._parts.append(states)
            return
        # Token by token in order and in float64: no matter how the text was cut.
        doubles = states.astype(np.float64)
        if self._sum is not None:
            doubles = np.concatenate([self._sum[None], doubles])
        self._sum = doubles.cumsum(0)[-1]

    def result(self) -> Floats:
        if self._sum is not None:
            return (self._sum / self._tokens).astype(np.float32)
        states = np.concatenate(self._parts)
        return states[-1] if self._pooling == "last" else states
