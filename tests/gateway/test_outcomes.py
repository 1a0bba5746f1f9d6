"""Every named fault, streamed and whole, before the first token and behind it, alone, with a fallback, and with
one that can go on: what the client gets and what the record says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx2
import pytest
from gateway_house import KEY, STARTER, WORDS, Got, Run, body
from outcomes import AFTER, OUTCOMES, Case, cases, table

from daulat.endpoints.scripted import FAULTS, words

ROOT = Path(__file__).parents[2]
CASES = [pytest.param(case, id=case.id) for case in cases()]
CUT = {"content_filter", "refusal", "empty_answer"}
"""Faults that make another answer than usual, which is whole all the same."""


def test_every_fault_has_its_row() -> None:
    assert OUTCOMES.keys() == FAULTS.keys()


def test_the_page_has_the_table() -> None:
    page = (ROOT / "docs" / "failures.md").read_text(encoding="utf-8")
    assert table() in page, "python tests/gateway/outcomes.py prints it"


def test_the_record_verifies(run: Run) -> None:
    entries = re.search(r"\d[\d,.]*", run.verified)
    assert entries
    opened = sum(bool(run.record.of(subject, "exchange.opened")) for subject in run.record.entries)
    assert opened == len(run.got)


@pytest.mark.parametrize("case", CASES)
def test_what_the_client_gets(run: Run, case: Case) -> None:
    got = run.got[case]
    match case.outcome:
        case "error":
            _is_error(case, got)
        case "continued":
            assert got.code is None
            assert got.text.startswith(words(AFTER))
            assert got.finish in ("stop", "length")
            assert got.usage.completion_tokens > AFTER
        case "other" if case.setup == "continuing":
            assert got.code is None
            assert got.text
            assert got.finish in ("stop", "length")
            assert got.headers["daulat-endpoint"] == "native"
        case "other":
            _is_whole(got)
            assert got.headers["daulat-endpoint"] == "spare"
        case "answered":
            assert got.code is None
            assert got.finish == ("content_filter" if case.fault == "content_filter" else "stop")
            if case.fault not in CUT:
                _is_whole(got)


def _is_whole(got: Got) -> None:
    assert got.code is None
    assert got.text == words(WORDS)
    assert got.finish == "stop"
    assert got.usage.prompt_tokens > 0
    assert got.usage.completion_tokens > 0


def _is_error(case: Case, got: Got) -> None:
    assert case.error
    assert got.code == case.error.code
    assert got.finish is None, "a cut answer never looks whole"
    assert got.usage is None
    if case.way == "after":
        assert got.status == 200
        assert words(WORDS).startswith(got.text) or case.fault == "never_ends"
        assert got.text.startswith(words(AFTER))
    else:
        assert got.status == case.error.status
        assert got.text == ""


@pytest.mark.parametrize("case", CASES)
def test_what_the_record_says(run: Run, case: Case) -> None:
    got = run.got[case]
    exchange = got.headers["daulat-record"]
    (opened,) = run.record.of(exchange, "exchange.opened")
    (closed,) = run.record.of(exchange, "exchange.closed")
    steps = [step["endpoint"] for step in opened["plan"]["steps"]]
    assert len(steps) == (1 if case.setup == "alone" else 2)
    assert closed["status"] == ("error" if case.outcome == "error" else "ok")
    assert closed.get("error") == got.code
    tries = [(one["endpoint"], one.get("error")) for one in closed.get("attempts", [])]
    if tries or len(case.attempts) > 1:
        last = steps[-1] if case.outcome in ("other", "continued") else steps[0]
        expected = [(steps[0], error) for error in case.attempts]
        if case.attempts[-1] is None:
            expected[-1] = (last, None)
        assert tries == expected
    _check_attempted(run.record.of(exchange, "exchange.attempted"), case)
    if case.outcome == "continued":
        (continued,) = closed["continued"]
        begun = got.text[: continued["after"]]
        assert begun == words(AFTER) or case.fault == "never_ends"
        assert continued["step"]["endpoint"] == "native"
    else:
        assert "continued" not in closed
    assert run.record.answer(exchange)["choices"][0] == got.text or case.way == "whole"


def _check_attempted(attempted: list[dict[str, Any]], case: Case) -> None:
    """One entry for each attempt behind the first, ahead of it."""
    assert [one["attempt"] for one in attempted] == list(range(1, len(case.attempts)))
    for one in attempted:
        assert one["ended"]


RAW = [c for c in cases() if c.stream and c.kind == "openai" and c.setup == "alone"]


@pytest.mark.parametrize(
    "case",
    [c for c in RAW if c.fault in ("dies_mid_stream", "error_event_mid_stream", "garbage_json")],
    ids=lambda case: case.id,
)
def test_the_bytes_of_a_cut_stream(run: Run, case: Case) -> None:
    answer = httpx2.post(
        f"{run.server.url}/v1/chat/completions",
        json={**body(case), "stream": True},
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=60,
    )
    assert b"[DONE]" not in answer.content
    assert b'"finish_reason":"' not in answer.content
    if case.way == "after":
        assert answer.status_code == 200
        *_, last = answer.text.strip().split("\n\n")
        assert last.startswith("data: ")
        assert case.error
        assert f'"code":"{case.error.code}"' in last


def test_the_starter_is_what_goes_on(run: Run) -> None:
    continued = [case for case in run.got if case.outcome == "continued"]
    assert len(continued) > 15
    for case in continued:
        (closed,) = run.record.of(run.got[case].headers["daulat-record"], "exchange.closed")
        assert closed["continued"][0]["step"]["model"] == STARTER
        usage = [one["usage"] for one in closed["attempts"]]
        assert run.got[case].usage.completion_tokens == sum(u["completion_tokens"] for u in usage)
        assert run.got[case].usage.prompt_tokens == usage[0]["prompt_tokens"]
