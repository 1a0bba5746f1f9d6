"""Templates: a text with the names of columns in braces, `{question}`; `{{` and `}}` are braces.

    {options:letters}   a list as lettered lines, `A. first`
    {notes:lines}       a list as lines, `- first`
    {record:json}       any value as JSON

Names only: nothing is computed or looked up in a value. Not here: which template a task has (`columns`).
"""

from __future__ import annotations

import json
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast, get_args

from daulat.errors import DataError

Form = Literal["", "letters", "lines", "json"]

MAX_TEMPLATE: Final = 100_000
LETTERS: Final = string.ascii_uppercase


@dataclass(frozen=True, slots=True)
class Hole:
    """Where a column's value stands; `name` may be a path into objects, `answers.text`."""

    name: str
    form: Form


@dataclass(frozen=True, slots=True)
class Template:
    """Texts and holes in their order."""

    parts: tuple[str | Hole, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that it needs, each once."""
        return tuple(dict.fromkeys(p.name for p in self.parts if isinstance(p, Hole)))

    def fill(self, values: Mapping[str, Any], where: str) -> str:
        """The text of one row.

        Raises:
            DataError: a column is missing or holds what its form does not show.
        """
        return "".join(
            part if isinstance(part, str) else _shown(values, part, where) for part in self.parts
        )


def parse(text: str) -> Template:
    """A template out of its text.

    Raises:
        DataError: braces do not match, or stand around something that is no name.
    """
    if len(text) > MAX_TEMPLATE:
        raise DataError(f"A template has at most {MAX_TEMPLATE} characters; this has {len(text)}.")
    try:
        pieces = list(string.Formatter().parse(text))
    except ValueError as error:
        raise DataError(
            f"The template cannot be read: {error}. Write a column as {{name}}, and a brace as {{{{ or }}}}."
        ) from error
    parts: list[str | Hole] = []
    for literal, name, form, conversion in pieces:
        if literal:
            parts.append(literal)
        if name is None:
            continue
        if not name.strip() or conversion or (form or "") not in get_args(Form):
            raise DataError(
                f"The template has {{{name}}} with what it cannot do: write {{name}}, {{name:letters}}, "
                "{name:lines} or {name:json}."
            )
        parts.append(Hole(name.strip(), cast("Form", form or "")))
    return Template(tuple(parts))


def value_at(values: Mapping[str, Any], name: str) -> Any:
    """What a column holds; `a.b` is the value b in the object a, where no column has that very name.

    None where there is nothing.
    """
    if name in values:
        return values[name]
    at: Any = values
    for step in name.split("."):
        if not isinstance(at, Mapping):
            return None
        at = cast("Mapping[str, Any]", at).get(step)
    return at


def lettered(options: Sequence[Any]) -> str:
    """`A. first`, a line each."""
    return "\n".join(
        f"{letter}. {plain(one)}" for letter, one in zip(LETTERS, options, strict=False)
    )


def plain(value: Any) -> str:
    """A value as it stands in a text: numbers and truth values as JSON writes them."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _shown(values: Mapping[str, Any], hole: Hole, where: str) -> str:
    value = value_at(values, hole.name)
    if value is None:
        raise DataError(f"{where}: there is no value in the column {hole.name!r}.")
    if hole.form == "json":
        return json.dumps(value, ensure_ascii=False)
    if hole.form:
        return _listed(value, hole, where)
    if isinstance(value, list | dict):
        raise DataError(
            f"{where}: the column {hole.name!r} holds a list or an object. Write "
            f"{{{hole.name}:letters}}, {{{hole.name}:lines}} or {{{hole.name}:json}}."
        )
    return plain(value)


def _listed(value: Any, hole: Hole, where: str) -> str:
    told = options_of(value)
    if told is None:
        raise DataError(
            f"{where}: the column {hole.name!r} holds no list to be shown as {hole.form}."
        )
    if hole.form == "letters":
        if len(told) > len(LETTERS):
            raise DataError(
                f"{where}: the column {hole.name!r} has {len(told)} options; there are {len(LETTERS)} letters."
            )
        return lettered(told)
    return "\n".join(f"- {plain(one)}" for one in told)


def options_of(value: Any) -> list[Any] | None:
    """A list, or a text that is the JSON of one (as a cell of CSV holds it); None: it is none."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return cast("list[Any]", value) if isinstance(value, list) else None
