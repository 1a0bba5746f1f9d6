"""Asking many examples of several endpoints, through a real house: each once, within the budget, resumably."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from evaluating_house import Ran, bench, examples, settings

from daulat.endpoints import scripted
from daulat.endpoints.scripted import Answer, Chance, Delays, Script, Upstream, chosen
from daulat.errors import ModelNotFoundError, RequestError, UnavailableError
from daulat.evaluate.answers import Answer as Kept
from daulat.evaluate.answers import Answers
from daulat.evaluate.estimating import GUESSED_TOKENS
from daulat.evaluate.running import AT_FIRST, How, in_order
from daulat.evaluate.tasks import ANSWERS
from daulat.record import verify
from daulat.route.learning.outcomes import read
from daulat.values.money import PER_UNIT

YES = Script(answers=(Answer("yes"),))
PRICE = 25 * 10**5, 10**7
"""Amounts a token: 2.5 and 10 units a million."""


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRIPTED_KEY", "any")


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with scripted.running(YES) as found:
        yield found


def asked(upstream: Upstream) -> list[tuple[str, str]]:
    """Model and question of everything that the upstream was asked."""
    bodies = [one["body"] for one in upstream.requests()]
    return [(body["model"], body["messages"][-1]["content"]) for body in bodies]


def billed(upstream: Upstream) -> int:
    """What the upstream's own books come to, in amounts."""
    totals = upstream.ledger()["totals"]
    return totals["prompt_tokens"] * PRICE[0] + totals["completion_tokens"] * PRICE[1]


def counts(ran: Ran, endpoint: int = 0) -> dict[str, int]:
    found = ran.comparison.endpoints[endpoint].counts
    names = ("answered", "refused", "barred", "failed", "missing", "cut", "redacted")
    return {name: n for name in names if (n := getattr(found, name))}


async def test_every_example_is_asked_of_every_endpoint_once(
    tmp_path: Path, upstream: Upstream
) -> None:
    settings(tmp_path, upstream, ["a", "b"])
    async with bench(tmp_path, examples(9)) as one:
        ran = await one.run("a", "up/b")
        assert (ran.ended.how, ran.asked) == ("done", 18)
        first = asked(upstream)
        assert len(first) == len(set(first)) == 18
        assert counts(ran) == counts(ran, 1) == {"answered": 9}
        assert ran.spent == billed(upstream) > 0
        side = ran.comparison.endpoints[0]
        assert side.money == pytest.approx(ran.spent / 2 / PER_UNIT)
        assert side.score is not None
        assert side.score.value == 1
        assert side.seconds is not None
        assert side.first_seconds is not None
        assert 0 < side.first_seconds["p50"].value <= side.seconds["p50"].value  # type: ignore[operator]
        assert (side.identity, side.place, side.open) == (("up/a",), "us", False)
        keys = {entry.body["key"] for entry in one.house.record.entries(kind="exchange.opened")}
        assert keys == {f"compare-{ran.plan.id}"}
        assert verify(one.house.record).fault is None

        again = await one.run("a", "up/b")
        assert (again.asked, again.plan.id, again.spent) == (0, ran.plan.id, ran.spent)
        assert asked(upstream) == first
        assert again.comparison.endpoints == ran.comparison.endpoints
        told = read(one.folder / "outcomes.jsonl")
        assert (told.endpoints, len(told), told.scores.min()) == (("a", "up/b"), 9, 1.0)


async def test_the_same_example_is_asked_close_in_time_and_few_at_once(tmp_path: Path) -> None:
    with scripted.running(replace(YES, delays=Delays(first=0.05))) as upstream:
        settings(tmp_path, upstream, ["a", "b", "c"])
        async with bench(tmp_path, examples(12)) as one:
            await one.run("a", "b", "c", concurrency=2)
        order = [question for _model, question in asked(upstream)]
    # Of two examples at a time, three requests each: nobody is further ahead than that.
    for place, question in enumerate(order):
        assert place - order.index(question) < 6


async def test_a_limit_draws_examples_and_a_larger_one_goes_on(
    tmp_path: Path, upstream: Upstream
) -> None:
    settings(tmp_path, upstream, ["a"])
    async with bench(tmp_path, examples(20)) as one:
        few = await one.run("a", limit=5, seed=3)
        more = await one.run("a", limit=8, seed=3)
        assert (few.asked, more.asked) == (5, 3)
        assert [e.id for e in more.plan.examples[:5]] == [e.id for e in few.plan.examples]
        assert [e.id for e in few.plan.examples] != ["0", "1", "2", "3", "4"]
        assert (await one.run("a", limit=5, seed=4)).plan.id != few.plan.id
    assert in_order(examples(9), 1) == in_order(reversed(examples(9)), 1)


