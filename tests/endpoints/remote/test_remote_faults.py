"""Every named fault over a real socket: a whole answer, or the error that says what happened."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest
from asking import CALLER, Make, chat, ended, step, text

from daulat.endpoints.scripted import FAULTS, words
from daulat.errors import (
    UpstreamAccessError,
    UpstreamAnswerError,
    UpstreamBusyError,
    UpstreamError,
    UpstreamRequestError,
    UpstreamUnavailableError,
)
from daulat.values.answer import Done, Finish, Piece, Usage
from daulat.values.request import Tool, Toolbox

WHOLE = words(20)
TOOLS = Toolbox((Tool("look", parameters={"type": "object", "properties": {}}),))

# By fault: the error streamed, the error whole (None: a whole answer), and whether it may be billed.
Row = tuple[type[UpstreamError] | None, type[UpstreamError] | None, bool]
OUTCOMES: dict[str, Row] = {
    "slow": (None, None, False),
    "slow_second_chunk": (None, None, False),
    "headers_slow": (None, None, False),
    "error_500": (UpstreamUnavailableError, UpstreamUnavailableError, False),
    "error_503": (UpstreamUnavailableError, UpstreamUnavailableError, False),
    "rate_limited": (UpstreamBusyError, UpstreamBusyError, False),
    "rate_limited_then_ok": (UpstreamBusyError, UpstreamBusyError, False),
    "error_500_then_ok": (UpstreamUnavailableError, UpstreamUnavailableError, False),
    "overloaded_529": (UpstreamBusyError, UpstreamBusyError, False),
    "auth_expired": (UpstreamAccessError, UpstreamAccessError, False),
    "context_length": (UpstreamRequestError, UpstreamRequestError, False),
    "redirect": (UpstreamAnswerError, UpstreamAnswerError, False),
    "dies_before_headers": (UpstreamUnavailableError, UpstreamUnavailableError, True),
    "dies_mid_stream": (UpstreamUnavailableError, UpstreamUnavailableError, True),
    "dies_mid_body": (UpstreamUnavailableError, UpstreamUnavailableError, True),
    "ends_without_done": (UpstreamAnswerError, UpstreamAnswerError, True),
    "error_event_mid_stream": (UpstreamUnavailableError, UpstreamUnavailableError, True),
    "garbage_json": (UpstreamAnswerError, UpstreamAnswerError, True),
    "garbage_body": (UpstreamAnswerError, UpstreamAnswerError, True),
    "empty_body": (UpstreamAnswerError, UpstreamAnswerError, True),
    "wrong_content_type": (UpstreamAnswerError, UpstreamAnswerError, True),
    "split_tool_name": (None, None, False),
    "split_bytes": (None, None, False),
    "truncated_utf8": (UpstreamAnswerError, UpstreamAnswerError, True),
    "wrong_usage": (None, None, False),
    "no_usage": (None, None, False),
    "content_filter": (None, None, False),
    "refusal": (None, None, False),
    "empty_answer": (None, None, False),
    "bad_tool_arguments": (None, None, False),
    "huge_line": (UpstreamAnswerError, None, True),
    "duplicate_done": (None, None, False),
    "keepalive_comments": (None, None, False),
    "crlf": (None, None, False),
}
WAITING = {"never_ends", "stalls"}
"""Time-outs of an answer are not the endpoint's; see `test_closing_drops_the_connection`."""


def test_every_fault_has_its_row() -> None:
    assert OUTCOMES.keys() | WAITING == FAULTS.keys()


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("fault", OUTCOMES)
async def test_fault(remote: Make, fault: str, stream: bool) -> None:
    error = OUTCOMES[fault][0 if stream else 1]
    asked = remote()
    request = chat(f"scripted+{fault}", stream=stream)
    if error is None:
        heard = await asked.ask(request)
        assert ended(heard)
        if fault not in ("content_filter", "refusal", "empty_answer"):
            assert text(heard) == WHOLE
        return
    with pytest.raises(error) as raised:
        await asked.ask(request)
    assert raised.type is error
    assert raised.value.billable is OUTCOMES[fault][2]
    assert not any(isinstance(one, Done) for one in asked.heard)
    assert WHOLE.startswith(text(asked.heard))
    assert "scripted-secret-key" not in repr(raised.value) + str(raised.value)


async def test_what_came_before_an_error_is_heard(remote: Make) -> None:
    asked = remote()
    with pytest.raises(UpstreamUnavailableError):
        await asked.ask(chat("scripted+dies_mid_stream@7", stream=True))
    assert text(asked.heard) == words(7)


async def test_retry_after_is_told(remote: Make) -> None:
    with pytest.raises(UpstreamBusyError) as raised:
        await remote().ask(chat("scripted+rate_limited"))
    assert raised.value.retry_after == 1.0


