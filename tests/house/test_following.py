"""From an outcome file to answers under a certificate: `certify` as a user runs it, a real house, status."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from daulat.endpoints import scripted
from daulat.endpoints.scripted import Upstream
from daulat.endpoints.scripted.script import Answer, Script
from daulat.evaluate.certificates import Certificates
from daulat.evaluate.routers import opinion
from daulat.flow import Label
from daulat.flow.auto import AUTO
from daulat.house import House, open_house
from daulat.house.service import service
from daulat.route.learning.features import Seen
from daulat.route.learning.outcomes import Outcomes, write
from daulat.settings import load
from daulat.values.plan import Caller
from daulat.values.request import ChatRequest, Message
from tests.cli.command import daulat
from tests.route.outcome_tables import planted

SETTINGS = """\
[endpoints.near]
kind = "compatible"
url = "{near}/v1"
key = "env:SCRIPTED_KEY"
place = "this-machine"
models = ["small"]
[endpoints.far]
kind = "compatible"
url = "{far}/v1"
key = "env:SCRIPTED_KEY"
place = "this-machine"
models = ["large"]
[auto]
audit_share = 1.0
"""
ME = Caller("me", "me", scopes=("ask",))
OPEN_SAYS = ("12 * 13 = 163. The answer is 163.", "The market.")  # in turn
CLOSED_SAYS = "It is the market."


@pytest.fixture
def upstreams() -> Iterator[tuple[Upstream, Upstream]]:
    says = (Script(answers=tuple(map(Answer, OPEN_SAYS))), Script(answers=(Answer(CLOSED_SAYS),)))
    with scripted.running(says[0]) as near, scripted.running(says[1]) as far:
        yield near, far


@pytest.fixture
def bare(
    upstreams: tuple[Upstream, Upstream], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A home with both endpoints and no certificate."""
    monkeypatch.setenv("SCRIPTED_KEY", "sk-test")
    return furnished(tmp_path / "home", *(one.url for one in upstreams))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of which the certificate and the key are taken."""
    home = furnished(tmp_path_factory.mktemp("certified") / "home", "http://near", "http://far")
    certified(home, outcomes())
    (home / "daulat.toml").unlink()
    return home


@pytest.fixture
def home(files: Path, bare: Path) -> Path:
    """A home with a certificate."""
    shutil.copytree(files, bare, dirs_exist_ok=True)
    return bare


def furnished(folder: Path, near: str, far: str) -> Path:
    folder.mkdir(mode=0o700)
    (folder / "daulat.toml").write_text(SETTINGS.format(near=near, far=far))
    return folder


def outcomes(n: int = 400, *, categories: bool = False) -> Outcomes:
    table = replace(planted(n, 3), endpoints=("near/small", "far/large"))
    return table if categories else replace(table, categories=("",) * n)


def certified(home: Path, table: Outcomes, name: str = "sums") -> Path:
    path = home.parent / f"{name}.jsonl"
    write(table, path)
    done = daulat(
        home, "certify", str(path), "--keep", "0.9", "--open", "near/small", "--closed", "far/large"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return path


async def asked(house: House, prompt: str, label: Label | None = None) -> tuple[str, str]:
    """What became of it, and the answer."""
    request = ChatRequest(AUTO, (Message("user", prompt),))
    exchange = await house.hall.open(ME, request, "", label or Label())
    text = "".join([getattr(event, "text", "") async for event in exchange.events()])
    assert exchange.ruling is not None
    return exchange.ruling.way, text


async def test_answers_follow_the_certificate(home: Path) -> None:
    table = outcomes()
    kept = Certificates(home)
    paper, router = kept.get("sums").certificate, kept.router("sums")
    assert router is not None
    ways: set[str] = set()
    async with open_house(load(home)) as house:
        for number, prompt in enumerate(table.prompts[:12]):
            way, text = await asked(house, prompt)
            said = OPEN_SAYS[number % 2]
            closed = opinion(router, Seen(prompt, answer=said))[0] >= paper.threshold
            assert way == ("escalated" if closed else "kept")
            assert text == (CLOSED_SAYS if closed else said)
            ways.add(way)
        assert (await asked(house, "Write me a poem about nothing in particular."))[0] == "outside"
    assert ways == {"kept", "escalated"}


async def test_a_certificate_is_followed_as_soon_as_it_is_made(bare: Path) -> None:
    async with open_house(load(bare)) as house:
        assert not house.hall.auto.names
        certified(bare, outcomes())
        await house.certified.follow()
        assert house.hall.auto.names == (AUTO, f"{AUTO}/sums")
        (bare / "certificates" / "sums.json").unlink()
        await house.certified.follow()
        assert not house.hall.auto.names


async def test_a_changed_model_ends_it(home: Path) -> None:
    settings = home / "daulat.toml"
    settings.write_text(
        settings.read_text().replace(
            'models = ["large"]', 'models = ["large"]\nnames = {large = "other"}'
        )
    )
    async with open_house(load(home)) as house:
        assert not house.hall.auto.names
    told = json.loads(daulat(home, "route", "status", "--json").stdout)
    assert not told[0]["followed"]
    assert "far/other" in told[0]["why"]


@pytest.mark.parametrize("file", ["certificates/sums.json", "certificates/routers/sums.json"])
async def test_a_file_that_was_tampered_with_is_not_followed(home: Path, file: str) -> None:
    path = home / file
    text = path.read_text()
    changed = (
        text.replace('"threshold": ', '"threshold": 1')
        if "routers" not in file
        else text.replace('"dial":[', '"dial":[9')
    )
    assert changed != text
    path.write_text(changed)
    async with open_house(load(home)) as house:
        assert not house.hall.auto.names


async def test_a_router_of_categories_wants_them_named(bare: Path) -> None:
    table = outcomes(categories=True)
    certified(bare, table)
    async with open_house(load(bare)) as house:
        assert (await asked(house, table.prompts[0]))[0] == "outside"
        named = await asked(house, table.prompts[0], Label("", table.categories[0]))
        assert named[0] in ("kept", "escalated")


async def test_unknown_names_are_certified_but_not_followed(bare: Path) -> None:
    path = bare.parent / "elsewhere.jsonl"
    write(replace(outcomes(), endpoints=("llama", "gpt")), path)
    done = daulat(bare, "certify", str(path), "--keep", "0.9", "--open", "llama", "--closed", "gpt")
    assert done.returncode == 0, done.stderr
    async with open_house(load(bare)) as house:
        assert not house.hall.auto.names
        (one,) = service(house.settings, house.record)
        assert "llama" in one.served.why


async def test_status_tells_requests_and_audits(home: Path) -> None:
    table = outcomes()
    async with open_house(load(home)) as house:
        went = [(await asked(house, prompt))[0] for prompt in table.prompts[:12]]
        await house.hall.audits.settle()
    (told,) = json.loads(daulat(home, "route", "status", "sums", "--json").stdout)
    assert told["followed"]
    assert set(went) == {"kept", "escalated"}
    assert told["requests"] == {way: went.count(way) for way in set(went)}
    assert told["audits"]["looked_at"] == 12
    sums = [
        way for number, way in enumerate(went) if number % 2 == 0
    ]  # not what the closed one says
    assert told["audits"]["differ"] == pytest.approx(sums.count("kept") / 12)
    words = daulat(home, "route", "status").stdout
    assert "yes, as daulat/auto/sums" in words
