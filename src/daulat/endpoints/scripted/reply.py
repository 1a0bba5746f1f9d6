"""The answer to a request, before a vendor's words: texts, calls, why it ends, what it costs.

Faults that change what is answered act here. Not here: bytes (`wires`, `program`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Final, Literal

import msgspec

from daulat.endpoints.scripted.ask import Ask, Tool
from daulat.endpoints.scripted.faults import Chosen
from daulat.endpoints.scripted.instances import instance
from daulat.endpoints.scripted.script import Answer, Call, Script, pieces, words
from daulat.values.tokens import BYTES_PER_TOKEN, counted

Finish = Literal["stop", "stop_text", "length", "calls", "filtered", "refused"]

REFUSAL: Final = "I cannot help with that. "
FILTERED_AT_ONCE: Final = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts: `prompt` with `cached` and `cache_written` in it, `completion` with `reasoning`."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    cache_written: int = 0
    reasoning: int = 0

    @property
    def total(self) -> int:
        return self.prompt + self.completion


Told = Usage | Literal["null", "absent"]


@dataclass(slots=True)
class Reply:
    """One answer, given `Ask.count` times; `usage` is the truth, `told` is what the answer says."""

    text: str
    calls: tuple[Call, ...]
    finish: Finish | None
    stopped_by: str | None
    usage: Usage
    told: Told

    @property
    def pieces(self) -> tuple[str, ...]:
        """The text, a token a piece."""
        return pieces(self.text)


def reply(script: Script, ask: Ask, answer: Answer | None, fault: Chosen | None) -> Reply:
    """Answer a request.

    Args:
        answer: the one whose turn it is, of `script.answers`.
    """
    name = fault.name if fault else ""
    text, calls = _said(script, ask, answer)
    finish: Finish = "calls" if calls else "stop"
    stopped: str | None = None
    if name == "refusal":
        text, calls, finish = REFUSAL, (), "refused"
    elif name == "empty_answer":
        text, calls, finish = "", (), "stop"
    elif name == "bad_tool_arguments":
        calls = tuple(replace(call, arguments='{"broken": ') for call in calls)
    if text and finish != "refused" and ask.stop:
        text, stopped = _stopped(text, ask.stop)
        finish = "stop_text" if stopped else finish
    thought = min(script.reasoning_tokens, ask.limit or script.reasoning_tokens)
    text, calls, cut = _limited(text, calls, None if ask.limit is None else ask.limit - thought)
    finish = "length" if cut else finish
    if name == "content_filter" and fault:
        text, calls, finish = "".join(pieces(text)[: fault.k]), (), "filtered"
    usage = _usage(script, ask, thought + spoken(text, calls))
    return Reply(text, calls, finish, stopped, usage, told(usage, fault))


def spoken(text: str, calls: Sequence[Call]) -> int:
    """Tokens of a text and of calls."""
    return counted(text) + sum(counted(call.name) + counted(call.arguments) for call in calls)


def costs(found: Sequence[str]) -> list[int]:
    """The tokens that each piece of one text adds to those before it."""
    ends = accumulate((len(piece.encode("utf-8", "surrogatepass")) for piece in found), initial=0)
    return [
        -(-after // BYTES_PER_TOKEN) + -before // BYTES_PER_TOKEN
        for before, after in pairwise(ends)
    ]


def told(usage: Usage, fault: Chosen | None) -> Told:
    """The usage that is reported."""
    if fault is None or fault.name not in ("wrong_usage", "no_usage"):
        return usage
    if fault.name == "no_usage":
        return "absent"
    wrong: tuple[Told, ...] = (
        Usage(),
        "null",
        Usage(prompt=1_000_000_000, completion=1_000_000_000),
        Usage(prompt=-usage.prompt - 1, completion=-usage.completion - 1),
        Usage(prompt=usage.prompt // 2, completion=usage.completion // 2),
    )
    return wrong[fault.k % len(wrong)]


def _usage(script: Script, ask: Ask, each: int) -> Usage:
    cached = min(script.cached_tokens, ask.prompt_tokens)
    thought = min(script.reasoning_tokens, ask.limit or script.reasoning_tokens)
    return Usage(
        prompt=ask.prompt_tokens,
        completion=each * ask.count,
        cached=cached,
        cache_written=min(script.cache_written_tokens, ask.prompt_tokens - cached),
        reasoning=thought * ask.count,
    )


def _said(script: Script, ask: Ask, answer: Answer | None) -> tuple[str, tuple[Call, ...]]:
    called = _called(script, ask)
    if called:
        return "", called
    if answer is not None:
        return answer.text, answer.calls if ask.tools and ask.choice != "none" else ()
    if ask.schema is not None:
        return msgspec.json.encode(instance(ask.schema)).decode(), ()
    return (ask.last if script.words is None else words(script.words)), ()


def _called(script: Script, ask: Ask) -> tuple[Call, ...]:
    """The calls that the script makes on its own: the first tools, or the one that must be called."""
    if not ask.tools or ask.choice == "none":
        return ()
    if ask.choice not in ("auto", "required"):
        return tuple(_call(tool) for tool in ask.tools if tool.name == ask.choice)
    must = ask.choice == "required"
    if not must and (ask.replied or script.answers):
        return ()
    most = max(script.calls, 1) if must else script.calls
    return tuple(
        _call(ask.tools[index % len(ask.tools)])
        for index in range(most if ask.parallel else min(most, 1))
    )


def _call(tool: Tool) -> Call:
    value = instance(tool.schema)
    return Call(tool.name, "{}" if value is None else msgspec.json.encode(value).decode())


def _stopped(text: str, stop: Sequence[str]) -> tuple[str, str | None]:
    found = [(text.find(one), one) for one in stop if one and one in text]
    return (text[: min(found)[0]], min(found)[1]) if found else (text, None)


def _limited(
    text: str, calls: tuple[Call, ...], limit: int | None
) -> tuple[str, tuple[Call, ...], bool]:
    if limit is None or spoken(text, calls) <= limit:
        return text, calls, False
    kept = _cut(text, limit)
    left = limit - counted(kept)
    found: list[Call] = []
    for call in calls:
        left -= counted(call.name)
        if left < 0:
            break
        arguments = _cut(call.arguments, left)
        found.append(Call(call.name, arguments))
        left -= counted(arguments)
        if arguments != call.arguments:
            break
    return kept, tuple(found), True


def _cut(text: str, tokens: int) -> str:
    size = max(tokens, 0) * BYTES_PER_TOKEN
    return text.encode("utf-8", "surrogatepass")[:size].decode("utf-8", "ignore")
