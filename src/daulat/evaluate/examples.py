"""Examples, and the task that they make: what is asked, what is right, and how that is told.

Values, and their one form as JSON. Not here: where examples come from (`adding`), where tasks are kept
(`tasks`), what a metric does (`metrics`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast, get_args

from daulat.errors import DataError
from daulat.values.request import Message, Role, prompt_of

MAX_EXAMPLES: Final = 200_000
MAX_TEXT: Final = 1_000_000
"""Characters of one message, of one reference, and of one further column."""
MAX_MESSAGES: Final = 1_000
MAX_REFERENCES: Final = 1_000
MAX_LABEL: Final = 200
"""Characters of an id, a category, a cluster, a language, a class."""
MAX_FIELDS: Final = 64
FORMAT: Final = 1

_ROLES: Final[tuple[str, ...]] = get_args(Role)
_LABELS: Final = ("category", "cluster", "language", "data_class")


@dataclass(frozen=True, slots=True)
class Example:
    """One thing to ask.

    Attributes:
        references: answers that are right; several where any of them is. Empty: nobody said.
        category, language: for slices; empty: none.
        cluster: the document or session that it is of: examples of one cluster are not independent.
        data_class: the class of its texts, as policies name them; empty: the policy's default.
        fields: further columns that a metric reads: tests, options, a schema.
    """

    id: str
    messages: tuple[Message, ...]
    references: tuple[str, ...] = ()
    category: str = ""
    cluster: str = ""
    language: str = ""
    data_class: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def prompt(self) -> str:
        """What is asked as one text: the contents of all its messages, with an empty line between them."""
        return prompt_of(self.messages)


@dataclass(frozen=True, slots=True)
class Chosen:
    """A metric with its options, as a task keeps it. No name: answers are not judged."""

    name: str = ""
    options: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Task:
    """Examples and a metric.

    Attributes:
        created: ISO 8601, UTC.
        source: where the examples are from: a file with its digest, or the record with what was looked for.
        columns: which column (or text) was taken for what.
        digest: of the file of examples (SHA-256).
        imported: endpoints whose answers and scores came with the file.
    """

    name: str
    created: str
    source: Mapping[str, Any]
    columns: Mapping[str, Any]
    metric: Chosen
    examples: int
    digest: str
    imported: tuple[str, ...] = ()


# --- as JSON --------------------------------------------------------------------------------------


def example_json(example: Example) -> dict[str, Any]:
    """What is empty is left out."""
    told: dict[str, Any] = {
        "id": example.id,
        "messages": [{"role": m.role, "content": m.content} for m in example.messages],
        "references": list(example.references),
        **{name: getattr(example, name) for name in _LABELS},
        "fields": dict(example.fields),
    }
    return {name: value for name, value in told.items() if value}


def example_of(told: Any, where: str) -> Example:
    """The example that `example_json` wrote.

    Raises:
        DataError: it is none, or out of bounds; the message begins with `where`.
    """
    row = _object(told, where)
    references = row.get("references", [])
    if not isinstance(references, list):
        raise DataError(f"{where}: `references` is not a list.")
    return Example(
        id=checked(row.get("id"), f"{where}: `id`", MAX_LABEL, empty=False),
        messages=messages_of(row.get("messages"), f"{where}: `messages`"),
        references=tuple(
            checked(one, f"{where}: `references`", MAX_TEXT)
            for one in cast("list[Any]", references)[: MAX_REFERENCES + 1]
        ),
        **{name: checked(row.get(name, ""), f"{where}: `{name}`", MAX_LABEL) for name in _LABELS},
        fields=_object(row.get("fields", {}), f"{where}: `fields`"),
    )


def messages_of(told: Any, where: str) -> tuple[Message, ...]:
    """A conversation that somebody can answer: texts of known roles, the last one not the assistant's.

    Raises:
        DataError: it is none, or out of bounds.
    """
    if not isinstance(told, list) or not 1 <= len(cast("list[Any]", told)) <= MAX_MESSAGES:
        raise DataError(f"{where} is not a list of 1 to {MAX_MESSAGES} messages.")
    found: list[Message] = []
    for number, one in enumerate(cast("list[Any]", told)):
        place = f"{where}[{number}]"
        row = _object(one, place)
        role = row.get("role")
        if role not in _ROLES:
            raise DataError(
                f"{place} has the role {str(role)[:40]!r}: use system, user or assistant."
            )
        content = checked(row.get("content"), f"{place}: `content`", MAX_TEXT)
        found.append(Message(cast("Role", role), content))
    if found[-1].role == "assistant":
        raise DataError(f"{where} ends with the assistant's turn: there is nothing to answer.")
    return tuple(found)


def task_json(task: Task) -> dict[str, Any]:
    """What `task.json` holds."""
    return {
        "format": FORMAT,
        "name": task.name,
        "created": task.created,
        "source": dict(task.source),
        "columns": dict(task.columns),
        "metric": {"name": task.metric.name, "options": dict(task.metric.options)},
        "examples": task.examples,
        "digest": task.digest,
        "imported": list(task.imported),
    }


def task_of(told: Any, where: str) -> Task:
    """The task that `task_json` wrote.

    Raises:
        DataError: it is none, or of another version's form.
    """
    row = _object(told, where)
    if row.get("format") != FORMAT:
        raise DataError(
            f"{where} has format {row.get('format')!r}, and this version reads {FORMAT}. "
            "Add the task again from its file."
        )
    metric = _object(row.get("metric"), f"{where}: `metric`")
    options = _object(metric.get("options", {}), f"{where}: `metric.options`")
    examples = row.get("examples")
    if not isinstance(examples, int) or not 0 < examples <= MAX_EXAMPLES:
        raise DataError(f"{where}: `examples` is not a number from 1 to {MAX_EXAMPLES}.")
    return Task(
        name=checked(row.get("name"), f"{where}: `name`", MAX_LABEL, empty=False),
        created=checked(row.get("created"), f"{where}: `created`", MAX_LABEL),
        source=_object(row.get("source", {}), f"{where}: `source`"),
        columns=_object(row.get("columns", {}), f"{where}: `columns`"),
        metric=Chosen(
            checked(metric.get("name", ""), f"{where}: `metric.name`", MAX_TEXT),
            {
                name: checked(value, f"{where}: `metric.options`", MAX_TEXT)
                for name, value in options.items()
            },
        ),
        examples=examples,
        digest=checked(row.get("digest"), f"{where}: `digest`", MAX_LABEL, empty=False),
        imported=tuple(str(name) for name in row.get("imported", ())),
    )


def checked(value: Any, where: str, most: int, *, empty: bool = True) -> str:
    """A text of bounded length.

    Raises:
        DataError: it is none, too long, or empty where it must not be.
    """
    if not isinstance(value, str):
        raise DataError(f"{where} is not a text.")
    if len(value) > most:
        raise DataError(f"{where} has {len(value)} characters; {most} is the most.")
    if not value and not empty:
        raise DataError(f"{where} is empty.")
    return value


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{where} is not a JSON object.")
    return cast("dict[str, Any]", value)
