"""The fields that OpenAI's API has and that this server does not act on: two tables.

A field is *harmless* where an answer given without it is still a right answer; it is checked for
its form and then left alone. A field is *refused* where leaving it alone would give the client
something else than it asked for; only the value that asks for nothing is taken. `docs/api.md` shows
the same tables (a test compares them). Fields that OpenAI's API does not have are not here: they
are refused by name as unknown.
"""

from __future__ import annotations

from dataclasses import dataclass

CHAT = "chat"
COMPLETIONS = "completions"
EMBEDDINGS = "embeddings"


@dataclass(frozen=True, slots=True)
class Left:
    """A field that is not acted on.

    Attributes:
        apis: where it may stand.
        why: for the reader of the documentation.
        neutral: for a refused field: the values that ask for nothing, as JSON.
    """

    name: str
    apis: tuple[str, ...]
    why: str
    neutral: str = ""


HARMLESS: tuple[Left, ...] = (
    Left("store", (CHAT,), "Asks for a copy at OpenAI. The record keeps its own."),
    Left("metadata", (CHAT,), "Labels for OpenAI's stored copies."),
    Left("service_tier", (CHAT,), "Chooses a price class. There is one."),
    Left("safety_identifier", (CHAT,), "Names the end user to OpenAI's abuse watch."),
    Left("prompt_cache_key", (CHAT,), "A hint for OpenAI's cache. It changes no answer."),
    Left("prompt_cache_retention", (CHAT,), "A hint for OpenAI's cache. It changes no answer."),
    Left("prediction", (CHAT,), "A hint for speed. It changes no answer."),
    Left("reasoning_effort", (CHAT,), "A hint on how long to think; any answer satisfies it."),
    Left("verbosity", (CHAT,), "A hint on length; any answer satisfies it."),
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
    Left("dimensions", (EMBEDDINGS,), "Vectors have the model's own length.", "`null`"),
)

REFUSED_IN_MESSAGES: tuple[Left, ...] = (
    Left("function_call", (CHAT,), "The older form of `tool_calls`: use that.", "`null`"),
    Left("audio", (CHAT,), "Messages are text.", "`null`"),
    Left("refusal", (CHAT,), "Messages are text.", "`null`"),
    Left("annotations", (CHAT,), "Messages are text.", _EMPTY),
)

PARTS_REFUSED = frozenset({"image_url", "input_audio", "file", "refusal"})
"""Kinds of content that OpenAI's messages may have besides text."""

ROLES_REFUSED = frozenset({"function"})
