"""`daulat task`, `compare` and `report`: from a file of one's own to a report, in processes of their own."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command import COMMAND, MODEL, daulat, environment

from daulat.endpoints import scripted
from daulat.endpoints.scripted import Answer, Delays, Script, Upstream

KEY = {"SCRIPTED_KEY": "any"}
TEXTS = (
    *("The invoice shows the wrong amount.", "I cannot log in since this morning."),
    *("Please send last month's invoice again.", "My password link has expired."),
)
TEAMS = ("billing", "access", "billing", "access")
TEMPLATE = "Billing or access? One word.\n\n{text}"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with scripted.running(Script(answers=(Answer("billing"),))) as found:
        yield found


def settings(home: Path, upstream: Upstream) -> None:
    """A rented endpoint beside whatever the home has."""
    home.mkdir(mode=0o700, exist_ok=True)
    (home / "daulat.toml").write_text(
        f"""
[policy.classes.internal]
places = ["us"]
[endpoints.up]
kind = "compatible"
url = "{upstream.url}/v1"
key = "env:SCRIPTED_KEY"
place = "us"
models = ["rented", "other"]
[endpoints.up.prices]
rented = {{ input = "2.5", output = "10" }}
other = {{ input = "1", output = "2" }}
""",
        encoding="utf-8",
    )


def tickets(path: Path, count: int = 4) -> Path:
    """A file of tickets with the team that is right for each."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("id", "text", "team"))
        rows.writerows((i, f"{TEXTS[i % 4]} ({i})", TEAMS[i % 4]) for i in range(count))
    return path


def added(home: Path, file: Path, *more: str) -> None:
    options = ("--reference", "team", "--metric", "exact", "--template", TEMPLATE)
    done = daulat(home, "task", "add", "tickets", str(file), *options, *more)
    assert done.returncode == 0, done.stderr


