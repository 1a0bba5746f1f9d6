"""The named faults: one table that says what the wire shows, and how a fault is chosen.

A fault is named in the model (`NAME+FAULT` or `NAME+FAULT@K`) or drawn from a script's table of
probabilities. Not here: how a fault changes the bytes (`program`) or the answer (`reply`).
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Final

MAX_COUNT: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Fault:
    """A row of the table.

    `stream` and `whole` say what the wire shows for a streamed answer and for one in a single body;
    `count` says what K means and `default` is K where the name gives none (None: there is no K).
    `billed` is what stands in the ledger.
    """

    name: str
    stream: str
    whole: str
    billed: str
    count: str = ""
    default: int | None = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """A fault and its K."""

    name: str
    k: int = 0

    def __str__(self) -> str:
        row = FAULTS[self.name]
        return self.name if row.default is None else f"{self.name}@{self.k}"


class UnknownFaultError(ValueError):
    """There is no such fault, or its K is not a number in bounds."""


_SAME = "the same"
_AS_IF = "nothing: an answer as usual"
_ALL = "the whole answer"
_NONE = "nothing"
_SO_FAR = "prompt and tokens sent so far; all of a whole answer"
_CHUNKS = "content chunks before it"
_TIMES = "times it fails, counted per request body"

_ROWS: Final = (
    Fault(
        "slow",
        "200 and headers; the first chunk comes `late` seconds late",
        "200 and headers; the body comes late",
        _ALL,
    ),
    Fault(
        "slow_second_chunk",
        "the chunk behind the first K comes `late` seconds late",
        "half of the body, a pause of `late` seconds, the rest",
        _ALL,
        _CHUNKS,
        1,
    ),
    Fault("headers_slow", "status line and headers come `late` seconds late", _SAME, _ALL),
    Fault("error_500", "status 500, the vendor's error", _SAME, _NONE),
    Fault("error_503", "status 503, the vendor's error", _SAME, _NONE),
    Fault("rate_limited", "status 429 and `retry-after: 1`, the vendor's error", _SAME, _NONE),
    Fault(
        "rate_limited_then_ok", "429 K times, then the answer", _SAME, "the answer alone", _TIMES, 1
    ),
    Fault(
        "error_500_then_ok", "500 K times, then the answer", _SAME, "the answer alone", _TIMES, 1
    ),
    Fault(
        "overloaded_529",
        "status 529 (Anthropic's; Google says 503), the vendor's error",
        _SAME,
        _NONE,
    ),
    Fault(
        "auth_expired",
        "status 401 once, the vendor's error; then the answer",
        _SAME,
        "the answer alone",
    ),
    Fault(
        "context_length", "status 400 as the vendor words a prompt that is too long", _SAME, _NONE
    ),
    Fault("redirect", "status 302 to `https://elsewhere.invalid/`", _SAME, _NONE),
    Fault("dies_before_headers", "the connection is closed, not one byte was sent", _SAME, _NONE),
    Fault(
        "dies_mid_stream",
        "the connection is closed inside the event behind K chunks, inside an HTTP chunk",
        "as dies_mid_body",
        _SO_FAR,
        _CHUNKS,
        1,
    ),
    Fault(
        "dies_mid_body",
        "as dies_mid_stream",
        "content-length promises all, half of the body comes, the connection is closed",
        _SO_FAR,
        _CHUNKS,
        1,
    ),
    Fault(
        "ends_without_done",
        "ends cleanly behind K chunks: no finish reason, no usage, no end mark",
        "the finish reason is null",
        _SO_FAR,
        _CHUNKS,
        1,
    ),
    Fault(
        "error_event_mid_stream",
        "status 200, K chunks, the vendor's error event, the end",
        "status 200 with the vendor's error as the body",
        "prompt and tokens sent so far; nothing for a whole answer",
        _CHUNKS,
        1,
    ),
    Fault(
        "garbage_json",
        "the event behind K chunks is JSON that breaks off; the rest follows",
        "JSON that breaks off, of the length promised",
        _ALL,
        _CHUNKS,
        1,
    ),
    Fault(
        "garbage_body",
        "status 200, `text/event-stream`, bytes that are no events",
        "status 200, `application/json`, bytes that are no JSON",
        _NONE,
    ),
    Fault("empty_body", "status 200 and no byte", _SAME, _NONE),
    Fault("wrong_content_type", "status 200, a page of HTML", _SAME, _NONE),
    Fault(
        "split_tool_name",
        "a tool's arguments, and its name on OpenAI and watsonx, in deltas of one character",
        _AS_IF,
        _ALL,
    ),
    Fault("split_bytes", "every byte is an HTTP chunk of its own", _SAME, _ALL),
    Fault(
        "truncated_utf8",
        "the event behind K chunks ends a character after two of its three bytes; the rest follows",
        "the body has such a broken character",
        _ALL,
        _CHUNKS,
        1,
    ),
    Fault(
        "never_ends",
        "content goes on, past any max_tokens, until the client closes",
        "the body goes on until the client closes",
        "prompt and tokens sent so far",
    ),
    Fault(
        "stalls",
        "nothing comes behind K chunks; the connection stays open",
        "half of the body, then nothing; the connection stays open",
        _SO_FAR,
        _CHUNKS,
        1,
    ),
    Fault(
        "wrong_usage",
        "usage is not what is billed: zero (K = 0), null (1), absurdly high (2), negative (3), half (4)",
        _SAME,
        "the truth",
        "which wrong usage",
        0,
    ),
    Fault("no_usage", "no usage, though it was asked for", "no usage", _ALL),
    Fault(
        "content_filter",
        "the vendor's filter ends the answer behind K chunks; K = 0 blocks the prompt on Azure, Gemini",
        _SAME,
        "prompt and tokens sent; nothing where Azure blocks",
        _CHUNKS,
        1,
    ),
    Fault("refusal", "the vendor's refusal in place of the answer", _SAME, "prompt and refusal"),
    Fault("empty_answer", "a proper answer without content", _SAME, "the prompt"),
    Fault(
        "bad_tool_arguments",
        "a tool's arguments are no JSON (objects, on Gemini, with a field that the schema lacks)",
        _SAME,
        _ALL,
    ),
    Fault(
        "huge_line",
        "one event of 50 MB behind K chunks; the rest follows",
        "50 MB of white space within the body",
        "the answer without it",
        _CHUNKS,
        1,
    ),
    Fault(
        "duplicate_done",
        "the end mark comes twice (the last event, where there is no mark)",
        _AS_IF,
        _ALL,
    ),
    Fault("keepalive_comments", "an SSE comment before every chunk", _AS_IF, _ALL),
    Fault("crlf", "lines end with CR LF", _AS_IF, _ALL),
)

FAULTS: Final = {row.name: row for row in _ROWS}


def chosen(words: str) -> Chosen:
    """The fault of `FAULT` or `FAULT@K`.

    Raises:
        UnknownFaultError: no such fault, no K for it, or K is not 0 ... 1,000,000.
    """
    name, at, count = words.partition("@")
    row = FAULTS.get(name)
    if row is None:
        near = difflib.get_close_matches(name, FAULTS, 1)
        hint = f"the nearest is `{near[0]}`" if near else "see docs/scripted.md"
        raise UnknownFaultError(f"There is no fault `{name[:64]}`: {hint}.")
    if not at:
        return Chosen(name, row.default or 0)
    if row.default is None:
        raise UnknownFaultError(f"The fault `{name}` takes no `@K`.")
    if not (count.isascii() and count.isdigit() and len(count) <= 7) or int(count) > MAX_COUNT:
        raise UnknownFaultError(f"`{name}@K` takes a whole number from 0 to {MAX_COUNT:,}.")
    return Chosen(name, int(count))


def named(model: str) -> tuple[str, Chosen | None]:
    """A model's name without its fault, and the fault; `command-r+` has none.

    Raises:
        UnknownFaultError: as `chosen`.
    """
    base, plus, words = model.rpartition("+")
    if not plus or not words:
        return model, None
    return base, chosen(words)
