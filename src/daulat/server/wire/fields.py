"""The fields that a dialect has and that this server does not act on: its tables.

A field is *harmless* where an answer given without it is still a right answer; it is checked for
its form and then passed on as a hint where an endpoint may know it, or left alone. A field is
*refused* where leaving it alone would give the client something else than it asked for; only the
value that asks for nothing is taken. `docs/api.md` shows the same tables (a test compares them).
Fields that a dialect does not have are not here: they are refused by name as unknown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

CHAT = "chat"
COMPLETIONS = "completions"
EMBEDDINGS = "embeddings"
MODERATIONS = "moderations"


@dataclass(frozen=True, slots=True)
class Left:
    """A field that is not acted on.

    Attributes:
        apis: where it may stand; empty: the dialect has one place.
        why: for the reader of the documentation.
        neutral: for a refused field: the values that ask for nothing, as JSON.
        hint: passed on to endpoints that know it.
    """

    name: str
    apis: tuple[str, ...]
    why: str
    neutral: str = ""
    hint: bool = False


@dataclass(frozen=True, slots=True)
class Kinds:
    """Objects of which only some kinds are taken.

    Attributes:
        where: a pattern of the object's path.
        tag: the field that says the kind.
        taken: the kinds that are.
        refused: the kinds that the dialect has besides; None: any other.
        what: them in words, as in: such things of the type `x` cannot be honoured.
        instead: what is taken.
    """

    where: re.Pattern[str]
    tag: str
    taken: frozenset[str]
    refused: frozenset[str] | None
    what: str
    instead: str


@dataclass(frozen=True, slots=True)
class Tables:
    """One dialect's fields and kinds that are not acted on.

    Attributes:
        inside: of messages and the like: refused fields by the pattern of the object's path.
    """

    harmless: tuple[Left, ...] = ()
    refused: tuple[Left, ...] = ()
    inside: tuple[tuple[re.Pattern[str], tuple[Left, ...]], ...] = ()
    kinds: tuple[Kinds, ...] = ()
    hints: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        hints = tuple(one.name for one in self.harmless if one.hint)
        object.__setattr__(self, "hints", hints)


HARMLESS: tuple[Left, ...] = (
    Left("store", (CHAT,), "Asks for a copy at OpenAI. The record keeps its own.", hint=True),
    Left("metadata", (CHAT,), "Labels for OpenAI's stored copies.", hint=True),
    Left("service_tier", (CHAT,), "Chooses OpenAI's price class.", hint=True),
    Left("safety_identifier", (CHAT,), "Names the end user. It stays in the record.", hint=True),
    Left(
        "prompt_cache_key", (CHAT,), "A hint for OpenAI's cache. It changes no answer.", hint=True
    ),
    Left(
        "prompt_cache_retention",
        (CHAT,),
        "A hint for OpenAI's cache. It changes no answer.",
        hint=True,
    ),
    Left("prediction", (CHAT,), "A hint for speed. It changes no answer.", hint=True),
    Left(
        "reasoning_effort",
        (CHAT,),
        "A hint on how long to think; any answer satisfies it.",
        hint=True,
    ),
    Left("verbosity", (CHAT,), "A hint on length; any answer satisfies it.", hint=True),
)

_EMPTY = "`null`, `[]`"
_NONE_OR_AUTO = '`null`, `"none"`, `"auto"`'

REFUSED: tuple[Left, ...] = (
    Left("functions", (CHAT,), "The older form of `tools`: use that.", _EMPTY),
    Left("function_call", (CHAT,), "The older form of `tool_choice`: use that.", _NONE_OR_AUTO),
    Left("modalities", (CHAT,), "Answers are text.", '`null`, `["text"]`'),
    Left("audio", (CHAT,), "Answers are text.", "`null`"),
    Left("web_search_options", (CHAT,), "Nothing is searched on the web.", "`null`"),
    Left("suffix", (COMPLETIONS,), "Text is not filled in before a suffix yet.", '`null`, `""`'),
    Left("best_of", (COMPLETIONS,), "Answers are not ranked.", "`null`, the value of `n`"),
)

REFUSED_IN_MESSAGES: tuple[Left, ...] = (
    Left("function_call", (CHAT,), "The older form of `tool_calls`: use that.", "`null`"),
    Left("audio", (CHAT,), "Messages are text and pictures.", "`null`"),
    Left("annotations", (CHAT,), "Messages are text and pictures.", _EMPTY),
)

OPENAI = Tables(
    HARMLESS,
    REFUSED,
    ((re.compile(r"messages\[\d+\]"), REFUSED_IN_MESSAGES),),
    (
        Kinds(
            re.compile(r"messages\[\d+\]\.content\[\d+\]"),
            "type",
            frozenset({"text", "image_url", "refusal"}),
            frozenset({"input_audio", "file"}),
            "content",
            "text and pictures are read",
        ),
        Kinds(
            re.compile(r"messages\[\d+\]"),
            "role",
            frozenset({"system", "developer", "user", "assistant", "tool"}),
            frozenset({"function"}),
            "messages",
            "use `tool`",
        ),
        Kinds(
            re.compile(r"input\[\d+\]"),
            "type",
            frozenset(),
            frozenset({"text", "image_url"}),
            "content",
            "texts are judged",
        ),
    ),
)
"""OpenAI's chat, completions, embeddings and moderations."""
