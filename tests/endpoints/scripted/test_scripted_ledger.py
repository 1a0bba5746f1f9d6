"""The books, the requests that are kept, faults by chance, and the command."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from typing import Any

import httpx2
from raw_http import MESSAGES, ask, exchange

from daulat.endpoints import scripted
from daulat.endpoints.scripted import Chance, Delays, Script, Upstream, chosen

SHARES = {"error_500": 0.2, "dies_mid_stream@2": 0.2, "rate_limited_then_ok": 0.1}


def _soak(seed: int) -> list[str | None]:
    chances = tuple(Chance(chosen(name), share) for name, share in SHARES.items())
    with scripted.running(Script(words=4, chances=chances, seed=seed)) as upstream:
        for number in range(200):
            ask(upstream, "m", stream=True, seed=number)
        ledger = upstream.ledger()
    entries = ledger["entries"]
    assert ledger["totals"] == {
        "requests": 200,
        **{
            name: sum(entry[name] for entry in entries)
            for name in ledger["totals"]
            if name != "requests"
        },
    }
    for entry in entries:
        tokens = {None: 4, "dies_mid_stream@2": 2}.get(entry["fault"], 0)
        assert entry["completion_tokens"] == tokens
        assert entry["prompt_tokens"] == (6 if tokens else 0)
    return [entry["fault"] for entry in entries]


def test_chances_are_drawn_with_a_seed() -> None:
    first = _soak(7)
    assert first == _soak(7)
    assert first != _soak(8)
    assert 20 <= first.count("error_500") <= 60
    assert 8 <= first.count("rate_limited_then_ok@1") <= 36


def test_a_drawn_failure_passes_when_the_same_is_asked_again() -> None:
    script = Script(chances=(Chance(chosen("rate_limited_then_ok@2"), 1.0),))
    with scripted.running(script) as upstream:
        assert [ask(upstream, "m").status for _ in range(6)] == [429, 429, 200] * 2


def test_requests_are_kept_and_secrets_are_not(upstream: Upstream) -> None:
    secret = "sk-a-very-long-secret-0123456789"
    headers = {"Authorization": f"Bearer {secret}", "X-Trace": "t"}
    shown = exchange(upstream, "POST", "/v1/chat/completions", headers, b"not json")
    assert shown.status == 400
    kept = upstream.requests()[-1]
    assert kept["headers"]["authorization"] == "Bearer ***6789"
    assert (kept["headers"]["x-trace"], kept["body"]) == ("t", "not json")
    assert kept["id"] == shown.headers["x-request-id"]
    ask(upstream, "m")
    assert upstream.requests()[-1]["body"]["messages"] == MESSAGES
    upstream.reset()
    assert upstream.requests() == []
    assert upstream.ledger()["totals"]["requests"] == 0


def test_old_entries_go_and_totals_stay() -> None:
    with scripted.running(Script(words=1, kept=5)) as upstream:
        body = b'{"model":"m","messages":[{"role":"user","content":"x"}]}'
        with httpx2.Client(base_url=upstream.url, headers={"Authorization": "Bearer k"}) as client:
            for _ in range(4200):
                assert client.post("/v1/chat/completions", content=body).status_code == 200
        ledger = upstream.ledger()
        assert len(ledger["entries"]) == 5
        assert ledger["totals"]["requests"] == 4200
        assert ledger["totals"]["completion_tokens"] == 4200


async def test_many_streams_at_once_are_not_mixed_up() -> None:
    script = Script(delays=Delays(first=0.05, between=0.002))

    async def one(client: httpx2.AsyncClient, number: int) -> str:
        said = f"question {number:04d} " * 5
        body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": said}]}
        answer = await client.post("/v1/chat/completions", json=body)
        return "".join(re.findall(r'"content":"(.*?)"', answer.text)) + "|" + said

    with scripted.running(script) as upstream:
        limits = httpx2.Limits(max_connections=200)
        async with httpx2.AsyncClient(
            base_url=upstream.url,
            headers={"Authorization": "Bearer k"},
            limits=limits,
            timeout=60,
        ) as client:
            answers = await asyncio.gather(*(one(client, number) for number in range(200)))
        for answer in answers:
            heard, said = answer.split("|")
            assert heard == said
        assert all(entry["complete"] for entry in upstream.ledger()["entries"])


def test_a_client_that_leaves_pays_what_was_sent() -> None:
    with scripted.running(Script(words=100, delays=Delays(between=0.02))) as upstream:
        shown = ask(upstream, "m", stream=True, most=2500)
        time.sleep(0.3)
        entry = upstream.ledger()["entries"][0]
        assert 0 < entry["completion_tokens"] < 50
        assert entry["completion_tokens"] >= shown.body.count(b'"content":"') - 1
        assert entry["complete"] is False


def test_it_ends_when_its_owner_dies() -> None:
    code = (
        "from daulat.endpoints import scripted; import os\n"
        "with scripted.running() as up: print(up.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, timeout=60, check=False
    )
    pid = int(done.stdout)
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError("it is still there")


def test_the_command(tmp_path: Any) -> None:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DAULAT_", "LC_", "LANG"))}
    environment = {**kept, "DAULAT_HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "daulat", "scripted"]
    listed = subprocess.run(
        [*command, "--list"], env=environment, capture_output=True, text=True, check=True
    )
    assert "dies_mid_stream" in listed.stdout
    wrong = subprocess.run(
        [*command, "--fault", "stall"], env=environment, capture_output=True, text=True, check=False
    )
    assert wrong.returncode == 2
    assert "the nearest is `stalls`" in wrong.stderr
    both = subprocess.run(
        [*command, "--words", "3", "--answer", "x"],
        env=environment,
        capture_output=True,
        check=False,
    )
    assert both.returncode == 2
    arguments = ["--port", "0", "--answer", "Ya.", "--fault", "no_usage=1"]
    # Who runs the tests in the background ignores SIGINT, and what is started inherits that.
    heard = ["env", "--default-signal=INT", *command, *arguments]
    with subprocess.Popen(heard, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = re.search(r"http://\S+", process.stdout.readline())
        assert url
        answer = ask(Upstream(url[0], process.pid), "m").json()
        assert answer["choices"][0]["message"]["content"] == "Ya."
        assert "usage" not in answer
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
