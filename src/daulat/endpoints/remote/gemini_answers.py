"""Google's Gemini models: what their answers say, streamed and whole, and their vectors and errors.

Sources: https://ai.google.dev/api/generate-content (`GenerateContentResponse`, `FinishReason`,
`BlockReason`, `UsageMetadata`), https://ai.google.dev/gemini-api/docs/thought-signatures,
https://docs.cloud.google.com/apis/design/errors (`ErrorInfo`, `RetryInfo`), and the types of the `google-genai`
package 3.4. Each event of a stream is a whole response with what is new; calls come in one piece. The
protocol has no end of its own: an answer is whole when every candidate has a reason for its end.
"""

from __future__ import annotations

import json
import re
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

NAME = "Gemini"

_FINISHES: dict[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "LANGUAGE": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
}
"""Not here: malformed calls, calls of no tool, other reasons of the vendor's; such an answer is not whole."""

_NO_REASON = "FINISH_REASON_UNSPECIFIED"
_KEY_REASONS = frozenset({"API_KEY_INVALID", "API_KEY_SERVICE_BLOCKED", "API_KEY_EXPIRED"})
_DELAY = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")
_SIGNED = re.compile(r"(?P<id>.*)~signed~(?P<signature>[A-Za-z0-9+/_-]+={0,2})", re.DOTALL)
LONGEST_SIGNATURE = 1 << 15

Count = Annotated[int, Meta(ge=0, le=10**12)]


def signed(ident: str, signature: str) -> str:
    """A call's id with the signature that must come back with it."""
    if not signature or len(signature) > LONGEST_SIGNATURE:
        return ident
    return f"{ident}~signed~{signature}"


def unsigned(ident: str) -> tuple[str, str]:
    """The call's own id, and the signature or nothing."""
    found = _SIGNED.fullmatch(ident)
    return (found["id"], found["signature"]) if found else (ident, "")


# --- the wire -------------------------------------------------------------------------------------


class _Wire(msgspec.Struct, frozen=True, rename="camel"):
    """An object of Google's; fields that are not named here are passed over."""


class _FunctionCall(_Wire, frozen=True):
    name: str
    id: str = ""
    args: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])


class _Part(_Wire, frozen=True):
    text: str = ""
    thought: bool = False
    thought_signature: str = ""
    function_call: _FunctionCall | None = None
    inline_data: msgspec.Raw = msgspec.Raw()
    file_data: msgspec.Raw = msgspec.Raw()
    executable_code: msgspec.Raw = msgspec.Raw()
    code_execution_result: msgspec.Raw = msgspec.Raw()
    tool_call: msgspec.Raw = msgspec.Raw()

    @property
    def strange(self) -> bool:
        """It is of a kind that nobody asked for, and that a client would miss."""
        return any(
            bytes(raw)
            for raw in (
                self.inline_data,
                self.file_data,
                self.executable_code,
                self.code_execution_result,
                self.tool_call,
            )
        )


class _Content(_Wire, frozen=True):
    parts: list[_Part] = msgspec.field(default_factory=list[_Part])


class _Token(_Wire, frozen=True):
    token: str = ""
    log_probability: float = 0.0


class _Top(_Wire, frozen=True):
    candidates: list[_Token] = msgspec.field(default_factory=list[_Token])


class _Logprobs(_Wire, frozen=True):
    chosen_candidates: list[_Token] = msgspec.field(default_factory=list[_Token])
    top_candidates: list[_Top] = msgspec.field(default_factory=list[_Top])


class _Candidate(_Wire, frozen=True):
    index: Annotated[int, Meta(ge=0, le=1_000)] = 0
    content: _Content = _Content()
    finish_reason: str = _NO_REASON
    logprobs_result: _Logprobs | None = None


class _Feedback(_Wire, frozen=True):
    block_reason: str = ""


class _Usage(_Wire, frozen=True):
    prompt_token_count: Count
    candidates_token_count: Count = 0
    thoughts_token_count: Count = 0
    tool_use_prompt_token_count: Count = 0
    cached_content_token_count: Count = 0


class _Detail(_Wire, frozen=True):
    reason: str = ""
    retry_delay: str = ""


class _Failed(_Wire, frozen=True):
    code: int = 0
    message: str = ""
    status: str = ""
    details: list[_Detail] = msgspec.field(default_factory=list[_Detail])


