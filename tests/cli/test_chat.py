"""`daulat chat`: in a pipe, at a keyboard, and with a running server."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from command import COMMAND, MODEL, daulat, environment, up
from keyboard import keyboard

PRESET = "daulat-test-preset-0123456789-0123456789-0123456789"
GREEDY = ("--temperature", "0", "--max-tokens", "12")


def test_a_pipe_gets_the_answer_and_nothing_else(furnished: Path) -> None:
    first = daulat(furnished, "chat", *GREEDY, text="What is the capital of Japan?")
    again = daulat(furnished, "chat", *GREEDY, text="What is the capital of Japan?")
    assert first.returncode == 0, first.stderr
    assert "Tokyo" in first.stdout
    assert first.stdout == again.stdout
    assert first.stderr == ""
    assert "terminal" in daulat(furnished, "record", "show").stdout.splitlines()[1]


def test_a_pipe_without_a_question_is_an_error(furnished: Path) -> None:
    done = daulat(furnished, "chat", text=" \n")
    assert done.returncode == 1
    assert "no question" in done.stderr


def test_a_running_server_answers_the_same(furnished: Path) -> None:
    here = daulat(furnished, "chat", *GREEDY, text="What is the capital of Japan?")
    with up(furnished, more={"DAULAT_API_KEY": PRESET}) as server:
        url = ("--url", server.url)
        there = daulat(
            furnished, "chat", *GREEDY, *url, text="What is the capital of Japan?",
            more={"DAULAT_API_KEY": PRESET},
        )  # fmt: skip
        assert there.stdout == here.stdout, there.stderr
        wrong = daulat(furnished, "chat", *url, text="x", more={"DAULAT_API_KEY": "daulat-no"})
        assert wrong.returncode == 1
        assert "key" in wrong.stderr
        keyless = daulat(furnished, "chat", *url, text="x")
        assert "DAULAT_API_KEY" in keyless.stderr


def test_a_server_that_is_not_there_is_told(home: Path) -> None:
    done = daulat(
        home, "chat", "--url", "http://127.0.0.1:9", text="x", more={"DAULAT_API_KEY": PRESET}
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


def test_a_conversation_at_the_keyboard(furnished: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved.md"
    with keyboard([*COMMAND, "chat", *GREEDY], environment(furnished)) as person:
        person.type("What is the capital of Japan?\n")
        answer = person.until(r"rec-[0-9a-f]{32}")
        assert "Tokyo" in answer
        assert "this-machine" in answer
        person.until(">>> ")
        person.type("/model\n")
        assert f"* {MODEL}" in person.until(r"\* \S+")
        person.type("/help\n")
        person.until("/save")
        person.type("/nonsense\n")
        person.until("/help lists them")
        person.type('"""one\ntwo"""\n')
        person.until(r"rec-[0-9a-f]{32}")
        person.type("three \\\nfour\n")
        person.until(r"rec-[0-9a-f]{32}")
        person.type(f"/save {saved}\n")
        person.until("Saved")
        person.type("/quit\n")
        assert person.process.wait(timeout=30) == 0
    text = saved.read_text(encoding="utf-8")
    assert "one\ntwo" in text
    assert "three \nfour" in text
    history = furnished / "chat_history"
    assert "capital of Japan" in history.read_text(encoding="utf-8")
    assert history.stat().st_mode & 0o777 == 0o600


def test_ctrl_c_stops_the_answer_and_not_the_program(furnished: Path) -> None:
    with keyboard([*COMMAND, "chat", "--temperature", "0"], environment(furnished)) as person:
        person.type("Write a very long story about the sea, with many chapters.\n")
        person.until(r"\n.{20}")
        os.killpg(person.process.pid, signal.SIGINT)
        person.until(r"\(stopped\)")
        person.until(">>> ")
        person.type("\x04")
        assert person.process.wait(timeout=30) == 0
    assert "cancelled" in daulat(furnished, "record", "show").stdout
