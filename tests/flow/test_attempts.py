"""Plans carried out by endpoints that do as they are told: every answer is whole, or ends in an error."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from obedient import END, HANG, TIMINGS, Act, Asked, Obedient, chat, work

from daulat.errors import (
    BudgetError,
    ContextLengthError,
    DaulatError,
    GuardError,
    InternalError,
    UpstreamAnswerError,
    UpstreamBusyError,
    UpstreamError,
    UpstreamRequestError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)
from daulat.flow import attempts as module
from daulat.flow.breakers import FAILURES
from daulat.flow.metering import Bound
from daulat.route import plan
from daulat.values.answer import CallPiece, Done, Finish, Metered, Piece, Usage
from daulat.values.plan import Patience, Step
from daulat.values.request import (
    CompletionRequest,
    EmbeddingRequest,
    GenerationRequest,
    Sampling,
    Structure,
    Tool,
    Toolbox,
)

DOWN = UpstreamUnavailableError("It is down.")
CUT = UpstreamUnavailableError("The connection broke.", billable=True)
WRONG = UpstreamAnswerError("That is no answer.")


def busy(seconds: float | None = None) -> UpstreamBusyError:
    return UpstreamBusyError("It is busy.", retry_after=seconds)


@pytest.fixture
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-off of a hundredth."""
    monkeypatch.setattr(module, "_FIRST_BACKOFF", 0.0025)


hurried = pytest.mark.usefixtures("_hurry")


class TestRetries:
    @hurried
    async def test_what_may_pass_is_asked_again(self) -> None:
        one = Obedient("a", [DOWN], [busy()], ["ok", *END], patience=Patience(retries=2))
        asked = Asked([one])
        assert await asked.ask() == "ok"
        assert asked.books.told() == [
            ("a", "upstream_unavailable"),
            ("a", "upstream_rate_limited"),
            ("a", None),
        ]

    @hurried
    async def test_not_more_often_than_was_said(self) -> None:
        one = Obedient("a", [DOWN], patience=Patience(retries=2))
        with pytest.raises(UpstreamUnavailableError):
            await Asked([one]).ask()
        assert len(one.asked) == 3

    @pytest.mark.parametrize(
        "error",
        [
            WRONG,
            UpstreamTimeoutError("Too long."),
            UpstreamRequestError("No."),
            ContextLengthError("Too long."),
            InternalError("A defect."),
        ],
    )
    async def test_what_will_not_pass_is_not(self, error: DaulatError) -> None:
        one = Obedient("a", [error], patience=Patience(retries=5))
        with pytest.raises(type(error)):
            await Asked([one]).ask()
        assert len(one.asked) == 1

    async def test_back_off_grows_and_has_jitter(self) -> None:
        asked = Asked([Obedient("a", [DOWN], patience=Patience(retries=9))])
        step = asked.attempts.first
        waits = [
            [asked.attempts._trying._wait(step, DOWN, tries) for _ in range(50)]
            for tries in range(4)
        ]
        for tries, found in enumerate(waits):
            assert len(set(found)) > 1
            assert all(0.125 * 2**tries <= wait <= 0.25 * 2**tries for wait in found if wait)

    async def test_retry_after_is_kept(self) -> None:
        one = Obedient("a", [busy(0.4)], ["ok", *END], patience=Patience(retries=1))
        began = time.monotonic()
        assert await Asked([one]).ask() == "ok"
        assert time.monotonic() - began >= 0.4

    async def test_who_asks_for_too_long_is_not_waited_for(self) -> None:
        alone = Obedient("a", [busy(60)], patience=Patience(retries=3))
        with pytest.raises(UpstreamBusyError) as raised:
            await Asked([alone]).ask()
        assert raised.value.retry_after == 60
        first = Obedient("a", [busy(2)], patience=Patience(retries=3))
        assert await Asked([first, Obedient("b", ["ok", *END])]).ask() == "ok"
        assert len(first.asked) == 1

    async def test_a_rest_that_was_asked_for_holds_for_all_requests(self) -> None:
        one = Obedient("a", [busy(0.3)], ["ok", *END], patience=Patience(retries=0))
        first = Asked([one])
        with pytest.raises(UpstreamBusyError):
            await first.ask()
        began = time.monotonic()
        assert await Asked([one], breakers=first.breakers).ask() == "ok"
        assert time.monotonic() - began > 0.2
        long = Obedient("a", [busy(60)])
        first = Asked([long])
        for asked in (first, Asked([long], breakers=first.breakers)):
            with pytest.raises(UpstreamBusyError) as raised:
                await asked.ask()
            assert 59 < (raised.value.retry_after or 0) <= 60
        assert len(long.asked) == 1


