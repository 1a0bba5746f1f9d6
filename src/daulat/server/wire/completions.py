"""`POST /v1/completions`: its request, its answer, its chunks."""

from __future__ import annotations

import codecs
import math
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from daulat.errors import RequestError
from daulat.server.wire.common import Generation, Origin, Outgoing, Texts, UsageBody, texts
from daulat.server.wire.decode import unsupported
from daulat.server.wire.fields import REFUSED
from daulat.server.wire.structure import StructuredOutputs
from daulat.values.answer import FinishReason, TokenLogprob
from daulat.values.request import CompletionRequest

DEFAULT_MAX_TOKENS = 16  # as OpenAI's API has it for completions


class CompletionBody(Generation, frozen=True, kw_only=True):
    prompt: Texts
    max_tokens: Annotated[int, Meta(ge=0, le=10_000_000)] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    structured_outputs: StructuredOutputs | None = None
    # refused but for these values, see `fields.REFUSED`
    suffix: Literal[""] | None = None
    best_of: Annotated[int, Meta(ge=1, le=16)] | None = None

    def to_request(self) -> CompletionRequest:
        """Raises RequestError: a combination that asks for nothing, or that cannot be honoured."""
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise unsupported(next(f for f in REFUSED if f.name == "best_of"), "best_of")
        if self.max_tokens == 0 and not self.echo:
            message = "At `max_tokens`: 0 gives no answer; ask for 1 or more, or for `echo`."
            raise RequestError(message, param="max_tokens")
        most = DEFAULT_MAX_TOKENS if self.max_tokens is None else self.max_tokens
        return CompletionRequest(
            model=self.model,
            prompts=texts(self.prompt, "prompt"),
            sampling=self.sampling(max_tokens=most, logprobs=self.logprobs),
            echo=bool(self.echo),
            user=self.user,
            structure=self.structured_outputs and self.structured_outputs.to_structure(),
            stream=bool(self.stream),
        )


class CompletionLogprobs(Outgoing, frozen=True, kw_only=True):
    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class CompletionChoice(Outgoing, frozen=True, kw_only=True):
    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason | None


class Completion(Outgoing, frozen=True, kw_only=True):
    """The answer, and each chunk of a stream (where the last one has `usage` and `daulat`)."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    system_fingerprint: str | None
    usage: UsageBody | msgspec.UnsetType | None = msgspec.UNSET
    daulat: Origin | msgspec.UnsetType = msgspec.UNSET


class Offsets:
    """Where each token of one choice begins in its text, in characters.

    A character may be spread over several tokens: all of them but the first begin behind it.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._at = 0

    def logprobs(self, tokens: tuple[TokenLogprob, ...], top: int) -> CompletionLogprobs:
        """The next tokens' probabilities, with the `top` likeliest where that is above 0."""
        offsets: list[int] = []
        for token in tokens:
            offsets.append(self._at)
            data = token.data if token.shown is None else token.shown
            self._at += len(self._decoder.decode(data))
        return CompletionLogprobs(
            tokens=[_name(token) for token in tokens],
            token_logprobs=[_known(token) for token in tokens],
            top_logprobs=[_top(token) for token in tokens] if top else None,
            text_offset=offsets,
        )


def _known(token: TokenLogprob) -> float | None:
    """Null for a prompt's first token, as OpenAI's."""
    return None if math.isnan(token.logprob) else token.logprob


def _top(token: TokenLogprob) -> dict[str, float] | None:
    if _known(token) is None:
        return None
    found: dict[str, float] = {}
    for best in token.top:  # of two tokens with one name, the likelier
        found.setdefault(_name(best), best.logprob)
    return found


def _name(token: TokenLogprob) -> str:
    # OpenAI's own way to name a token that is a part of a character.
    try:
        return token.data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.data)
