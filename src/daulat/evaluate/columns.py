"""Which column is what: what the user says, and sane guesses, shown, for the rest; and the examples by it.

Not here: files (`rows`), templates (`filling`), what is done with the examples (`adding`).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from daulat.errors import DataError
from daulat.evaluate import filling
from daulat.evaluate.examples import (
    MAX_EXAMPLES,
    MAX_FIELDS,
    MAX_LABEL,
    MAX_REFERENCES,
    MAX_TEXT,
    Chosen,
    Example,
    checked,
    messages_of,
)
from daulat.evaluate.rows import Row
from daulat.values.request import Message

NOTHING: Final = "-"
"""Said of a column: there is none, guess none."""
LOOKED_AT: Final = 50
"""Rows by which columns are guessed."""

_GUESSES: Final[Mapping[str, tuple[str, ...]]] = {
    "input": (
        *("messages", "prompt", "question", "input", "instruction", "query", "text"),
        *("sentence", "pertanyaan"),
    ),
    "reference": (
        *("reference", "references", "answer", "answers.text", "answers", "target", "label"),
        *("output", "expected", "gold", "solution", "completion", "response", "jawaban"),
    ),
    "id": ("id", "question_id", "task_id", "example_id", "uid", "key"),
    "category": ("category", "subject", "topic", "domain", "kategori"),
    "cluster": (
        *("cluster", "session", "session_id", "conversation_id", "document", "document_id"),
        *("doc_id", "group"),
    ),
    "language": ("language", "lang", "locale"),
}
OPTIONS: Final = ("options", "choices")
_CONTEXTS: Final = ("context", "passage", "article")
_CHOOSE: Final = "\n\n{%s:letters}\n\nEnd with: The answer is (X)."
_FEW: Final = 20
_SHORT: Final = 10
"""Words: what is shorter is an answer to be met word by word, what is longer is a text."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What is taken for what. Empty: to be guessed, or nothing.

    Attributes:
        input: the column with the prompt, or with a list of messages.
        template: what is asked in its place, of several columns.
        system: instructions ahead of every prompt.
        guessed: the names of these fields that nobody said.
    """

    input: str = ""
    template: str = ""
    system: str = ""
    reference: str = ""
    id: str = ""
    category: str = ""
    cluster: str = ""
    language: str = ""
    guessed: tuple[str, ...] = ()

    def told(self) -> dict[str, str]:
        """As JSON, what is empty left out."""
        named = ((f.name, getattr(self, f.name)) for f in dataclasses.fields(self))
        return {name: value for name, value in named if value and name != "guessed"}


def guess(rows: Sequence[Row], given: Columns) -> Columns:
    """The columns with what was not said filled in, as far as the names of columns tell.

    Args:
        rows: the first of the file.

    Raises:
        DataError: no column was named for the input, and none is known by its name.
    """
    there = list(dict.fromkeys(name for row in rows for name in row.values))
    found: dict[str, str] = {}
    for role, names in _GUESSES.items():
        said = getattr(given, role)
        if said == NOTHING:
            found[role] = ""
        elif not said and not (role == "input" and given.template):
            found[role] = _known(names, there, rows)
    if given.template:
        input_ = ""
    else:
        input_ = given.input or found["input"]
        if not input_:
            raise DataError(
                f"No column is known by its name to be what is asked. There are: {', '.join(there)[:500]}. "
                "Name it with --input, or write a --template."
            )
    template = given.template or _template(input_, there, rows)
    guessed = [role for role, name in found.items() if name]
    if template and not given.template:
        guessed.append("template")
    return dataclasses.replace(given, **found, template=template, guessed=tuple(guessed))


def _known(names: Iterable[str], there: Sequence[str], rows: Sequence[Row]) -> str:
    by_lower = {name.lower(): name for name in there}
    for name in names:
        if name in by_lower:
            return by_lower[name]
        if "." in name and any(filling.value_at(row.values, name) for row in rows):
            return name
    return ""


def _template(input_: str, there: Sequence[str], rows: Sequence[Row]) -> str:
    """Lettered options behind the question, a passage ahead of it; empty: the input as it stands."""
    if any(isinstance(filling.value_at(row.values, input_), list) for row in rows):
        return ""
    hole = "{" + input_ + "}"
    options = next((name for name in OPTIONS if name in there), "")
    if options and all(filling.options_of(row.values.get(options)) for row in rows):
        return hole + _CHOOSE % options
    if input_.lower() in ("instruction", "question"):
        more = next((name for name in _CONTEXTS if name in there), "")
        if more:
            return "{" + more + "}\n\n" + hole
    return ""


# --- examples -------------------------------------------------------------------------------------


class Maker:
    """Makes examples of rows.

    Args:
        data_class: of all of them; empty: none.

    Raises:
        DataError: the template cannot be read, or has no column in it.
    """

    def __init__(self, columns: Columns, data_class: str = "") -> None:
        self._columns = columns
        self._class = data_class
        self._template = filling.parse(columns.template) if columns.template else None
        if self._template is not None and not self._template.names:
            raise DataError(
                "The template names no column, so that every example would ask the same: write {name} where "
                "a column's text belongs."
            )

    def example(self, row: Row) -> Example:
        """Raises DataError: a value is missing, of another kind than it must be, or too long."""
        columns = self._columns
        return Example(
            id=self._label(row, columns.id) or str(row.place.line),
            messages=self._messages(row),
            references=self._references(row),
            category=self._label(row, columns.category),
            cluster=self._label(row, columns.cluster),
            language=self._label(row, columns.language),
            data_class=self._class,
            fields=self._fields(row),
        )

    def _messages(self, row: Row) -> tuple[Message, ...]:
        system = (Message("system", self._columns.system),) if self._columns.system else ()
        where = str(row.place)
        if self._template is not None:
            text = checked(self._template.fill(row.values, where), where, MAX_TEXT, empty=False)
            return (*system, Message("user", text))
        place = row.place.at(self._columns.input)
        value = filling.value_at(row.values, self._columns.input)
        told = _conversation(value)
        if told is not None:
            return (*system, *messages_of(told, str(place)))
        if value is None or isinstance(value, dict):
            raise DataError(f"{place}: there is no text.")
        text = checked(filling.plain(value), str(place), MAX_TEXT)
        if not text.strip():
            raise DataError(f"{place} is empty: take the row out, or fill it.")
        return (*system, Message("user", text))

    def _references(self, row: Row) -> tuple[str, ...]:
        name = self._columns.reference
        value = filling.value_at(row.values, name) if name else None
        if value is None or value == "":
            return ()
        many = cast("list[Any]", value) if isinstance(value, list) else [value]
        place = str(row.place.at(name))
        if len(many) > MAX_REFERENCES:
            raise DataError(f"{place} has {len(many)} references; {MAX_REFERENCES} are the most.")
        return tuple(dict.fromkeys(checked(filling.plain(one), place, MAX_TEXT) for one in many))

    def _label(self, row: Row, name: str) -> str:
        value = filling.value_at(row.values, name) if name else None
        if value is None:
            return ""
        place = str(row.place.at(name))
        return checked(filling.plain(value).strip(), place, MAX_LABEL)

    def _fields(self, row: Row) -> dict[str, Any]:
        """The columns that are nothing else: metrics may read them. What is empty is left out."""
        columns = self._columns
        taken = {columns.input, columns.reference, columns.id, columns.category}
        taken |= {columns.cluster, columns.language}
        rest = {n: v for n, v in row.values.items() if n not in taken and v not in (None, "")}
        if len(rest) > MAX_FIELDS:
            raise DataError(
                f"{row.place} has {len(rest)} further columns; {MAX_FIELDS} are kept: "
                "leave out those that no metric reads."
            )
        for name, value in rest.items():
            checked(filling.plain(value), str(row.place.at(name)), MAX_TEXT)
        return rest


def _conversation(value: Any) -> list[Any] | None:
    """A list of messages, as a value or as its JSON in a cell."""
    if isinstance(value, list):
        return cast("list[Any]", value)
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        told = filling.options_of(value)
        first = told[0] if told else None
        if isinstance(first, dict) and "role" in first:
            return told
    return None


def whole(examples: Iterable[Example], file: str) -> list[Example]:
    """All of a task's examples, checked together: unique ids, and what asks the same in one cluster.

    Raises:
        DataError: none, too many, or an id twice.
    """
    found: list[Example] = []
    ids: set[str] = set()
    first: dict[tuple[Message, ...], str] = {}
    for example in examples:
        if len(found) == MAX_EXAMPLES:
            raise DataError(f"{file} has more than {MAX_EXAMPLES} examples: add a part of them.")
        if example.id in ids:
            raise DataError(
                f"{file} has the id {example.id!r} twice: ids must be unique. `--id -` takes the numbers of "
                "lines in their place."
            )
        ids.add(example.id)
        cluster = example.cluster or first.setdefault(example.messages, example.id)
        found.append(dataclasses.replace(example, cluster=cluster))
    if not found:
        raise DataError(f"{file} has no examples.")
    return found


# --- the metric -----------------------------------------------------------------------------------


def guess_metric(examples: Sequence[Example]) -> Chosen:
    """The metric that fits the references, by their form; none where there are no references."""
    told = [one for example in examples for one in example.references[:1]]
    if not told:
        return Chosen()
    if all(_has_options(e) for e in examples) or all(_is_letter(one) for one in told):
        return Chosen("choice")
    if all(_is_number(one) for one in told):
        return Chosen("number")
    if all(_is_object(one) for one in told):
        return Chosen("json")
    lengths = sorted(len(one.split()) for one in told)
    if len(set(told)) <= max(_FEW, len(told) // 20) and lengths[-1] <= _SHORT:
        return Chosen("exact")
    return Chosen("f1" if lengths[len(lengths) // 2] <= _SHORT else "rouge-l")


def _has_options(example: Example) -> bool:
    return any(filling.options_of(example.fields.get(name)) for name in OPTIONS)


def _is_letter(text: str) -> bool:
    return len(text.strip()) == 1 and text.strip() in filling.LETTERS


def _is_number(text: str) -> bool:
    try:
        float(text.rsplit("####", 1)[-1].strip().replace(",", "").strip("$%"))
    except ValueError:
        return False
    return True


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
