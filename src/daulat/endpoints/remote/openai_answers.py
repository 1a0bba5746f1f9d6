"""Answers of OpenAI's protocol as our events, streamed or whole: one way for both.

Nothing that comes is trusted: types are checked, choices and calls are counted, and an answer of which a
part is missing is an error and never a shorter answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, Final, cast

import msgspec

from daulat.endpoints.remote.dialect import ServerEvent
from daulat.endpoints.remote.openai_calls import CallBody, Calls, FunctionBody
from daulat.endpoints.remote.profiles import Profile
from daulat.endpoints.remote.terms import bad, by_status, read
from daulat.errors import UpstreamError
from daulat.values.answer import (
    Done,
    Finish,
    FinishReason,
    Heard,
    Kind,
    Metered,
    Piece,
    Timings,
    TokenLogprob,
    Usage,
)
from daulat.values.request import ChatRequest, GenerationRequest

MAX_TOP: Final = 64
MAX_TOKENS: Final = 10**12
_NO_TIMINGS: Final = Timings(0, 0, 0)

_REASONS: Final[dict[str, FinishReason]] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


class _Said(msgspec.Struct):
    """A delta, or a whole message."""

    content: str | list[dict[str, Any]] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[CallBody] | None = None
    function_call: FunctionBody | None = None


class _Choice(msgspec.Struct):
    """A choice of any of the four forms: chat and completions, streamed and whole."""

    index: int | None = None
    delta: _Said | None = None
    message: _Said | None = None
    text: str | None = None
    logprobs: Any = None
    finish_reason: str | None = None


class _Answer(msgspec.Struct):
    """A chunk, or a whole answer."""

    id: str | None = None
    choices: list[_Choice] | None = None
    usage: Any = None
    error: Any = None


_DECODER: Final = msgspec.json.Decoder(_Answer)


class OpenAiReader:
    """One answer. `profile` and `request` say what can come."""

    def __init__(self, request: GenerationRequest, profile: Profile) -> None:
        self._label = profile.label
        self._wants_logprobs = request.sampling.logprobs is not None
        prompts = 1 if isinstance(request, ChatRequest) else len(request.prompts)
        self._open = set(range(request.sampling.n * prompts))
        self._choices = len(self._open)
        toolbox = request.tools if isinstance(request, ChatRequest) else None
        self._tools = [tool.name for tool in toolbox.tools] if toolbox else []
        self._calls: dict[int, Calls] = {}
        begun = request.begun if isinstance(request, ChatRequest) else ""
        repeats = begun and profile.begun == "prefix"
        self._begun = begun
        self._repeated = dict.fromkeys(self._open, begun) if repeats else {}
        self._usage: Usage | None = None
        self._id = ""
        self._done = False

    def feed(self, event: ServerEvent) -> Iterable[Heard]:
        """What a chunk says; nothing follows the `Done` of `[DONE]`."""
        if self._done:
            return ()
        if event.data == "[DONE]":
            return self._end()
        answer = read(_DECODER, event.data, self._label)
        if answer.error is not None or event.name == "error":
            raise failure(answer.error, self._label)
        return self._heard(answer)

    def end(self) -> Iterable[Heard]:
        """Raises UpstreamAnswerError: `[DONE]` did not come."""
        if self._done:
            return ()
        raise bad(self._label, "its answer broke off before its end")

    def whole(self, body: bytes) -> list[Heard]:
        """An answer in one piece."""
        answer = read(_DECODER, body, self._label)
        if answer.error is not None:
            raise failure(answer.error, self._label)
        return [*self._heard(answer), *self._end()]

    def _heard(self, answer: _Answer) -> list[Heard]:
        found: list[Heard] = []
        if answer.id and not self._id:
            self._id = answer.id[:256]
        for choice in answer.choices or ():
            found += self._choice(choice)
        if answer.usage is not None and (usage := usage_of(answer.usage)):
            self._usage = usage
            found.append(Metered(usage))
        return found

    def _choice(self, choice: _Choice) -> Iterator[Heard]:
        index = choice.index or 0
        if not 0 <= index < self._choices:
            raise bad(self._label, f"its answer has a choice {index} that was not asked for")
        said = choice.delta or choice.message
        logprobs = self._logprobs(choice.logprobs)
        if index not in self._open:
            if choice.text or (said and (said.content or said.tool_calls)):
                raise bad(self._label, "its answer goes on behind its end")
            return
        if said is not None:
            yield from self._said(index, said, logprobs)
        elif choice.text or logprobs:
            yield Piece(index, choice.text or "", logprobs)
        if choice.finish_reason:
            yield from self._finish(index, choice.finish_reason)

    def _said(self, index: int, said: _Said, logprobs: tuple[TokenLogprob, ...]) -> Iterator[Heard]:
        if thought := said.reasoning_content or said.reasoning:
            yield Piece(index, thought, kind="thought")
        content = said.content
        if isinstance(content, list):
            for kind, text in _parts(content, self._label):
                yield Piece(index, text, kind=kind)
        elif content or logprobs:
            text = self._fresh(index, content or "") if self._repeated else content or ""
            if text or logprobs:
                yield Piece(index, text, logprobs)
        if said.refusal:
            yield Piece(index, said.refusal, kind="refusal")
        if said.tool_calls:
            for call in said.tool_calls:
                yield from self._calls_of(index).feed(call)
        if said.function_call is not None:
            yield from self._calls_of(index).feed(
                CallBody(0, None, said.function_call), without_id=True
            )

    def _fresh(self, index: int, text: str) -> str:
        """The text without the words with which the answer was begun, which come again first."""
        awaited = self._repeated.get(index, "")
        if not awaited:
            return text
        same = min(len(awaited), len(text))
        if awaited[:same] == text[:same]:
            self._repeated[index] = awaited[same:]
            return text[same:]
        # Not a repetition after all: what was taken for one comes back.
        self._repeated[index] = ""
        return self._begun[: len(self._begun) - len(awaited)] + text

    def _calls_of(self, index: int) -> Calls:
        if index not in self._calls:
            self._calls[index] = Calls(index, self._tools, self._id, self._label)
        return self._calls[index]

    def _finish(self, index: int, word: str) -> Iterator[Heard]:
        reason = _REASONS.get(word.lower())
        if reason is None:
            raise bad(self._label, f"its answer ended with {word[:64]!r}")
        calls = self._calls.get(index)
        if calls:
            yield from calls.end()
            reason = "tool_calls" if reason == "stop" else reason
        self._open.discard(index)
        yield Finish(index, reason)

    def _end(self) -> list[Heard]:
        if self._open:
            raise bad(self._label, f"its answer has no end for choice {min(self._open)}")
        self._done = True
        return [Done(self._usage or Usage(0, 0, counted=True), _NO_TIMINGS)]

    def _logprobs(self, given: Any) -> tuple[TokenLogprob, ...]:
        if given is None or not self._wants_logprobs:
            return ()
        return tuple(logprobs_of(given, self._label))


# --- parts ----------------------------------------------------------------------------------------


def failure(error: Any, label: str) -> UpstreamError:
    """The error that stands in place of an answer, or within one."""
    known = _dict(error)
    code = known.get("code")
    number = code if isinstance(code, int) and not isinstance(code, bool) else 0
    words = f"{code} {known.get('type')}".lower()
    if "rate_limit" in words or "overloaded" in words:
        number = 429
    status = number if 400 <= number <= 599 else 500
    made = by_status(status, label, str(known.get("message", ""))[:1000])
    made.billable = True
    return made


def usage_of(given: Any) -> Usage | None:
    """The tokens; None where they are not told. Not judged: a number may be absurd."""
    told = _dict(given)
    prompt = _count(told.get("prompt_tokens"))
    if prompt is None:
        return None
    completion, total = _count(told.get("completion_tokens")), _count(told.get("total_tokens"))
    if completion is None:
        completion = 0 if total is None else total - prompt
    read_, made = told.get("prompt_tokens_details"), told.get("completion_tokens_details")
    return Usage(
        prompt,
        completion,
        cached_tokens=_detail(read_, "cached_tokens"),
        reasoning_tokens=_detail(made, "reasoning_tokens"),
    )


def _detail(given: Any, name: str) -> int:
    return _count(_dict(given).get(name)) or 0


def _count(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return int(max(-MAX_TOKENS, min(value, MAX_TOKENS)))


def _parts(content: list[dict[str, Any]], label: str) -> Iterator[tuple[Kind, str]]:
    """Mistral's content in parts: texts, thoughts, and references, which have no words."""
    for part in content:
        kind, text = part.get("type"), part.get("text")
        if kind == "text" and isinstance(text, str):
            yield "text", text
        elif kind == "thinking":
            for one in _list(part.get("thinking")):
                thought = _dict(one).get("text")
                if isinstance(thought, str):
                    yield "thought", thought
        elif kind != "reference":
            raise bad(label, "its answer has a part that is no text")


