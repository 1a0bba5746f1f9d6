"""Labels by people: what is drawn, what is shown, what is kept, and what survives."""

from __future__ import annotations

import json
import multiprocessing
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daulat.errors import DataError, NotFoundError, RequestError
from daulat.evaluate.examples import Chosen
from daulat.evaluate.judges.verdicts import Scale
from daulat.evaluate.labels.book import Draw, Label, Labels, Withdrawal, answer_digest
from daulat.evaluate.labels.desk import Desk, Session, token
from daulat.evaluate.labels.sheet import items, sheet
from daulat.evaluate.tasks import LABELS, Tasks
from daulat.route.learning.outcomes import write
from tests.evaluate.labelled import add_task, answered, label_all, table

# --- the file -------------------------------------------------------------------------------------


def a_label(number: int = 0, **changes: object) -> Label:
    usual: dict[str, object] = {
        "id": f"label-{number:016x}",
        "time": "2026-01-01T00:00:00Z",
        "by": "ana",
        "key": "",
        "kind": "score",
        "example": "e1",
        "endpoints": ("a",),
        "answers": (answer_digest("x"),),
        "value": 0.5,
        "scale": "1-5",
        "draw": Draw(0, 0, 10, 40),
        "automatic": False,
        "seconds": 1.5,
    }
    return Label(**{**usual, **changes})  # type: ignore[arg-type]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.builds(
            a_label,
            st.integers(0, 5),
            by=st.text(min_size=1, max_size=20),
            value=st.none() | st.floats(0, 1),
            example=st.text(max_size=50),
            seconds=st.floats(0, 1000),
        ),
        max_size=8,
    )
)
def test_what_is_kept_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, given_: list[Label]
) -> None:
    labels = Labels(tmp_path_factory.mktemp("labels"))
    for one in given_:
        labels.add([one])
    last = {one.id: one for one in given_}
    assert {one.id: one for one in labels.all()} == last


def test_a_label_says_who_when_and_how_its_example_was_drawn(tmp_path: Path) -> None:
    Labels(tmp_path).add([a_label()])
    path = tmp_path / LABELS
    told = json.loads(path.read_text(encoding="utf-8"))
    assert (told["by"], told["time"]) == ("ana", "2026-01-01T00:00:00Z")
    assert told["draw"] == {"seed": 0, "place": 0, "drawn": 10, "of": 40, "probability": 0.25}
    assert "x" not in told.values()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_torn_last_line_is_dropped_and_written_over(tmp_path: Path) -> None:
    labels = Labels(tmp_path)
    labels.add([a_label(1), a_label(2)])
    path = tmp_path / LABELS
    whole = path.read_bytes()
    for cut in range(len(whole.splitlines(keepends=True)[0]), len(whole)):
        path.write_bytes(whole[:cut])
        assert [one.id[-1] for one in labels.all()] == ["1"]
    labels.add([a_label(3)])
    assert [one.id[-1] for one in labels.all()] == ["1", "3"]


def test_a_line_that_is_no_label_is_told(tmp_path: Path) -> None:
    labels = Labels(tmp_path)
    labels.add([a_label(1)])
    path = tmp_path / LABELS
    good = path.read_text(encoding="utf-8")
    for bad in ("{}", "no", '{"format": 2}', good.strip().replace("0.5", "7"), "x" * 20_000):
        path.write_text(good + bad + "\n", encoding="utf-8")
        with pytest.raises(DataError):
            labels.all()


def _write(folder: Path, first: int) -> None:
    labels = Labels(folder)
    for number in range(first, first + 50):
        labels.add(
            [a_label(number), a_label(1_000_000), Withdrawal(a_label(1_000_000).id, "", "b")]
        )


def test_two_programs_may_write_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    people = [context.Process(target=_write, args=(tmp_path, first)) for first in (0, 100, 200)]
    for one in people:
        one.start()
    for one in people:
        one.join()
        assert one.exitcode == 0
    assert len(Labels(tmp_path).all()) == 150


# --- what is drawn --------------------------------------------------------------------------------


def test_the_sample_is_uniform_and_another_seed_is_another(tmp_path: Path) -> None:
    add_task(tmp_path / "home", "t", answered(12))
    found = sheet(tmp_path / "home", "t")
    firsts = Counter(row for seed in range(3000) for row in found.order(seed)[:4])
    # Each of 12 is among the first four in a third of the orders: 1000 of 3000, give or take 26.
    assert set(firsts) == set(range(12))
    assert all(890 < count < 1110 for count in firsts.values())
    assert found.order(3) == found.order(3)


