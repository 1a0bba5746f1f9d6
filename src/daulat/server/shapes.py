"""An answer's events in OpenAI's two shapes, chat and completions: values in, wire types out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from daulat.errors import InternalError
from daulat.flow import Exchange
from daulat.server.wire import chat, completions
from daulat.server.wire.common import Origin, Outgoing, UsageBody, origin, usage_body
from daulat.server.wire.structure import CallDelta, FunctionCall, FunctionDelta, MadeCall
from daulat.values.answer import (
    CallPiece,
    CallPieces,
    Done,
    Finish,
    FinishReason,
    Piece,
    TokenLogprob,
)
from daulat.values.plan import Step
from daulat.values.request import ChatRequest, CompletionRequest, ToolCall


@dataclass(slots=True)
class Choice:
    """One whole choice, gathered from its pieces."""

    texts: list[str] = field(default_factory=list[str])
    logprobs: list[TokenLogprob] = field(default_factory=list[TokenLogprob])
    calls: CallPieces = field(default_factory=CallPieces)
    reason: FinishReason | None = None

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def finish(self) -> FinishReason:
        """Raises InternalError: the endpoint never said why it ended."""
        if self.reason is None:
            raise InternalError("The answer ended without its reason.")
        return self.reason


class Shape(Protocol):
    """How an exchange's answer looks. Chunks are made in the order of the events."""

    choices: int

    def opening(self) -> Sequence[Outgoing]: ...
    def piece(self, piece: Piece | CallPiece) -> Outgoing: ...
    def finish(self, finish: Finish, done: Done | None) -> Outgoing: ...
    def usage(self, done: Done) -> Outgoing: ...
    def whole(self, choices: Sequence[Choice], done: Done) -> Outgoing: ...


def _fingerprint(step: Step) -> str:
    """Of the weights: the model's, and the adapter's where there is one."""
    digests = (step.model_digest, step.adapter_digest)
    return "_".join(["fp", *(d.removeprefix("sha256:")[:12] for d in digests if d)])


class _Common:
    """What both shapes say about an exchange. `counting`: the stream ends with a chunk of usage."""

    def __init__(self, exchange: Exchange, choices: int, *, counting: bool) -> None:
        self.choices = choices
        self._exchange = exchange
        self._id = exchange.id
        self._created = exchange.created
        self._model = exchange.step.model_id
        self._fingerprint = _fingerprint(exchange.step)
        self._no_usage: msgspec.UnsetType | None = None if counting else msgspec.UNSET

    def _origin(self, done: Done) -> Origin:
        return origin(self._exchange.id, self._exchange.step, done.usage, done.timings)

    def _maybe_origin(self, done: Done | None) -> Origin | msgspec.UnsetType:
        return self._origin(done) if done else msgspec.UNSET


class ChatShape(_Common):
    """Chat completions."""

    def __init__(self, exchange: Exchange, request: ChatRequest, *, counting: bool) -> None:
        super().__init__(exchange, request.sampling.n, counting=counting)
        self._with_logprobs = request.sampling.logprobs is not None

    def opening(self) -> Sequence[Outgoing]:
        """Every choice begins with the role, as OpenAI's do."""
        return [
            self._chunk(
                [chat.ChatChunkChoice(index=i, delta=chat.Delta(role="assistant", content=""))]
            )
            for i in range(self.choices)
        ]

    def piece(self, piece: Piece | CallPiece) -> Outgoing:
        choice = chat.ChatChunkChoice(
            index=piece.choice,
            delta=_delta(piece),
            logprobs=chat.chat_logprobs(piece.logprobs) if self._with_logprobs else None,
        )
        return self._chunk([choice])

    def finish(self, finish: Finish, done: Done | None) -> Outgoing:
        choice = chat.ChatChunkChoice(
            index=finish.choice, delta=chat.Delta(), finish_reason=finish.reason
        )
        return self._chunk([choice], extension=self._maybe_origin(done))

    def usage(self, done: Done) -> Outgoing:
        return self._chunk([], usage=usage_body(done.usage), extension=self._origin(done))

    def whole(self, choices: Sequence[Choice], done: Done) -> Outgoing:
        return chat.ChatCompletion(
            id=self._id,
            created=self._created,
            model=self._model,
            choices=[self._choice(index, choice) for index, choice in enumerate(choices)],
            usage=usage_body(done.usage),
            system_fingerprint=self._fingerprint,
            daulat=self._origin(done),
        )

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
        return chat.ChatCompletionChunk(
            id=self._id,
            created=self._created,
            model=self._model,
            choices=choices,
            system_fingerprint=self._fingerprint,
            usage=usage or self._no_usage,
            daulat=extension,
        )


def _delta(piece: Piece | CallPiece) -> chat.Delta:
    if isinstance(piece, Piece):
        return chat.Delta(content=piece.text)
    first = piece.id is not None
    function = FunctionDelta(name=piece.name, arguments=piece.arguments)
    call = CallDelta(
        index=piece.call, id=piece.id, type="function" if first else None, function=function
    )
    return chat.Delta(tool_calls=[call])


def _message(choice: Choice) -> chat.AssistantMessage:
    calls = [_made(call) for call in choice.calls.whole()]
    content = choice.text
    if not calls:
        return chat.AssistantMessage(content=content)
    return chat.AssistantMessage(content=content or None, tool_calls=calls)


def _made(call: ToolCall) -> MadeCall:
    return MadeCall(id=call.id, function=FunctionCall(name=call.name, arguments=call.arguments))


class CompletionShape(_Common):
    """Completions."""

    def __init__(self, exchange: Exchange, request: CompletionRequest, *, counting: bool) -> None:
        super().__init__(exchange, request.sampling.n * len(request.prompts), counting=counting)
        self._top = request.sampling.logprobs
        self._offsets = [completions.Offsets() for _ in range(self.choices)]

    def opening(self) -> Sequence[Outgoing]:
        return ()

    def piece(self, piece: Piece | CallPiece) -> Outgoing:
        if isinstance(piece, CallPiece):
            raise InternalError("A completion cannot call tools.")
        logprobs = self._logprobs(piece.choice, piece.logprobs)
        return self._completion([self._choice(piece.choice, piece.text, logprobs, None)])

    def finish(self, finish: Finish, done: Done | None) -> Outgoing:
        choice = self._choice(finish.choice, "", None, finish.reason)
        return self._completion([choice], extension=self._maybe_origin(done))

    def usage(self, done: Done) -> Outgoing:
        return self._completion([], usage=usage_body(done.usage), extension=self._origin(done))

    def whole(self, choices: Sequence[Choice], done: Done) -> Outgoing:
        made = [
            self._choice(
                index, choice.text, self._logprobs(index, tuple(choice.logprobs)), choice.finish
            )
            for index, choice in enumerate(choices)
        ]
        return self._completion(made, usage=usage_body(done.usage), extension=self._origin(done))

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
        return completions.Completion(
            id=self._id,
            created=self._created,
            model=self._model,
            choices=choices,
            system_fingerprint=self._fingerprint,
            usage=usage or self._no_usage,
            daulat=extension,
        )