def logprobs_of(given: Any, label: str) -> Iterator[TokenLogprob]:
    """Of a chat (`content`, `refusal`) or of a completion (`tokens` and lists beside it)."""
    if not isinstance(given, dict):
        raise bad(label, "its log-probabilities are of no form that is known")
    told = _dict(given)
    if "tokens" in told:
        yield from _of_text(_list(told["tokens"]), told, label)
        return
    for name in ("content", "refusal"):
        for entry in _list(told.get(name)):
            yield _token(entry, label, alternatives=True)


def _of_text(tokens: list[Any], told: dict[str, Any], label: str) -> Iterator[TokenLogprob]:
    numbers, tops = _list(told.get("token_logprobs")), _list(told.get("top_logprobs"))
    if len(tokens) != len(numbers):
        raise bad(label, "its log-probabilities are of no form that is known")
    for at, (token, number) in enumerate(zip(tokens, numbers, strict=True)):
        others = _dict(tops[at]) if at < len(tops) else {}
        found = [_plain(text, value, label) for text, value in list(others.items())[:MAX_TOP]]
        found.sort(key=lambda one: -one.logprob)
        plain = _plain(token, number, label)
        yield TokenLogprob(plain.text, plain.data, plain.logprob, tuple(found))


def _plain(text: Any, number: Any, label: str) -> TokenLogprob:
    if not isinstance(text, str):
        raise bad(label, "a token of its log-probabilities is no text")
    data = text.encode("utf-8", "replace")
    if text.startswith("bytes:\\x"):
        try:
            data = bytes.fromhex(text[6:].replace("\\x", ""))
        except ValueError:
            raise bad(label, "a token of its log-probabilities is no text") from None
    return TokenLogprob(text, data, _number(number, label))


def _token(entry: Any, label: str, *, alternatives: bool) -> TokenLogprob:
    if not isinstance(entry, dict):
        raise bad(label, "its log-probabilities are of no form that is known")
    known = _dict(entry)
    plain = _plain(known.get("token"), known.get("logprob"), label)
    given = known.get("bytes")
    data = plain.data
    if isinstance(given, list):
        try:
            data = bytes(cast("list[Any]", given))
        except (ValueError, TypeError):
            raise bad(label, "the bytes of a token are no bytes") from None
    others = _list(known.get("top_logprobs"))[:MAX_TOP] if alternatives else []
    found = tuple(_token(one, label, alternatives=False) for one in others)
    return TokenLogprob(plain.text, data, plain.logprob, found)


def _number(value: Any, label: str) -> float:
    """NaN where there is none: the first token of a prompt stands behind nothing."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise bad(label, "a log-probability is no number")
    return float(value)


def _list(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _dict(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
