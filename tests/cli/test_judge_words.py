"""`daulat task add --metric judge:...`, `compare`, `label`, `report`: a judge and people, in processes of their
own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from command import daulat

from daulat.endpoints import scripted
from daulat.endpoints.scripted import Answer, Script, Upstream
from daulat.evaluate.labels.desk import Desk, Session
from daulat.evaluate.labels.sheet import Item, sheet
from tests.evaluate.labelled import label_all

KEY = {"SCRIPTED_KEY": "any"}
COUNT = 40


@pytest.fixture
def upstreams() -> Iterator[dict[str, Upstream]]:
    """`kind` and `curt` answer; `judge` takes what is shown first, and every tenth time nothing."""
    verdicts = [*['{"verdict": "A"}'] * 9, "Hard to say."]
    scripts = {"kind": ["Gladly, and thank you."], "curt": ["No."], "judge": verdicts}
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(scripted.running(Script(answers=tuple(map(Answer, texts)))))
            for name, texts in scripts.items()
        }


@pytest.fixture
def home(tmp_path: Path, upstreams: dict[str, Upstream]) -> Path:
    """A home with these endpoints, and letters to answer."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    tables = [
        f"""
[endpoints.{name}]
kind = "openai"
url = "{upstream.url}/v1"
key = "env:SCRIPTED_KEY"
place = "us"
models = ["{name}-1"]
[endpoints.{name}.prices]
{name}-1 = {{ input = "2.5", output = "10" }}
"""
        for name, upstream in upstreams.items()
    ]
    text = "[policy.classes.internal]\nplaces = ['us']\n" + "".join(tables)
    (home / "daulat.toml").write_text(text, encoding="utf-8")
    rows = "".join(f'"Please answer letter {number}."\n' for number in range(COUNT))
    (tmp_path / "letters.csv").write_text("text\n" + rows, encoding="utf-8")
    return home


def added(home: Path, *more: str) -> str:
    file = home.parent / "letters.csv"
    done = daulat(home, "task", "add", "letters", str(file), "--input", "text", *more)
    assert done.returncode == 0, done.stderr
    return done.stdout


def compared(home: Path, *more: str, code: int = 0) -> tuple[str, str]:
    """What it says on both streams."""
    endpoints = ("--endpoints", "kind-1,curt-1", "--max-tokens", "20")
    done = daulat(home, "compare", "letters", *endpoints, *more, more=KEY)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def asked(upstream: Upstream) -> Sequence[Any]:
    return upstream.requests()


def flat(text: str) -> str:
    return " ".join(text.split())


def test_from_a_judge_to_what_people_make_of_it(home: Path, upstreams: dict[str, Upstream]) -> None:
    shown = added(home, "--metric", "judge:pairwise", "--judge", "judge-1")
    assert "judge:pairwise (judge=judge-1)" in flat(shown)

    _out, told = compared(home, "--dry-run")
    assert f"judge-1 as the judge: {2 * COUNT} questions" in flat(told)
    assert "Nothing was asked" in told
    assert not any(map(asked, upstreams.values()))

    out, _told = compared(home, "--yes")
    assert len(asked(upstreams["judge"])) == 2 * COUNT
    said = flat(out)
    assert "Preferred by the judge judge-1" in said
    assert "Verdict turns" in said
    assert "It says which of two answers is better, in both orders." in said
    assert "72 verdicts, told in JSON; they cost" in said
    assert "8 replies of the judge have no verdict that can be read" in said
    assert "Hard to say." in said
    assert "the place decides much of the judge's verdicts" in said
    assert "nobody has checked" in said

    desk = Desk(sheet(home, "letters"), Session("ana", "pairwise", 25))
    assert label_all(desk, _kinder) == 25
    out, told = compared(home, "--yes")
    assert len(asked(upstreams["judge"])) == 2 * COUNT
    assert "judge-1 as the judge: everything is answered already" in flat(told)
    said = flat(out)
    assert "By people and judge" in said
    assert "25 labels by ana" in said
    assert "Krippendorff's alpha" in said
    assert "nobody has checked" not in said
    assert "People and judge together prefer kind-1 to curt-1" in said

    report = json.loads(compared(home, "--yes", "--json")[0])
    (pair,) = report["pairs"]
    assert report["judge"] == "judge-1"
    assert (report["judging"]["verdicts"], report["judging"]["unreadable"]) == (72, 8)
    assert pair["judged"]["bias"]["value"] == 0.5
    assert pair["judged"]["rate"]["rate"]["value"] == 0.5
    assert pair["preferred"]["judge_only"]["value"] == 0.5
    assert pair["preferred"]["estimate"]["value"] > 0.9
    assert report["people"]["names"] == ["ana"]

    done = daulat(home, "report", "letters", "--language", "id")
    assert done.returncode == 0, done.stderr
    assert "Manusia dan juri bersama lebih memilih kind-1 daripada curt-1" in flat(done.stdout)
    (page,) = (home / "tasks" / "letters" / "comparisons").glob("*/report.html")
    assert "25 label oleh ana" in flat(page.read_text(encoding="utf-8"))


def _kinder(item: Item) -> float:
    return float("Gladly" in item.answers[0])


def test_the_judge_ends_at_the_budget_and_goes_on(
    home: Path, upstreams: dict[str, Upstream]
) -> None:
    more = ("--metric", "judge:rubric", "--judge", "judge-1", "--option", "max_tokens=16")
    rubric = home.parent / "rubric.txt"
    rubric.write_text("5: kind. 1: rude.", encoding="utf-8")
    added(home, *more, "--rubric", str(rubric))
    out, told = compared(home, "--budget", "0.04", code=1)
    judged = len(asked(upstreams["judge"]))
    assert 0 < judged < 2 * COUNT
    assert "The budget does not cover" in flat(told)
    assert "question" in flat(out)
    assert "to the judge ha" in flat(out)
    body = asked(upstreams["judge"])[0]["body"]["messages"][-1]["content"]
    assert "5: kind. 1: rude." in body
    compared(home, "--budget", "4")
    assert len(asked(upstreams["judge"])) == 2 * COUNT


def test_what_is_missing_is_said(home: Path) -> None:
    file = str(home.parent / "letters.csv")
    base = ("task", "add", "letters", file, "--input", "text", "--metric")
    nobody = daulat(home, *base, "judge:pairwise")
    assert nobody.returncode == 1
    assert "--judge" in nobody.stderr
    other = daulat(home, *base, "exact", "--judge", "judge-1")
    assert other.returncode == 2
    assert "--metric judge" in other.stderr
    unknown = daulat(home, *base, "judge:pairwise", "--judge", "nothing")
    assert unknown.returncode == 0
    done = daulat(home, "compare", "letters", "--endpoints", "kind-1,curt-1", "--yes", more=KEY)
    assert done.returncode == 1
    assert "nothing" in done.stderr