async def test_a_budget_is_never_overshot(tmp_path: Path, upstream: Upstream) -> None:
    settings(tmp_path, upstream, ["a", "b"])
    async with bench(tmp_path, examples(40)) as one:
        plan = await one.plan(How(("a", "b"), max_tokens=20))
        question = next(iter(plan.run(one.asking(plan), Answers(one.folder / "none")).questions()))
        most = await one.asking(plan).most(question)
        assert most is not None
        for budget in (most - 1, most, 2 * most):
            ran = await one.run("a", "b", budget=budget, concurrency=8)
            assert ran.ended.how == "budget"
            assert ran.spent == billed(upstream) <= budget
        assert ran.spent > 0
        assert counts(ran)["missing"] > 0
        # What several at once had set aside may leave room for one more.
        last = await one.run("a", "b", budget=2 * most, concurrency=1)
        stuck = await one.run("a", "b", budget=2 * most)
        assert (stuck.ended.how, stuck.spent) == ("budget", last.spent)
        assert stuck.spent == billed(upstream) <= 2 * most
        done = await one.run("a", "b", budget=10 * most)
        assert (done.ended.how, counts(done), counts(done, 1)) == (
            "done",
            {"answered": 40},
            {"answered": 40},
        )
        assert done.spent == billed(upstream) <= 10 * most
        questions = asked(upstream)
        assert len(questions) == len(set(questions)) == 80


async def test_faults_are_counted_and_asked_again(tmp_path: Path) -> None:
    script = replace(YES, chances=(Chance(chosen("error_500"), 0.3),), seed=4)
    with scripted.running(script) as upstream:
        settings(tmp_path, upstream, ["a"])
        async with bench(tmp_path, examples(12)) as one:
            ran = await one.run("a", concurrency=1)
            failed = counts(ran).get("failed", 0)
            assert 0 < failed < 12
            assert counts(ran)["answered"] == 12 - failed
            assert sum(ran.comparison.endpoints[0].errors.values()) == failed
            assert set(ran.comparison.endpoints[0].errors) <= {"upstream_unavailable"}
            score = ran.comparison.endpoints[0].score
            assert score is not None
            assert (score.value, score.n) == (1.0, 12 - failed)
            delivered = ran.comparison.endpoints[0].delivered
            assert delivered is not None
            assert delivered.value == pytest.approx(1 - failed / 12)
            assert (await one.run("a", concurrency=1)).asked == failed


async def test_an_endpoint_that_does_not_answer_at_all_ends_it(
    tmp_path: Path, upstream: Upstream
) -> None:
    settings(tmp_path, upstream, ["a", "b+auth_expired"], more="first_seconds = 2.0")
    (tmp_path / "daulat.toml").write_text(
        (tmp_path / "daulat.toml")
        .read_text(encoding="utf-8")
        .replace("b+auth_expired", "b+wrong_content_type"),
        encoding="utf-8",
    )
    async with bench(tmp_path, examples(40)) as one:
        ran = await one.run("a", "b+wrong_content_type", concurrency=1)
        assert ran.ended.how == "failing"
        assert ran.ended.why.startswith(f"b+wrong_content_type failed {AT_FIRST} times in a row")
        assert counts(ran, 1) == {"failed": AT_FIRST, "missing": 40 - AT_FIRST}
        assert counts(ran) == {"answered": AT_FIRST, "missing": 40 - AT_FIRST}


@pytest.mark.parametrize("model", ["m+refusal", "m+content_filter@0"])
async def test_refusals_of_a_model_are_answers_of_their_own_kind(
    tmp_path: Path, upstream: Upstream, model: str
) -> None:
    settings(tmp_path, upstream, [model])
    async with bench(tmp_path, examples(3)) as one:
        ran = await one.run(model)
        assert (counts(ran), ran.ended.how) == ({"refused": 3}, "done")
        score = ran.comparison.endpoints[0].score
        assert score is not None
        assert score.value == 0
        assert (await one.run(model)).asked == 0