class _Response(_Wire, frozen=True):
    candidates: list[_Candidate] = msgspec.field(default_factory=list[_Candidate])
    prompt_feedback: _Feedback = _Feedback()
    usage_metadata: Any = None
    response_id: str = ""
    error: _Failed | None = None


class _Vector(_Wire, frozen=True):
    values: list[float]


class _Batch(_Wire, frozen=True):
    embeddings: list[_Vector]
    usage_metadata: Any = None


class _Statistics(msgspec.Struct, frozen=True):
    """Its names are in snake case, which no others of Google's are."""

    token_count: Annotated[float, Meta(ge=0, le=1e12)] | None = None


class _Predicted(_Wire, frozen=True):
    values: list[float]
    statistics: _Statistics = _Statistics()


class _Prediction(_Wire, frozen=True):
    embeddings: _Predicted


class _Predictions(_Wire, frozen=True):
    predictions: list[_Prediction]


class _Error(_Wire, frozen=True):
    error: _Failed


_RESPONSE = msgspec.json.Decoder(_Response)
_BATCH = msgspec.json.Decoder(_Batch)
_PREDICTIONS = msgspec.json.Decoder(_Predictions)
_ERROR = msgspec.json.Decoder(_Error)
_ERRORS = msgspec.json.Decoder(list[_Error])


# --- answers --------------------------------------------------------------------------------------


class GeminiReader:
    """One answer, in events or in one."""

    def __init__(self, request: ChatRequest) -> None:
        self._n = request.sampling.n
        self._earlier = sum(len(message.tool_calls) for message in request.messages)
        self._calls = [0] * self._n
        self._reasons: list[FinishReason | None] = [None] * self._n
        self._usage: Usage | None = None

    def feed(self, event: ServerEvent) -> Iterable[Heard]:
        """See `dialect.Reader`."""
        yield from self.take(terms.read(_RESPONSE, event.data, NAME))

    def take(self, response: _Response) -> Iterator[Heard]:
        """What one response says."""
        if response.error is not None:
            raise _raised(response.error.code, {}, response.error, billable=True)
        for candidate in response.candidates:
            if candidate.index >= self._n:
                raise terms.bad(NAME, "it gives more answers than were asked for")
            yield from self._said(candidate, response.response_id)
            self._finish(candidate)
        if response.prompt_feedback.block_reason:
            self._reasons = [reason or "content_filter" for reason in self._reasons]
        if (usage := _usage(response.usage_metadata)) is not None:
            self._usage = usage
            yield Metered(usage)

    def end(self) -> Iterable[Heard]:
        """See `dialect.Reader`."""
        for choice, reason in enumerate(self._reasons):
            if reason is None:
                raise terms.bad(NAME, "its answer broke off")
            yield Finish(choice, reason)
        yield Done(self._usage or Usage(0, counted=True), Timings(0, 0, 0))

    def _finish(self, candidate: _Candidate) -> None:
        # Some models repeat the reason with every event, so the last one counts, when the stream ends.
        told, choice = candidate.finish_reason, candidate.index
        if told == _NO_REASON:
            return
        if told not in _FINISHES:
            raise terms.bad(NAME, f"its answer is not finished ({terms.shown(told)})")
        called = told == "STOP" and self._calls[choice]
        self._reasons[choice] = "tool_calls" if called else _FINISHES[told]

    def _said(self, candidate: _Candidate, response_id: str) -> Iterator[Heard]:
        logprobs = _logprobs(candidate.logprobs_result)
        for part in candidate.content.parts:
            if part.strange:
                raise terms.bad(NAME, "its answer has a part of a kind that was not asked for")
            if part.function_call is not None:
                yield self._call(candidate.index, part.function_call, part, response_id)
            elif part.thought and part.text:
                yield Piece(candidate.index, part.text, kind="thought")
            elif part.text:
                yield Piece(candidate.index, part.text, logprobs)
                logprobs = ()

    def _call(self, choice: int, call: _FunctionCall, part: _Part, response_id: str) -> CallPiece:
        """Where the vendor gives no id, one that no other call of the conversation has."""
        number = self._calls[choice]
        self._calls[choice] += 1
        ident = call.id or f"call_{response_id}{self._earlier}_{choice}_{number}"
        arguments = json.dumps(call.args, ensure_ascii=False, separators=(",", ":"))
        return CallPiece(
            choice, number, signed(ident, part.thought_signature), call.name, arguments
        )