class TestFallbacks:
    async def test_in_order_and_invisibly(self) -> None:
        steps = [
            Obedient("a", [Metered(Usage(5, 0)), Piece(0, ""), DOWN]),
            Obedient("b", [WRONG]),
            Obedient("c", ["a", "b", *END]),
            Obedient("d", ["never", *END]),
        ]
        asked = Asked(steps)
        assert await asked.ask() == "ab"
        assert asked.heard == [Piece(0, "a"), Piece(0, "b"), Finish(0, "stop"), asked.heard[-1]]
        assert asked.attempts.step.endpoint == "c"
        assert [name for name, _ in asked.books.told()] == ["a", "b", "c"]

    async def test_a_whole_answer_falls_back_from_anywhere_before_its_end(self) -> None:
        for broken in ([*"abc", CUT], [*"abc", Finish(0, "stop"), WRONG], [*"abc"]):
            asked = Asked([Obedient("a", broken), Obedient("b", ["xyz", *END])])
            assert await asked.ask(chat(stream=False)) == "xyz"
            assert not asked.attempts.continued
            told = asked.books.outcomes[0]
            assert told.error
            assert told.usage.completion_tokens > 0, "what was made is paid"

    async def test_the_preferred_ones_error_is_told(self) -> None:
        asked = Asked([Obedient("a", [WRONG]), Obedient("b", [DOWN])])
        with pytest.raises(UpstreamAnswerError) as raised:
            await asked.ask()
        assert "1 other endpoints" in raised.value.message

    async def test_who_was_merely_busy_says_less(self) -> None:
        with pytest.raises(UpstreamRequestError):
            await Asked(
                [Obedient("a", [busy(9)]), Obedient("b", [UpstreamRequestError("Too long.")])]
            ).ask()

    async def test_a_defect_becomes_ours_and_falls_back(self) -> None:
        asked = Asked([Obedient("a", [ZeroDivisionError("secret")]), Obedient("b", ["ok", *END])])
        assert await asked.ask() == "ok"
        assert asked.books.told()[0] == ("a", "internal_error")
        with pytest.raises(InternalError) as raised:
            await Asked([Obedient("a", [ZeroDivisionError("secret")])]).ask()
        assert "secret" not in raised.value.message
        assert isinstance(raised.value.__cause__, ZeroDivisionError)

    async def test_an_answer_without_an_end_is_none(self) -> None:
        with pytest.raises(UpstreamAnswerError):
            await Asked([Obedient("a", ["ab", Finish(0, "stop")])]).ask()

    async def test_what_comes_behind_the_end_does_not_count(self) -> None:
        for stream in (True, False):
            asked = Asked([Obedient("a", ["ab", *END, CUT]), Obedient("b", ["no", *END])])
            assert await asked.ask(chat(stream=stream)) == "ab"
            assert asked.books.told() == [("a", None)]

    def test_weights(self) -> None:
        steps = [Step(name, "us", "closed", "m", "") for name in "abc"]
        draws = [index / 1000 for index in range(1000)]
        firsts = [plan(steps, "", (6, 3, 1), random=lambda d=d: d).steps[0] for d in draws]
        assert [firsts.count(step) for step in steps] == [600, 300, 100]

    async def test_a_budget_that_does_not_cover_the_fallback(self) -> None:
        asked = Asked([Obedient("a", [DOWN]), Obedient("b", ["ok", *END])])
        asked.books.refuse = BudgetError("No money.")
        with pytest.raises(UpstreamUnavailableError):
            await asked.ask()
        assert asked.books.told() == [("a", "upstream_unavailable")]


