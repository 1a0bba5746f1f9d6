"""A server that is asked much, which tells what the database does not have yet."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from servers import STARTER, Server, home_with_models, running, wait_until

from daulat.models.catalogue import ModelEntry
from daulat.record import Record, verify
from daulat.record.journal import folder_of

CLIENTS = 4


@pytest.fixture
def home(starter_entry: ModelEntry, model_cache: Path, tmp_path: Path) -> Path:
    return home_with_models(tmp_path / "home", model_cache)


@contextlib.contextmanager
def asked_much(server: Server) -> Iterator[list[str]]:
    """Clients that ask all the time; the ids of what was answered."""
    answered: list[str] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            with contextlib.suppress(httpx2.HTTPError):
                answer = server.say("one two")
                assert answer.status_code == 200
                answered.append(answer.headers["daulat-record"])

    clients = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        wait_until(lambda: any(folder_of(server.home / "record.sqlite3").glob("*")), 30)
        yield answered
    finally:
        over.set()
        for client in clients:
            client.join()


def test_a_response_is_there_at_once(home: Path) -> None:
    with running(home, "scripted") as server, server.sdk() as client, asked_much(server):
        last = None
        for i in range(40):
            made = client.responses.create(
                model=STARTER, input=f"number {i}", previous_response_id=last
            )
            assert client.responses.retrieve(made.id).output_text == made.output_text
            last = made.id


def test_killed_it_loses_no_answer(home: Path) -> None:
    place = home / "record.sqlite3"
    with running(home, "scripted") as server, asked_much(server) as answered:
        before = len(answered)
        wait_until(lambda: len(answered) > before + 200, 60)
        server.process.kill()
    with contextlib.closing(Record.open(place)) as record:
        closed = {entry.subject for entry in record.entries(kind="exchange.closed")}
        assert set(answered) <= closed
        record.recover(lambda _: False)
        both = list(record.entries(kind="exchange.interrupted"))
        assert len(both) <= CLIENTS
        assert not {entry.subject for entry in both} & closed
        assert verify(record).fault is None
    assert not any(folder_of(place).glob("*"))