async def test_what_the_policy_keeps_back_is_asked_of_nobody(
    tmp_path: Path, upstream: Upstream
) -> None:
    settings(tmp_path, upstream, ["a"])
    mixed = [
        *examples(3),
        replace(examples(1, "Write to siti@example.org about {}.")[0], id="mail"),
        replace(examples(1, "A quiet text {}.", data_class="secret")[0], id="declared"),
    ]
    async with bench(tmp_path, mixed) as one:
        ran = await one.run("a")
        assert counts(ran) == {"answered": 3, "barred": 2}
        assert ran.comparison.endpoints[0].errors == {"permission_denied": 2}
        assert len(asked(upstream)) == 3
        assert (await one.run("a")).asked == 2


async def test_what_is_replaced_on_the_way_is_counted(tmp_path: Path, upstream: Upstream) -> None:
    settings(tmp_path, upstream, ["a"], policy='[policy.classes.personal]\nredacted = ["us"]')
    async with bench(tmp_path, examples(2, "Write to siti@example.org about {}.")) as one:
        ran = await one.run("a")
        assert counts(ran) == {"answered": 2, "redacted": 2}
        assert all("siti@example.org" not in question for _model, question in asked(upstream))


async def test_cut_answers_are_counted(tmp_path: Path) -> None:
    with scripted.running(Script(words=30)) as upstream:
        settings(tmp_path, upstream, ["a"])
        async with bench(tmp_path, examples(2)) as one:
            assert counts(await one.run("a", max_tokens=8)) == {"answered": 2, "cut": 2}


async def test_further_samples_are_kept_apart(tmp_path: Path) -> None:
    with scripted.running(
        Script(answers=(Answer("yes"), Answer("no"), Answer("perhaps")))
    ) as upstream:
        settings(tmp_path, upstream, ["a", "b"], more='capabilities = ["chat", "seed"]')
        async with bench(tmp_path, examples(4)) as one:
            ran = await one.run("a", "b", samples=2, samples_of=("a",), sample_temperature=0.5)
            assert ran.asked == 4 * 3 + 4
            told = read(one.folder / "outcomes.jsonl")
            assert [len(row[0]) for row in told.samples] == [2] * 4
            assert [len(row[1]) for row in told.samples] == [0] * 4
            assert counts(ran) == {"answered": 4}
            assert (
                await one.run("a", "b", samples=2, samples_of=("a",), sample_temperature=0.5)
            ).asked == 0
        bodies = [one["body"] for one in upstream.requests() if one["body"]["model"] == "a"]
        assert {body["temperature"] for body in bodies} == {0, 0.5}
        assert len({body["seed"] for body in bodies}) == 3


async def test_stopped_in_the_middle_it_goes_on(tmp_path: Path) -> None:
    with scripted.running(replace(YES, delays=Delays(first=0.1))) as upstream:
        settings(tmp_path, upstream, ["a", "b"])
        async with bench(tmp_path, examples(20)) as one:
            task = asyncio.create_task(one.run("a", "b", concurrency=2))
            while len(upstream.requests()) < 10:  # noqa: ASYNC110 - another process counts them
                await asyncio.sleep(0.02)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with Answers(one.folder / ANSWERS) as answers:
                kept = {(a.endpoint, a.example) for a in answers.all()}
            assert 4 <= len(kept) < 20
            before = len(asked(upstream))
            ran = await one.run("a", "b", concurrency=8)
            assert ran.asked == 40 - len(kept)
            assert counts(ran) == counts(ran, 1) == {"answered": 20}
            later = {(model, question) for model, question in asked(upstream)[before:]}
            assert not later & {(model, f"Say yes to question {own}.") for model, own in kept}
            assert all(entry.closed for entry in _exchanges(one))
            assert ran.spent == _charged(one) >= sum(int(a.money or 0) for a in _lines(one))


def _exchanges(one: Any) -> Iterator[Any]:
    for entry in one.house.record.entries(kind="exchange.opened"):
        yield one.house.record.exchange(entry.subject)


def _lines(one: Any) -> list[Any]:
    with Answers(one.folder / ANSWERS) as answers:
        return list(answers.all())


def _charged(one: Any) -> int:
    """What all exchanges cost: those too that were cancelled, or answered when nobody waited any more."""
    return sum(
        round(float((attempt["cost"] or "0").split()[0]) * PER_UNIT)
        for exchange in _exchanges(one)
        for attempt in exchange.closed.body.get("attempts", [])
    )