class TestHedging:
    async def test_not_begun_where_the_first_is_in_time(self) -> None:
        second = Obedient("b", ["no", *END])
        assert await Asked([Obedient("a", [0.01, "ok", *END]), second], hedge=0.3).ask() == "ok"
        assert not second.asked

    @pytest.mark.parametrize("stream", [True, False])
    async def test_the_faster_wins_and_the_other_is_counted(self, stream: bool) -> None:
        slow = Obedient("a", [Metered(Usage(7, 0)), HANG])
        asked = Asked([slow, Obedient("b", ["ok", *END])], hedge=0.02)
        assert await asked.ask(chat(stream=stream)) == "ok"
        assert asked.books.told() == [("a", "hedged"), ("b", None)]
        lost = next(one for one in asked.books.outcomes if one.error)
        assert lost.usage.prompt_tokens == 7
        assert lost.money

    async def test_both_in_one_moment(self) -> None:
        steps = [Obedient("a", [0.05, "ok", *END]), Obedient("b", ["ok", *END])]
        for _ in range(5):
            asked = Asked(steps, hedge=0.05)
            assert await asked.ask() == "ok"
            assert len(asked.books.outcomes) == len(asked.books.begun) + 1

    async def test_one_that_fails_is_followed_at_once(self) -> None:
        began = time.monotonic()
        steps = [Obedient("a", [DOWN]), Obedient("b", ["ok", *END])]
        assert await Asked(steps, hedge=5).ask() == "ok"
        assert time.monotonic() - began < 2

    async def test_both_fail(self) -> None:
        asked = Asked([Obedient("a", [0.05, WRONG]), Obedient("b", [0.05, DOWN])], hedge=0.01)
        with pytest.raises(UpstreamError) as raised:
            await asked.ask()
        assert "1 other endpoints" in raised.value.message
        asked.check()

    @pytest.mark.parametrize("after", [0.0, 0.01, 0.05])
    async def test_who_leaves_leaves_nothing_behind(self, after: float) -> None:
        asked = Asked([Obedient("a", [HANG]), Obedient("b", [HANG])], hedge=0.02)
        task = asyncio.create_task(asked.ask())
        await asyncio.sleep(after)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        asked.check()
        assert {error for _, error in asked.books.told()} <= {"cancelled"}

    async def test_who_leaves_while_the_loser_lets_go(self) -> None:
        """The winner is not forgotten."""

        class Slow(Obedient):
            async def generate(self, request, step, caller):
                try:
                    await asyncio.sleep(HANG)
                finally:
                    await asyncio.sleep(0.1)
                yield Piece(0, "")

        winner = Obedient("b", ["ok", HANG])
        asked = Asked([Slow("a", []), winner], hedge=0.01)
        task = asyncio.create_task(asked.ask())
        await asyncio.sleep(0.06)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert winner.open == 0
        assert {name for name, _ in asked.books.told()} == {"a", "b"}


class TestTimeOuts:
    async def _late(self, script: list[Act], patience: Patience, stream: bool = True) -> str:
        with pytest.raises(UpstreamTimeoutError) as raised:
            await Asked([Obedient("a", script, patience=patience)]).ask(chat(stream=stream))
        return raised.value.message

    async def test_each_says_which_it_was(self) -> None:
        patience = Patience(first=0.05, between=0.1, total=0.3)
        assert "0.05 s for its first token" in await self._late([HANG], patience)
        assert "0.1 s for its next token" in await self._late(["a", HANG], patience)
        endless: list[Act] = ["a", 0.06] * 20
        assert "0.3 s for its whole answer" in await self._late(endless, patience)
        assert "0.3 s for its whole answer" in await self._late([HANG], patience, stream=False)

    async def test_a_count_is_no_token(self) -> None:
        patience = Patience(first=0.2, between=0.05)
        one = Obedient("a", [Metered(Usage(5, 0)), 0.12, "ok", *END], patience=patience)
        assert await Asked([one]).ask() == "ok"
        counting: list[Act] = [Metered(Usage(5, 0)), 0.06] * 20
        assert "first token" in await self._late(counting, Patience(first=0.15))

    async def test_whoever_listens_slowly_costs_no_time(self) -> None:
        one = Obedient("a", ["a", "b", *END], patience=Patience(first=0.1, between=0.1))
        async for _ in Asked([one]).attempts.events(work(chat())):
            await asyncio.sleep(0.15)

    async def test_a_time_out_of_the_endpoints_own_is_not_taken_for_ours(self) -> None:
        one = Obedient("a", [TimeoutError("of the system")], patience=Patience(first=9))
        with pytest.raises(InternalError):
            await Asked([one]).ask()

    async def test_it_falls_back(self) -> None:
        late = Obedient("a", [HANG], patience=Patience(first=0.05, retries=3))
        assert await Asked([late, Obedient("b", ["ok", *END])]).ask() == "ok"
        assert len(late.asked) == 1


