"""How much: the bound against what a request can cost at the most, and what is believed of what is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daulat.flow.metering import (
    IMAGE_TOKENS,
    MOST_TOKENS,
    NOTHING,
    Bound,
    Meter,
    bound,
    content,
    cost,
    longest,
    prompt_tokens,
)
from daulat.flow.texts import texts
from daulat.values.answer import Asked, CallPiece, Done, Finish, Metered, Piece, Timings, Usage
from daulat.values.money import Price, Rates
from daulat.values.plan import Offer
from daulat.values.request import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    Image,
    Message,
    ModerationRequest,
    Sampling,
    Tool,
    Toolbox,
    ToolCall,
)

PRICE = Price(Rates(3, 10, 1, 4), tiers=((100, Rates(6, 20, 2, 8)),), request=7)
OFFER = Offer("m", "m", PRICE, max_output=500)
LIMIT = Bound(100, 40, 0)


def chat(text: str = "Where?", most: int | None = 40, *, stream: bool = True) -> ChatRequest:
    return ChatRequest("m", (Message("user", text),), Sampling(max_tokens=most), stream=stream)


def limit_of(request: Any, offer: Offer | None = OFFER) -> Bound:
    return bound(request, offer, texts(request))


# --- the bound --------------------------------------------------------------------------------------


@given(st.text(max_size=200), st.integers(1, 1000), st.integers(1, 4), st.data())
def test_no_answer_costs_more_than_its_bound(
    text: str, most: int, choices: int, data: st.DataObject
) -> None:
    """However the tokens are cached, and however few bytes one stands for."""
    request = replace(chat(text, most), sampling=Sampling(max_tokens=most, n=choices))
    limit = limit_of(request)
    size = len(text.encode("utf-8", "surrogatepass"))
    assert limit.prompt_tokens >= size
    assert limit.completion_tokens == most * choices
    assert limit.tokens == limit.prompt_tokens + limit.completion_tokens
    prompt = data.draw(st.integers(0, limit.prompt_tokens))
    cached = data.draw(st.integers(0, prompt))
    written = data.draw(st.integers(0, prompt - cached))
    answer = data.draw(st.integers(0, limit.completion_tokens))
    assert limit.money is not None
    assert PRICE.cost(Usage(prompt, answer, cached, written)) <= limit.money
    assert prompt_tokens(request) <= limit.prompt_tokens


def test_what_each_kind_of_request_is_bounded_by() -> None:
    assert limit_of(chat("abcd")) == Bound(4 + 3 * 64, 40, 7 + 196 * 8 + 40 * 20)
    two = replace(chat("abcd"), messages=(Message("user", "ab"), Message("assistant", "cd")))
    assert limit_of(two).prompt_tokens == 4 + 4 * 64
    picture = Message("user", "ab", parts=("ab", Image("https://example.org/a.png")))
    seen = replace(chat(), messages=(picture,))
    assert limit_of(seen).prompt_tokens == 2 + 3 * 64 + IMAGE_TOKENS + _more(seen)
    tool = Tool("t", "what", {"type": "object"})
    with_tool = replace(chat("abcd"), tools=Toolbox((tool,)))
    words = sum(map(len, texts(with_tool)))
    assert limit_of(with_tool).prompt_tokens == words + 4 * 64
    completion = CompletionRequest("m", ("abc", (1, 2, 3, 4)), Sampling(n=2, max_tokens=5))
    assert limit_of(completion).completion_tokens == 20
    assert limit_of(completion).prompt_tokens == 3 + 4 + 2 * 64
    vectors = EmbeddingRequest("m", ("abc", (1, 2)))
    assert limit_of(vectors) == Bound(3 + 2 + 2 * 64, 0, 7 + 133 * 8)
    assert limit_of(ModerationRequest("m", ("abc",))).tokens == 3 + 64


def _more(request: ChatRequest) -> int:
    """Bytes of texts beside the message's own."""
    return sum(map(len, texts(request))) - 2


def test_who_does_not_say_how_long_is_bounded_by_the_endpoint() -> None:
    free = limit_of(chat(most=None))
    assert (free.completion_tokens, free.told) == (500, False)
    assert limit_of(chat(most=40)).told
    assert limit_of(EmbeddingRequest("m", ("a",))).told
    assert longest(chat(most=None), OFFER) == 500
    assert longest(chat(most=7), OFFER) == 7


def test_this_machine_costs_no_money_and_what_has_no_price_has_no_bound() -> None:
    assert limit_of(chat(), None).money == 0
    assert limit_of(chat(most=None), None).completion_tokens == 16_384
    assert limit_of(chat(), Offer("m", "m")).money is None
    assert cost(None, Usage(1, 1)) is None
    assert cost(PRICE, Usage(1, 1)) == 7 + 3 + 10


# --- the meter --------------------------------------------------------------------------------------


def told(*heard: Any, stream: bool = True, own: bool = False, limit: Bound = LIMIT) -> Meter:
    meter = Meter(chat(stream=stream), limit, own=own)
    for one in heard:
        meter.add(one)
    return meter


