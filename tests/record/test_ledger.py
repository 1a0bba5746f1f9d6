"""Money and limits against a plain account of everything that happened."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import SQLAlchemyError

from daulat.errors import BudgetError, LimitError
from daulat.record import ledger, schema, statistics
from daulat.record.ledger import Account, Claim, Outcome, Refusal, Spent, Wish
from daulat.values.answer import Usage
from daulat.values.money import MOST, PER_UNIT, joined
from daulat.values.plan import NO_LIMITS, Caller, Limits

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()
PERIODS = {"day": 10, "month": 7, "all": 0}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    opened = schema.open_database(tmp_path / "record.sqlite3")
    yield opened.execution_options(writing=True)
    opened.dispose()


def spent(money: int | None, prompt: int = 0, completion: int = 0) -> Spent:
    return Spent(money, Usage(prompt, completion), "e", "m")


# --- an account of everything -----------------------------------------------------------------------


@dataclass
class Happened:
    """One attempt. `money`, `tokens`: what counts now, claimed or spent."""

    subject: str
    attempt: int
    wish: Wish
    held: tuple[str, ...]
    money: int
    tokens: int
    pending: bool = True


def day(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).isoformat()[:10]


def charged(one: Happened, account: str) -> bool:
    return any(a.id == account for a in one.wish.accounts)


def used(log: list[Happened], account: str, period: str, now: float, what: str) -> int:
    """Spent and, where the account was held for it, reserved: counted one by one."""
    length = PERIODS[period]
    return sum(
        getattr(one, what)
        for one in log
        if charged(one, account)
        and (account in one.held or not one.pending)
        and day(one.wish.now)[:length] == day(now)[:length]
    )


def in_a_minute(log: list[Happened], paced: set[int], account: str, now: float, what: str) -> int:
    """All of the last 60 seconds, whole seconds counted. `paced`: those that were counted at all."""
    return sum(
        int(one.attempt == 0) if what == "requests" else one.tokens
        for one in log
        if id(one) in paced and account in one.held and int(one.wish.now) >= int(now) - 60
    )


LIMITS = st.builds(
    Limits,
    money_per_day=st.none() | st.integers(0, 60),
    money_per_month=st.none() | st.integers(0, 90),
    money_in_all=st.none() | st.integers(0, 150),
    tokens_per_day=st.none() | st.integers(0, 60),
    tokens_per_month=st.none() | st.integers(0, 90),
    requests_per_minute=st.none() | st.integers(0, 5),
    tokens_per_minute=st.none() | st.integers(0, 50),
) | st.just(NO_LIMITS)


class Machine(RuleBasedStateMachine):
    """Random reservations and settlements, for two keys of one project and one of none."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        opened = schema.open_database(Path(self.folder.name) / "record.sqlite3")
        self.engine = opened.execution_options(writing=True)
        self.now = NOON
        self.log: list[Happened] = []
        self.limits = dict.fromkeys(("key:a", "key:b", "key:c", "project:p", "all"), NO_LIMITS)
        self.numbers = itertools.count()
        self.bounded = True
        # An account's windows begin when it first has a limit a minute: by account, what they hold.
        self.windows: dict[str, set[int]] = {account: set() for account in self.limits}

    def teardown(self) -> None:
        self.engine.dispose()
        self.folder.cleanup()

    def accounts(self, key: str) -> tuple[Account, ...]:
        ids = (f"key:{key}", "all") if key == "c" else (f"key:{key}", "project:p", "all")
        return tuple(Account(i, self.limits[i]) for i in ids)

    @rule(account=st.sampled_from(("key:a", "key:b", "key:c", "project:p", "all")), limits=LIMITS)
    def limit(self, account: str, limits: Limits) -> None:
        self.limits[account] = limits
        self.bounded = self.bounded and not self.log

    @rule(seconds=st.sampled_from((0.3, 1, 7, 30, 60, 61, 3600, 43_200, 86_400)))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(
        asked=st.lists(
            st.tuples(st.sampled_from("abc"), st.integers(0, 20), st.integers(0, 20)),
            min_size=1,
            max_size=4,
        )
    )
    def reserve(self, asked: list[tuple[str, int, int]]) -> None:
        self._reserve(
            [
                Wish(
                    f"s{next(self.numbers)}", 0, self.accounts(key), Claim(m, t, "e", "m"), self.now
                )
                for key, m, t in asked
            ]
        )

    @precondition(lambda self: self.log)
    @rule(data=st.data(), money=st.integers(0, 20), tokens=st.integers(0, 20))
    def try_again(self, data: st.DataObject, money: int, tokens: int) -> None:
        before = data.draw(st.sampled_from(self.log))
        number = sum(one.subject == before.subject for one in self.log)
        key = before.wish.accounts[0].id[-1]
        claim = Claim(money, tokens, "f", "m")
        self._reserve([Wish(before.subject, number, self.accounts(key), claim, self.now)])

    def _reserve(self, wishes: list[Wish]) -> None:
        with self.engine.begin() as connection:
            answers = ledger.reserve_many(connection, wishes)
        for wish, answer in zip(wishes, answers, strict=True):
            broken = list(self._broken(wish))
            if answer is None:
                assert not broken
                self._note(wish)
            else:
                self._check(wish, answer, broken)

    def _note(self, wish: Wish) -> None:
        held = tuple(a.id for a in wish.accounts if a.limits.any())
        claim = wish.claim
        one = Happened(wish.subject, wish.attempt, wish, held, claim.money, claim.tokens)
        self.log.append(one)
        for a in wish.accounts:
            if a.limits.requests_per_minute is not None or a.limits.tokens_per_minute is not None:
                self.windows[a.id].add(id(one))

    def _broken(self, wish: Wish) -> Iterator[tuple[str, str, int]]:
        for account in wish.accounts:
            for name in Limits.__slots__:
                most, needed = getattr(account.limits, name), self._needed(wish, name)
                if most is not None and needed and self._used(account.id, name) + needed > most:
                    yield account.id, name, max(0, most - self._used(account.id, name))

    def _needed(self, wish: Wish, name: str) -> int:
        what = name.partition("_")[0]
        return int(wish.attempt == 0) if what == "requests" else getattr(wish.claim, what)

    def _used(self, account: str, name: str, later: int = 0) -> int:
        what, *_, period = name.split("_")
        if period == "minute":
            return in_a_minute(self.log, self.windows[account], account, self.now + later, what)
        return used(self.log, account, period, self.now, what)

    def _check(self, wish: Wish, answer: Refusal, broken: list[tuple[str, str, int]]) -> None:
        assert (answer.account, answer.limit, answer.left) in broken
        assert answer.needed == self._needed(wish, answer.limit)
        assert isinstance(ledger.refused(answer, "USD"), LimitError)
        wait = answer.retry_after
        if answer.limit.endswith("minute") and wait is not None:
            free = answer.most - answer.needed
            assert self._used(answer.account, answer.limit, wait) <= free
            assert self._used(answer.account, answer.limit, wait - 1) > free

    @precondition(lambda self: any(one.pending for one in self.log))
    @rule(data=st.data(), share=st.integers(0, 150), known=st.booleans(), twice=st.booleans())
    def settle(self, data: st.DataObject, share: int, known: bool, twice: bool) -> None:
        pending = [one for one in self.log if one.pending]
        many = data.draw(st.lists(st.sampled_from(pending), min_size=1, max_size=3, unique_by=id))
        outcomes: list[Outcome] = []
        for one in many:
            claim = one.wish.claim
            money, tokens = claim.money * share // 100, claim.tokens * share // 100
            what = spent(money if known else None, tokens // 2, tokens - tokens // 2)
            if not one.held:
                # It is booked when it ends, for it was not reserved.
                one.wish = replace(one.wish, now=self.now)
            outcomes.append(Outcome(one.subject, one.attempt, one.wish.accounts, what, self.now))
            one.money, one.tokens, one.pending = money if known else 0, tokens, False
            self.bounded = self.bounded and share <= 100
        with self.engine.begin() as connection:
            ledger.settle_many(connection, outcomes)
            if twice:
                held = [o for o, one in zip(outcomes, many, strict=True) if one.held]
                ledger.settle_many(connection, held)

    @precondition(lambda self: any(one.pending for one in self.log))
    @rule(data=st.data())
    def abandon(self, data: st.DataObject) -> None:
        subject = data.draw(st.sampled_from([one.subject for one in self.log if one.pending]))
        lost = [one for one in self.log if one.pending and one.subject == subject and one.held]
        with self.engine.begin() as connection:
            found = ledger.abandon(connection, subject)
            assert ledger.abandon(connection, subject) == []
        assert sorted(one.attempt for one in lost) == [one.attempt for one in found]
        for one in lost:
            one.pending = False
            late = Outcome(subject, one.attempt, one.wish.accounts, spent(1, 1), self.now)
            with self.engine.begin() as connection:
                ledger.settle_many(connection, [late])

    @invariant()
    def balances_are_the_sums(self) -> None:
        with self.engine.begin() as connection:
            rows = connection.execute(select(schema.balances)).all()
        for row in rows:
            mine = [o for o in self.log if charged(o, row.account)]
            if row.period != "all":
                mine = [o for o in mine if day(o.wish.now).startswith(row.period)]
            done = [o for o in mine if not o.pending]
            held = [o for o in mine if o.pending and row.account in o.held]
            assert joined(row.spent_units, row.spent_parts) == sum(o.money for o in done)
            assert joined(row.reserved_units, row.reserved_parts) == sum(o.money for o in held)
            assert row.spent_tokens == sum(o.tokens for o in done)
            assert row.reserved_tokens == sum(o.tokens for o in held)

    @invariant()
    def the_statistics_are_the_sums(self) -> None:
        with self.engine.begin() as connection:
            found = statistics.spend(connection, by=("key", "day"))
        done = [one for one in self.log if not one.pending]
        assert sum(row.money for row in found) == sum(one.money for one in done)
        assert sum(row.requests for row in found) == len(done)
        for row in found:
            mine = [o for o in done if day(o.wish.now) == row.day and charged(o, f"key:{row.key}")]
            tokens = row.prompt_tokens + row.completion_tokens
            assert (row.money, tokens) == (sum(o.money for o in mine), sum(o.tokens for o in mine))

    @invariant()
    def nothing_is_over_a_limit(self) -> None:
        if not self.bounded:
            return
        for account, limits in self.limits.items():
            for name in Limits.__slots__:
                most = getattr(limits, name)
                assert most is None or self._used(account, name) <= most


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


# --- one by one -------------------------------------------------------------------------------------


def ask(
    connection: Connection, subject: str, limits: Limits, money: int = 0, tokens: int = 0, **more
) -> Refusal | None:
    accounts = (Account("key:k", limits),)
    now = more.get("now", NOON)
    return ledger.reserve(
        connection, subject, more.get("attempt", 0), accounts, Claim(money, tokens, "e", "m"), now
    )


def test_the_last_amount_fits_and_not_one_more(engine: Engine) -> None:
    limits = Limits(money_per_day=10)
    with engine.begin() as connection:
        assert ask(connection, "a", limits, 10) is None
        refusal = ask(connection, "b", limits, 1)
        assert refusal == Refusal("key:k", "money_per_day", 10, 0, 1, 1)
        assert ask(connection, "free", limits, 0) is None


def test_a_refusal_says_when_and_why(engine: Engine) -> None:
    with engine.begin() as connection:
        account = (Account("project:lab", Limits(money_per_day=5 * PER_UNIT)),)
        ledger.settle(connection, "x", 0, (Account("key:k", NO_LIMITS), *account), spent(1), NOON)
        assert ledger.reserve(connection, "a", 0, account, Claim(5 * PER_UNIT, 0), NOON) is None
        ledger.settle(connection, "a", 0, account, spent(5 * PER_UNIT), NOON)
        refusal = ledger.reserve(connection, "b", 0, account, Claim(1, 0), NOON)
        assert refusal is not None
        assert refusal.retry_after == 12 * 3600 + 1
        said = ledger.refused(refusal, "EUR")
        assert isinstance(said, BudgetError)
        assert said.retry_after == 12 * 3600 + 1
        assert "project lab may use 5 EUR for one day" in said.message
        later = ledger.reserve(connection, "b", 0, account, Claim(1, 0), NOON + 43_201)
        assert later is None
        over = ledger.reserve(connection, "c", 0, account, Claim(6 * PER_UNIT, 0), NOON)
        assert over is not None
        assert over.retry_after is None
        assert "raised" in ledger.refused(over).message


@pytest.mark.parametrize(
    ("limits", "seconds"),
    [
        (Limits(money_per_day=1), 43_201),
        (Limits(money_per_month=1), 43_201),
        (Limits(money_in_all=1), None),
        (Limits(money_per_day=1, money_in_all=1), None),
        (Limits(tokens_per_day=1, money_per_day=1), 43_201),
    ],
)
def test_what_is_spent_is_free_in_the_next_period(
    engine: Engine, limits: Limits, seconds: int | None
) -> None:
    account = (Account("key:k", limits),)
    with engine.begin() as connection:
        assert ledger.reserve(connection, "a", 0, account, Claim(1, 1), NOON) is None
        ledger.settle(connection, "a", 0, account, spent(1, 1), NOON)
        refusal = ledger.reserve(connection, "b", 0, account, Claim(1, 1), NOON)
        assert refusal is not None
        assert refusal.retry_after == seconds
        if seconds is not None:
            later = NOON + seconds
            assert ledger.reserve(connection, "b", 0, account, Claim(1, 1), later) is None


def test_a_month_ends_where_the_next_begins(engine: Engine) -> None:
    account = (Account("key:k", Limits(money_per_month=1)),)
    december = datetime(2026, 12, 1, tzinfo=UTC).timestamp()
    january = datetime(2027, 1, 1, tzinfo=UTC).timestamp()
    with engine.begin() as connection:
        assert ledger.reserve(connection, "a", 0, account, Claim(1, 0), december) is None
        ledger.settle(connection, "a", 0, account, spent(1), january + 5)
        refusal = ledger.reserve(connection, "b", 0, account, Claim(1, 0), december + 0.5)
        assert refusal is not None
        assert refusal.retry_after == int(january - december)
        assert ledger.reserve(connection, "b", 0, account, Claim(1, 0), january) is None


def test_a_retry_is_no_second_request_but_takes_tokens(engine: Engine) -> None:
    limits = Limits(requests_per_minute=1, tokens_per_minute=20)
    with engine.begin() as connection:
        assert ask(connection, "a", limits, 0, 10) is None
        assert ask(connection, "a", limits, 0, 10, attempt=1) is None
        again = ask(connection, "a", limits, 0, 1, attempt=2)
        assert again is not None
        assert again.limit == "tokens_per_minute"
        other = ask(connection, "b", limits)
        assert other is not None
        assert other.limit == "requests_per_minute"
        assert type(ledger.refused(other)) is LimitError
        assert "1 requests a minute" in ledger.refused(other).message
        assert ask(connection, "c", limits, now=NOON + 60.9) is not None
        assert ask(connection, "c", limits, now=NOON + 61) is None


def test_no_sixty_seconds_have_more_than_the_limit(engine: Engine) -> None:
    limits, taken = Limits(requests_per_minute=7), []
    with engine.begin() as connection:
        for number in range(1200):
            now = NOON + number * 0.4
            if ask(connection, f"s{number}", limits, now=now) is None:
                taken.append(now)
        kept = [row.second for row in connection.execute(select(schema.windows))]
    assert all(sum(1 for t in taken if start <= t < start + 60) <= 7 for start in taken)
    assert len(taken) >= 7 * 7
    assert min(kept) >= max(taken) - 61


def test_a_window_has_room_again_when_its_seconds_are_over(engine: Engine) -> None:
    limits = Limits(tokens_per_minute=100)
    with engine.begin() as connection:
        for second, tokens in ((0, 10), (7, 30), (20, 60)):
            assert ask(connection, f"s{second}", limits, 0, tokens, now=NOON + second) is None
        for needed, wait in ((1, 31), (10, 31), (11, 38), (40, 38), (41, 51), (100, 51)):
            refusal = ask(connection, "x", limits, 0, needed, now=NOON + 30)
            assert refusal is not None
            assert (refusal.left, refusal.retry_after) == (0, wait)
        soon = ask(connection, "x", limits, 0, 1, now=NOON + 60)
        assert soon is not None
        assert soon.retry_after == 1
        assert ask(connection, "x", limits, 0, 11, now=NOON + 67) is not None
        assert ask(connection, "x", limits, 0, 11, now=NOON + 68) is None


@pytest.mark.parametrize(("tokens", "left"), [(4, 16), (10, 10), (15, 5), (40, 0)])
def test_tokens_of_a_minute_are_those_that_came(engine: Engine, tokens: int, left: int) -> None:
    limits = Limits(tokens_per_minute=20)
    account = (Account("key:k", limits),)
    with engine.begin() as connection:
        assert ask(connection, "a", limits, 0, 10) is None
        ledger.settle(connection, "a", 0, account, spent(0, tokens), NOON + 59)
        refusal = ask(connection, "b", limits, 0, 20, now=NOON + 60)
        assert refusal is not None
        assert refusal.left == left
        assert ask(connection, "c", limits, 0, 20, now=NOON + 61) is None
        ledger.settle(connection, "c", 0, account, spent(0, 1), NOON + 500)
        assert ask(connection, "d", limits, 0, 20, now=NOON + 500) is None


def test_each_attempt_is_settled_by_itself(engine: Engine) -> None:
    limits = Limits(money_in_all=100)
    account = (Account("key:k", limits),)
    with engine.begin() as connection:
        for attempt in range(3):
            assert ask(connection, "a", limits, 30, 5, attempt=attempt) is None
        ledger.settle(connection, "a", 1, account, spent(7), NOON)
        refusal = ask(connection, "b", limits, 34)
        assert refusal is not None
        assert refusal.left == 33
        found = ledger.abandon(connection, "a")
        assert [(one.attempt, one.claim.money, one.claim.model) for one in found] == [
            (0, 30, "m"),
            (2, 30, "m"),
        ]
        (row,) = statistics.spend(connection)
        assert (row.money, row.requests, row.errors, row.counted) == (67, 3, 2, 2)
        assert (row.prompt_tokens, row.completion_tokens, row.unpriced) == (0, 10, 0)
        assert ask(connection, "c", limits, 33) is None


def test_without_limits_only_the_statistics_are_written(engine: Engine) -> None:
    nobody = (Account("key:k", NO_LIMITS), Account("all", NO_LIMITS))
    with engine.begin() as connection:
        assert ledger.reserve(connection, "a", 0, nobody, Claim(5, 5), NOON) is None
        ledger.settle(connection, "a", 0, nobody, spent(None, 3, 4), NOON)
        for table in (schema.balances, schema.windows, schema.reservations):
            assert connection.execute(select(table)).all() == []
        (row,) = statistics.spend(connection, by=("key", "endpoint", "model"))
    assert (row.key, row.endpoint, row.model, row.requests, row.unpriced) == ("k", "e", "m", 1, 1)
    assert (row.prompt_tokens, row.completion_tokens, row.money) == (3, 4, 0)


def test_a_limit_that_comes_later_knows_what_was_spent_before(engine: Engine) -> None:
    nobody = (
        Account("key:k", NO_LIMITS),
        Account("project:p", NO_LIMITS),
        Account("all", NO_LIMITS),
    )
    with engine.begin() as connection:
        for number, now in enumerate((NOON - 40 * 86_400, NOON - 86_400, NOON)):
            ledger.settle(connection, f"s{number}", 0, nobody, spent(10 ** (13 + number)), now)
        for account, limits, left in (
            ("key:k", Limits(money_per_day=10**15), 0),
            ("project:p", Limits(money_per_month=10**15 + 10**14 + 1), 1),
            ("all", Limits(money_in_all=111 * 10**13 + 2), 2),
        ):
            asked = (Account(account, limits),)
            refusal = ledger.reserve(connection, "x", 0, asked, Claim(3, 0), NOON)
            assert refusal is not None
            assert refusal.left == left


def test_every_count_arrives_in_the_statistics(engine: Engine) -> None:
    who = (Account("key:k", NO_LIMITS), Account("project:p", NO_LIMITS))
    usage = Usage(1000, 200, 300, 40, 50, counted=True)
    most = Spent(MOST, usage, "e", "m", failed=True)
    with engine.begin() as connection:
        for number in range(3):
            ledger.settle(connection, f"s{number}", 0, who, most, NOON)
        ledger.settle(connection, "t", 0, who, replace(most, money=1, model="n"), NOON + 86_400)
        rows = statistics.spend(connection, by=("day", "project", "model"))
        only = statistics.spend(connection, since="2026-02-01", by=())
        none = statistics.spend(connection, until="2026-01-30", by=())
    assert [(r.day, r.project, r.model) for r in rows] == [
        ("2026-01-31", "p", "m"),
        ("2026-02-01", "p", "n"),
    ]
    first = rows[0]
    assert (first.requests, first.errors, first.counted, first.unpriced) == (3, 3, 3, 0)
    assert (first.prompt_tokens, first.completion_tokens) == (3000, 600)
    assert (first.cached_tokens, first.reasoning_tokens) == (900, 150)
    assert first.money == 3 * MOST
    assert [row.money for row in only] == [1]
    assert none == []


def test_a_sum_beyond_all_bounds_is_an_error_and_changes_nothing(engine: Engine) -> None:
    who = (Account("key:k", NO_LIMITS),)
    row = {"key": "k", "project": "", "endpoint": "e", "model": "m", "day": "2026-01-31"}
    with engine.begin() as connection:
        full = {**row, "units": 9 * 10**18, "requests": 1}
        connection.execute(schema.statistics.insert().values(full))
    with pytest.raises(SQLAlchemyError), engine.begin() as connection:
        ledger.settle(connection, "s", 0, who, spent(PER_UNIT), NOON)
    with engine.begin() as connection:
        assert statistics.spend(connection)[0].requests == 1


@pytest.mark.parametrize("number", [-1, MOST + 1])
def test_values_have_bounds(number: int) -> None:
    with pytest.raises(ValueError, match="not between"):
        Claim(number, 0)
    with pytest.raises(ValueError, match="not between"):
        Claim(0, number)
    with pytest.raises(ValueError, match="not between"):
        spent(number)
    for field in ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens"):
        with pytest.raises(ValueError, match="not between"):
            Spent(0, replace(Usage(0), **{field: number}), "e", "m")
    with pytest.raises(ValueError, match="account"):
        Account("team:x", NO_LIMITS)
    with pytest.raises(ValueError, match="account"):
        Account("key:", NO_LIMITS)
    assert Claim(MOST, 10**12).money == MOST


def test_what_a_caller_is_charged_to() -> None:
    own, shared, house = (Limits(money_per_day=n) for n in (1, 2, 3))
    caller = Caller("key-1", "n", project="lab", limits=own)
    assert ledger.accounts(caller, shared, house) == (
        Account("key:key-1", own),
        Account("project:lab", shared),
        Account("all", house),
    )
    assert [a.id for a in ledger.accounts(replace(caller, project=""), shared, house)] == [
        "key:key-1",
        "all",
    ]
