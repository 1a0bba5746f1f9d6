"""A cascade: the first endpoint's whole answer is judged, and kept or asked for elsewhere as well."""

from __future__ import annotations

import pytest

from daulat.errors import UpstreamUnavailableError
from daulat.flow.cascading import Keep, Said, said
from daulat.values.answer import CallPiece, Done, Finish, Piece, TokenLogprob, Usage
from tests.flow.obedient import END, TIMINGS, Asked, Obedient, chat, work

DOWN = UpstreamUnavailableError("down")


def judged(verdict: bool, heard: list[Said] | None = None) -> Keep:
    def keep(answer: Said) -> bool:
        if heard is not None:
            heard.append(answer)
        return verdict

    return keep


@pytest.mark.parametrize("stream", [True, False])
class TestCascade:
    async def test_what_is_good_enough_is_given_and_nobody_else_is_asked(
        self, stream: bool
    ) -> None:
        heard: list[Said] = []
        asked = Asked(
            [Obedient("open", ["ab", "c", *END]), Obedient("closed", ["x", *END])],
            keep=judged(True, heard),
        )
        assert await asked.ask(chat(stream=stream)) == "abc"
        assert heard == [Said("abc", None, plain=True)]
        assert not asked.endpoints[1].asked
        assert not asked.attempts.escalated
        assert asked.attempts.step.endpoint == "open"
        assert asked.books.told() == [("open", None)]

    async def test_what_is_not_is_asked_elsewhere_and_both_are_paid(self, stream: bool) -> None:
        asked = Asked(
            [Obedient("open", ["ab", *END]), Obedient("closed", ["x", *END])], keep=judged(False)
        )
        assert await asked.ask(chat(stream=stream)) == "x"
        assert asked.attempts.escalated
        assert asked.attempts.step.endpoint == "closed"
        assert asked.books.told() == [("open", None), ("closed", None)]
        assert [one.why for one in asked.books.outcomes] == ["first", "escalation"]
        assert asked.usage == Usage(5, 3)  # of the answer that was given, not of both

    async def test_a_failing_escalation_gives_the_first_answer_after_all(
        self, stream: bool
    ) -> None:
        asked = Asked(
            [Obedient("open", ["ab", *END]), Obedient("closed", [DOWN])], keep=judged(False)
        )
        assert await asked.ask(chat(stream=stream)) == "ab"
        assert asked.attempts.escalated
        assert asked.attempts.step.endpoint == "open"

    async def test_a_first_that_fails_is_no_reason_to_fail(self, stream: bool) -> None:
        asked = Asked(
            [Obedient("open", [DOWN]), Obedient("closed", ["x", *END])], keep=judged(True)
        )
        assert await asked.ask(chat(stream=stream)) == "x"
        assert not asked.attempts.escalated
        assert asked.books.told() == [("open", DOWN.code), ("closed", None)]

    async def test_who_judges_sees_the_probe(self, stream: bool) -> None:
        heard: list[Said] = []
        end = (Finish(0, "stop", None, (0.5, -2.0)), END[1])
        asked = Asked(
            [Obedient("open", ["ab", *end]), Obedient("closed", ["x", *END])],
            keep=judged(True, heard),
        )
        assert await asked.ask(chat(stream=stream)) == "ab"
        assert heard == [Said("ab", None, plain=True, probe=(0.5, -2.0))]

    async def test_one_step_alone_is_not_judged(self, stream: bool) -> None:
        heard: list[Said] = []
        asked = Asked([Obedient("open", ["ab", *END])], keep=judged(False, heard))
        assert await asked.ask(chat(stream=stream)) == "ab"
        assert not heard

    async def test_who_leaves_while_it_is_escalated_leaves_nothing_open(self, stream: bool) -> None:
        asked = Asked(
            [Obedient("open", ["ab", *END]), Obedient("closed", ["x", 60.0, *END])],
            keep=judged(False),
        )
        events = asked.attempts.events(work(chat()))
        async for event in events:
            assert event == Piece(0, "x")
            break
        await events.aclose()
        asked.attempts.end()
        asked.check()


def test_what_is_said() -> None:
    token = TokenLogprob("a", b"a", -0.5)
    other = TokenLogprob("b", b"b", -1.5)
    events = [
        Piece(0, "hm", kind="thought"),
        Piece(0, "a", (token,)),
        Piece(0, "b", (other,)),
        Finish(0, "stop"),
        Done(Usage(1, 2), TIMINGS),
    ]
    assert said(events) == Said("ab", -1.0, plain=True)


@pytest.mark.parametrize(
    "odd",
    [
        Piece(0, "I cannot", kind="refusal"),
        CallPiece(0, 0, "id", "name"),
        Finish(0, "content_filter"),
        Piece(1, "another choice"),
    ],
)
def test_what_is_not_one_text(odd: Piece | CallPiece | Finish) -> None:
    assert not said([Piece(0, "a"), odd]).plain
