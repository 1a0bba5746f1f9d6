"""Patterns that a user writes: compiled once, matched in time linear in the text.

The engine is RE2 (Cox, "Regular Expression Matching in the Wild", 2010), which has no backtracking, so no
look-around and no back-references: https://github.com/google/re2/wiki/Syntax. Each single search is linear;
many matches that each look far ahead are not, so the whole of a text has a time limit too.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, cast

from daulat.errors import SettingsError
from daulat.guard.rules import Spot
from daulat.guard.views import View

LONGEST: Final = 1000
"""Characters of an expression."""
MEMORY: Final = 1 << 20
"""Bytes that RE2 may use for one pattern, which also bounds what a counted repeat may unfold to."""
TIME_LIMIT: Final = 1.0
"""Seconds for one pattern on one text."""
MATCH_LIMIT: Final = 10_000

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_CLASS = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_Find = Callable[[str], Iterator[tuple[int, int]]]


class LimitError(Exception):
    """A pattern took too long or matched too often; it must count as not run."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A detector of the user's: its name is the kind of what it finds. `pattern()` makes one."""

    kind: str
    expression: str
    data_class: str
    spans: _Find = field(repr=False, compare=False)

    def find(self, view: View) -> Iterator[Spot]:
        """Every match.

        Raises:
            LimitError: over `TIME_LIMIT` or `MATCH_LIMIT`.
        """
        deadline = time.monotonic() + TIME_LIMIT
        # RE2 takes UTF-8, which half a surrogate pair has no form in.
        text = _SURROGATE.sub("\ufffd", view.text)
        for count, (start, end) in enumerate(self.spans(text)):
            if count >= MATCH_LIMIT or time.monotonic() > deadline:
                raise LimitError
            if end > start:
                yield start, end, 1.0


def pattern(name: str, expression: str, data_class: str) -> Pattern:
    """Compile a user's pattern.

    Args:
        name: what it finds, also in placeholders: lower-case letters, digits and `_`, at most 40.
        expression: in RE2's syntax, at most `LONGEST` characters; `(?i)` in front ignores case.
        data_class: one of `findings.CLASSES` or of the policy's own.

    Raises:
        SettingsError: naming the pattern and what is wrong with it.
    """
    where = f'The pattern "{name[:60]}"'
    if not _NAME.fullmatch(name):
        raise SettingsError(f"{where} needs a name of a-z, 0-9 and _, at most 40, a letter first.")
    if not _CLASS.fullmatch(data_class):
        raise SettingsError(
            f"{where} needs a data class of a-z, 0-9, - and _, at most 40, such as personal."
        )
    if not 1 <= len(expression) <= LONGEST:
        raise SettingsError(f"{where} needs an expression of 1 to {LONGEST} characters.")
    spans, reason = _compiled(expression)
    if spans is None:
        raise SettingsError(
            f"{where} cannot be compiled: {reason}. It takes RE2's syntax, which has no look-around "
            "and no back-references; large repeats have to be made smaller."
        )
    if any(True for _ in spans("")):
        raise SettingsError(f"{where} matches the empty text; make it need at least one character.")
    return Pattern(name, expression, data_class, spans)


def _compiled(expression: str) -> tuple[_Find | None, str]:
    """Where an expression matches in a text, or why RE2 does not take it."""
    import re2  # noqa: PLC0415 - only for those who have patterns

    engine = cast("Any", re2)
    options = engine.Options()
    options.max_mem = MEMORY
    options.log_errors = False
    try:
        compiled = engine.compile(_encodable(expression), options=options)
    except engine.error as error:
        said = error.args[0] if error.args else "unknown reason"
        return None, said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)

    def spans(text: str) -> Iterator[tuple[int, int]]:
        for match in compiled.finditer(text):
            yield match.span()

    return spans, ""


def _encodable(expression: str) -> str:
    return _SURROGATE.sub("\ufffd", expression)