class TestBreakers:
    async def test_they_open_and_half_open_and_close(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("daulat.flow.breakers.FIRST_REST", 0.2)
        first = Obedient("a", *[[DOWN]] * FAILURES, ["back", *END])
        second = Obedient("b", ["ok", *END])
        start = Asked([first, second])
        assert await start.ask() == "ok"
        for _ in range(FAILURES - 1):
            assert await Asked([first, second], breakers=start.breakers).ask() == "ok"
        assert len(first.asked) == FAILURES
        left = Asked([first, second], breakers=start.breakers)
        assert await left.ask() == "ok"
        assert left.books.told() == [("a", "left_alone"), ("b", None)]
        with pytest.raises(UpstreamUnavailableError, match="several times in a row"):
            await Asked([first], breakers=start.breakers).ask()
        assert len(first.asked) == FAILURES
        await asyncio.sleep(0.25)
        for _ in range(3):
            assert await Asked([first, second], breakers=start.breakers).ask() == "back"

    async def _probing(self, script: list[Act]) -> tuple[Asked, Obedient]:
        """An endpoint whose breaker is half open."""
        one = Obedient("a", script)
        asked = Asked([one])
        for _ in range(FAILURES):
            asked.breakers.failed("a/m", -1000.0)
        assert not asked.breakers.waits("a/m", time.monotonic())
        return asked, one

    async def test_a_client_that_stops_at_the_end_closes_them(self) -> None:
        """As the server does: it reads nothing behind `Done`."""
        asked, one = await self._probing(["ok", *END])
        async with contextlib.aclosing(asked.attempts.events(work(chat()))) as events:
            async for event in events:
                if isinstance(event, Done):
                    break
        assert not asked.breakers.waits("a/m", time.monotonic())
        assert await Asked([one], breakers=asked.breakers).ask() == "ok"
        assert not asked.breakers.broken("a/m")

    async def test_one_request_finds_out(self) -> None:
        asked, one = await self._probing([0.1, "ok", *END])
        second = Obedient("b", ["other", *END])
        many = [Asked([one, second], breakers=asked.breakers) for _ in range(5)]
        assert sorted(await asyncio.gather(*(a.ask(among=True) for a in many))) == [
            "ok",
            *["other"] * 4,
        ]

    async def test_it_is_not_asked_again_at_once(self) -> None:
        asked, one = await self._probing([DOWN])
        one.card = replace(one.card, patience=Patience(retries=5))
        with pytest.raises(UpstreamUnavailableError):
            await asked.ask()
        assert len(one.asked) == 1

    @pytest.mark.parametrize("script", [[HANG], ["a", HANG]])
    async def test_who_leaves_lets_another_find_out(self, script: list[Act]) -> None:
        asked, _ = await self._probing(script)
        task = asyncio.create_task(asked.ask())
        await asyncio.sleep(0.02)
        assert asked.breakers.waits("a/m", time.monotonic())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not asked.breakers.waits("a/m", time.monotonic())

    async def test_who_leaves_while_money_is_set_aside_does_too(self) -> None:
        asked, _ = await self._probing(["ok", *END])
        down = Obedient("b", [DOWN])
        both = Asked([down, *asked.endpoints], breakers=asked.breakers)
        both.books.slow = HANG
        task = asyncio.create_task(both.ask())
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not asked.breakers.waits("a/m", time.monotonic())
        assert both.books.told() == [("b", "upstream_unavailable"), ("a", "cancelled")]
        assert both.books.outcomes[-1].money == 0

    async def test_one_model_of_an_endpoint_says_nothing_of_another(self) -> None:
        asked = Asked([Obedient("a", [UpstreamRequestError("No.")])])
        for _ in range(FAILURES + 1):
            with pytest.raises(UpstreamRequestError):
                await Asked(asked.endpoints, breakers=asked.breakers).ask()
        assert not asked.breakers.waits("a/m", time.monotonic())
        assert not asked.breakers.waits("a/other", time.monotonic())


WHOLE = "abcdefghijklmnop"


def able(name: str, *scripts: list[Act], **more: object) -> Obedient:
    scripts = scripts or ([Obedient.GO_ON, *END],)
    return Obedient(name, *scripts, whole=WHOLE, can=["continue"], **more)  # type: ignore[arg-type]


class TestGoingOn:
    async def test_the_text_is_whole_and_the_usage_is_summed(self) -> None:
        other = able("c")
        asked = Asked([Obedient("a", ["abcd", "efgh", CUT]), Obedient("b", ["no", *END]), other])
        assert await asked.ask() == WHOLE
        assert other.asked[0].begun == "abcdefgh"
        assert [(at, s.endpoint) for at, s in asked.attempts.continued] == [(8, "c")]
        cut, last = asked.books.outcomes
        words = cut.usage.completion_tokens + last.usage.completion_tokens
        assert asked.usage == Usage(cut.usage.prompt_tokens, words, counted=True)
        assert asked.books.told() == [("a", "upstream_unavailable"), ("c", None)]

    async def test_max_tokens_is_for_the_whole_answer(self) -> None:
        other = able("b")
        asked = Asked([Obedient("a", ["abcdefgh", CUT]), other])
        await asked.ask(chat(sampling=Sampling(max_tokens=10)))
        assert other.asked[0].sampling.max_tokens == 8

    @hurried
    async def test_the_one_that_was_cut_may_go_on_itself(self) -> None:
        one = able("a", ["abc", CUT], [Obedient.GO_ON, *END])
        assert await Asked([one]).ask() == WHOLE

    async def test_it_may_be_cut_again(self) -> None:
        b, c = able("b", ["ef", CUT]), able("c")
        asked = Asked([Obedient("a", ["abcd", CUT]), b, c])
        assert await asked.ask() == WHOLE
        assert [at for at, _ in asked.attempts.continued] == [4, 6]
        assert c.asked[0].begun == "abcdef"

    async def test_not_for_ever(self) -> None:
        steps = [able("a", ["x", CUT]), able("b", ["x", CUT])]
        asked = Asked(steps)
        with pytest.raises(UpstreamUnavailableError):
            await asked.ask()
        assert len(asked.attempts.continued) == module.MOST_CONTINUED
        assert not any(isinstance(event, Done) for event in asked.heard)

    async def test_a_count_that_nobody_bills_is_not_lost(self) -> None:
        """An error that says it costs nothing, behind words that were made."""
        asked = Asked([Obedient("a", ["abcdefgh", busy()]), able("b")])
        assert await asked.ask() == WHOLE
        assert asked.usage.prompt_tokens > 0
        assert asked.books.outcomes[0].usage.completion_tokens == 2

    @pytest.mark.parametrize(
        "more",
        [
            {"tools": Toolbox((Tool("t"),))},
            {"structure": Structure("json", {"type": "object"}, "response_format")},
            {"sampling": Sampling(n=2)},
            {"sampling": Sampling(logprobs=0)},
            {"sampling": Sampling(stop=("dx",))},
        ],
    )
    async def test_not_where_the_rest_would_not_be_the_rest(self, more: dict[str, object]) -> None:
        asked = Asked([Obedient("a", ["abcd", CUT]), able("b")])
        with pytest.raises(UpstreamUnavailableError, match="broke"):
            await asked.ask(chat(**more))
        assert asked.text == "abcd"
        assert not any(isinstance(event, Done) for event in asked.heard)
        asked.check()

    @pytest.mark.parametrize(
        "said",
        [
            [Piece(1, "abcd")],
            [Piece(0, "abcd", kind="thought")],
            ["abcd", CallPiece(0, 0, "id", "t")],
            ["abcd", Finish(0, "stop")],
        ],
    )
    async def test_not_behind_anything_but_text(self, said: list[Act]) -> None:
        with pytest.raises(UpstreamUnavailableError, match="broke"):
            await Asked([Obedient("a", [*said, CUT]), able("b")]).ask()

    async def test_not_for_completions(self) -> None:
        request = CompletionRequest("m", ("abc",), stream=True)
        with pytest.raises(UpstreamUnavailableError, match="broke"):
            await Asked([Obedient("a", ["abcd", CUT]), able("b")]).ask(request)

    async def test_the_first_error_is_told_where_the_others_fail_too(self) -> None:
        asked = Asked([Obedient("a", ["abcd", CUT]), able("b", [WRONG])])
        with pytest.raises(UpstreamUnavailableError, match="broke"):
            await asked.ask()
        assert [error for _, error in asked.books.told()] == [CUT.code, WRONG.code]

    async def test_not_by_who_is_left_alone(self) -> None:
        asked = Asked([Obedient("a", ["abcd", CUT]), able("b")])
        for _ in range(FAILURES):
            asked.breakers.failed("b/m", time.monotonic())
        with pytest.raises(UpstreamUnavailableError, match="broke"):
            await asked.ask()
        assert not asked.endpoints[1].asked

    @pytest.mark.parametrize("answer", [False, GuardError("A detector cannot run.")])
    async def test_not_where_the_words_may_not_be_heard(self, answer: bool | GuardError) -> None:
        asked = Asked([Obedient("a", ["abcd", CUT]), able("b")])
        first, second = asked.attempts._plan.steps
        elsewhere = replace(second, place="elsewhere")
        asked.attempts._plan = replace(asked.attempts._plan, steps=(first, elsewhere))

        async def may_hear(step: Step, text: str) -> bool:
            assert (step, text) == (elsewhere, "abcd")
            if isinstance(answer, GuardError):
                raise answer
            return answer

        with pytest.raises(UpstreamUnavailableError, match="broke"):
            async for _ in asked.attempts.events(replace(work(chat()), may_hear=may_hear)):
                pass
        assert not asked.endpoints[1].asked

    async def test_not_where_one_is_sent_other_words(self) -> None:
        asked = Asked([Obedient("a", ["abcd", CUT]), able("b")])
        first, second = asked.attempts._plan.steps
        asked.attempts._plan = replace(
            asked.attempts._plan, steps=(first, replace(second, redacted=True))
        )
        with pytest.raises(UpstreamUnavailableError, match="broke"):
            await asked.ask()


class TestLeaving:
    SCRIPTS: tuple[list[Act], ...] = (
        ["a", "b", "c", *END],
        [Metered(Usage(5, 1)), "a", CallPiece(0, 0, "i", "t"), *END],
    )

    @pytest.mark.parametrize("script", SCRIPTS)
    async def test_at_every_event(self, script: list[Act]) -> None:
        events = sum(not isinstance(act, Metered) for act in script)
        for index in range(events):
            one = Obedient("a", script)
            asked = Asked([one])
            answer = asked.attempts.events(work(chat()))
            for _ in range(index + 1):
                event = await anext(answer)
            await answer.aclose()
            assert one.open == 0
            (outcome,) = asked.books.outcomes
            assert outcome.error == (None if isinstance(event, Done) else "cancelled")
            assert outcome.usage.prompt_tokens > 0

    @hurried
    async def test_at_every_turn_of_the_loop(self) -> None:
        """Cancelled after any number of turns, whatever the work is waiting for then."""

        def fresh() -> Asked:
            steps = [
                Obedient("a", [0, DOWN], [0, busy()], patience=Patience(retries=1, first=5)),
                Obedient("b", [0, "abcd", 0, CUT]),
                able("c", [0, "efgh", 0, CUT], patience=Patience(first=5)),
                able("d"),
            ]
            return Asked(steps, hedge=0.001)

        for turns in range(120):
            asked = fresh()
            task = asyncio.create_task(asked.ask())
            for _ in range(turns):
                await asyncio.sleep(0)
            if turns % 3 == 0:
                await asyncio.sleep(turns / 20_000)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                assert await task == WHOLE
            asked.check()
            for name in "abcd":
                assert (
                    not asked.breakers._states.get(f"{name}/m")
                    or not asked.breakers._states[f"{name}/m"].probing
                )


class TestInOnePiece:
    """Calls that are answered in one piece: embeddings, moderations."""

    async def _ask(self, asked: Asked) -> tuple[object, Usage]:
        request = EmbeddingRequest("m", ("abcd efgh",))
        return await asked.attempts.ask(
            work(request),
            lambda endpoint, step, sent: endpoint.embed(sent, step),
            lambda answer: answer.usage,
        )

    @hurried
    async def test_retries_and_fallbacks(self) -> None:
        first = Obedient("a", [DOWN], patience=Patience(retries=1))
        asked = Asked([first, Obedient("b", [Done(Usage(4), TIMINGS)])])
        _, usage = await self._ask(asked)
        assert usage == Usage(4)
        assert [error for _, error in asked.books.told()] == [DOWN.code, DOWN.code, None]
        assert asked.attempts.step.endpoint == "b"

    @pytest.mark.parametrize("told", [Usage(0), Usage(-4), Usage(10**9), Usage(4, 7), Usage(4, -1)])
    async def test_a_count_that_cannot_be_true(self, told: Usage) -> None:
        asked = Asked([Obedient("a", [Done(told, TIMINGS)])])
        request = EmbeddingRequest("m", ("abcd efgh",))
        sent = replace(work(request), limit=lambda _step, _request: Bound(1000, 0, 0))
        _, usage = await asked.attempts.ask(
            sent, lambda endpoint, step, r: endpoint.embed(r, step), lambda answer: answer.usage
        )
        assert usage == Usage(3, counted=True)
        assert asked.books.outcomes[0].usage == usage

    async def test_too_late(self) -> None:
        asked = Asked([Obedient("a", [HANG], patience=Patience(total=0.05, retries=3))])
        with pytest.raises(UpstreamTimeoutError):
            await self._ask(asked)
        (outcome,) = asked.books.outcomes
        assert outcome.money, "it may be billed"

    async def test_who_leaves(self) -> None:
        asked = Asked([Obedient("a", [HANG])])
        for _ in range(FAILURES):
            asked.breakers.failed("a/m", -1000.0)
        task = asyncio.create_task(self._ask(asked))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asked.books.told() == [("a", "cancelled")]
        assert not asked.breakers.waits("a/m", time.monotonic())

    async def test_a_defect(self) -> None:
        asked = Asked([Obedient("a", [ZeroDivisionError("secret")])])
        with pytest.raises(InternalError) as raised:
            await self._ask(asked)
        assert "secret" not in raised.value.message
        assert asked.books.told() == [("a", "internal_error")]


# --- any script whatever ------------------------------------------------------------------------------

ENDINGS = st.sampled_from([None, DOWN, CUT, WRONG, busy(), ZeroDivisionError(), "silence"])


@st.composite
def scripts(draw: st.DrawFn, can: bool) -> list[Act]:
    """So much of the whole text in pieces, and how it ends."""
    size = draw(st.integers(0, len(WHOLE)))
    ending = draw(ENDINGS)
    if ending is None:
        return [Obedient.GO_ON, *END] if can else [*WHOLE, *END]
    pauses = draw(st.lists(st.sampled_from([0, 0.001]), max_size=3))
    finish: list[Act] = [END[0]] if draw(st.booleans()) else []
    begun: list[Act] = [] if can else list(WHOLE[:size])
    last: list[Act] = [] if ending == "silence" else [ending]
    return [*pauses, *begun, *finish, *last]


@st.composite
def endpoints(draw: st.DrawFn, name: str) -> Obedient:
    can = draw(st.booleans())
    found = draw(st.lists(scripts(can), min_size=1, max_size=3))
    patience = Patience(retries=draw(st.integers(0, 2)))
    return Obedient(name, *found, whole=WHOLE, can=["continue"] if can else [], patience=patience)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from("abcd"), min_size=1, max_size=4, unique=True).flatmap(
        lambda names: st.tuples(*(endpoints(name) for name in names))
    ),
    st.sampled_from([0.0, 0.0005]),
    st.booleans(),
    st.integers(-1, 40),
)
def test_an_answer_is_whole_or_ends_in_an_error(
    found: tuple[Obedient, ...], hedge: float, stream: bool, leave: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_FIRST_BACKOFF", 0.0)
        asyncio.run(_whole_or_error(Asked(found, hedge), chat(stream=stream), leave))


async def _whole_or_error(asked: Asked, request: GenerationRequest, leave: int) -> None:
    try:
        async with contextlib.aclosing(asked.attempts.events(work(request))) as events:
            async for event in events:
                asked.heard.append(event)
                if len(asked.heard) == leave:
                    break
    except DaulatError:
        assert not any(isinstance(event, Done) for event in asked.heard)
    else:
        assert len(asked.heard) == leave or isinstance(asked.heard[-1], Done)
    assert WHOLE.startswith(asked.text)
    if asked.heard and isinstance(asked.heard[-1], Done):
        assert asked.text == WHOLE
        assert [type(event) for event in asked.heard[-2:]] == [Finish, Done]
    asked.check()
    assert all(not state.probing for state in asked.breakers._states.values())
