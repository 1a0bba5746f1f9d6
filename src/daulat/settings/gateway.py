"""The tables of the gateway: endpoints elsewhere, routes among them, the policy, money, projects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from daulat.settings.rules import money, numbers, pairs, scalar, tables, texts

KINDS = (
    "openai",
    "azure",
    "mistral",
    "compatible",
    "anthropic",
    "gemini",
    "vertex",
    "watsonx",
)
SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Prices:
    """What a model costs, per million tokens."""

    input: str = money("Per million tokens of a prompt.")
    output: str = money("Per million tokens of an answer.")
    cached: str = money(
        "Per million tokens of a prompt read from the vendor's cache; empty: as input."
    )
    cache_write: str = money("Per million tokens written to the vendor's cache; empty: as input.")
    request: str = money("For each request, whatever its length; empty: nothing.")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint elsewhere."""

    kind: Literal[
        "openai", "azure", "mistral", "compatible", "anthropic", "gemini", "vertex", "watsonx"
    ] = scalar("compatible", "Whose protocol and ways it has.", choices=KINDS)
    url: str = scalar(
        "", "Address up to the version, such as https://host/v1; empty: the vendor's own.", 0, 1024
    )
    key: str = scalar(
        "",
        "Where its key is: env:NAME, file:PATH, keyring:SERVICE/USER. Never the key itself. Empty: none.",
        0,
        1024,
    )
    place: str = scalar(
        "",
        "Where its data goes: this-machine, own-network, or a name that the policy uses, such as us.",
        0,
        64,
    )
    owner: Literal["open", "closed"] = scalar(
        "closed", "Whether its models are open or closed.", choices=("open", "closed")
    )
    enabled: bool = scalar(True, "false: it is not used.")
    models: tuple[str, ...] = texts("Its models that clients may ask for, by name.")
    names: Mapping[str, str] = pairs("Its own names for models that clients know by another.")
    prices: Mapping[str, Prices] = tables(
        Prices, "Prices by model; those not given are looked up in genai-prices."
    )
    capabilities: tuple[str, ...] = texts(
        "What it can do; empty: what endpoints of its kind can. docs/connect.md has the words.", 64
    )
    lacks: tuple[str, ...] = texts("What it cannot do although its kind can.", 64)
    may_train: bool = scalar(False, "Whether the vendor's terms allow training on its answers.")
    context: int = scalar(
        0, "Tokens that prompt and answer may have together; 0: unknown.", 0, 100_000_000
    )
    max_output: int = scalar(
        16_384, "Tokens that an answer has at most; budgets reckon with it.", 1, 10_000_000
    )
    project: str = scalar("", "Project: at Vertex AI, watsonx.ai and OpenAI.", 0, 256)
    space: str = scalar("", "Deployment space at watsonx.ai, in place of a project.", 0, 256)
    location: str = scalar("", "Region at Vertex AI and watsonx.ai, such as europe-west4.", 0, 64)
    version: str = scalar(
        "", "Version of its API, where that is asked for; empty: a known one.", 0, 64
    )
    token_url: str = scalar(
        "", "Where tokens are had for the key; empty: the vendor's own.", 0, 1024
    )
    headers: Mapping[str, str] = pairs("Headers that are sent with every request.", 32)
    connect_seconds: float = scalar(5.0, "Time to connect.", 0.01, SECONDS)
    first_seconds: float = scalar(60.0, "Time to the first token.", 0.01, SECONDS)
    between_seconds: float = scalar(30.0, "Time from token to token.", 0.01, SECONDS)
    total_seconds: float = scalar(600.0, "Time for a whole answer.", 0.01, SECONDS)
    retries: int = scalar(2, "How often it is asked again when it fails for the moment.", 0, 10)
    concurrency: int = scalar(2000, "Requests at once.", 1, 100_000)
    requests_per_minute: int = scalar(
        0, "Requests a minute that it takes; 0: no limit.", 0, 10_000_000
    )


@dataclass(frozen=True, slots=True)
class Route:
    """A name that clients ask for, and what answers."""

    to: tuple[str, ...] = texts("ENDPOINT/MODEL, in the order in which they are tried.", 32)
    weights: tuple[float, ...] = numbers(
        "How often each is the first, in proportion; empty: always in order.", 1_000_000, 32
    )
    hedge_seconds: float = scalar(
        0.0, "Begin the next beside one that has said nothing for so long; 0: never.", 0, 3600
    )


@dataclass(frozen=True, slots=True)
class DataClass:
    """Where texts of one class may go."""

    places: tuple[str, ...] = texts(
        'Places that they may reach as they are; "*" is every place of an endpoint.', 64
    )
    redacted: tuple[str, ...] = texts(
        "Places that they may reach when all that was found is replaced by placeholders.", 64
    )


@dataclass(frozen=True, slots=True)
class PatternTable:
    """An identifier of the user's own."""

    pattern: str = scalar("", "Regular expression (RE2).", 0, 4096)
    data_class: str = scalar("personal", "Class of a text that has it.", 1, 64)
    example: str = scalar(
        "", "A text that has it; `daulat policy check` looks for it there.", 0, 4096
    )


@dataclass(frozen=True, slots=True)
class Policy:
    """Which data may go where."""

    lock: bool = scalar(False, "true: nothing leaves this machine, whatever else is said.")
    default_class: str = scalar(
        "internal",
        "Class of a text in which nothing is found and for which nothing is declared.",
        1,
        64,
    )
    order: tuple[str, ...] = texts(
        "All classes, the least delicate first; empty: public, internal, personal, secret.", 32
    )
    detectors_off: tuple[str, ...] = texts("Detectors that are not asked.", 128)
    classes: Mapping[str, DataClass] = tables(
        DataClass, "Where each class may go; a class that is not here stays on this machine.", 32
    )
    patterns: Mapping[str, PatternTable] = tables(
        PatternTable, "Identifiers of your own, by name.", 256
    )


@dataclass(frozen=True, slots=True)
class Money:
    """The currency of prices and budgets, and a budget for everything together."""

    currency: str = scalar("USD", "Its three letters.", 3, 3)
    per_usd: str = money(
        "Units of it for one US dollar, for prices that are looked up; empty: it is the dollar."
    )
    per_day: str = money("The most for one day (UTC), all keys together; empty: no limit.")
    per_month: str = money("The most for one month (UTC), all keys together; empty: no limit.")


@dataclass(frozen=True, slots=True)
class Project:
    """What the keys of one project may use together."""

    data_class: str = scalar("", "What its texts are at least; empty: the default class.", 0, 64)
    money_per_day: str = money("The most for one day (UTC); empty: no limit.")
    money_per_month: str = money("The most for one month (UTC); empty: no limit.")
    tokens_per_day: int = scalar(0, "Tokens a day; 0: no limit.", 0, 10**15)
    tokens_per_month: int = scalar(0, "Tokens a month; 0: no limit.", 0, 10**15)
    requests_per_minute: int = scalar(0, "Requests a minute; 0: no limit.", 0, 10**9)
    tokens_per_minute: int = scalar(0, "Tokens a minute; 0: no limit.", 0, 10**12)