def reported(home: Path, *arguments: str) -> dict[str, Any]:
    done = daulat(home, "compare", *arguments, "--json", more=KEY)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_what_is_left_out_is_said_in_ones_own_language(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "some.csv"
    file.write_text("text,team\nWho pays?,billing\nWho mends?,\n")
    options = ("--input", "text", "--reference", "team", "--metric", "exact", "--dry-run")
    for language, words in (("en", "1 without a reference"), ("id", "1 tanpa rujukan")):
        more = {"LANGUAGE": language, "LANG": f"{language}_XX.UTF-8"}
        done = daulat(home, "task", "add", "some", str(file), *options, more=more)
        assert words in done.stderr + done.stdout, done.stderr


def test_from_a_file_to_a_report(
    furnish: Callable[[Path], Path], tmp_path: Path, upstream: Upstream
) -> None:
    home = furnish(tmp_path / "home")
    settings(home, upstream)
    added(home, tickets(tmp_path / "tickets.csv"))
    shown = daulat(home, "task", "show", "tickets")
    assert TEXTS[0] in shown.stdout
    wanted = ("compare", "tickets", "--endpoints", f"{MODEL},rented", "--max-tokens", "4")

    dry = daulat(home, *wanted, "--dry-run", more=KEY)
    assert dry.returncode == 0, dry.stderr
    assert f"{MODEL}: 4 questions" in dry.stderr
    assert "rented: 4 questions" in dry.stderr
    assert "Nothing was asked." in dry.stderr
    refused = daulat(home, *wanted, more=KEY)
    assert refused.returncode == 2
    assert "--budget" in refused.stderr
    assert upstream.requests() == []

    done = daulat(home, *wanted, "--budget", "0.50", more=KEY)
    assert done.returncode == 0, done.stderr
    assert "4 examples are too few to compare" in done.stdout
    folder = next((home / "tasks" / "tickets" / "comparisons").iterdir())
    assert str(folder / "report.html") in done.stderr
    told = json.loads((folder / "report.json").read_bytes())
    local, rented = told["endpoints"]
    assert (local["name"], local["place"], local["open"]) == (MODEL, "this-machine", True)
    assert (rented["name"], rented["place"], rented["open"]) == ("rented", "us", False)
    assert rented["score"]["value"] == 0.5
    assert local["counts"]["answered"] == rented["counts"]["answered"] == 4
    totals = upstream.ledger()["totals"]
    billed = (totals["prompt_tokens"] * 2.5 + totals["completion_tokens"] * 10) / 1e6
    assert rented["money"] == pytest.approx(billed) == pytest.approx(float(told["about"]["spent"]))
    assert all(path.stat().st_mode & 0o077 == 0 for path in (home / "tasks").rglob("*"))

    again = daulat(home, *wanted, "--budget", "0.50", more=KEY)
    assert again.returncode == 0, again.stderr
    assert "rented: everything is answered already." in again.stderr
    assert len(upstream.requests()) == 4


def test_a_report_again_in_another_language(tmp_path: Path, home: Path, upstream: Upstream) -> None:
    settings(home, upstream)
    added(home, tickets(tmp_path / "tickets.csv", 12))
    first = reported(home, "tickets", "--endpoints", "rented,other", "--yes", "--margin", "5")
    assert first["margin"] == 0.05
    second = reported(home, "tickets", "--endpoints", "rented", "--yes")
    assert len(upstream.requests()) == 24
    newest = daulat(home, "report", "tickets", "--json")
    assert json.loads(newest.stdout) == second
    older = daulat(
        home, "report", "tickets", "--comparison", first["about"]["id"], "--language", "id"
    )
    assert older.returncode == 0, older.stderr
    assert "Perbandingan: tickets" in older.stdout
    page = home / "tasks" / "tickets" / "comparisons" / first["about"]["id"] / "report.html"
    assert '<html lang="id">' in page.read_text(encoding="utf-8")
    missing = daulat(home, "report", "tickets", "--comparison", "nothing")
    assert missing.returncode != 0
    assert first["about"]["id"] in missing.stderr
    nobody = daulat(home, "report", "nobody")
    assert nobody.returncode != 0
    assert "nobody" in nobody.stderr


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_stopped_and_gone_on_with(tmp_path: Path, home: Path, how: signal.Signals) -> None:
    slow = Script(answers=(Answer("billing"),), delays=Delays(first=0.3))
    with scripted.running(slow) as upstream:
        settings(home, upstream)
        added(home, tickets(tmp_path / "tickets.csv", 30))
        arguments = ("compare", "tickets", "--endpoints", "rented", "--yes", "--concurrency", "2")
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            env=environment(home, KEY),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        while len(upstream.requests()) < 6:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(how)
        _out, errors = process.communicate(timeout=60)
        assert process.returncode not in (0, None)
        assert how == signal.SIGKILL or "the same command goes on from here" in errors
        asked = len(upstream.requests())
        assert asked < 30
        told = reported(home, *arguments[1:])
        assert told["endpoints"][0]["counts"]["answered"] == 30
        # What was being asked when it stopped may be asked again.
        assert len(upstream.requests()) <= 30 + 2


def test_a_budget_that_ends_says_so(tmp_path: Path, home: Path, upstream: Upstream) -> None:
    settings(home, upstream)
    added(home, tickets(tmp_path / "tickets.csv", 30))
    arguments = ("compare", "tickets", "--endpoints", "rented", "--max-tokens", "50")
    done = daulat(home, *arguments, "--budget", "0.002", "--json", more=KEY)
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert told["about"]["ended"] == "budget"
    assert 0 < float(told["about"]["spent"]) <= 0.002
    assert 0 < told["endpoints"][0]["counts"]["missing"] < 30
    assert "A higher --budget goes on." in done.stderr
    assert reported(home, *arguments[1:], "--budget", "1")["about"]["ended"] == "done"


def test_a_price_that_nobody_knows_holds_no_budget(
    tmp_path: Path, home: Path, upstream: Upstream
) -> None:
    settings(home, upstream)
    file = home / "daulat.toml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace('"other"]', '"other", "new"]'), encoding="utf-8")
    added(home, tickets(tmp_path / "tickets.csv"))
    done = daulat(home, "compare", "tickets", "--endpoints", "new", "--budget", "1", more=KEY)
    assert done.returncode != 0
    assert "nobody said what new costs" in done.stderr
    assert upstream.requests() == []


def test_an_outcome_file_is_compared_without_asking(tmp_path: Path, home: Path) -> None:
    file = tmp_path / "old answers.csv"
    with file.open("w", encoding="utf-8", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(
            ("prompt", "category", "a.answer", "a.score", "a.cost", "b.answer", "b.score", "b.cost")
        )
        rows.writerows(
            (f"q{i}", "xy"[i % 2], "1", int(i % 4 > 0), 0, "2", int(i % 4 > 1), 0.01)
            for i in range(80)
        )
    told = reported(home, str(file))
    assert told["about"]["task"] == "old-answers"
    assert [side["score"]["value"] for side in told["endpoints"]] == [0.75, 0.5]
    (pair,) = told["pairs"]
    assert (pair["scores"]["wins"], pair["scores"]["ties"], pair["scores"]["losses"]) == (20, 60, 0)
    assert reported(home, str(file))["about"]["id"] == told["about"]["id"]
    file.write_text(file.read_text(encoding="utf-8").replace("q1,", "q-1,"), encoding="utf-8")
    other = daulat(home, "compare", str(file))
    assert other.returncode != 0
    assert "--name" in other.stderr
    assert daulat(home, "compare", str(file), "--name", "newer").returncode == 0
    assert daulat(home, "task", "remove", "newer").returncode == 0
    assert "newer" not in daulat(home, "task", "list").stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("compare", "nothing", "--endpoints", "a"), "nothing"),
        (("compare", "tickets"), "--endpoints A,B"),
        (("compare", "tickets", "--endpoints", "nobody", "--yes"), "nobody"),
        (("compare", "tickets", "--endpoints", "rented", "--margin", "0"), "--margin"),
        (("compare", "tickets", "--endpoints", "rented", "--budget", "much"), "--budget"),
        (("compare", "tickets", "--endpoints", "rented", "--project", "x"), "project"),
        (("compare", "tickets", "--endpoints", "rented", "--samples-of", "x"), "--samples-of"),
    ],
)
def test_what_cannot_be_says_why(
    tmp_path: Path, home: Path, upstream: Upstream, arguments: tuple[str, ...], says: str
) -> None:
    settings(home, upstream)
    added(home, tickets(tmp_path / "tickets.csv"))
    done = daulat(home, *arguments, more=KEY)
    assert done.returncode != 0
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert os.listdir(home / "tasks") == ["tickets"]