def whole(request: ChatRequest, body: bytes) -> Iterator[Heard]:
    """The events of an answer in one piece.

    Raises:
        UpstreamAnswerError: not an answer of that protocol.
    """
    reader = GeminiReader(request)
    yield from reader.take(terms.read(_RESPONSE, body, NAME))
    yield from reader.end()


def _usage(told: Any) -> Usage | None:
    """What the vendor counted; None where it counted nothing that can be believed."""
    try:
        found = msgspec.convert(told, _Usage)
    except msgspec.ValidationError:
        return None
    prompt = found.prompt_token_count + found.tool_use_prompt_token_count
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=found.candidates_token_count + found.thoughts_token_count,
        cached_tokens=min(found.cached_content_token_count, prompt),
        reasoning_tokens=found.thoughts_token_count,
    )


def _logprobs(told: _Logprobs | None) -> tuple[TokenLogprob, ...]:
    if told is None:
        return ()
    tops = [*told.top_candidates, *[_Top()] * len(told.chosen_candidates)]
    return tuple(
        _logprob(chosen, tuple(_logprob(one) for one in top.candidates))
        for chosen, top in zip(told.chosen_candidates, tops, strict=False)
    )


def _logprob(token: _Token, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
    data = token.token.encode("utf-8", "surrogatepass")
    return TokenLogprob(token.token, data, token.log_probability, top)


# --- vectors --------------------------------------------------------------------------------------


def embedded(request: EmbeddingRequest, body: bytes) -> Embeddings:
    """The vectors of `batchEmbedContents`.

    Raises:
        UpstreamAnswerError: not an answer of that protocol, or not one for each input.
    """
    batch = terms.read(_BATCH, body, NAME)
    vectors = tuple(tuple(vector.values) for vector in batch.embeddings)
    return _vectors(request, vectors, _usage(batch.usage_metadata))


def predicted(request: EmbeddingRequest, body: bytes) -> Embeddings:
    """The vectors of Vertex AI's `predict`.

    Raises:
        UpstreamAnswerError: not an answer of that protocol, or not one for each input.
    """
    found = [one.embeddings for one in terms.read(_PREDICTIONS, body, NAME).predictions]
    counts = [one.statistics.token_count for one in found]
    usage = None
    if counts and None not in counts:
        usage = Usage(sum(int(count or 0) for count in counts))
    return _vectors(request, tuple(tuple(one.values) for one in found), usage)


def _vectors(
    request: EmbeddingRequest, vectors: tuple[tuple[float, ...], ...], usage: Usage | None
) -> Embeddings:
    if len(vectors) != len(request.inputs):
        raise terms.bad(NAME, "it does not give one vector for each input")
    if usage is None:
        texts = (text for text in request.inputs if isinstance(text, str))
        usage = Usage(sum(counted(text) for text in texts), counted=True)
    return Embeddings(vectors, usage, Timings(0, 0, 0))


# --- errors ---------------------------------------------------------------------------------------


def error(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
    """What an answer of a status other than 2xx means."""
    try:
        # Streams that are not server-sent events are lists, and so are their errors.
        listed = body.lstrip().startswith(b"[")
        failed = (_ERRORS.decode(body) if listed else [_ERROR.decode(body)])[0].error
    except (msgspec.DecodeError, UnicodeDecodeError, IndexError):
        failed = _Failed()
    return _raised(status, headers, failed, billable=False)


def _raised(
    status: int, headers: Mapping[str, str], failed: _Failed, *, billable: bool
) -> UpstreamError:
    """A key that is not taken has the status 400 there; `RetryInfo` stands in for `retry-after`."""
    if any(detail.reason in _KEY_REASONS for detail in failed.details):
        status = 401
    waits = (_DELAY.fullmatch(detail.retry_delay) for detail in failed.details)
    wait = next((float(found[1]) for found in waits if found), None)
    if wait is None:
        wait = terms.waiting(headers)
    made = terms.by_status(status if status >= 400 else 500, NAME, failed.message, wait)
    made.billable = billable
    return made
