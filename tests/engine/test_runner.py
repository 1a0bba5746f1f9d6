"""The engine's thread: answers in company equal answers alone; places come back; errors stay contained."""

from __future__ import annotations

import queue
from collections.abc import Sequence

import pytest

from daulat.engine.runner import Engine
from daulat.engine.scheduler import Limits
from daulat.engine.sequence import Ended, Failed, GenerationSequence, Outcome, TextPart
from daulat.errors import BusyError, UnavailableError
from daulat.values.request import Sampling
from tests.engine.places import Place
from tests.engine.tiny import Bytes, ByteStream, tiny_decoder

pytestmark = pytest.mark.usefixtures("one_thread")

PROMPTS = [bytes(range(1 + i, 40 + 7 * i)) for i in range(6)]


class Heard:
    """What one sequence said."""

    def __init__(self) -> None:
        self.queue: queue.Queue[Outcome] = queue.Queue()

    def wait(self) -> tuple[str, Outcome]:
        text = ""
        while True:
            outcome = self.queue.get(timeout=30)
            if not isinstance(outcome, TextPart):
                return text, outcome
            text += outcome.text


def make(prompt: Sequence[int], sampling: Sampling, limit: int = 24, seed: int = 7):
    heard = Heard()
    made = GenerationSequence(
        prompt, sampling, limit, seed, 0, Bytes(), ByteStream(), heard.queue.put
    )
    return made, heard


@pytest.fixture
def engine(place: Place):
    engine = Engine(tiny_decoder(place=place), Limits(4, 8, 2000, 16), "tiny")
    yield engine
    engine.close()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_answers_in_company_equal_answers_alone(engine: Engine, temperature: float) -> None:
    sampling = Sampling(temperature=temperature, ignore_eos=True)
    alone: list[str] = []
    for prompt in PROMPTS:
        one, heard = make(prompt, sampling)
        engine.submit([one])
        alone.append(heard.wait()[0])
    together = [make(prompt, sampling) for prompt in PROMPTS]
    engine.submit([made for made, _ in together])
    assert [heard.wait()[0] for _, heard in together] == alone
    assert len(set(alone)) == len(alone)


def test_the_end_tells_counts_and_times_in_order(engine: Engine) -> None:
    one, heard = make(PROMPTS[0], Sampling(temperature=0.0, ignore_eos=True), limit=5)
    engine.submit([one])
    text, end = heard.wait()
    assert isinstance(end, Ended)
    assert (len(text), end.completion_tokens, end.reason) == (5, 5, "length")
    assert end.submitted <= end.admitted <= end.first_token <= end.last_token


def test_cancelling_frees_the_place(engine: Engine) -> None:
    endless = [make(PROMPTS[0], Sampling(ignore_eos=True), limit=400) for _ in range(4)]
    engine.submit([made for made, _ in endless])
    late, heard = make(PROMPTS[1], Sampling(ignore_eos=True), limit=2)
    engine.submit([late])
    engine.cancel([made for made, _ in endless])
    assert isinstance(heard.wait()[1], Ended)


def test_a_full_queue_is_busy(engine: Engine) -> None:
    crowd = [make(PROMPTS[0], Sampling(ignore_eos=True), limit=400)[0] for _ in range(12)]
    engine.submit(crowd)
    one, _ = make(PROMPTS[0], Sampling())
    with pytest.raises(BusyError, match="queue is full"):
        engine.submit([one] * 2)
    engine.cancel(crowd)


def test_a_step_that_fails_ends_its_answers_and_not_the_engine(engine: Engine) -> None:
    broken, heard = make([999], Sampling())
    engine.submit([broken])
    assert isinstance(heard.wait()[1], Failed)
    one, heard = make(PROMPTS[0], Sampling(ignore_eos=True), limit=2)
    engine.submit([one])
    assert isinstance(heard.wait()[1], Ended)


def test_closing_fails_what_is_not_complete() -> None:
    engine = Engine(tiny_decoder(), Limits(1, 8, 2000, 16), "tiny")
    many = [make(PROMPTS[0], Sampling(ignore_eos=True), limit=400) for _ in range(3)]
    engine.submit([made for made, _ in many])
    engine.close()
    outcomes = [heard.wait()[1] for _, heard in many]
    assert all(isinstance(o, Failed) for o in outcomes)
    with pytest.raises(UnavailableError):
        engine.submit([many[0][0]])