async def test_next_try_of_passing_faults_succeeds(remote: Make) -> None:
    asked = remote()
    for fault in ("rate_limited_then_ok", "error_500_then_ok", "auth_expired"):
        with pytest.raises(UpstreamError):
            await asked.ask(chat(f"scripted+{fault}"))
        assert ended(await asked.ask(chat(f"scripted+{fault}")))


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_filter_and_refusal(remote: Make, stream: bool) -> None:
    heard = await remote().ask(chat("scripted+content_filter@3", stream=stream))
    assert [one.reason for one in heard if isinstance(one, Finish)] == ["content_filter"]
    heard = await remote().ask(chat("scripted+refusal", stream=stream))
    refused = [one.text for one in heard if isinstance(one, Piece) and one.kind == "refusal"]
    assert "".join(refused)
    assert not [one for one in heard if isinstance(one, Piece) and one.kind == "text"]


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_usage_is_told_or_counted(remote: Make, stream: bool) -> None:
    asked = remote()

    async def usage(fault: str) -> Usage:
        heard = await asked.ask(chat(f"scripted{fault}", stream=stream))
        done = heard[-1]
        assert isinstance(done, Done)
        return done.usage

    told = await usage("")
    assert (told.prompt_tokens, told.completion_tokens, told.counted) == (2, 20, False)
    assert await usage("+no_usage") == Usage(0, 0, counted=True)
    assert (await usage("+wrong_usage@0")).total_tokens == 0
    assert (await usage("+wrong_usage@1")).counted
    assert (await usage("+wrong_usage@2")).completion_tokens > 1_000_000
    assert (await usage("+wrong_usage@3")).completion_tokens < 0


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("fault", ["", "+split_tool_name", "+split_bytes"])
async def test_tool_calls(remote: Make, fault: str, stream: bool) -> None:
    from daulat.values.answer import CallPiece, CallPieces

    heard = await remote().ask(chat(f"scripted{fault}", stream=stream, tools=TOOLS))
    pieces = [one for one in heard if isinstance(one, CallPiece)]
    assert pieces[0].id
    assert pieces[0].name == "look"
    assert all(one.id is None and one.name is None for one in pieces[1:])
    calls = CallPieces()
    for one in pieces:
        calls.add(one)
    assert [(call.name, call.arguments) for call in calls.whole()] == [("look", "{}")]
    assert [one.reason for one in heard if isinstance(one, Finish)] == ["tool_calls"]


@pytest.mark.parametrize("fault", ["never_ends", "stalls@3"])
async def test_closing_drops_the_connection(remote: Make, upstream, fault: str) -> None:
    asked = remote()
    request = chat(f"scripted+{fault}", stream=True)
    answer = asked.endpoint.generate(request, step(request.model), CALLER)
    async with contextlib.aclosing(answer):
        for _ in range(3):
            await asyncio.wait_for(anext(answer), 5)
    for _ in range(100):
        entry = upstream.ledger()["entries"][-1]
        before = entry["completion_tokens"]
        await asyncio.sleep(0.05)
        if upstream.ledger()["entries"][-1]["completion_tokens"] == before:
            break
    assert ended(await asked.ask(chat(stream=True)))  # and the next has a connection of its own


async def test_cancelling_frees_the_place(remote: Make) -> None:
    asked = remote(concurrency=1, connect_seconds=0.5)
    hanging = asyncio.create_task(asked.ask(chat("scripted+stalls@1", stream=True)))
    await asyncio.sleep(0.2)
    with pytest.raises(UpstreamBusyError) as raised:
        await remote_ask(asked)
    assert not raised.value.billable
    hanging.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await hanging
    assert ended(await remote_ask(asked))


async def remote_ask(asked):
    from asking import Asked

    return await Asked(asked.endpoint).ask(chat(stream=True))


async def test_requests_beyond_a_minute_wait_and_are_refused(remote: Make) -> None:
    asked = remote(requests_per_minute=2, connect_seconds=0.2)
    for _ in range(2):
        assert ended(await asked.ask(chat()))
    started = time.monotonic()
    with pytest.raises(UpstreamBusyError) as raised:
        await asked.ask(chat())
    assert time.monotonic() - started < 1
    assert raised.value.retry_after is not None
    assert 50 < raised.value.retry_after <= 60


async def test_timings(remote: Make) -> None:
    heard = await remote().ask(chat("scripted+slow", stream=True))
    done = heard[-1]
    assert isinstance(done, Done)
    assert 0.35 < done.timings.first_token < 5
    heard = await remote().ask(chat("scripted+slow_second_chunk", stream=True))
    done = heard[-1]
    assert isinstance(done, Done)
    assert done.timings.decode > 0.35


async def test_connections_are_kept(remote: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    import aiohttp

    opened = 0
    connect = aiohttp.TCPConnector._create_connection

    async def counting(*given, **named):
        nonlocal opened
        opened += 1
        return await connect(*given, **named)

    monkeypatch.setattr(aiohttp.TCPConnector, "_create_connection", counting)
    asked = remote()
    for number in range(10):
        assert ended(await asked.ask(chat(stream=number % 2 == 0)))
    assert opened == 1