def test_a_larger_sample_begins_with_the_smaller_one(tmp_path: Path) -> None:
    add_task(tmp_path / "home", "t", answered(20))
    found = sheet(tmp_path / "home", "t")
    small = Desk(found, Session("ana", "score", 5))
    assert label_all(small, lambda item: 1.0) == 10
    large = Desk(found, Session("ana", "score", 8))
    assert label_all(large, lambda item: 1.0) == 6
    assert large.progress().done == 16


def test_pairs_are_drawn_evenly_and_shown_in_both_orders(tmp_path: Path) -> None:
    add_task(tmp_path / "home", "t", answered(600, ("a", "b", "c")))
    found = sheet(tmp_path / "home", "t")
    shown = Counter()
    for by in ("ana", "budi"):
        for place, row in enumerate(found.order(0)):
            (item,) = items(found, "pairwise", by, 0, 600, row, place)
            shown[by, *item.endpoints] += 1
            shown[row, frozenset(item.endpoints)] += 1
    for by in ("ana", "budi"):
        for pair in (("a", "b"), ("b", "c"), ("c", "a")):
            assert 60 < shown[by, *pair] < 140
            assert 60 < shown[by, *reversed(pair)] < 140
    # Everybody gets the same pairs.
    assert {count for key, count in shown.items() if isinstance(key[1], frozenset)} == {2}


def test_nothing_shown_says_whose_it_is(tmp_path: Path) -> None:
    add_task(tmp_path / "home", "t", answered(5))
    desk = Desk(sheet(tmp_path / "home", "t"), Session("ana", "pairwise"))
    item = desk.next()
    assert item is not None
    assert not {"good", "poor"} & set(" ".join((item.prompt, *item.answers, token(item))).split())


# --- a session ------------------------------------------------------------------------------------


def test_a_stopped_session_goes_on_and_a_step_can_be_taken_back(tmp_path: Path) -> None:
    folder = add_task(tmp_path / "home", "t", answered(6))
    asked = Session("ana", "pairwise", 6)
    desk = Desk(sheet(tmp_path / "home", "t"), asked)
    first = desk.next()
    assert first is not None
    desk.put(first, 1.0)
    second = desk.next()
    assert second is not None
    assert second != first
    again = Desk(sheet(tmp_path / "home", "t"), asked)
    assert again.next() == second
    assert again.undo() == first
    assert again.next() == first
    assert again.undo() is None
    assert again.progress().done == 0
    # Nothing is ever removed.
    assert len((folder / LABELS).read_text(encoding="utf-8").splitlines()) == 2


def test_said_again_replaces_what_was_said(tmp_path: Path) -> None:
    folder = add_task(tmp_path / "home", "t", answered(3))
    desk = Desk(sheet(tmp_path / "home", "t"), Session("ana", "score", 3))
    item = desk.next()
    assert item is not None
    desk.put(item, 0.25)
    desk.put(item, 0.75)
    assert [one.value for one in Labels(folder).all()] == [0.75]


def test_people_do_not_see_each_other(tmp_path: Path) -> None:
    add_task(tmp_path / "home", "t", answered(4))
    found = sheet(tmp_path / "home", "t")
    ana = Desk(found, Session("ana", "pairwise", 4))
    assert label_all(ana, lambda item: 1.0) == 4
    budi = Desk(found, Session("budi", "pairwise", 4))
    assert budi.undo() is None
    assert label_all(budi, lambda item: None) == 4
    assert ana.progress().done == budi.progress().done == 4


def test_equal_answers_need_nobody(tmp_path: Path) -> None:
    same = [["x", "x"], ["x", "y"], ["z", "z"], ["", ""]]
    folder = add_task(tmp_path / "home", "t", table(same, np.zeros((4, 2))))
    found = sheet(tmp_path / "home", "t")
    desk = Desk(found, Session("ana", "pairwise", 4))
    assert label_all(desk, lambda item: 1.0) == 1
    assert desk.progress().automatic == 3
    assert Counter(one.value for one in Labels(folder).all()) == {0.5: 3, 1.0: 1}
    scored = Desk(found, Session("ana", "score", 4))
    assert label_all(scored, lambda item: 0.25) == 5
    assert scored.progress().done == 8
    # What followed from a label goes with it.
    undone = scored.undo()
    assert undone is not None
    assert label_all(scored, lambda item: 1.0) == 1
    last = [
        one for one in Labels(folder).all() if one.example == undone.example and one.kind == "score"
    ]
    assert {one.value for one in last if one.answers[0] == answer_digest(undone.answers[0])} == {
        1.0
    }


