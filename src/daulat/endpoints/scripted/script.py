"""The script: what the upstream answers, how fast, what goes wrong, whom it lets in.

A value, checked when it is made. Not here: the faults (`faults`), how an answer becomes bytes (`wires`).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from daulat.endpoints.scripted.faults import Chosen
from daulat.errors import SettingsError
from daulat.values.tokens import BYTES_PER_TOKEN

MAX_WORDS: Final = 1_000_000
MAX_SECONDS: Final = 3600.0
_MAX_LINES: Final = 100_000

# Three letters and a space are four bytes: one token by the house's rule.
_WORD_LIST: Final = (
    "air api the sea new red ice oak map way sun sky day ten big far ibu dua mau ada"
)
_WORDS: Final = tuple(_WORD_LIST.split())


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool; `arguments` is JSON text."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: a text, calls of tools, or both."""

    text: str = ""
    calls: tuple[Call, ...] = ()


@dataclass(frozen=True, slots=True)
class Delays:
    """Seconds: before the first token, between tokens, and what the slow faults add."""

    first: float = 0.0
    between: float = 0.0
    late: float = 2.0

    def __post_init__(self) -> None:
        for name in ("first", "between", "late"):
            if not 0.0 <= getattr(self, name) <= MAX_SECONDS:
                raise SettingsError(f"The delay `{name}` takes 0 to 3600 seconds.", param=name)


@dataclass(frozen=True, slots=True)
class Chance:
    """A fault that befalls a request with that probability."""

    fault: Chosen
    probability: float


@dataclass(frozen=True, slots=True)
class Access:
    """Who is let in.

    `keys` empty: any key that is not empty. Vertex AI and watsonx.ai take bearer tokens that the token
    endpoints here issued and that have not run out, and those among `keys`. A service account's
    assertion must come from `google_issuer` where that is given, and its signature is checked where
    there is a `google_public_key` (PEM).
    """

    keys: frozenset[str] = frozenset()
    token_seconds: float = 3600.0
    google_issuer: str | None = None
    google_public_key: str | None = None


@dataclass(frozen=True, slots=True)
class Script:
    """What to answer.

    Args:
        answers: given in turn, over and over; none: `words`, and without them the last message of the
            user comes back.
        words: so many words of one token each.
        calls: how many tools a request with tools gets called; 0: only where it must be one.
        chances: faults by probability, drawn with `seed` in the order of arrival; their sum is at
            most 1. A fault in the model's name comes before them.
        cached_tokens, cache_written_tokens: of each prompt, at most the prompt.
        reasoning_tokens: thought before each answer, within its limit of tokens.
        context: prompts of more tokens are refused as the vendor does.
        dimensions: of a vector, where the request does not say.
        kept: how many requests and ledger entries are kept; totals count all.

    Raises:
        SettingsError: a number out of bounds.
    """

    answers: tuple[Answer, ...] = ()
    words: int | None = None
    calls: int = 1
    delays: Delays = field(default_factory=Delays)
    chances: tuple[Chance, ...] = ()
    seed: int = 0
    cached_tokens: int = 0
    cache_written_tokens: int = 0
    reasoning_tokens: int = 0
    context: int = 1_000_000
    dimensions: int = 64
    access: Access = field(default_factory=Access)
    kept: int = 100_000

    def __post_init__(self) -> None:
        for name, (least, most) in _BOUNDS.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise SettingsError(f"`{name}` takes {least:,} to {most:,}.", param=name)
        shares = [chance.probability for chance in self.chances]
        if any(share < 0 for share in shares) or sum(shares) > 1 + 1e-9:
            raise SettingsError("Probabilities of faults are 0 to 1, all together too.")


_BOUNDS: Final = {
    "words": (0, MAX_WORDS),
    "calls": (0, 128),
    "cached_tokens": (0, 1_000_000_000),
    "cache_written_tokens": (0, 1_000_000_000),
    "reasoning_tokens": (0, 1_000_000_000),
    "context": (1, 1_000_000_000),
    "dimensions": (1, 4096),
    "kept": (0, 10_000_000),
}


@functools.lru_cache(maxsize=64)
def words(count: int) -> str:
    """`count` words that are one token each: 4 bytes with their space."""
    return "".join(f"{_WORDS[index * 7 % len(_WORDS)]} " for index in range(count))


@functools.lru_cache(maxsize=256)
def pieces(text: str) -> tuple[str, ...]:
    """The text in pieces of one token, 4 bytes, and never less than a character."""
    if text.isascii():
        return tuple(text[at : at + BYTES_PER_TOKEN] for at in range(0, len(text), BYTES_PER_TOKEN))
    found: list[str] = []
    piece, size = "", 0
    for character in text:
        width = len(character.encode("utf-8", "surrogatepass"))
        if piece and size + width > BYTES_PER_TOKEN:
            found.append(piece)
            piece, size = "", 0
        piece, size = piece + character, size + width
    return (*found, piece) if piece else tuple(found)


class _RecordedCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    arguments: str


class _Recorded(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    text: str = ""
    tool_calls: tuple[_RecordedCall, ...] = ()


def recorded(path: Path) -> tuple[Answer, ...]:
    """The answers of a file: a JSON object a line, `{"text": …, "tool_calls": [{name, arguments}]}`.

    Raises:
        SettingsError: it cannot be read, a line is no such object, or there are none or over 100,000.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise SettingsError(f"The answers cannot be read: {error.strerror}.") from error
    found = [_answer(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not 1 <= len(found) <= _MAX_LINES:
        raise SettingsError(f"A file of answers has 1 to {_MAX_LINES:,} lines.")
    return tuple(found)


def _answer(number: int, line: bytes) -> Answer:
    try:
        told = msgspec.json.decode(line, type=_Recorded)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"Line {number} of the answers: {error}.") from error
    return Answer(told.text, tuple(Call(one.name, one.arguments) for one in told.tool_calls))
