"""What the requests have in common: their base, bounded types, and the fields of sampling."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from msgspec import UNSET, Meta, Struct, UnsetType

from daulat.errors import RequestError
from daulat.server.wire.fields import OPENAI, Tables
from daulat.values.answer import Timings, Usage
from daulat.values.plan import Step
from daulat.values.request import Sampling


class Incoming(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A JSON object from a client: nothing that is not named here is taken.

    Attributes:
        tables: what its dialect has and is not acted on.
    """

    tables: ClassVar[Tables] = OPENAI

    def hints(self) -> dict[str, Any]:
        """The harmless fields that were given, for endpoints that know them."""
        return {
            name: value
            for name in self.tables.hints
            if (value := getattr(self, name, None)) is not None
        }


class Outgoing(Struct, frozen=True, kw_only=True):
    """A JSON object for a client."""


Name = Annotated[str, Meta(min_length=1, max_length=256, description="A model's id.")]
Label = Annotated[str, Meta(max_length=512)]
TokenId = Annotated[int, Meta(ge=0, le=10_000_000)]
Count = Annotated[int, Meta(ge=1, le=10_000_000)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
StopText = Annotated[str, Meta(min_length=1, max_length=256)]
StopTexts = Annotated[list[StopText], Meta(max_length=16)]
Nothing = Annotated[list[Any], Meta(max_length=0)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
LogitBias = Annotated[
    dict[TokenId, Annotated[float, Meta(ge=-100, le=100)]],
    Meta(
        max_length=1024,
        description="Added to the logits of these tokens, by token id.",
        extra_json_schema={"propertyNames": {"pattern": "^(0|[1-9][0-9]{0,6})$"}},
    ),
]

Text = Annotated[str, Meta(min_length=1)]
Tokens = Annotated[list[TokenId], Meta(min_length=1)]
_TOKEN_ID: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": 10_000_000}
FOUR_SHAPES: dict[str, Any] = {
    "description": "One text, up to 256 texts, one list of token ids, or up to 256 of those.",
    "anyOf": [
        {"type": "string", "minLength": 1},
        {
            "type": "array",
            "items": {"type": "string", "minLength": 1},
            "minItems": 1,
            "maxItems": 256,
        },
        {"type": "array", "items": _TOKEN_ID, "minItems": 1},
        {
            "type": "array",
            "items": {
                "type": "array",
                "items": _TOKEN_ID,
                "minItems": 1,
            },
            "minItems": 1,
            "maxItems": 256,
        },
    ],
}
# One list type holds all three kinds of list (the decoder takes one list type per union); `texts`
# sorts them out, and the schema that clients see says what is really taken.
Texts = Text | Annotated[list[Text | TokenId | Tokens], Meta(min_length=1)]


class StreamOptions(Incoming, frozen=True, kw_only=True):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Generation(Incoming, frozen=True, kw_only=True):
    """Fields that chat and completions share."""

    model: Name
    max_tokens: Count | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    seed: Seed | None = None
    stop: StopText | StopTexts | None = None
    logit_bias: LogitBias | None = None
    n: Annotated[int, Meta(ge=1, le=16)] | None = None
    ignore_eos: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Label | None = None

    @property
    def wants_usage(self) -> bool:
        """Whether a stream shall end with a chunk of token counts."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def sampling(self, *, max_tokens: int | None, logprobs: int | None) -> Sampling:
        """The shared fields as a value; a field that is not given has OpenAI's default."""
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        given: dict[str, Any] = {
            name: value for name in _BY_NAME if (value := getattr(self, name)) is not None
        }
        return Sampling(
            max_tokens=max_tokens,
            stop=stop,
            logit_bias=dict(self.logit_bias or {}),
            logprobs=logprobs,
            **given,
        )


_BY_NAME = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "seed",
    "n",
    "ignore_eos",
)


def texts(
    value: str | list[str | int | list[int]], param: str
) -> tuple[str | tuple[int, ...], ...]:
    """The four shapes of a prompt or input as one: a tuple of texts and token sequences.

    Raises:
        RequestError: a list of several kinds, or of more than 256 texts.
    """
    if isinstance(value, str):
        return (value,)
    tokens = tuple(item for item in value if isinstance(item, int))
    if len(tokens) == len(value):
        return (tokens,)
    found = tuple(item for item in value if isinstance(item, str))
    lists = tuple(tuple(item) for item in value if isinstance(item, list))
    if len(value) not in (len(found), len(lists)):
        message = f"`{param}` mixes texts, token ids and lists of them: send one kind at a time."
        raise RequestError(message, param=param)
    if len(value) > 256:
        raise RequestError(f"`{param}` has {len(value)} items: send at most 256.", param=param)
    return found or lists


class PromptTokens(Outgoing, frozen=True, kw_only=True):
    """`cached_tokens`: computed before, for an earlier request of the same key."""

    cached_tokens: int


class CompletionTokens(Outgoing, frozen=True, kw_only=True):
    """`reasoning_tokens`: so many of the answer's were thoughts."""

    reasoning_tokens: int


class UsageBody(Outgoing, frozen=True, kw_only=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokens
    completion_tokens_details: CompletionTokens


class TimingsBody(Outgoing, frozen=True, kw_only=True):
    """Seconds; `tokens_per_second` is decode speed, null where there is no second token."""

    queued: float
    first_token: float
    decode: float
    tokens_per_second: float | None


class Origin(Outgoing, frozen=True, kw_only=True):
    """The extension object `daulat`: where an answer was computed, how fast, for how much, and its record id.

    `cost` has its currency, such as `0.0125 USD`; it is left out where nobody knows it.
    """

    record: str
    endpoint: str
    place: str
    timings: TimingsBody
    cost: str | UnsetType = UNSET


def usage_body(usage: Usage) -> UsageBody:
    return UsageBody(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.total_tokens,
        prompt_tokens_details=PromptTokens(cached_tokens=usage.cached_tokens),
        completion_tokens_details=CompletionTokens(reasoning_tokens=usage.reasoning_tokens),
    )


def origin(
    record: str, step: Step, usage: Usage, timings: Timings, cost: str | None = None
) -> Origin:
    """Times are rounded to the microsecond."""
    speed = timings.tokens_per_second(usage.completion_tokens)
    return Origin(
        record=record,
        endpoint=step.endpoint,
        place=step.place,
        timings=TimingsBody(
            queued=round(timings.queued, 6),
            first_token=round(timings.first_token, 6),
            decode=round(timings.decode, 6),
            tokens_per_second=None if speed is None else round(speed, 2),
        ),
        cost=UNSET if cost is None else cost,
    )
