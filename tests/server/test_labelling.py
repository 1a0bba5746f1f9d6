"""`/admin/labels`: what it takes, what it refuses, and that it never says whose an answer is."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from daulat.evaluate.examples import Chosen
from daulat.evaluate.labels.book import Labels
from daulat.flow import Hall
from daulat.models.catalogue import Catalogue
from daulat.record import Record
from daulat.record.keys import Keys
from daulat.route.learning.outcomes import write
from daulat.server.app import build_app
from daulat.settings import Server
from tests.evaluate.labelled import add_task, answered, table

ASKED = {"by": "ana", "kind": "pairwise", "n": 3}


@dataclass
class Desk:
    """A client with a key that may label, and the home that it labels in."""

    client: httpx2.AsyncClient
    home: Path

    async def label(self, task: str = "pairs", **body: Any) -> httpx2.Response:
        return await self.client.post(f"/admin/labels/{task}", json={**ASKED, **body})

    def labels(self, task: str = "pairs") -> list[Any]:
        return Labels(self.home / "tasks" / task).all()


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    home = tmp_path / "home"
    add_task(home, "pairs", answered(3, ("secret-a", "secret-b")), Chosen("judge:pairwise"))
    add_task(home, "fresh", None)
    add_task(home, "one", table([["x"]], np.zeros((1, 1)), ("secret-a",)))
    record = Record.open(home / "record.sqlite3")
    keys = Keys(record)
    _, secret = keys.create("budi", scopes=("admin",))
    hall = Hall(Catalogue(home), keys, record, {}, "tests")
    transport = httpx2.ASGITransport(build_app(hall, Server(), home=home))
    headers = {"authorization": f"Bearer {secret}"}
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://127.0.0.1", headers=headers
    ) as client:
        yield Desk(client, home)
    record.close()


async def test_the_tasks_that_can_be_labelled(desk: Desk) -> None:
    told = (await desk.client.get("/admin/labels")).json()
    assert told["by"] == "budi"
    assert [one["name"] for one in told["tasks"]] == ["one", "pairs"]
    assert told["tasks"][1] == {
        "name": "pairs",
        "examples": 3,
        "endpoints": 2,
        "kind": "pairwise",
        "scale": "1-5",
        "people": [],
    }


async def test_a_session_from_the_first_label_to_the_last(desk: Desk) -> None:
    state = (await desk.label()).json()
    assert "secret" not in json.dumps(state)
    for number in range(3):
        assert (state["done"], state["all"]) == (number, 3)
        state = (await desk.label(item=state["item"]["item"], value=1.0, seconds=2.5)).json()
    assert state["item"] is None
    assert [one.value for one in desk.labels()] == [1.0] * 3
    assert {one.seconds for one in desk.labels()} == {2.5}
    again = (await desk.label(undo=True)).json()
    assert again["done"] == 2
    assert again["item"] is not None
    told = (await desk.client.get("/admin/labels")).json()
    assert told["tasks"][1]["people"] == ["ana"]


async def test_null_is_no_label_of_one_half(desk: Desk) -> None:
    state = (await desk.label()).json()
    await desk.label(item=state["item"]["item"], value=None)
    assert [one.value for one in desk.labels()] == [None]


async def test_points_are_scores_of_their_scale(desk: Desk) -> None:
    state = (await desk.label("one", kind="score", low=0, high=3)).json()
    await desk.label("one", kind="score", low=0, high=3, item=state["item"]["item"], value=1 / 3)
    (label,) = desk.labels("one")
    assert (label.value, label.scale) == (pytest.approx(1 / 3), "0-3")


@pytest.mark.parametrize(
    "body",
    [
        {"by": ""},
        {"by": "  "},
        {"by": "x" * 65},
        {"by": "a\u202eb"},
        {"kind": "other"},
        {"n": 0},
        {"n": 100_001},
        {"seed": -1},
        {"low": 5, "high": 5},
        {"high": 101},
        {"item": "x"},
        {"item": "0" * 32},
        {"value": 1.5},
        {"value": "A"},
        {"seconds": -1},
        {"undo": True, "item": "0" * 32},
        {"more": 1},
    ],
)
async def test_what_is_out_of_bounds_is_refused(desk: Desk, body: dict[str, Any]) -> None:
    answer = await desk.label(**body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]
    assert desk.labels() == []


async def test_other_things_that_cannot_be(desk: Desk) -> None:
    for task, status in (("nothing", 404), ("fresh", 400), ("one", 400), ("..", 404)):
        answer = await desk.label(task)
        assert answer.status_code == status, task
    assert "daulat compare" in (await desk.label("fresh")).json()["error"]["message"]
    (desk.home / "tasks" / "pairs" / "outcomes.jsonl").write_text("damaged\n", encoding="utf-8")
    answer = await desk.label()
    assert answer.status_code == 400
    names = [one["name"] for one in (await desk.client.get("/admin/labels")).json()["tasks"]]
    assert names == ["one"]


async def test_newer_answers_are_shown_at_once(desk: Desk) -> None:
    state = (await desk.label()).json()
    write(
        table([["new", "words"]], np.zeros((1, 2)), ("secret-a", "secret-b")),
        desk.home / "tasks" / "pairs" / "outcomes.jsonl",
    )
    stale = await desk.label(item=state["item"]["item"], value=1.0)
    assert stale.status_code == 400
    fresh = (await desk.label()).json()
    assert sorted(fresh["item"]["answers"]) == ["new", "words"]
