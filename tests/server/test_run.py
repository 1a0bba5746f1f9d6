"""The server as a process: its port, its end."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from servers import Server, home_with_models, running, wait_until

from daulat.errors import UnavailableError
from daulat.models.catalogue import ModelEntry
from daulat.record import Record
from daulat.server.run import address_of, bind


def test_a_taken_port_is_said_with_the_next_step() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UnavailableError, match=rf"Port {port} .*--port"):
            bind("127.0.0.1", port)


@pytest.mark.parametrize(
    "host", [pytest.param("no-such-host.invalid", marks=pytest.mark.outside), "192.0.2.1"]
)
def test_a_host_that_is_not_there_is_said(host: str) -> None:
    with pytest.raises(UnavailableError, match="--host"):
        bind(host, 0)


def test_port_0_takes_a_free_one_and_says_which() -> None:
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert port > 0
        assert address_of(listener) == f"http://127.0.0.1:{port}"


@pytest.fixture
def short_lived(starter_entry: ModelEntry, model_cache: Path, tmp_path: Path) -> Path:
    return home_with_models(tmp_path / "home", model_cache)


def test_on_sigterm_running_answers_end_and_new_ones_are_not_taken(short_lived: Path) -> None:
    with running(short_lived, "scripted") as server:
        answers: list[str] = []
        thread = threading.Thread(target=lambda: answers.append(server.say("slow").text))
        thread.start()
        wait_until(lambda: _opened(server))
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not _connects(server))
        thread.join(timeout=20)
        assert "first slow" in answers[0]
        assert server.process.wait(timeout=20) == 0


def test_what_does_not_end_in_time_is_cut_told_and_recorded(short_lived: Path) -> None:
    with running(short_lived, "scripted") as server:
        answers: dict[bool, str] = {}

        def say(stream: bool) -> None:
            answers[stream] = server.say("hang", stream=stream).text

        threads = [threading.Thread(target=say, args=(stream,)) for stream in (True, False)]
        for thread in threads:
            thread.start()
        wait_until(lambda: _entries(server, "exchange.opened") == 2)
        server.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(timeout=30)
        assert all("shutting down" in answer for answer in answers.values())
        assert "[DONE]" not in answers[True]
        assert server.process.wait(timeout=20) == 0
        assert _entries(server, "exchange.closed") == 2


def _opened(server: Server) -> bool:
    return _entries(server, "exchange.opened") > 0


def _entries(server: Server, kind: str) -> int:
    record = Record.open(server.home / "record.sqlite3")
    try:
        return len(list(record.entries(kind=kind)))
    finally:
        record.close()


def _connects(server: Server) -> bool:
    try:
        socket.create_connection(server.address, timeout=1).close()
    except OSError:
        return False
    return True


def test_a_server_may_open_as_many_files_as_the_system_allows() -> None:
    """Each answer that is passed on holds two; a shell's usual limit would end at 500."""
    code = (
        "import resource as r\n"
        "from daulat.server.run import _allow_files\n"
        "_, hard = r.getrlimit(r.RLIMIT_NOFILE)\n"
        "r.setrlimit(r.RLIMIT_NOFILE, (256, hard))\n"
        "_allow_files()\n"
        "assert r.getrlimit(r.RLIMIT_NOFILE) == (min(65536, hard), hard)\n"
        "r.setrlimit(r.RLIMIT_NOFILE, (200, 256))\n"
        "_allow_files()\n"
        "assert r.getrlimit(r.RLIMIT_NOFILE) == (256, 256)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
