"""Chat completions and completions, as OpenAI shows them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import msgspec

from daulat.errors import DaulatError, InternalError
from daulat.flow import Exchange
from daulat.server.errors import OPENAI
from daulat.server.shapes.base import Choice, Said, frame, frames, origin_of
from daulat.server.wire import chat, completions
from daulat.server.wire.common import Origin, Outgoing, UsageBody, usage_body
from daulat.server.wire.structure import CallDelta, FunctionCall, FunctionDelta, MadeCall
from daulat.values.answer import (
    CallPiece,
    Done,
    Finish,
    FinishReason,
    Piece,
    TokenLogprob,
)
from daulat.values.plan import Step
from daulat.values.request import ChatRequest, CompletionRequest, ToolCall

_DONE = b"data: [DONE]\n\n"


def _fingerprint(step: Step) -> str | None:
    """Of the weights: the model's, and the adapter's where there is one. None: they are elsewhere."""
    return _joined(step.model_digest, step.adapter_digest)


@lru_cache(maxsize=256)
def _joined(*digests: str) -> str | None:
    short = [digest.removeprefix("sha256:")[:12] for digest in digests if digest]
    return "_".join(["fp", *short]) if short else None


class _OpenAI:
    """What both say about an exchange.

    Args:
        counting: the stream ends with a chunk of usage.
    """

    def __init__(self, exchange: Exchange, choices: int, *, counting: bool) -> None:
        self.choices = choices
        self._exchange = exchange
        self._counting = counting
        self._no_usage: msgspec.UnsetType | None = None if counting else msgspec.UNSET
        # Held back until it is known whether it is the last one, which carries the origin.
        self._held: Finish | None = None

    def opening(self) -> bytes:
        return b""

    def event(self, event: Said) -> bytes:
        held = frame(self._finish(self._held)) if self._held else b""
        self._held = event if isinstance(event, Finish) else None
        return held if isinstance(event, Finish) else held + frame(self._piece(event))

    def closing(self, done: Done) -> bytes:
        origin = origin_of(self._exchange, done)
        parts: list[bytes] = []
        if self._held:
            last = msgspec.UNSET if self._counting else origin
            parts.append(frame(self._finish(self._held, last)))
        if self._counting:
            parts.append(frame(self._usage(usage_body(done.usage), origin)))
        return frames([*parts, _DONE])

    def failed(self, error: DaulatError) -> bytes:
        return b"data: " + OPENAI.body(error) + b"\n\n"

    def _piece(self, piece: Piece | CallPiece) -> Outgoing:
        raise NotImplementedError

    def _finish(
        self, finish: Finish, origin: Origin | msgspec.UnsetType = msgspec.UNSET
    ) -> Outgoing:
        raise NotImplementedError

    def _usage(self, usage: UsageBody, origin: Origin) -> Outgoing:
        raise NotImplementedError


class ChatShape(_OpenAI):
    """Chat completions."""

    def __init__(self, exchange: Exchange, request: ChatRequest, *, counting: bool) -> None:
        super().__init__(exchange, request.sampling.n, counting=counting)
        self._with_logprobs = request.sampling.logprobs is not None

    def opening(self) -> bytes:
        """Every choice begins with the role, as OpenAI's do."""
        role = chat.Delta(role="assistant", content="")
        return frames(
            frame(self._chunk([chat.ChatChunkChoice(index=i, delta=role)]))
            for i in range(self.choices)
        )

    def whole(self, choices: Sequence[Choice], done: Done) -> Outgoing:
        return chat.ChatCompletion(
            id=self._exchange.id,
            created=self._exchange.created,
            model=self._exchange.step.model_id,
            choices=[self._choice(index, choice) for index, choice in enumerate(choices)],
            usage=usage_body(done.usage),
            system_fingerprint=_fingerprint(self._exchange.step),
            daulat=origin_of(self._exchange, done),
        )

    def _piece(self, piece: Piece | CallPiece) -> Outgoing:
        choice = chat.ChatChunkChoice(
            index=piece.choice,
            delta=_delta(piece),
            logprobs=chat.chat_logprobs(piece.logprobs) if self._with_logprobs else None,
        )
        return self._chunk([choice])

    def _finish(
        self, finish: Finish, origin: Origin | msgspec.UnsetType = msgspec.UNSET
    ) -> Outgoing:
        choice = chat.ChatChunkChoice(
            index=finish.choice, delta=chat.Delta(), finish_reason=finish.reason
        )
        return self._chunk([choice], extension=origin)

    def _usage(self, usage: UsageBody, origin: Origin) -> Outgoing:
        return self._chunk([], usage=usage, extension=origin)

    def _choice(self, index: int, choice: Choice) -> chat.ChatChoice:
        return chat.ChatChoice(
            index=index,
            message=_message(choice),
            logprobs=chat.chat_logprobs(tuple(choice.logprobs)) if self._with_logprobs else None,
            finish_reason=choice.finish,
        )

    def _chunk(
        self,
        choices: list[chat.ChatChunkChoice],
        usage: UsageBody | None = None,
        extension: Origin | msgspec.UnsetType = msgspec.UNSET,
    ) -> Outgoing:
        step = self._exchange.step
        return chat.ChatCompletionChunk(
            id=self._exchange.id,
            created=self._exchange.created,
            model=step.model_id,
            choices=choices,
            system_fingerprint=_fingerprint(step),
            usage=usage or self._no_usage,
            daulat=extension,
        )