def test_new_answers_are_asked_for_again(tmp_path: Path) -> None:
    home = tmp_path / "home"
    folder = add_task(home, "t", answered(3))
    label_all(Desk(sheet(home, "t"), Session("ana", "pairwise", 3)), lambda item: 1.0)
    changed = answered(3)
    texts = [["new", row[1]] if i == 0 else row for i, row in enumerate(changed.answers)]
    write(table(texts, changed.scores), folder / "outcomes.jsonl")
    desk = Desk(sheet(home, "t"), Session("ana", "pairwise", 3))
    assert label_all(desk, lambda item: 0.0) == 1


def test_an_item_of_older_answers_is_refused(tmp_path: Path) -> None:
    add_task(tmp_path / "home", "t", answered(3))
    desk = Desk(sheet(tmp_path / "home", "t"), Session("ana", "score", 1))
    with pytest.raises(RequestError, match="again"):
        desk.item("0" * 32)


@pytest.mark.parametrize(
    "session",
    [
        {"by": " "},
        {"by": "x" * 65},
        {"by": "a\nb"},
        {"by": "ana", "drawn": 0},
        {"by": "ana", "seed": -1},
    ],
)
def test_bounds_of_a_session(session: dict[str, object]) -> None:
    with pytest.raises(RequestError):
        Session(**{"kind": "score", **session})  # type: ignore[arg-type]


# --- what can be labelled -------------------------------------------------------------------------


def test_what_the_task_is_judged_by_is_what_people_are_asked(tmp_path: Path) -> None:
    home = tmp_path / "home"
    usual = {
        "pair": (Chosen("judge:pairwise"), "pairwise", Scale()),
        "points": (Chosen("judge:rubric", {"scale": "0-3"}), "score", Scale(0, 3)),
        "five": (Chosen("judge:rubric"), "score", Scale(1, 5)),
        "right": (Chosen("exact"), "score", Scale(0, 1)),
        "nothing": (Chosen(), "pairwise", Scale()),
    }
    for name, (metric, kind, scale) in usual.items():
        add_task(home, name, answered(2), metric)
        found = sheet(home, name)
        assert (found.kind, found.scale) == (kind, scale), name
    alone = sheet(home, "pair", endpoints=["good"])
    assert alone.kind == "score"
    with pytest.raises(RequestError, match="one endpoint"):
        Desk(alone, Session("ana", "pairwise"))


def test_a_file_of_answers_can_be_labelled(tmp_path: Path) -> None:
    home = tmp_path / "home"
    write(answered(3), tmp_path / "mine.jsonl")
    found = sheet(home, str(tmp_path / "mine.jsonl"))
    assert found.name == "mine"
    label_all(Desk(found, Session("ana", "score", 3)), lambda item: 1.0)
    assert len(Labels(home / "tasks" / "mine").all()) == 6
    named = sheet(home, str(tmp_path / "mine.jsonl"), name="other")
    assert named.folder.name == "other"
    with pytest.raises(RequestError, match="name"):
        sheet(home, str(tmp_path / "mine.jsonl"), name="../up")


def test_what_cannot_be_labelled_says_why(tmp_path: Path) -> None:
    home = tmp_path / "home"
    add_task(home, "fresh", None)
    with pytest.raises(RequestError, match="daulat compare"):
        sheet(home, "fresh")
    with pytest.raises(NotFoundError, match="neither"):
        sheet(home, "nothing")
    add_task(home, "silent", table([[None, "x"]], np.zeros((1, 2))))
    with pytest.raises(RequestError, match="not kept"):
        sheet(home, "silent")
    add_task(
        home, "some", table([[None, "x"], ["a", "b"]], np.zeros((2, 2))), references=["r", "s"]
    )
    some = sheet(home, "some")
    assert (some.left_out, some.outcomes.ids) == (1, ("e1",))
    assert some.references["e1"] == ("s",)


def test_labels_stay_when_a_task_is_replaced(tmp_path: Path) -> None:
    home = tmp_path / "home"
    folder = add_task(home, "t", answered(2))
    label_all(Desk(sheet(home, "t"), Session("ana", "score", 2)), lambda item: 1.0)
    tasks = Tasks(home)
    tasks.add(tasks.get("t"), tasks.examples("t"), replacing=True)
    assert len(Labels(folder).all()) == 4
