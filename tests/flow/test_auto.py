"""`daulat/auto`: who answers under a certificate, what the record says of it, and when it ends."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from daulat.endpoints import scripted
from daulat.endpoints.scripted import Upstream
from daulat.endpoints.scripted.script import Answer, Script
from daulat.errors import ModelNotFoundError, UnsupportedFieldError
from daulat.flow.audits import AUDITED, VOIDED, Audits
from daulat.flow.auto import AUTO, Auto, Label, is_auto
from daulat.flow.guarding import Guard
from daulat.policy import Reach, Rules
from daulat.route import Asked, Opinion, Rule, Target
from daulat.values.answer import Done, Piece
from daulat.values.request import ChatRequest, EmbeddingRequest, Message, Sampling, Tool, Toolbox
from tests.flow.halls import CAPABILITIES, Hallway, agree, hallway, settled

OPEN, CLOSED = Target("open", "m"), Target("closed", "m")


@dataclass
class Router:
    """Keeps what it is told to keep; remembers what it was shown."""

    keep: bool = True
    shown: list[tuple[str, str | None]] = field(default_factory=list[tuple[str, str | None]])
    logprobs: list[float | None] = field(default_factory=list[float | None])

    def __call__(self, asked: Asked) -> Opinion:
        self.shown.append((asked.prompt, asked.answer))
        self.logprobs.append(asked.logprob)
        return Opinion(self.keep, 0.25 if self.keep else 0.75)


def rule(router: Router, **more: Any) -> Rule:
    given: dict[str, Any] = {
        "task": "harbours",
        "certificate": "sha256:abc",
        "mode": "cascade",
        "open": OPEN,
        "closed": CLOSED,
        "digests": {},
        "needs": frozenset[str](),
        "temperature": None,
        "opinion": router,
        "similarity": lambda prompt: 1.0 if "harbour" in prompt else 0.0,
        "limit": 0.5,
        "agrees": lambda one, other: one == other,
        "loss": 0.05,
    }
    return Rule(**given | more)


@pytest.fixture(scope="module")
def upstreams() -> Iterator[tuple[Upstream, Upstream]]:
    says = (Script(answers=(Answer("open"),)), Script(answers=(Answer("closed"),)))
    with scripted.running(says[0]) as one, scripted.running(says[1]) as other:
        yield one, other


@pytest.fixture
def house(
    upstreams: tuple[Upstream, Upstream], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., contextlib.AbstractAsyncContextManager[Hallway]]:
    monkeypatch.setenv("SCRIPTED_KEY", "sk-test")

    @contextlib.asynccontextmanager
    async def built(
        *rules: Rule, share: float = 0.0, tables: Mapping[str, Any] | None = None
    ) -> AsyncGenerator[Hallway, None]:
        both = {
            name: {"url": f"{up.url}/v1", "retries": 0, **((tables or {}).get(name, {}))}
            for name, up in zip(("open", "closed"), upstreams, strict=True)
        }
        async with hallway(tmp_path / "r.db", tmp_path, both) as here:
            here.hall.auto = Auto(rules)
            here.hall.audits = Audits(here.hall.auto, here.record, share, lambda: 0.5)
            here.hall.audits.restore({one.certificate: one for one in rules})
            yield here
            await here.hall.audits.close()

    return built


def text(here: Hallway) -> str:
    return "".join(event.text for event in here.events if isinstance(event, Piece))


def closing(here: Hallway) -> Mapping[str, Any]:
    *_, last = here.record.entries(kind="exchange.closed")
    return last.body["auto"]


House = Callable[..., contextlib.AbstractAsyncContextManager[Hallway]]


@pytest.mark.parametrize("stream", [True, False])
class TestWays:
    async def test_a_cascade_keeps_what_is_good_enough(self, house: House, stream: bool) -> None:
        router = Router(keep=True)
        async with house(rule(router)) as here:
            await here.ask(AUTO, stream=stream)
            assert text(here) == "open"
            assert router.shown == [("Where is the harbour?", "open")]
            assert closing(here) == {
                "task": "harbours",
                "certificate": "sha256:abc",
                "way": "kept",
                "gain": 0.25,
            }
            agree(here.record)

    async def test_a_cascade_escalates_the_rest_and_books_both(
        self, house: House, stream: bool
    ) -> None:
        async with house(rule(Router(keep=False))) as here:
            await here.ask(AUTO, stream=stream)
            assert text(here) == "closed"
            assert closing(here)["way"] == "escalated"
            assert agree(here.record).attempts == 2

    @pytest.mark.parametrize("keep", [True, False])
    async def test_before_asks_one_alone(self, house: House, stream: bool, keep: bool) -> None:
        router = Router(keep=keep)
        async with house(rule(router, mode="before")) as here:
            await here.ask(f"{AUTO}/harbours", stream=stream)
            assert text(here) == ("open" if keep else "closed")
            assert closing(here)["way"] == ("kept" if keep else "escalated")
            assert router.shown == [("Where is the harbour?", None)]
            assert agree(here.record).attempts == 1


async def ruled(here: Hallway, request: ChatRequest, task: str = "") -> tuple[str, str, str]:
    """Way, header and text."""
    exchange = await here.hall.open(here.caller, request, "", Label(task))
    async with contextlib.aclosing(exchange.events()) as events:
        said = "".join([e.text async for e in events if isinstance(e, Piece)])
    assert exchange.ruling is not None
    return exchange.ruling.way, str(exchange.ruling), said


def chat(words: str = "Where is the harbour?", **more: Any) -> ChatRequest:
    given: dict[str, Any] = {"sampling": Sampling(max_tokens=50)}
    return ChatRequest(AUTO, (Message("user", words),), **given | more)


class TestTheSafeWay:
    async def test_what_does_not_look_like_the_task_goes_to_the_closed_one(
        self, house: House
    ) -> None:
        async with house(rule(Router())) as here:
            assert await ruled(here, chat("What is the time?")) == (
                "outside",
                "harbours; outside",
                "closed",
            )

    async def test_unless_the_task_is_named(self, house: House) -> None:
        async with house(rule(Router())) as here:
            way, header, said = await ruled(here, chat("What is the time?"), "harbours")
            assert (way, said) == ("kept", "open")
            assert header == "harbours; kept; gain=0.250"

    async def test_what_was_not_certified_goes_to_the_closed_one(self, house: House) -> None:
        tools = Toolbox((Tool("t", None, {"type": "object"}),))
        async with house(rule(Router())) as here:
            assert (await ruled(here, chat(tools=tools)))[0::2] == ("outside", "closed")

    async def test_a_router_hears_the_probabilities_that_it_needs(self, house: House) -> None:
        router = Router()
        able = {"open": {"capabilities": (*CAPABILITIES, "logprobs")}}
        async with house(rule(router, needs=frozenset(["logprob"])), tables=able) as here:
            assert (await ruled(here, chat()))[0::2] == ("kept", "open")
            assert router.logprobs[0] is not None
            assert router.logprobs[0] <= 0

    async def test_an_upstream_is_not_asked_for_hidden_states(
        self, house: House, upstreams: tuple[Upstream, Upstream]
    ) -> None:
        router, before = Router(), len(upstreams[0].requests())
        able = {"open": {"capabilities": (*CAPABILITIES, "logprobs")}}
        needs = frozenset(["logprob", "probe"])
        async with house(rule(router, needs=needs), tables=able) as here:
            assert (await ruled(here, chat()))[0::2] == ("outside", "closed")
            assert closing(here)["why"] == "the open model tells nothing of its hidden states"
        (sent,) = upstreams[0].requests()[before:]
        assert "probe" not in sent["body"]
        assert not router.shown

    async def test_where_nobody_tells_them_it_is_not_what_was_certified(self, house: House) -> None:
        async with house(rule(Router(), needs=frozenset(["logprob"]))) as here:
            assert (await ruled(here, chat()))[0::2] == ("outside", "closed")
            assert "probabilities" in closing(here)["why"]

    @pytest.mark.parametrize("mode", ["before", "cascade"])
    async def test_categories_are_asked_for_where_they_count(self, house: House, mode: str) -> None:
        async with house(rule(Router(), mode=mode, needs=frozenset(["category"]))) as here:
            assert (await ruled(here, chat()))[0] == "outside"
            exchange = await here.hall.open(here.caller, chat(), "", Label("", "ships"))
            assert exchange.ruling is not None
            assert exchange.ruling.asked.category == "ships"
            assert exchange.ruling.way in ("kept", "judging")
            async with contextlib.aclosing(exchange.events()) as events:
                assert [event async for event in events]

    @pytest.mark.parametrize(("wanted", "asked", "way"), [(1.0, 0.0, "kept"), (0.0, 0.0, "kept")])
    async def test_answers_are_asked_for_as_they_were_certified(
        self, house: House, wanted: float, asked: float, way: str
    ) -> None:
        one = chat(sampling=Sampling(max_tokens=50, temperature=wanted))
        async with house(rule(Router(), temperature=0.0)) as here:
            assert (await ruled(here, one))[0] == way
            (entry,) = here.record.entries(kind="exchange.opened")
            assert entry.body["sampling"]["temperature"] == asked

    async def test_other_temperatures_were_not_certified(self, house: House) -> None:
        warm = chat(sampling=Sampling(max_tokens=50, temperature=0.7))
        async with house(rule(Router(), temperature=0.0)) as here:
            assert (await ruled(here, warm))[0::2] == ("outside", "closed")
            assert "temperature 0.7" in closing(here)["why"]
        async with house(rule(Router(), temperature=None)) as here:
            assert (await ruled(here, warm))[0] == "kept"

    async def test_a_changed_model_ends_the_certificate(self, house: House) -> None:
        async with house(rule(Router(), digests={OPEN: "sha256:of-another"})) as here:
            assert (await ruled(here, chat()))[0::2] == ("void", "closed")
            assert "has changed" in (here.hall.auto.voided("sha256:abc") or "")
            assert closing(here)["way"] == "void"

    async def test_a_model_that_is_gone_ends_it_too(self, house: House) -> None:
        async with house(rule(Router(), open=Target("open", "gone"))) as here:
            assert (await ruled(here, chat()))[0::2] == ("void", "closed")

    async def test_where_the_policy_leaves_one_it_answers(self, house: House) -> None:
        places = {"closed": {"place": "far"}}
        async with house(rule(Router(keep=False)), tables=places) as here:
            reach = {"internal": Reach(frozenset({"this-machine"}))}
            here.hall.guard = Guard(Rules(reach=reach), here.hall.setup.detectors)
            way, _, said = await ruled(here, chat())
            assert (way, said) == ("alone", "open")
            assert closing(here)["why"] == "only open may answer"

    async def test_a_closed_model_that_fails_leaves_the_open_answer(self, house: House) -> None:
        names = {"closed": {"names": {"m": "m+error_500"}}}
        async with house(rule(Router(keep=False)), tables=names) as here:
            way, _, said = await ruled(here, chat())
            assert (way, said) == ("escalated", "open")
            assert closing(here)["why"] == "the closed model did not answer"


class TestNames:
    async def test_without_a_certificate_there_is_nothing_to_follow(self, house: House) -> None:
        async with house() as here:
            with pytest.raises(ModelNotFoundError, match="daulat certify"):
                await here.hall.open(here.caller, chat())
            assert not here.hall.auto.names

    async def test_an_unknown_task_is_said_to_be_unknown(self, house: House) -> None:
        async with house(rule(Router())) as here:
            with pytest.raises(ModelNotFoundError, match="there are: harbours"):
                await here.hall.open(here.caller, chat(), "", Label("airports"))

    async def test_only_chats_are_certified(self, house: House) -> None:
        async with house(rule(Router())) as here:
            with pytest.raises(UnsupportedFieldError):
                await here.hall.open(here.caller, EmbeddingRequest(AUTO, ("a",)))

    async def test_they_are_listed_with_both_models(self, house: House) -> None:
        async with house(rule(Router())) as here:
            listed = dict(here.hall.elsewhere(here.caller))
            assert [card.name for card, _ in listed[AUTO]] == ["open", "closed"]
            assert f"{AUTO}/harbours" in listed

    async def test_the_likelier_task_is_followed(self, house: House) -> None:
        other = rule(Router(keep=False), task="times", certificate="sha256:def")
        other = replace(other, similarity=lambda prompt: 0.9 if "time" in prompt else 0.1)
        async with house(rule(Router()), other) as here:
            assert (await ruled(here, chat("What is the time?")))[1].startswith("times; escalated")
            assert (await ruled(here, chat()))[1].startswith("harbours; kept")

    def test_which_names_are_meant(self) -> None:
        assert is_auto(AUTO)
        assert is_auto(AUTO + "/task")
        assert not is_auto(AUTO + "matic")


class TestAudits:
    async def test_a_share_is_answered_by_both(self, house: House) -> None:
        async with house(rule(Router()), share=1.0) as here:
            await here.ask(AUTO)
            await settled(lambda: _audited(here, 1))
            entry = next(iter(here.record.entries(kind=AUDITED)))
            assert entry.body["loss"] == 1.0  # "open" is not "closed"
            beside = here.record.exchange(entry.body["beside"])
            assert beside is not None
            assert "an audit of" in beside.opened.body["plan"]["reason"]
            agree(here.record)

    async def test_what_was_escalated_costs_no_audit(self, house: House) -> None:
        async with house(rule(Router(keep=False)), share=1.0) as here:
            await here.ask(AUTO)
            await settled(lambda: _audited(here, 1))
            entry = next(iter(here.record.entries(kind=AUDITED)))
            assert entry.body["loss"] == 0.0
            assert len(list(here.record.entries(kind="exchange.opened"))) == 1

    async def test_the_coin_decides(self, house: House) -> None:
        async with house(rule(Router()), share=0.5) as here:  # the coin shows 0.5: not below
            await here.ask(AUTO)
            assert not list(here.record.entries(kind=AUDITED))

    async def test_too_many_losses_end_the_certificate_for_good(self, house: House) -> None:
        async with house(rule(Router()), share=1.0) as here:
            for asked in range(1, 10):
                await here.ask(AUTO)
                await settled(lambda asked=asked: _audited(here, asked))
                if here.hall.auto.voided("sha256:abc"):
                    break
            await settled(lambda: _one(here.record.entries(kind=VOIDED)))
            await here.ask(AUTO)
            assert text(here) == "closed"
            assert closing(here)["way"] == "void"
        async with house(rule(Router()), share=1.0) as again:
            assert again.hall.auto.voided("sha256:abc")
            await again.ask(AUTO)
            assert text(again) == "closed"

    async def test_agreement_keeps_it(self, house: House) -> None:
        async with house(rule(Router(), agrees=lambda one, other: True), share=1.0) as here:
            for asked in range(1, 6):
                await here.ask(AUTO)
                await settled(lambda asked=asked: _audited(here, asked))
            watch = here.hall.audits.watch(rule(Router()))
            assert (watch.drift.losses, watch.drift.mean) == (5, 0.0)
            assert not here.hall.auto.voided("sha256:abc")

    async def test_an_audit_without_an_answer_is_counted_apart(self, house: House) -> None:
        names = {"closed": {"names": {"m": "m+error_500"}}}
        async with house(rule(Router()), share=1.0, tables=names) as here:
            await here.ask(AUTO)
            await settled(lambda: _audited(here, 1))
            watch = here.hall.audits.watch(rule(Router()))
            assert (watch.unanswered, watch.drift.losses) == (1, 0)

    async def test_a_client_that_left_is_not_audited(self, house: House) -> None:
        async with house(rule(Router()), share=1.0) as here:
            await here.ask(AUTO, after=1)
            assert not any(isinstance(event, Done) for event in here.events)
            assert not list(here.record.entries(kind=AUDITED))


def _audited(here: Hallway, count: int) -> None:
    assert len(list(here.record.entries(kind=AUDITED))) == count


def _one(entries: Iterator[Any]) -> None:
    assert len(list(entries)) == 1
