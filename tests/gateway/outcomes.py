"""What becomes of every named fault, as data. Run as a program, it prints the table of docs/failures.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from daulat.endpoints.scripted import FAULTS
from daulat.errors import (
    UpstreamAccessError,
    UpstreamAnswerError,
    UpstreamBusyError,
    UpstreamError,
    UpstreamRequestError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)

Error = type[UpstreamError] | None
Way = Literal["before", "after", "whole"]
"""A stream with the fault before the first token, or after it; an answer in one piece."""
Setup = Literal["alone", "fallback", "continuing"]

BEFORE, AFTER = 0, 4
"""Content chunks before the fault."""
RETRIES = 1


@dataclass(frozen=True, slots=True)
class Row:
    """The error that ends the answer where the endpoint stands alone; None: it is whole.

    `after` is not asked for where `late` is false: the fault shows before the first token or never.
    `passes`: that error comes once, and the next try is answered.
    """

    before: Error = None
    after: Error = None
    whole: Error = None
    late: bool = False
    early: bool = True
    passes: Error = None


def _early(error: Error) -> Row:
    return Row(error, None, error)


def _anywhere(error: Error) -> Row:
    return Row(error, error, error, late=True)


DOWN, BUSY, LATE, BAD = (
    UpstreamUnavailableError,
    UpstreamBusyError,
    UpstreamTimeoutError,
    UpstreamAnswerError,
)

OUTCOMES: dict[str, Row] = {
    "slow": _early(LATE),
    "slow_second_chunk": _anywhere(LATE),
    "headers_slow": _early(LATE),
    "error_500": _early(DOWN),
    "error_503": _early(DOWN),
    "rate_limited": _early(BUSY),
    "rate_limited_then_ok": Row(passes=BUSY),
    "error_500_then_ok": Row(passes=DOWN),
    "overloaded_529": _early(BUSY),
    "auth_expired": _early(UpstreamAccessError),
    "context_length": _early(UpstreamRequestError),
    "redirect": _early(BAD),
    "dies_before_headers": _early(DOWN),
    "dies_mid_stream": _anywhere(DOWN),
    "dies_mid_body": _anywhere(DOWN),
    "ends_without_done": _anywhere(BAD),
    "error_event_mid_stream": _anywhere(DOWN),
    "garbage_json": _anywhere(BAD),
    "garbage_body": _early(BAD),
    "empty_body": _early(BAD),
    "wrong_content_type": _early(BAD),
    "split_tool_name": Row(),
    "split_bytes": Row(),
    "truncated_utf8": _anywhere(BAD),
    "never_ends": Row(None, LATE, LATE, late=True, early=False),
    "stalls": _anywhere(LATE),
    "wrong_usage": Row(),
    "no_usage": Row(),
    "content_filter": Row(late=True),
    "refusal": Row(),
    "empty_answer": Row(),
    "bad_tool_arguments": Row(),
    "huge_line": Row(BAD, BAD, None, late=True),
    "duplicate_done": Row(),
    "keepalive_comments": Row(),
    "crlf": Row(),
}

VENDORS: dict[str, dict[str, Row]] = {
    kind: {
        name: OUTCOMES[name]
        for name in (
            "dies_mid_stream",
            "ends_without_done",
            "error_event_mid_stream",
            "stalls",
            "garbage_json",
            "split_bytes",
        )
    }
    for kind in ("anthropic", "gemini", "watsonx")
}
# Anthropic's event says `overloaded_error`; its error in place of a whole answer has no status to tell by.
VENDORS["anthropic"]["error_event_mid_stream"] = Row(BUSY, BUSY, BAD, late=True)


@dataclass(frozen=True, slots=True)
class Case:
    """One cell."""

    fault: str
    way: Way
    setup: Setup
    kind: str = "openai"

    @property
    def row(self) -> Row:
        return OUTCOMES[self.fault] if self.kind == "openai" else VENDORS[self.kind][self.fault]

    @property
    def id(self) -> str:
        return f"{self.kind}-{self.fault}-{self.way}-{self.setup}"

    @property
    def stream(self) -> bool:
        return self.way != "whole"

    @property
    def error(self) -> Error:
        """Of the first endpoint."""
        return getattr(self.row, self.way)

    @property
    def model(self) -> str:
        counted = FAULTS[self.fault].count.startswith("content chunks")
        k = BEFORE if self.way == "before" else AFTER
        return f"scripted+{self.fault}" + (f"@{k}" if counted else "")

    @property
    def outcome(self) -> Literal["answered", "error", "other", "continued"]:
        """What the client gets: the first endpoint's answer, an error, another's answer, or one begun
        by the first and ended by the other."""
        if self.error is None:
            return "answered"
        if self.way != "after":
            return "error" if self.setup == "alone" else "other"
        return "continued" if self.setup == "continuing" else "error"

    @property
    def attempts(self) -> list[str | None]:
        """The error codes of the attempts in the record; None: answered."""
        if self.row.passes:
            return [self.row.passes.code, None]
        if self.error is None:
            return [None]
        tries = 1 + RETRIES if self.error.again and self.way != "after" else 1
        last = [] if self.outcome == "error" else [None]
        return [*[self.error.code] * tries, *last]


def cases() -> list[Case]:
    every = [("openai", OUTCOMES), *VENDORS.items()]
    ways: tuple[Way, ...] = ("before", "after", "whole")
    setups: tuple[Setup, ...] = ("alone", "fallback", "continuing")
    return [
        Case(fault, way, setup, kind)
        for kind, rows in every
        for fault, row in rows.items()
        for way in ways
        if (way != "after" or row.late) and (way != "before" or row.early)
        for setup in setups
        if kind == "openai" or setup != "fallback"
    ]


def table() -> str:
    """For docs/failures.md."""
    lines = [
        "| Fault | Stream, before the first token | Stream, after it | In one piece |",
        "|---|---|---|---|",
    ]
    for name, row in OUTCOMES.items():
        before = _words(row, row.before) if row.early else "-"
        after = _words(row, row.after) if row.late else "-"
        lines.append(f"| `{name}` | {before} | {after} | {_words(row, row.whole)} |")
    return "\n".join(lines)


def _words(row: Row, error: Error) -> str:
    if row.passes:
        return "answered at the second try"
    return "answered" if error is None else f"{error.status} `{error.code}`"


if __name__ == "__main__":
    print(table())
