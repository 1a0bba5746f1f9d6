"""The conversation at the keyboard, with answers that a script gives."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import environment
from keyboard import Keyboard, keyboard

SCRIPT = str(Path(__file__).with_name("scripted_chat.py"))


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Keyboard]:
    command = [sys.executable, SCRIPT, str(tmp_path / "history")]
    with keyboard(command, environment(tmp_path)) as person:
        yield person


def ask(person: Keyboard, text: str) -> str:
    person.type(text + "\n")
    return person.until("rec-1[^>]*>>> ")


def test_the_conversation_goes_along_until_a_new_one(person: Keyboard) -> None:
    assert "user='a'" in ask(person, "a")
    assert "user='a' | assistant=\"user='a'\" | user='b'" in ask(person, "b")
    person.type("/new\n")
    person.until(">>> ")
    answer = ask(person, "c")
    assert "user='c'" in answer
    assert "user='a'" not in answer


def test_instructions_come_and_go(person: Keyboard) -> None:
    person.type("/system Be brief.\n")
    person.until(">>> ")
    assert "system='Be brief.' | user='a'" in ask(person, "a")
    person.type("/system\n")
    person.until(">>> ")
    assert "\nuser='a' | assistant=" in ask(person, "b")


def test_several_lines(person: Keyboard) -> None:
    person.type("a\\\n")
    person.until(r"\.\.\. ")
    assert r"user='a\nb'" in ask(person, "b")
    person.type('"""\n')
    person.until(r"\.\.\. ")
    person.type("  c\n")
    person.until(r"\.\.\. ")
    assert r"user='c\n\nd'" in ask(person, '\nd"""')
    assert "user='e'" in ask(person, '"""e"""')


def test_a_model_is_chosen_among_those_there_are(person: Keyboard) -> None:
    person.type("/model two\n")
    assert "* two" in person.until(">>> ")
    person.type("/model three\n")
    assert "No model three." in person.until(">>> ")
    assert "two" in ask(person, "a")


def test_an_error_leaves_the_conversation_as_it_was(person: Keyboard) -> None:
    person.type("fail\n")
    assert "The queue is full" in person.until(">>> ")
    assert "fail" not in ask(person, "a").split("user=", 1)[1]


def test_ctrl_c_stops_the_answer_then_only_the_line(person: Keyboard) -> None:
    person.type("slow\n")
    person.until("begun")
    os.kill(person.process.pid, signal.SIGINT)
    person.until(r"\(stopped\)[^>]*>>> ")
    # Between a prompt and its wait for keys, readline notes a signal and sees to it with the next key.
    for _ in range(30):
        os.kill(person.process.pid, signal.SIGINT)
        with contextlib.suppress(AssertionError):
            person.until(r"/quit or Ctrl-D[^>]*>>> ", seconds=4)
            break
    else:
        pytest.fail("nothing came of it")
    assert "assistant='begun'" in ask(person, "a")


def test_an_answer_cannot_steer_the_terminal(person: Keyboard) -> None:
    answer = ask(person, "escape")
    assert "[31mred" in answer
    assert "\x1b[31m" not in answer
    assert "\x07" not in answer
    assert "\u202e" not in answer


def test_a_saved_conversation_overwrites_nothing(person: Keyboard, tmp_path: Path) -> None:
    ask(person, "a")
    file = tmp_path / "saved.md"
    person.type(f"/save {file}\n")
    person.until("Saved")
    person.type(f"/save {file}\n")
    person.until("give another name")
    assert file.read_text(encoding="utf-8").startswith("**You**\n\na\n\n**one**\n\n")


def test_history_is_kept_for_its_owner(person: Keyboard, tmp_path: Path) -> None:
    ask(person, "remember me")
    person.type("/quit\n")
    assert person.process.wait(timeout=30) == 0
    history = tmp_path / "history"
    assert "remember me" in history.read_text(encoding="utf-8")
    assert history.stat().st_mode & 0o777 == 0o600
