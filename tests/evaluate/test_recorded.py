"""Tasks of recorded traffic: what was asked through a real hall becomes examples, and only that which can."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from daulat.endpoints import scripted
from daulat.endpoints.scripted import Answer, Script
from daulat.errors import DaulatError, RequestError
from daulat.evaluate.adding import from_record
from daulat.evaluate.examples import Chosen
from daulat.evaluate.recorded import COMPARING, Found, Wanted, recorded
from daulat.record.transcript import AUDITING
from daulat.route import Target
from daulat.values.request import ChatRequest, Image, Message, Sampling, Tool, Toolbox
from tests.flow.halls import Hallway, hallway


@asynccontextmanager
async def halls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Hallway]:
    monkeypatch.setenv("SCRIPTED_KEY", "any")
    with scripted.running(Script(answers=(Answer("Yes."),))) as upstream:
        tables = {"up": {"url": f"{upstream.url}/v1", "models": ("m", "n", "m+error_500")}}
        async with hallway(tmp_path / "record.sqlite3", tmp_path, tables) as hall:
            yield hall


async def ask(hall: Hallway, *said: str, model: str = "m", key: str = "k", **more: Any) -> None:
    """`said` in turn by user and assistant, the user last."""
    roles = ["user", "assistant"] * len(said)
    messages = tuple(Message(role, text) for role, text in zip(roles, said, strict=False))  # type: ignore[arg-type]
    if "image" in more:
        messages = (replace(messages[0], parts=(more.pop("image"),)),)
    declared = more.pop("declared", "")
    request = ChatRequest(model, messages, Sampling(max_tokens=20), **more)
    caller = replace(hall.caller, id=key)
    exchange = await hall.hall.open(caller, request, declared)
    async with aclosing(exchange.events()) as events:
        try:
            async for _event in events:
                pass
        except DaulatError:
            pass


def found(hall: Hallway, **wanted: Any) -> Found:
    return recorded(hall.record, Wanted(**wanted))


def asked(told: Found) -> list[str]:
    return [example.messages[-1].content for example in told.examples]


async def test_traffic_becomes_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with halls(tmp_path, monkeypatch) as hall:
        await ask(hall, "Where is the harbour?")
        await ask(hall, "Where is the harbour?", "In the north.", "And the market?")
        await ask(hall, "Where is the harbour?", key="other")
        await ask(hall, "What is tea?", model="n", declared="personal")
        await ask(hall, "Where is the harbour?")
        await ask(hall, "It fails", model="m+error_500")
        await ask(hall, "With a tool", tools=Toolbox((Tool("look"),)))
        await ask(hall, "Of a comparison", key=COMPARING + "1")
        every = found(hall)
        assert asked(every) == ["And the market?", "What is tea?", "Where is the harbour?"]
        assert every.left_out == {
            "asked again": 2,
            "not answered": 1,
            "with tools, pictures or a structure": 1,
        }
        market, tea, harbour = every.examples
        assert market.cluster == harbour.cluster != tea.cluster
        assert [m.role for m in market.messages] == ["user", "assistant", "user"]
        assert (tea.data_class, harbour.data_class) == ("personal", "internal")
        assert harbour.fields == {"answer": "Yes.", "answered_by": "m"}
        assert hall.record.exchange(harbour.id) is not None

        assert asked(found(hall, model="n")) == ["What is tea?"]
        assert asked(found(hall, model="up/n")) == ["What is tea?"]
        assert asked(found(hall, keys=frozenset(["other"]))) == ["Where is the harbour?"]
        assert asked(found(hall, keys=frozenset([COMPARING + "1"]))) == ["Of a comparison"]
        assert asked(found(hall, data_class="personal")) == ["What is tea?"]
        assert asked(found(hall, since="2999-01-01")) == []
        assert asked(found(hall, most=1)) == ["Where is the harbour?"]

        task = from_record("t", hall.record, Wanted(), "answer", Chosen("exact"))
        assert task.examples[0].references == ("Yes.",)
        assert task.task.source == {"record": {"most": 10_000}}
        with pytest.raises(RequestError, match="no column 'gold'"):
            from_record("t", hall.record, Wanted(), "gold")
        with pytest.raises(RequestError, match="no exchange that can be asked again"):
            from_record("t", hall.record, Wanted(model="x"))


async def test_what_was_not_kept_is_no_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with halls(tmp_path, monkeypatch) as hall:
        await ask(hall, "Where is the harbour?")
        await ask(hall, "What is tea?")
        (first, *_rest) = hall.record.entries(kind="exchange.opened")
        hall.record.redact(first.subject, "asked for")
        told = found(hall)
        assert asked(told) == ["What is tea?"]
        assert told.left_out == {"contents not kept": 1}


async def test_what_audits_asked_is_no_traffic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with halls(tmp_path, monkeypatch) as hall:
        await ask(hall, "Where is the harbour?")
        (first, *_rest) = hall.record.entries(kind="exchange.opened")
        request = ChatRequest("m", (Message("user", "Where is the harbour?"),))
        reason = f"{AUDITING}{first.subject}"
        audit = await hall.hall.other(hall.caller, request, "", Target("up", "n"), reason)
        async with aclosing(audit.events()) as events:
            async for _event in events:
                pass
        # The audit is the newer one: taken for a request, it would stand in the place of the real one.
        told = found(hall)
        assert [example.id for example in told.examples] == [first.subject]
        assert told.left_out == {}


def test_pictures_are_no_part_of_a_text() -> None:
    from daulat.evaluate.recorded import _rich

    assert _rich((Message("user", "?", parts=("?", Image("https://example.org/x.png"))),))
    assert not _rich((Message("user", "?"),))
