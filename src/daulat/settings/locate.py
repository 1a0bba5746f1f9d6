"""On which line of a TOML text each key stands; tomllib does not say.

Only called for a text that tomllib has accepted, so it need not check anything: it walks the characters,
skips strings, comments and nested values, and notes where keys begin.
"""

from __future__ import annotations

import re
import tomllib

Path = tuple[str, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SPACE = re.compile(r"[ \t]*")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'', re.DOTALL
)
_COMMENT = re.compile(r"#[^\n]*")


def locate(text: str) -> dict[Path, int]:
    """Each table's and key's path, with its (first) line, counted from 1.

    Keys inside inline tables and arrays are not located: no setting lies there.
    """
    lines: dict[Path, int] = {}
    table: Path = ()
    at = 0
    while at < len(text):
        at = _skip(text, at)
        if at >= len(text):
            break
        line = text.count("\n", 0, at) + 1
        if text[at] == "[":
            start = at + (2 if text.startswith("[[", at) else 1)
            table, at = _key(text, start)
            _note(lines, table, line)
            at = text.find("\n", at)
            at = len(text) if at < 0 else at
        else:
            path, at = _key(text, at)
            _note(lines, table + path, line)
            at = _value(text, at + 1)
    return lines


def _note(lines: dict[Path, int], path: Path, line: int) -> None:
    for end in range(1, len(path) + 1):
        lines.setdefault(path[:end], line)


def _skip(text: str, at: int) -> int:
    """Past white space, line ends and comments."""
    while at < len(text):
        if text[at] in " \t\r\n":
            at += 1
        elif match := _COMMENT.match(text, at):
            at = match.end()
        else:
            break
    return at


def _key(text: str, at: int) -> tuple[Path, int]:
    """A dotted key; the position is behind it, at `=` or `]`."""
    parts: list[str] = []
    while True:
        at = _end(_SPACE, text, at)
        if text[at] in "\"'":
            end = _end(_STRING, text, at)
            parts.append(tomllib.loads(f"x={text[at:end]}")["x"])
        else:
            end = _end(_BARE, text, at)
            parts.append(text[at:end])
        at = _end(_SPACE, text, end)
        if text[at] != ".":
            return tuple(parts), at
        at += 1


def _value(text: str, at: int) -> int:
    """Past a value: to the line end at which no bracket is open."""
    depth = 0
    while at < len(text):
        if match := _STRING.match(text, at) or _COMMENT.match(text, at):
            at = match.end()
            continue
        depth += (text[at] in "[{") - (text[at] in "]}")
        if text[at] == "\n" and depth == 0:
            break
        at += 1
    return at


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at
