"""`daulat up`: the first start, the second one, and starts that fail."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from command import COMMAND, MODEL, daulat, environment, up

PRESET = "daulat-test-preset-0123456789-0123456789-0123456789"


def _status(url: str, key: str) -> int:
    headers = {"Authorization": f"Bearer {key}"}
    return httpx2.get(f"{url}/v1/models", headers=headers, timeout=30).status_code


def test_the_first_start_shows_the_key_once_and_the_second_does_not(furnished: Path) -> None:
    with up(furnished) as first:
        [key] = first.keys
        assert re.fullmatch(r"daulat-[A-Za-z0-9_-]{43}", key)
        assert _status(first.url, key) == 200
        assert _status(first.url, "daulat-wrong") == 401
        assert httpx2.get(f"{first.url}/health", timeout=30).status_code == 200
        assert f"{first.url}/#key={key}" in first.said
        assert f"{MODEL} is loaded; its weights are held as Q4_1, Q8_0" in first.said
        assert key not in first.errors.read_text(encoding="utf-8")
    assert first.process.returncode == 0
    assert key.encode() not in (furnished / "record.sqlite3").read_bytes()
    with up(furnished) as second:
        assert second.keys == []
        assert "daulat keys create" in second.said
        assert _status(second.url, key) == 200


def test_the_curl_line_and_the_snippet_work_as_they_stand(furnished: Path) -> None:
    with up(furnished) as server:
        [curl] = [line for line in server.said.splitlines() if line.startswith("curl ")]
        curl = curl.replace('{"model"', '{"max_tokens": 4, "model"')
        done = subprocess.run(
            ["bash", "-c", curl], capture_output=True, text=True, timeout=60, check=True
        )
        assert '"chat.completion"' in done.stdout
        snippet = server.said[server.said.index("from openai") : server.said.index("\nCtrl-C")]
        done = subprocess.run(
            [sys.executable, "-c", snippet.replace("messages=", "max_tokens=4, messages=")],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()


def test_a_preset_key_is_neither_printed_nor_stored(furnished: Path) -> None:
    with up(furnished, more={"DAULAT_API_KEY": PRESET}) as server:
        assert _status(server.url, PRESET) == 200
        assert PRESET not in server.said
        assert "DAULAT_API_KEY" in server.said
    assert "key-" not in daulat(furnished, "keys", "list").stdout


def test_an_answer_that_was_cut_by_a_kill_is_told_at_the_next_start(furnished: Path) -> None:
    with up(furnished, more={"DAULAT_API_KEY": PRESET}) as server:
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": "Count."}],
            "stream": True,
            "ignore_eos": True,
            "max_tokens": 1500,
        }
        headers = {"Authorization": f"Bearer {PRESET}"}
        address = f"{server.url}/v1/chat/completions"
        with httpx2.stream("POST", address, json=body, headers=headers, timeout=60) as answer:
            # Kept: without it the connection is closed, and the answer cancelled before the kill.
            lines = answer.iter_lines()
            next(lines)
            server.process.send_signal(signal.SIGKILL)
            server.process.wait(timeout=30)
    with up(furnished) as again:
        assert "1 answer was cut off" in again.errors.read_text(encoding="utf-8")
    assert daulat(furnished, "record", "verify").returncode == 0
    assert "interrupted" in daulat(furnished, "record", "show").stdout


def test_a_warning_where_others_can_reach_it(furnished: Path) -> None:
    with up(furnished, "--host", "0.0.0.0") as server:  # noqa: S104 - that is the test
        assert "Warning: 0.0.0.0" in server.errors.read_text(encoding="utf-8")
    with up(furnished) as server:
        assert "Warning" not in server.errors.read_text(encoding="utf-8")


def test_a_taken_port_is_an_error_of_one_line(furnished: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = daulat(furnished, "up", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_start_that_fails_does_not_use_up_the_key(furnished: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        daulat(furnished, "up", "--port", str(taken.getsockname()[1]))
    with up(furnished) as server:
        assert len(server.keys) == 1


def test_a_starter_that_cannot_be_fetched_is_told_with_the_next_step(home: Path) -> None:
    nowhere = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}
    done = daulat(home, "up", "--port", "0", more=nowhere)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("Error: ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_told_to_stop_it_ends_in_order(furnished: Path, number: signal.Signals) -> None:
    with up(furnished) as server:
        server.process.send_signal(number)
        assert server.process.wait(timeout=30) == 0


def test_ctrl_c_while_a_model_answers_a_pipe_ends_with_130(furnished: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "chat", "--temperature", "0"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(furnished),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"Write a very long story about the sea.")
    process.stdin.close()
    assert process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert process.stderr is not None
    assert b"Traceback" not in process.stderr.read()
    process.stdout.close()
    process.stderr.close()
