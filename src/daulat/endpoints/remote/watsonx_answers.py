"""IBM's watsonx.ai: what its answers say, streamed and whole, and its vectors and errors.

Sources: see `watsonx`; errors: https://ibm.github.io/watsonx-ai-java-sdk/advanced/error-handling/.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from daulat.endpoints.remote import terms
from daulat.endpoints.remote.dialect import ServerEvent
from daulat.errors import UpstreamError
from daulat.values.answer import (
    CallPiece,
    Done,
    Embeddings,
    Finish,
    FinishReason,
    Heard,
    Metered,
    Piece,
    Timings,
    TokenLogprob,
    Usage,
)
from daulat.values.request import ChatRequest, EmbeddingRequest
from daulat.values.tokens import counted

NAME = "watsonx.ai"

_FINISHES: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
}
"""Not here: `time_limit`, `cancelled`, `error`; such an answer is not whole."""

Count = Annotated[int, Meta(ge=0, le=10**12)]
Index = Annotated[int, Meta(ge=0, le=1_000)]
_Byte = Annotated[int, Meta(ge=0, le=255)]


class _Function(msgspec.Struct, frozen=True):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct, frozen=True):
    index: Index | None = None
    id: str | None = None
    function: _Function = _Function()


class _Said(msgspec.Struct, frozen=True):
    """A message, or a stretch of one."""

    content: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None


class _Token(msgspec.Struct, frozen=True):
    token: str
    logprob: float
    bytes: list[_Byte] | None = None
    top_logprobs: list[_Token] | None = None


class _Logprobs(msgspec.Struct, frozen=True):
    content: list[_Token] | None = None


class _Choice(msgspec.Struct, frozen=True):
    index: Index = 0
    delta: _Said | None = None
    message: _Said | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Cached(msgspec.Struct, frozen=True):
    cached_tokens: Count | None = None


class _Thought(msgspec.Struct, frozen=True):
    reasoning_tokens: Count | None = None


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: Count
    completion_tokens: Count
    prompt_tokens_details: _Cached | None = None
    completion_tokens_details: _Thought | None = None


class _Failed(msgspec.Struct, frozen=True):
    code: str = ""
    message: str = ""


class _Answer(msgspec.Struct, frozen=True):
    choices: list[_Choice] = msgspec.field(default_factory=list[_Choice])
    usage: Any = None
    errors: list[_Failed] | None = None
    status_code: int = 500


class _Result(msgspec.Struct, frozen=True):
    embedding: list[float]


class _Results(msgspec.Struct, frozen=True):
    results: list[_Result]
    input_token_count: Count | None = None


_ANSWER = msgspec.json.Decoder(_Answer)
_RESULTS = msgspec.json.Decoder(_Results)


# --- answers --------------------------------------------------------------------------------------


class WatsonxReader:
    """One answer, in events or in one."""

    def __init__(self, request: ChatRequest) -> None:
        tools = request.tools.tools if request.tools else ()
        names = frozenset(tool.name for tool in tools)
        self._calls = [_Calls(choice, names) for choice in range(request.sampling.n)]
        self._reasons: list[FinishReason | None] = [None] * request.sampling.n
        self._usage: Usage | None = None
        self._unfinished: UpstreamError | None = None

    def feed(self, event: ServerEvent) -> Iterable[Heard]:
        """See `dialect.Reader`."""
        yield from self.take(terms.read(_ANSWER, event.data, NAME))

    def take(self, answer: _Answer) -> Iterator[Heard]:
        """What one answer, or one stretch of it, says."""
        if answer.errors is not None:
            raise _raised(max(answer.status_code, 400), {}, answer.errors, billable=True)
        for choice in answer.choices:
            if choice.index >= len(self._calls):
                raise terms.bad(NAME, "it gives more answers than were asked for")
            yield from self._said(choice, choice.delta or choice.message or _Said())
            if choice.finish_reason:
                yield from self._finish(choice.index, choice.finish_reason)
        try:
            self._usage = _usage(msgspec.convert(answer.usage, _Usage))
            yield Metered(self._usage)
        except msgspec.ValidationError:
            pass  # nothing is told, or nothing that can be believed

    def end(self) -> Iterable[Heard]:
        """See `dialect.Reader`."""
        if self._unfinished is not None:
            raise self._unfinished
        if None in self._reasons:
            raise terms.bad(NAME, "its answer broke off")
        yield Done(self._usage or Usage(0, counted=True), Timings(0, 0, 0))

    def _said(self, choice: _Choice, said: _Said) -> Iterator[Heard]:
        place = choice.index
        if self._reasons[place] and (said.content or said.tool_calls):
            raise terms.bad(NAME, "its answer goes on behind its end")
        if said.reasoning_content:
            yield Piece(place, said.reasoning_content, kind="thought")
        logprobs = _logprobs(choice.logprobs.content if choice.logprobs else None)
        if said.content or logprobs:
            yield Piece(place, said.content or "", logprobs)
        if said.refusal:
            yield Piece(place, said.refusal, kind="refusal")
        for order, call in enumerate(said.tool_calls or ()):
            yield from self._calls[place].take(order if call.index is None else call.index, call)

    def _finish(self, place: int, told: str) -> Iterator[Heard]:
        if told not in _FINISHES:
            # Raised at the end: what it cost is told after this.
            self._unfinished = terms.bad(NAME, f"its answer is not finished ({terms.shown(told)})")
        elif self._reasons[place] is None:
            yield from self._calls[place].close()
            self._reasons[place] = _FINISHES[told]
            yield Finish(place, _FINISHES[told])


class _Calls:
    """The calls of one choice. A name may come in stretches, or again with each stretch of the arguments.

    So a call is told when its arguments begin, or when it is complete.
    """

    def __init__(self, choice: int, names: frozenset[str]) -> None:
        self._choice = choice
        self._names = names
        self._at = -1
        self._id = ""
        self._name = ""
        self._argued = True

    def take(self, index: int, call: _Call) -> Iterator[CallPiece]:
        """The next stretch of a call, or the first of the next."""
        if index == self._at + 1:
            yield from self.close()
            self._at, self._id, self._name, self._argued = index, "", "", False
        elif index != self._at:
            raise terms.bad(NAME, "the calls in its answer are not in order")
        if not self._argued:
            self._id = self._id or call.id or ""
            again = self._name in self._names and call.function.name == self._name
            self._name += "" if again else call.function.name or ""
        if call.function.arguments:
            yield from self._argue(call.function.arguments)

    def close(self) -> Iterator[CallPiece]:
        """The call is complete."""
        if not self._argued:
            yield from self._argue("{}")

    def _argue(self, arguments: str) -> Iterator[CallPiece]:
        if self._argued:
            yield CallPiece(self._choice, self._at, arguments=arguments)
            return
        if not (self._id and self._name):
            raise terms.bad(NAME, "a call in its answer has no id or no name")
        self._argued = True
        yield CallPiece(self._choice, self._at, self._id, self._name, arguments)


def whole(request: ChatRequest, body: bytes) -> Iterator[Heard]:
    """The events of an answer in one piece.

    Raises:
        UpstreamAnswerError: not an answer of that protocol.
    """
    reader = WatsonxReader(request)
    yield from reader.take(terms.read(_ANSWER, body, NAME))
    yield from reader.end()


def _usage(told: _Usage) -> Usage:
    cached = told.prompt_tokens_details.cached_tokens if told.prompt_tokens_details else None
    details = told.completion_tokens_details
    thought = details.reasoning_tokens if details else None
    return Usage(
        prompt_tokens=told.prompt_tokens,
        completion_tokens=told.completion_tokens,
        cached_tokens=min(cached or 0, told.prompt_tokens),
        reasoning_tokens=min(thought or 0, told.completion_tokens),
    )


def _logprobs(told: list[_Token] | None) -> tuple[TokenLogprob, ...]:
    return tuple(
        TokenLogprob(
            one.token,
            one.token.encode("utf-8", "surrogatepass") if one.bytes is None else bytes(one.bytes),
            one.logprob,
            _logprobs(one.top_logprobs),
        )
        for one in told or ()
    )


# --- vectors and errors ---------------------------------------------------------------------------


def embedded(request: EmbeddingRequest, body: bytes) -> Embeddings:
    """The vectors, one for each input.

    Raises:
        UpstreamAnswerError: not an answer of that protocol, or not one for each input.
    """
    told = terms.read(_RESULTS, body, NAME)
    if len(told.results) != len(request.inputs):
        raise terms.bad(NAME, "it does not give one vector for each input")
    if told.input_token_count is None:
        texts = (text for text in request.inputs if isinstance(text, str))
        usage = Usage(sum(counted(text) for text in texts), counted=True)
    else:
        usage = Usage(told.input_token_count)
    return Embeddings(tuple(tuple(one.embedding) for one in told.results), usage, Timings(0, 0, 0))


def error(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
    """What an answer of a status other than 2xx means: `{"errors": [{code, message}], ...}`."""
    try:
        failed = _ANSWER.decode(body).errors or []
    except (msgspec.DecodeError, UnicodeDecodeError):
        failed = []
    return _raised(status, headers, failed, billable=False)


def _raised(
    status: int, headers: Mapping[str, str], failed: list[_Failed], *, billable: bool
) -> UpstreamError:
    words = " ".join(one.message for one in failed)
    made = terms.by_status(status, NAME, words, terms.waiting(headers))
    made.billable = billable
    return made
