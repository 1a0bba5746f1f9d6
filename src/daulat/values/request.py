"""What a client asks for, in our own words and not in any wire format's.

Bounds are checked where a request enters (`server.wire`); these values are taken as already sound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "developer", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's wish to have a tool called; `arguments` is a JSON object as text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Image:
    """A picture in a message.

    Attributes:
        url: an https address, or a `data:` URL that holds the picture.
        detail: how closely to look, where the client says so.
        param: the request's field that has it, for error messages.
    """

    url: str
    detail: Literal["auto", "low", "high"] | None = None
    param: str = field(default="", compare=False)


Part = str | Image


@dataclass(frozen=True, slots=True)
class Message:
    """One turn.

    Attributes:
        content: its text, all of it.
        parts: text and pictures in their order, where there are pictures; else empty.
        tool_calls: what an assistant's turn called.
        tool_call_id: which of those calls a tool's turn answers.
    """

    role: Role
    content: str
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the client can call for the model; `parameters` is a JSON schema.

    Attributes:
        strict: whether an upstream shall hold the model to the schema; None: the client does not say.
    """

    name: str
    description: str | None = None
    parameters: Mapping[str, Any] | None = None
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class Toolbox:
    """The tools of a request, and how they may be used.

    Attributes:
        choice: `auto`: the model decides; `none`: text only; `required`: calls only.
        named: the one tool that must be called (`choice` is then `required`).
        parallel: one answer may have several calls.
    """

    tools: tuple[Tool, ...]
    choice: Literal["auto", "none", "required"] = "auto"
    named: str | None = None
    parallel: bool = True


@dataclass(frozen=True, slots=True)
class Structure:
    """The form that an answer must have.

    Attributes:
        source: a JSON schema, a regular expression, a grammar, or the texts to choose from.
        param: the request's field that says so, for error messages.
        name, strict: of a schema, for upstreams that want them. A `json` without a name and with the schema
            `{"type": "object"}` is any JSON object.
    """

    kind: Literal["json", "regex", "grammar", "choice"]
    source: Mapping[str, Any] | str | tuple[str, ...]
    param: str
    name: str = ""
    strict: bool | None = None


def prompt_of(messages: Sequence[Message]) -> str:
    """Messages as the one text by which routers know a prompt, when they are fitted and when they are asked."""
    return "\n\n".join(message.content for message in messages)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen. The defaults are those of OpenAI's API.

    Attributes:
        max_tokens: upper bound of the answer in tokens; None: what is left of the context; 0, only with
            `echo`: no answer.
        top_k: keep the k likeliest tokens; 0: all.
        min_p: keep tokens of at least `min_p` times the likeliest one's probability.
        repetition_penalty: > 1 makes tokens of prompt and answer less likely (CTRL, arXiv 1909.05858).
        logprobs: None: not wanted; 0: of the chosen token; k: also of the k likeliest.
        ignore_eos: go on to `max_tokens` (an extension, for benchmarks).
        n: how many answers.
        probe: hidden-state figures of each answer are wanted (`Finish.probe`); never a client's own wish.
    """

    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logit_bias: Mapping[int, float] = field(default_factory=dict[int, float])
    logprobs: int | None = None
    ignore_eos: bool = False
    n: int = 1
    probe: bool = False


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """Continue a conversation.

    Attributes:
        user: the client's own name for its end user, kept in the record.
        stream: the client wants the answer as it comes; else an endpoint may give it in one piece.
        hints: fields of OpenAI's API without which an answer is still a right one; endpoints that know them
            pass them on.
        begun: words with which the answer has begun already; an endpoint that is able to goes on from there,
            and its events do not repeat them.
        kept: what a dialect needs when the exchange is asked for again; the record has it among the request's
            contents, and no endpoint hears of it.
    """

    model: str
    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    user: str | None = None
    tools: Toolbox | None = None
    structure: Structure | None = None
    stream: bool = False
    hints: Mapping[str, Any] = field(default_factory=dict[str, Any])
    begun: str = ""
    kept: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """Continue texts (or token sequences) as they stand. Choice i*n+j is answer j to prompt i."""

    model: str
    prompts: tuple[str | tuple[int, ...], ...]
    sampling: Sampling = Sampling()
    echo: bool = False
    user: str | None = None
    structure: Structure | None = None
    stream: bool = False


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """Turn texts (or token sequences) into vectors. `dimensions`: of that length; None: the model's own."""

    model: str
    inputs: tuple[str | tuple[int, ...], ...]
    user: str | None = None
    dimensions: int | None = None


@dataclass(frozen=True, slots=True)
class ModerationRequest:
    """Judge texts, as an endpoint's own service for that does."""

    model: str
    inputs: tuple[str, ...]
    user: str | None = None


GenerationRequest = ChatRequest | CompletionRequest
Request = ChatRequest | CompletionRequest | EmbeddingRequest | ModerationRequest