def _delta(piece: Piece | CallPiece) -> chat.Delta:
    if isinstance(piece, Piece):
        match piece.kind:
            case "text":
                return chat.Delta(content=piece.text)
            case "thought":
                return chat.Delta(reasoning_content=piece.text)
            case "refusal":
                return chat.Delta(refusal=piece.text)
    first = piece.id is not None
    function = FunctionDelta(name=piece.name, arguments=piece.arguments)
    call = CallDelta(
        index=piece.call, id=piece.id, type="function" if first else None, function=function
    )
    return chat.Delta(tool_calls=[call])


def _message(choice: Choice) -> chat.AssistantMessage:
    calls, refusal = [_made(call) for call in choice.calls], choice.said("refusal")
    text = choice.said("text")
    return chat.AssistantMessage(
        content=text or None if calls or refusal else text,
        refusal=refusal or None,
        reasoning_content=choice.said("thought") or msgspec.UNSET,
        tool_calls=calls or msgspec.UNSET,
    )


def _made(call: ToolCall) -> MadeCall:
    return MadeCall(id=call.id, function=FunctionCall(name=call.name, arguments=call.arguments))


class CompletionShape(_OpenAI):
    """Completions."""

    def __init__(self, exchange: Exchange, request: CompletionRequest, *, counting: bool) -> None:
        super().__init__(exchange, request.sampling.n * len(request.prompts), counting=counting)
        self._top = request.sampling.logprobs
        self._offsets = [completions.Offsets() for _ in range(self.choices)]

    def whole(self, choices: Sequence[Choice], done: Done) -> Outgoing:
        made = [
            self._choice(
                index,
                choice.said("text"),
                self._logprobs(index, tuple(choice.logprobs)),
                choice.finish,
            )
            for index, choice in enumerate(choices)
        ]
        usage, origin = usage_body(done.usage), origin_of(self._exchange, done)
        return self._completion(made, usage=usage, extension=origin)

    def _piece(self, piece: Piece | CallPiece) -> Outgoing:
        if isinstance(piece, CallPiece) or piece.kind != "text":
            raise InternalError("A completion is text alone.")
        logprobs = self._logprobs(piece.choice, piece.logprobs)
        return self._completion([self._choice(piece.choice, piece.text, logprobs, None)])

    def _finish(
        self, finish: Finish, origin: Origin | msgspec.UnsetType = msgspec.UNSET
    ) -> Outgoing:
        choice = self._choice(finish.choice, "", None, finish.reason)
        return self._completion([choice], extension=origin)

    def _usage(self, usage: UsageBody, origin: Origin) -> Outgoing:
        return self._completion([], usage=usage, extension=origin)

    def _logprobs(
        self, index: int, tokens: tuple[TokenLogprob, ...]
    ) -> completions.CompletionLogprobs | None:
        if self._top is None:
            return None
        return self._offsets[index].logprobs(tokens, self._top)

    def _choice(
        self,
        index: int,
        text: str,
        logprobs: completions.CompletionLogprobs | None,
        reason: FinishReason | None,
    ) -> completions.CompletionChoice:
        return completions.CompletionChoice(
            index=index, text=text, logprobs=logprobs, finish_reason=reason
        )

    def _completion(
        self,
        choices: list[completions.CompletionChoice],
        usage: UsageBody | None = None,
        extension: Origin | msgspec.UnsetType = msgspec.UNSET,
    ) -> Outgoing:
        step = self._exchange.step
        return completions.Completion(
            id=self._exchange.id,
            created=self._exchange.created,
            model=step.model_id,
            choices=choices,
            system_fingerprint=_fingerprint(step),
            usage=usage or self._no_usage,
            daulat=extension,
        )
