"""`daulat label`: a person at the keyboard, the report of what was said, and the page that it serves."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from command import COMMAND, daulat, environment
from keyboard import Keyboard, keyboard

from daulat.evaluate.examples import Chosen
from daulat.evaluate.labels.book import Labels
from daulat.route.learning.outcomes import write
from tests.evaluate.labelled import add_task, answered, table

KEYS = r"q leave"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a task whose answers a judge has compared."""
    home = tmp_path / "home"
    scores = np.array([[0.9, 0.2], [0.8, 0.3], [0.7, 0.7], [0.2, 0.9]])
    texts = [["yes \x1b[31mred\x07", "no"], ["aye", "nay"], ["same", "same"], ["x", "y"]]
    add_task(home, "pairs", table(texts, scores), Chosen("judge:pairwise"), references=["r"] * 4)
    add_task(home, "marks", answered(2), Chosen("judge:rubric", {"scale": "0-10"}))
    return home


def at(home: Path, *arguments: str, prompt: str = KEYS):
    return keyboard([*COMMAND, "label", *arguments, "--by", "ana"], environment(home), prompt)


def ended(person: Keyboard) -> int:
    return person.process.wait(timeout=30)


def test_labels_at_the_keyboard_with_undo_and_resume(home: Path) -> None:
    with at(home, "pairs", "--n", "4") as person:
        person.type("x")  # nothing has that key
        person.type("1")
        assert "2 of 4" in person.until(KEYS)
        person.type("u")
        assert "1 of 4" in person.until(KEYS)
        person.type("2")
        person.until(KEYS)
        person.type("q")
        person.until(r"goes on")
        assert ended(person) == 0
    labels = Labels(home / "tasks" / "pairs")
    assert [one.value for one in labels.all() if not one.automatic] == [0.0]
    with at(home, "pairs", "--n", "4") as person:
        person.type("0")
        person.until(KEYS)
        person.type("s")
        said = person.until(r"--report")
        assert "All 4 are labelled" in said
        assert "1 needed nobody" in said
        assert ended(person) == 0
    given = [one.value for one in labels.all() if not one.automatic]
    assert given == [0.0, 0.5, None]
    assert {one.by for one in labels.all()} == {"ana"}


def test_nothing_on_the_screen_says_whose_an_answer_is_or_steers_it(home: Path) -> None:
    command = [*COMMAND, "label", "pairs", "--n", "4", "--by", "ana"]
    with keyboard(command, environment(home), "drawn at random") as person:
        seen = ""
        for _ in range(3):
            seen += person.until(KEYS)
            person.type("1")
        seen += person.until("--report")
    assert "good" not in re.sub(r"equally good|What is known", "", seen)
    assert "poor" not in seen
    assert "yes [31mred" in seen
    assert "\x07" not in seen


def test_points_of_two_digits_are_typed_and_entered(home: Path) -> None:
    with at(home, "marks", "--n", "2") as person:
        for points in ("10", "11\n0", "5", "7"):
            person.until("> ")
            person.type(points + "\n")
        person.until("--report")
        assert ended(person) == 0
    told = [one.value for one in Labels(home / "tasks" / "marks").all()]
    assert told == [1.0, 0.0, 0.5, 0.7]


def test_ctrl_d_and_ctrl_c_lose_nothing(home: Path) -> None:
    with at(home, "pairs", "--n", "4") as person:
        person.type("1")
        person.until(KEYS)
        person.type("\x04")
        person.until("goes on")
        assert ended(person) == 0
    with at(home, "pairs", "--n", "4") as person:
        person.type("1")
        person.until(KEYS)
        os.killpg(person.process.pid, signal.SIGINT)
        assert ended(person) == 130
    assert len([one for one in Labels(home / "tasks" / "pairs").all() if not one.automatic]) == 2


def test_without_a_terminal_it_says_where_to_go(home: Path) -> None:
    done = daulat(home, "label", "pairs")
    assert done.returncode == 1
    assert "--browser" in done.stderr
    unknown = daulat(home, "label", "nothing")
    assert unknown.returncode == 1
    assert "pairs" in unknown.stderr


def test_the_report(home: Path) -> None:
    assert "Nobody has labelled" in daulat(home, "label", "pairs", "--report").stderr
    with at(home, "pairs", "--n", "4") as person:
        for _ in range(3):
            person.type("1")
            person.until(f"{KEYS}|--report")
    done = daulat(home, "label", "pairs", "--report")
    assert done.returncode == 0, done.stderr
    assert "good : poor" in done.stdout
    assert "4 labels by ana" in done.stdout
    assert "Judge and people, which is better" in done.stdout
    assert "give 50 or more" in done.stdout
    told = json.loads(daulat(home, "label", "pairs", "--json").stdout)
    (rate,) = told["win_rates"]
    assert rate["found"]["estimate"]["n"] == 4
    assert rate["found"]["judge_only"]["value"] == pytest.approx(0.625)


def test_a_file_of_answers(home: Path, tmp_path: Path) -> None:
    write(answered(2), tmp_path / "mine.jsonl")
    with at(home, str(tmp_path / "mine.jsonl"), "--score", "--scale", "0-1") as person:
        for _ in range(4):
            person.type("1")
            person.until(f"{KEYS}|--report")
    assert len(Labels(home / "tasks" / "mine").all()) == 4
    done = daulat(home, "label", str(tmp_path / "mine.jsonl"), "--browser")
    assert "daulat task add" in done.stderr


def test_the_page_has_a_key_that_ends_with_the_command(home: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "label", "pairs", "--browser", "--by", "ana"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(home, {"PYTHONUNBUFFERED": "1", "DISPLAY": "", "WAYLAND_DISPLAY": ""}),
    )
    try:
        assert process.stdout is not None
        said = ""
        while "Ctrl-C" not in said:
            line = process.stdout.readline()
            assert line, process.communicate()[1]
            said += line
        address = re.search(r"(http://127\.0\.0\.1:\d+)/label\?(\S+)#key=(\S+)", said)
        assert address is not None
        assert "task=pairs" in address[2]
        assert "by=ana" in address[2]
        body = json.dumps({"by": "ana", "kind": "pairwise"}).encode()
        headers = {"authorization": f"Bearer {address[3]}", "content-type": "application/json"}
        request = urllib.request.Request(f"{address[1]}/admin/labels/pairs", body, headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            state = json.load(answer)
        assert len(state["item"]["answers"]) == 2
        for name in ("good", "poor", "endpoints"):
            assert name not in json.dumps(state)
        headers["authorization"] = "Bearer daulat-wrong"
        request = urllib.request.Request(f"{address[1]}/admin/labels/pairs", body, headers)
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(request, timeout=30)
    finally:
        os.kill(process.pid, signal.SIGTERM)
        process.wait(timeout=30)
        process.stdout.close()
        process.stderr.close()
    listed = daulat(home, "keys", "list").stdout
    assert "labels" not in listed or "revoked" in listed
