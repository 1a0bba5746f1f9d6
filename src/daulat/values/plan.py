"""Who asks, what may answer, and in which order."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from daulat.values.money import Price

Owner = Literal["open", "closed"]

THIS_MACHINE = "this-machine"
OWN_NETWORK = "own-network"
ANYWHERE = "*"

Capability = Literal[
    "chat",
    "completions",
    "embeddings",
    "moderations",
    "tools",
    "json",
    "json_schema",
    "grammar",
    "images",
    "logprobs",
    "n",
    "seed",
    "stop",
    "penalties",
    "logit_bias",
    "top_k",
    "min_p",
    "repetition_penalty",
    "ignore_eos",
    "echo",
    "tokens",
    "dimensions",
    "continue",
    "probe",
]
"""What an endpoint can do beyond plain text: each is a field (or a way) of a request that it honours.
`tokens`: prompts as token ids; `continue`: goes on with an answer that another endpoint began;
`probe`: tells figures of its hidden states, to the house alone."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that an account may use; None: no limit. Money in `values.money`'s amounts."""

    money_per_day: int | None = None
    money_per_month: int | None = None
    money_in_all: int | None = None
    tokens_per_day: int | None = None
    tokens_per_month: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None

    def any(self) -> bool:
        """Whether there is a limit at all."""
        return self != NO_LIMITS


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Caller:
    """A known key. `id` names it everywhere; the key itself is never kept.

    Attributes:
        models: what the key may ask for; empty: all. `base:adapter` is an adapter, `base:*` all of a base's.
        scopes: what it may do: `ask`, `metrics`, `admin`.
        project: whose budget it shares; empty: none's.
        data_class: what its texts are at least, whatever is found in them; empty: the policy's default.
        expires: seconds since 1970; None: never.
    """

    id: str
    name: str
    models: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ("ask", "metrics")
    project: str = ""
    data_class: str = ""
    limits: Limits = NO_LIMITS
    expires: float | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """One model of an endpoint.

    Attributes:
        model: as clients name it.
        upstream: as the endpoint names it.
        price: None: nobody said what it costs.
        context: tokens of prompt and answer together; None: unknown.
        max_output: tokens that an answer has at most, for budgets.
    """

    model: str
    upstream: str
    price: Price | None = None
    context: int | None = None
    max_output: int = 16_384


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an endpoint is waited for, in seconds, and how often it is asked again.

    Attributes:
        first, between: to the first token, and from token to token, of an answer that is streamed.
        total: for a whole answer.
        retries: after a failure that may pass.
    """

    first: float = math.inf
    between: float = math.inf
    total: float = math.inf
    retries: int = 0


@dataclass(frozen=True, slots=True)
class EndpointCard:
    """What is known of an endpoint without asking it.

    Attributes:
        place: where the data goes: `this-machine`, `own-network`, a country (`us`), or any name that the
            policy uses.
        offers: its models by the names that clients use; empty: whatever the catalogue has.
        may_train: whether its vendor's terms allow training on its answers.
    """

    name: str
    place: str
    owner: Owner
    offers: Mapping[str, Offer] = field(default_factory=dict[str, Offer])
    capabilities: frozenset[str] = frozenset()
    may_train: bool = False
    patience: Patience = Patience()


@dataclass(frozen=True, slots=True)
class Step:
    """One endpoint to try, with the model to ask it for and that model's digest.

    Attributes:
        model: as clients name it.
        model_digest: of its weights; empty where they are elsewhere.
        adapter, adapter_digest: what changes the model for this answer; empty: nothing.
        upstream: the endpoint's own name for the model; empty: the same.
        redacted: what was found in the text is replaced by placeholders before it is sent there.
    """

    endpoint: str
    place: str
    owner: Owner
    model: str
    model_digest: str
    adapter: str = ""
    adapter_digest: str = ""
    upstream: str = ""
    redacted: bool = False

    @property
    def model_id(self) -> str:
        """What the answer is of, as a request names it."""
        return f"{self.model}:{self.adapter}" if self.adapter else self.model

    @property
    def identity(self) -> str:
        """What a change of it shows by: digests of what is here, a vendor's own name of what is elsewhere."""
        own = self.model_digest or self.upstream or self.model
        return f"{self.endpoint}/{own}" + (f"+{self.adapter_digest}" if self.adapter else "")


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in order, and why: the first that answers is the answer.

    Attributes:
        hedge: seconds after which the next step is begun beside one that has said nothing yet; 0: never.
    """

    steps: tuple[Step, ...]
    reason: str
    hedge: float = 0.0
