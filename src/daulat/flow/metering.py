"""How much: the most that an attempt can use, before it; what it has used, after it.

What an upstream reports is believed where it can be true. Where it reports nothing, or something that cannot
be, the house counts for itself and says so (`Usage.counted`): a stream is never booked as nothing.
Not here: prices (`values.money`), the books (`record.ledger`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from daulat.canon import canonical
from daulat.values.answer import Asked, CallPiece, Event, Heard, Metered, Piece, Usage
from daulat.values.money import FREE, Price
from daulat.values.plan import Offer
from daulat.values.request import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    Image,
    Message,
    ModerationRequest,
    Request,
    Tool,
)
from daulat.values.tokens import counted

MOST_TOKENS = 10_000_000
"""No answer has more."""
IMAGE_TOKENS = 20_000
"""No vendor counts more for one picture."""
_FRAME_TOKENS = 64
"""What a protocol and a chat template put around a message, at the most."""


@dataclass(frozen=True, slots=True)
class Bound:
    """The most that an attempt can use.

    Attributes:
        money: None where nobody said what it costs.
        told: the endpoint is told how long an answer may be, so none can be longer.
    """

    prompt_tokens: int
    completion_tokens: int
    money: int | None
    told: bool = True

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


def size(texts: Sequence[str]) -> int:
    """Bytes of some texts as UTF-8."""
    return sum(
        len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        for text in texts
    )


def bound(request: Request, offer: Offer | None, size: int) -> Bound:
    """Before an attempt.

    A token stands for at least one byte in every vocabulary that covers all texts, so a text never has more
    tokens than bytes.

    Args:
        offer: of an endpoint elsewhere; None: this machine, which costs no money.
        size: bytes of all of the request's texts.
    """
    prompt = size + _frames(request)
    completion = _answers(request) * _longest(request, offer)
    price = offer.price if offer else FREE
    money = price.bound(prompt, completion) if price else None
    generates = isinstance(request, ChatRequest | CompletionRequest)
    told = not generates or request.sampling.max_tokens is not None
    return Bound(prompt, completion, money, told)


def longest(request: ChatRequest | CompletionRequest, offer: Offer) -> int:
    """Tokens that one answer may have: what is asked for, or what the endpoint gives at the most."""
    asked = request.sampling.max_tokens
    return offer.max_output if asked is None else asked


def _longest(request: Request, offer: Offer | None) -> int:
    if not isinstance(request, ChatRequest | CompletionRequest):
        return 0
    return longest(request, offer or Offer("", ""))


def _answers(request: Request) -> int:
    if isinstance(request, CompletionRequest):
        return request.sampling.n * len(request.prompts)
    return request.sampling.n if isinstance(request, ChatRequest) else 0


def _frames(request: Request) -> int:
    match request:
        case ChatRequest():
            images = sum(isinstance(p, Image) for m in request.messages for p in m.parts)
            tools = len(request.tools.tools) if request.tools else 0
            return (len(request.messages) + tools + 2) * _FRAME_TOKENS + images * IMAGE_TOKENS
        case CompletionRequest():
            lists = [len(prompt) for prompt in request.prompts if not isinstance(prompt, str)]
            return sum(lists) + len(request.prompts) * _FRAME_TOKENS
        case EmbeddingRequest() | ModerationRequest():
            lists = [len(text) for text in request.inputs if not isinstance(text, str)]
            return sum(lists) + len(request.inputs) * _FRAME_TOKENS


NOTHING = Usage(0, 0)


class Meter:
    """What one attempt has used so far.

    Args:
        own: the answer is made by this machine, which tells each token as it comes.
    """

    def __init__(self, request: Request, limit: Bound, *, own: bool = False) -> None:
        self._asked = own
        self._in_one_piece = (
            not own and isinstance(request, ChatRequest | CompletionRequest) and not request.stream
        )
        self._request = request
        self._limit = limit
        self._metered: Usage | None = None
        self._text: list[str] = []
        self._most = limit.completion_tokens if limit.told else MOST_TOKENS

    def add(self, heard: Heard) -> None:
        """Take the next of what the endpoint says."""
        self._asked = True
        match heard:
            case Asked():
                pass
            case Metered():
                self._metered = heard.usage
            case Piece():
                self._text.append(heard.text)
            case CallPiece():
                self._text += [heard.name or "", heard.arguments]
            case _:
                pass

    @property
    def said(self) -> bool:
        """Whether a part of an answer has come."""
        return any(self._text)

    def reported(self, usage: Usage) -> Usage:
        """The usage of a whole answer as reported, if that can be true; else as counted."""
        return usage if self._believable(usage) else self.so_far()

    def so_far(self) -> Usage:
        """The usage of a stream that was cut, or of which nobody told: what was metered, else counted."""
        own = Usage(prompt_tokens(self._request), counted("".join(self._text)), counted=True)
        told = self._metered
        if told is None or not 0 < told.prompt_tokens <= self._limit.prompt_tokens:
            return own
        if not (_parts_fit(told) and 0 <= told.completion_tokens <= self._most):
            return own
        most = max(told.completion_tokens, own.completion_tokens)
        return replace(told, completion_tokens=most, counted=True)

    def cut(self) -> Usage:
        """The usage of an answer that did not come to its end.

        Nothing where the upstream was not asked yet. Of a stream, what was heard. An answer in one piece may
        have been made to its end, and billed, before it was lost: the most that it can have, so that no
        budget is overdrawn unseen.
        """
        if not self._asked:
            return NOTHING
        heard = self.so_far()
        if not self._in_one_piece or self.said or self._metered is not None:
            return heard
        return replace(heard, completion_tokens=self._limit.completion_tokens)

    def _believable(self, usage: Usage) -> bool:
        return (
            not usage.counted
            and 0 < usage.prompt_tokens <= self._limit.prompt_tokens
            and int(self.said) <= usage.completion_tokens <= self._most
            and _parts_fit(usage)
        )


def _parts_fit(usage: Usage) -> bool:
    return (
        usage.cached_tokens >= 0
        and usage.cache_write_tokens >= 0
        and usage.cached_tokens + usage.cache_write_tokens <= usage.prompt_tokens
        and 0 <= usage.reasoning_tokens <= usage.completion_tokens
    )


def prompt_tokens(request: Request) -> int:
    """The house's estimate of a prompt."""
    match request:
        case ChatRequest():
            tools = request.tools.tools if request.tools else ()
            own = sum(map(_message_tokens, request.messages)) + sum(map(_tool_tokens, tools))
            return own + counted(request.begun)
        case CompletionRequest():
            return sum(_text_tokens(prompt) for prompt in request.prompts)
        case EmbeddingRequest() | ModerationRequest():
            return sum(_text_tokens(text) for text in request.inputs)


def _message_tokens(message: Message) -> int:
    calls = sum(counted(call.name) + counted(call.arguments) for call in message.tool_calls)
    return counted(message.content) + calls


def _tool_tokens(tool: Tool) -> int:
    schema = counted(canonical(dict(tool.parameters)).decode()) if tool.parameters else 0
    return counted(tool.name) + counted(tool.description or "") + schema


def _text_tokens(text: str | tuple[int, ...]) -> int:
    return counted(text) if isinstance(text, str) else len(text)


def cost(price: Price | None, usage: Usage) -> int | None:
    """What a usage costs; None where nobody said what the model costs."""
    return price.cost(usage) if price else None


def content(event: Event) -> bool:
    """Whether a client that gets this event has got a part of the answer."""
    match event:
        case Piece():
            return bool(event.text)
        case CallPiece():
            return True
        case _:
            return False