@given(
    st.builds(
        Usage,
        st.integers(-5, 130),
        st.integers(-5, 60),
        st.integers(-5, 130),
        st.integers(-5, 130),
        st.integers(-5, 60),
        st.booleans(),
    ),
    st.booleans(),
)
def test_what_can_be_true_is_believed_and_nothing_else(usage: Usage, said: bool) -> None:
    meter = told(Asked(), *([Piece(0, "abcdefgh")] if said else []))
    possible = (
        not usage.counted
        and 1 <= usage.prompt_tokens <= 100
        and said <= usage.completion_tokens <= 40
        and min(usage.cached_tokens, usage.cache_write_tokens, usage.reasoning_tokens) >= 0
        and usage.cached_tokens + usage.cache_write_tokens <= usage.prompt_tokens
        and usage.reasoning_tokens <= usage.completion_tokens
    )
    own = Usage(2, 2 if said else 0, counted=True)
    assert meter.reported(usage) == (usage if possible else own)


def test_an_endpoint_that_was_not_told_may_say_more() -> None:
    free = replace(LIMIT, told=False)
    many = Usage(5, MOST_TOKENS)
    assert told(Piece(0, "a"), limit=free).reported(many) == many
    assert (
        told(Piece(0, "a"), limit=free).reported(replace(many, completion_tokens=10**7 + 1)) != many
    )
    assert told(Piece(0, "a")).reported(many).counted


def test_a_stream_that_is_cut_is_counted_as_far_as_it_was_heard() -> None:
    calls = (CallPiece(0, 0, "id", "abcd"), CallPiece(0, 0, arguments='{"a":1}'))
    assert told(Asked(), Piece(0, "abcde"), *calls).cut() == Usage(2, 4, counted=True)
    assert told(Asked()).cut() == Usage(2, 0, counted=True)
    assert not told(Asked()).said
    assert told(Piece(0, "a")).said


def test_what_was_metered_before_the_cut_is_kept() -> None:
    """The prompt by the upstream's count, and the answer by whichever count is more."""
    told_ = Usage(9, 1, 3, 2, 1)
    cut = told(Asked(), Metered(told_), Piece(0, "abcdefghi")).cut()
    assert cut == Usage(9, 3, 3, 2, 1, counted=True)
    more = told(Metered(replace(told_, completion_tokens=30)), Piece(0, "abcd")).cut()
    assert more.completion_tokens == 30


@pytest.mark.parametrize(
    "lie",
    [
        Usage(0, 1),
        Usage(101, 1),
        Usage(9, 41),
        Usage(9, -1),
        Usage(9, 1, 10),
        Usage(9, 1, -1),
        Usage(9, 1, 5, 5),
        Usage(9, 1, 0, -1),
        Usage(9, 1, 0, 0, 2),
        Usage(9, 1, 0, 0, -1),
    ],
)
def test_what_cannot_be_true_is_not_metered(lie: Usage) -> None:
    assert told(Asked(), Metered(lie), Piece(0, "abcd")).cut() == Usage(2, 1, counted=True)


def test_what_was_never_asked_costs_nothing() -> None:
    assert told().cut() is NOTHING
    assert told(stream=False).cut() is NOTHING
    assert told(own=True).cut() == Usage(2, 0, counted=True)


def test_an_answer_in_one_piece_that_is_lost_counts_as_the_longest() -> None:
    assert told(Asked(), stream=False).cut() == Usage(2, 40, counted=True)
    assert told(Asked(), Piece(0, "abcd"), stream=False).cut().completion_tokens == 1
    metered = told(Asked(), Metered(Usage(9, 5, 1)), stream=False).cut()
    assert metered == Usage(9, 5, 1, counted=True)
    assert told(Asked(), stream=False, own=True).cut() == Usage(2, 0, counted=True)
    vectors = Meter(EmbeddingRequest("m", ("abcd",)), Bound(100, 0, 0))
    vectors.add(Asked())
    assert vectors.cut() == Usage(1, 0, counted=True)


def test_the_estimate_of_a_prompt() -> None:
    call = ToolCall("id", "abcd", '{"a": 1}')
    asked = replace(
        chat(),
        messages=(Message("user", "abcde"), Message("assistant", "", tool_calls=(call,))),
        tools=Toolbox((Tool("abcd", "abcdefgh", {"type": "object"}), Tool("abcd"))),
        begun="abcd",
    )
    assert prompt_tokens(asked) == 2 + 1 + 2 + (1 + 2 + 5) + 1 + 1
    assert prompt_tokens(CompletionRequest("m", ("abcde", (1, 2, 3)))) == 2 + 3
    assert prompt_tokens(EmbeddingRequest("m", ("abcd", (1,)))) == 2
    assert prompt_tokens(ModerationRequest("m", ("abcde",))) == 2


def test_what_of_an_answer_a_client_notices() -> None:
    assert content(Piece(0, "a"))
    assert content(CallPiece(0, 0))
    assert not content(Piece(0, ""))
    assert not content(Finish(0, "stop"))
    assert not content(Done(Usage(1), Timings(0, 0, 0)))
