"""`daulat route backtest --from-record`: a real house answers under a certificate, its record is replayed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import daulat

from daulat.endpoints import scripted
from daulat.endpoints.scripted.script import Answer, Script
from daulat.flow.audits import Audits
from daulat.house import open_house
from daulat.settings import load
from daulat.values.money import amount
from daulat.values.request import ChatRequest, Message
from tests.house.test_following import CLOSED_SAYS, ME, OPEN_SAYS, asked, certified, outcomes

UNDER, PLAIN = 24, 4
SETTINGS = """\
[policy.classes.internal]
places = ["us"]
[endpoints.near]
kind = "compatible"
url = "{near}/v1"
key = "env:SCRIPTED_KEY"
place = "this-machine"
owner = "open"
models = ["small"]
[endpoints.far]
kind = "compatible"
url = "{far}/v1"
key = "env:SCRIPTED_KEY"
place = "us"
models = ["large", "mystery"]
[endpoints.far.prices.large]
input = "2.5"
output = "10"
[auto]
audit_share = 0.5
"""
RULES = 'otherwise = "small"\n[[rules]]\ncontains = "what is"\nuse = "large"\n'


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home whose record has requests under a certificate, audits of them, and others. Tests may only look."""
    folder = tmp_path_factory.mktemp("lived") / "home"
    folder.mkdir(mode=0o700)
    says = (Script(answers=tuple(map(Answer, OPEN_SAYS))), Script(answers=(Answer(CLOSED_SAYS),)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCRIPTED_KEY", "sk-test")
        with scripted.running(says[0]) as near, scripted.running(says[1]) as far:
            (folder / "daulat.toml").write_text(SETTINGS.format(near=near.url, far=far.url))
            _live(folder)
        yield folder


def _live(folder: Path) -> None:
    import asyncio

    table = outcomes()
    certified(folder, table)

    async def live() -> None:
        async with open_house(load(folder)) as house:
            coins = iter([0.1, 0.9] * UNDER)
            hall = house.hall
            hall.audits = Audits(hall.auto, house.record, 0.5, lambda: next(coins))
            for prompt in table.prompts[:UNDER]:
                await asked(house, prompt)
                await hall.audits.settle()
            for prompt in table.prompts[UNDER : UNDER + PLAIN]:
                request = ChatRequest("far/large", (Message("user", prompt),))
                exchange = await hall.open(ME, request)
                async for _event in exchange.events():
                    pass

    asyncio.run(live())


def replayed(home: Path, *arguments: str) -> Any:
    done = daulat(home, "route", "backtest", "--from-record", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(home: Path, *arguments: str) -> str:
    done = daulat(home, "route", "backtest", *arguments)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    return " ".join(done.stderr.split())


def by_rule(found: Any) -> dict[str, Any]:
    return {one["rule"]: one for one in found["rules"]}


def test_what_happened_stands_first(lived: Path) -> None:
    found = replayed(lived)
    assert (found["exchanges"], found["currency"], found["left_out"]) == (UNDER + PLAIN, "USD", {})
    assert found["first"] < found["last"]
    then = found["then"]
    assert (then["recorded"], then["estimated"]) == (UNDER + PLAIN, 0)
    assert amount(then["cost"]) == amount(then["cost_then"]) > 0
    assert list(by_rule(found)) == ["always near/small", "always far/large"]
    assert then["agreement"]["exchanges"] == UNDER
    assert 0 < then["agreement"]["audits"] < UNDER
    assert 0 < then["agreement"]["estimate"]["value"] < 1
    spent = json.loads(daulat(lived, "spend", "--json").stdout)
    assert spent  # audits are paid beside, and are in the books


def test_a_certificate_is_replayed_as_it_was_followed(lived: Path) -> None:
    rules = by_rule(replayed(lived, "--certificate", "sums"))
    told = rules["certificate sums"]
    # What the open model would have said to those that named the closed one is not known.
    assert (told["exchanges"], told["unseen"]) == (UNDER, PLAIN)
    assert told["cost"] == told["cost_then"]
    assert told["asks"]["near/small"] == 1
    assert told["closed"] == told["asks"]["far/large"]
    assert told["estimated"] == 0
    assert told["agreement"]["estimate"] is not None
    assert rules["always near/small"]["agreement"]["estimate"] is None


def test_a_policy_and_a_router_decide_by_the_prompt(lived: Path, tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(RULES, encoding="utf-8")
    done = daulat(
        *(lived, "route", "fit", str(lived.parent / "sums.jsonl"), "--mode", "before"),
        *("--name", "sums"),
    )
    assert done.returncode == 0, done.stderr
    found = by_rule(
        replayed(lived, "--policy", str(tmp_path / "rules.toml"), "--router", "sums", "--at", "1")
    )
    assert list(found) == ["always near/small", "always far/large", "router at 100%", "rules.toml"]
    assert found["router at 100%"]["cost"] == found["always far/large"]["cost"]
    sums = sum(prompt.startswith("What is") for prompt in outcomes().prompts[: UNDER + PLAIN])
    assert found["rules.toml"]["closed"] == pytest.approx(sums / (UNDER + PLAIN))
    assert found["rules.toml"]["exchanges"] == UNDER + PLAIN


def test_exchanges_are_chosen_as_for_tasks(lived: Path) -> None:
    assert replayed(lived, "--model", "far/large")["exchanges"] == PLAIN
    assert replayed(lived, "--most", "3")["exchanges"] == 3
    assert replayed(lived, "--key", "me", "--since", "2000-01-01")["exchanges"] == UNDER + PLAIN
    assert replayed(lived, "--data-class", "internal")["exchanges"] == UNDER + PLAIN


def test_a_table_for_people_says_what_it_does_not_know(lived: Path) -> None:
    done = daulat(lived, "route", "backtest", "--from-record", "--rule", "always:far/mystery")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].startswith("as answered then")
    assert "Nobody says what far/mystery costs" in done.stderr
    done = daulat(lived, "route", "backtest", "--from-record", "--certificate", "sums")
    words = " ".join(done.stderr.split())
    assert f"certificate sums: {PLAIN} exchanges are left out" in words
    assert "~: estimated" in words
    assert "daulat task add NAME --from-record" in words
    assert "all, by definition" in done.stdout
    assert re.search(r"as answered then.* - .*%\), \d+ audits\n", done.stdout)
    done = daulat(
        *(lived, "route", "backtest", "--from-record", "--rule", "always:far/large"),
        more={"LANGUAGE": "id", "LANG": "id_ID.UTF-8"},
    )
    assert "seperti dijawab waktu itu" in done.stdout


def test_errors_of_traffic_name_the_next_step(lived: Path, home: Path) -> None:
    assert "neither in daulat.toml" in refused(lived, "--from-record", "--rule", "always:huge")
    assert "near/small, far/large" in refused(lived, "--from-record", "--rule", "always:huge")
    assert "`daulat up`" in refused(home, "--from-record", "--rule", "always:small")
    assert "Give a task or --from-record" in refused(lived)
    assert "Give a task or --from-record" in refused(lived, "work.csv", "--from-record")
    assert "go with --from-record" in refused(lived, "work.csv", "--model", "m")
    assert "goes with --from-record" in refused(lived, "work.csv", "--data-class", "internal")
    assert "go with a task's outcomes" in refused(lived, "--from-record", "--rest")
    assert "There are: public" in refused(lived, "--from-record", "--data-class", "x")
    assert "No key is of the project" in refused(lived, "--from-record", "--project", "x")
    assert "200000" in refused(lived, "--from-record", "--most", "1000000")
    (home / "record.sqlite3").write_bytes(os.urandom(4096))
    assert "record" in refused(home, "--from-record")