async def test_old_answers_are_asked_again_where_that_is_wanted(
    tmp_path: Path, upstream: Upstream
) -> None:
    settings(tmp_path, upstream, ["a"])
    async with bench(tmp_path, examples(2)) as one:
        await one.run("a")
        path = one.folder / ANSWERS
        (old, new) = path.read_bytes().splitlines()
        import json

        told = json.loads(old)
        told["time"] -= 100_000
        path.write_bytes(json.dumps(told).encode() + b"\n" + new + b"\n")
        assert (await one.run("a", since=told["time"] + 50_000)).asked == 1
        assert (await one.run("a", since=told["time"] + 50_000)).asked == 0


async def test_what_it_will_cost(tmp_path: Path, upstream: Upstream) -> None:
    settings(tmp_path, upstream, ["a", "b"])
    async with bench(tmp_path, examples(10)) as one:
        plan = await one.plan(How(("a", "b"), max_tokens=1000))
        with Answers(one.folder / ANSWERS) as answers:
            first, _second = await plan.forecast(
                one.asking(plan), answers, plan.run(one.asking(plan), answers)
            )
        assert (first.endpoint, first.questions, first.basis) == ("a", 10, "guess")
        assert first.answer_tokens == GUESSED_TOKENS
        assert first.expected == first.prompt_tokens * PRICE[0] + 10 * GUESSED_TOKENS * PRICE[1]
        assert first.most is not None
        assert first.most > 10 * 1000 * PRICE[1] > (first.expected or 0)
        await one.run("a", "b", limit=6, max_tokens=1000)
        plan = await one.plan(How(("a", "b"), max_tokens=1000))
        with Answers(one.folder / ANSWERS) as answers:
            left, _ = await plan.forecast(
                one.asking(plan), answers, plan.run(one.asking(plan), answers)
            )
        assert (left.questions, left.answer_tokens, left.basis) == (4, 1, "answers")


async def test_names_that_stand_for_nothing(tmp_path: Path, upstream: Upstream) -> None:
    settings(tmp_path, upstream, ["a"])
    async with bench(tmp_path, examples(1)) as one:
        with pytest.raises(ModelNotFoundError):
            await one.run("a", "nobody")
        with pytest.raises(RequestError, match="different endpoints"):
            await one.run("a", "a")
        with pytest.raises(RequestError, match="1 to 16"):
            await one.run(*(f"a{i}" for i in range(17)))


# --- the file of answers --------------------------------------------------------------------------


async def test_a_torn_last_line_is_dropped_and_asked_again(
    tmp_path: Path, upstream: Upstream
) -> None:
    settings(tmp_path, upstream, ["a"])
    async with bench(tmp_path, examples(3)) as one:
        await one.run("a")
        path = one.folder / ANSWERS
        whole = path.read_bytes()
        last = whole.rstrip(b"\n").rfind(b"\n") + 1
        for end in (last + 1, len(whole) - 1, len(whole) - 20):
            path.write_bytes(whole[:end])
            assert (await one.run("a")).asked == 1
        path.write_bytes(b"x" * 200_000)
        with Answers(path) as answers:
            assert list(answers.all()) == []
        assert path.read_bytes() == b""
        path.write_bytes(b'{"key": 1}\n' + whole)
        with pytest.raises(RequestError, match="line 1 is no answer that we wrote"), Answers(path):
            pass


def test_one_comparison_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with Answers(path), pytest.raises(UnavailableError, match="Another comparison"), Answers(path):
        pass
    with Answers(tmp_path / "x"):
        pass


def test_a_failure_never_hides_an_answer(tmp_path: Path) -> None:
    from daulat.evaluate.answers import Answer as Kept

    good = Kept("k", "1", "a", 0, "answered", "yes", "stop", 5, 0.5, 10.0)
    bad = replace(good, status="failed", text="no", time=20.0)
    with suppress(FileNotFoundError):
        (tmp_path / "x").unlink()
    with Answers(tmp_path / "x") as answers:
        for one in (bad, good, bad):
            answers.add(one)
        assert answers.get("k") == good
    with Answers(tmp_path / "x") as answers:
        assert answers.get("k") == good
        assert answers.get("k", since=11.0) is None


def test_answers_from_before_there_were_probes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    plain = Kept("k", "e", "x", 0, "answered", "yes", "stop", 0, 1.0, 2.0)
    probed = replace(plain, key="l", probe=(0.5, -1e-7, 12345.6))
    with Answers(path) as answers:
        answers.add(plain)
        answers.add(probed)
    first, _ = path.read_text().splitlines()
    assert "probe" not in first
    with Answers(path) as answers:
        assert (answers.get("k"), answers.get("l")) == (plain, probed)
