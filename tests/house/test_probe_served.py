"""From hidden states to answers under a certificate: a comparison with the real starter, a router that can only
learn from its states, and requests that are kept or not as the router said of the same answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx2
import numpy as np
import pytest

from daulat.endpoints import scripted
from daulat.endpoints.scripted import Upstream
from daulat.endpoints.scripted.script import Answer, Script
from daulat.engine.probe import FIGURES, WIDTH
from daulat.evaluate.certificates import Certificates
from daulat.evaluate.routers import opinion
from daulat.flow import Label
from daulat.flow.auto import AUTO
from daulat.house import House, open_house
from daulat.route.learning.features import seen_in
from daulat.route.learning.outcomes import Outcomes, read, write
from daulat.settings import load
from daulat.values.answer import Finish
from daulat.values.plan import Caller
from daulat.values.request import ChatRequest, Message, Sampling
from tests.cli.command import MODEL, daulat, up
from tests.evaluate.evaluating_house import bench, examples

FAR = "far/large"
COUNT, MOST = 130, 6
ME = Caller("me", "me", scopes=("ask",))
GREEDY = Sampling(max_tokens=MOST, temperature=0.0)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with scripted.running(Script(answers=(Answer("far away"),))) as found:
        yield found


@pytest.fixture(scope="module")
def home(
    upstream: Upstream,
    furnish: Callable[[Path], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Path]:
    """With the starter, and an endpoint elsewhere."""
    folder = furnish(tmp_path_factory.mktemp("probed") / "home")
    folder.chmod(0o700)
    (folder / "daulat.toml").write_text(
        f"""
[endpoints.far]
kind = "compatible"
url = "{upstream.url}/v1"
key = "env:SCRIPTED_KEY"
place = "this-machine"
models = ["large"]
capabilities = ["chat", "logprobs", "seed"]
[engine]
threads = 1
"""
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCRIPTED_KEY", "any")
        yield folder


@pytest.fixture(scope="module")
def told(home: Path) -> Outcomes:
    """What a comparison writes."""
    return asyncio.run(compared(home))


async def compared(home: Path) -> Outcomes:
    made = examples(COUNT, "Say a word that goes with the number {}.")
    async with bench(home, made) as one:
        ran = await one.run(MODEL, FAR, max_tokens=MOST, concurrency=8)
        assert ran.ended.how == "done"
        found = read(one.folder / "outcomes.jsonl")
        again = await one.run(MODEL, FAR, max_tokens=MOST)
        assert again.asked == 0
        assert read(one.folder / "outcomes.jsonl").digest() == found.digest()
    return found


@pytest.fixture(scope="module")
def learnt(home: Path, told: Outcomes) -> Outcomes:
    """Answers are right where one figure of their states is high: nothing else tells; and what is certified."""
    figure = np.array([row[0][WIDTH + 3] for row in told.probes])
    right = (figure > np.quantile(figure, 0.3)).astype(float)
    scored = replace(told, scores=np.stack([right, np.ones(len(told))], axis=1))
    write(scored, home.parent / "words.jsonl")
    named = ("--open", MODEL, "--closed", FAR)
    demand = ("--keep", "0.8", "--confidence", "0.9")
    done = daulat(home, "certify", str(home.parent / "words.jsonl"), *demand, *named)
    assert done.returncode == 0, done.stdout + done.stderr
    return scored


def test_a_comparison_gathers_them_from_this_machine_alone(
    told: Outcomes, upstream: Upstream
) -> None:
    assert told.endpoints == (MODEL, FAR)
    assert {(len(near), len(far)) for near, far in told.probes} == {(FIGURES, 0)}
    assert len({near for near, _ in told.probes}) == COUNT
    assert not np.isnan(told.logprobs[:, 0]).any()
    bodies = [one["body"] for one in upstream.requests()]
    assert len(bodies) >= COUNT
    assert not any("probe" in body for body in bodies)


async def kept(house: House, prompt: str) -> bool:
    request = ChatRequest(AUTO, (Message("user", prompt),), GREEDY)
    exchange = await house.hall.open(ME, request, "", Label())
    events = [event async for event in exchange.events()]
    assert exchange.ruling is not None
    assert exchange.ruling.way in ("kept", "escalated"), exchange.ruling.why
    (finish,) = [event for event in events if isinstance(event, Finish)]
    assert len(finish.probe) == (FIGURES if exchange.ruling.way == "kept" else 0)
    return exchange.ruling.way == "kept"


async def test_requests_go_as_the_router_said_of_the_same_answers(
    home: Path, learnt: Outcomes
) -> None:
    papers = Certificates(home)
    paper, router = papers.get("words").certificate, papers.router("words")
    assert router is not None
    assert router.given == ("logprob", "probe")
    seen = seen_in(learnt, MODEL)
    said = [opinion(router, one)[0] < paper.threshold for one in seen[:30]]
    assert set(said) == {True, False}
    async with open_house(load(home)) as house:
        assert [await kept(house, one.prompt) for one in seen[:30]] == said


def test_a_client_sees_nothing_of_them(home: Path, learnt: Outcomes) -> None:
    body = {
        "model": AUTO,
        "messages": [{"role": "user", "content": learnt.prompts[0]}],
        "max_tokens": MOST,
        "temperature": 0,
    }
    with up(home, more={"SCRIPTED_KEY": "any"}) as running:
        chats = f"{running.url}/v1/chat/completions"
        headers = {"Authorization": f"Bearer {running.keys[0]}"}
        for stream in (False, True):
            answer = httpx2.post(
                chats, json={**body, "stream": stream}, headers=headers, timeout=60
            )
            assert answer.status_code == 200, answer.text
            assert answer.headers["daulat-route"].startswith("words; ")
            assert "probe" not in answer.text
        # Nor can it ask for them.
        asked = httpx2.post(chats, json={**body, "probe": True}, headers=headers, timeout=60)
        assert asked.status_code == 400 or "probe" not in asked.text


def test_a_report_names_them(home: Path, learnt: Outcomes) -> None:
    words = str(home.parent / "words.jsonl")
    done = daulat(home, "route", "fit", words, "--name", "states", "--labels", "19")
    assert done.returncode == 0, done.stderr
    assert "log-probabilities, hidden states" in done.stdout
    told = json.loads(daulat(home, "route", "show", "states", "--json").stdout)
    assert told["given"] == ["logprob", "probe"]
