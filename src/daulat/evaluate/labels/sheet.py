"""What is to be labelled: a random order of examples, and for each one what is shown in which order.

Everything is drawn from digests of the seed and names, so that a stopped session goes on with the same,
several people get the same examples, and another seed is another draw. The first n examples of the order are
a simple random sample of all: what is estimated from them is unbiased. Not here: what people say (`book`),
one person's session (`desk`).
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from daulat.errors import NotFoundError, RequestError
from daulat.evaluate.examples import Chosen
from daulat.evaluate.judges.verdicts import Scale, scale_of
from daulat.evaluate.labels.book import Draw, Kind
from daulat.evaluate.tasks import IMPORTED, OUTCOMES, Tasks
from daulat.route.learning import outcomes
from daulat.route.learning.outcomes import Outcomes
from daulat.values.names import is_name

MAX_SEED: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Sheet:
    """The answers of a task that can be labelled.

    Attributes:
        folder: where its labels are kept.
        outcomes: examples of which every endpoint has an answer.
        references: by example's id, where there are any.
        left_out: examples of which some endpoint has no answer.
        kind, scale: what fits the task's metric.
    """

    name: str
    folder: Path
    outcomes: Outcomes
    references: Mapping[str, tuple[str, ...]]
    left_out: int
    kind: Kind
    scale: Scale

    def order(self, seed: int) -> list[int]:
        """The numbers of all examples in the order in which they are drawn."""
        return list(order(self.outcomes.ids, seed))


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to label: an answer, or two.

    Attributes:
        endpoints: whose answers they are, in the order in which they are shown: never shown themselves.
        draw: how its example was drawn.
    """

    kind: Kind
    example: str
    prompt: str
    references: tuple[str, ...]
    endpoints: tuple[str, ...]
    answers: tuple[str, ...]
    draw: Draw


def sheet(home: Path, task: str, *, name: str = "", endpoints: Sequence[str] = ()) -> Sheet:
    """The newest answers to a task.

    Args:
        task: its name, or the path of an outcome file.
        name: under which labels of a file are kept; empty: the file's own.
        endpoints: whose answers; empty: everybody's.

    Raises:
        NotFoundError: there is no such task, file, or endpoint.
        RequestError: nobody has answered, or nobody's answers were kept.
        DataError: the table of answers is damaged.
    """
    tasks = Tasks(home)
    references: dict[str, tuple[str, ...]] = {}
    metric = Chosen()
    if tasks.has(task):
        folder, title, metric = tasks.folder(task), task, tasks.get(task).metric
        path = _newest(folder, task)
        references = {one.id: one.references for one in tasks.examples(task) if one.references}
    elif (path := Path(task)).is_file():
        title = name or path.stem
        folder = home / "tasks" / _checked(title)
    else:
        there = ", ".join(tasks.names()) or "none"
        raise NotFoundError(
            f"{task[:80]!r} is neither a task nor a file of answers. Tasks: {there}. `daulat task add NAME "
            "FILE` "
            "makes one."
        )
    table = outcomes.read(path)
    table = table.only(endpoints) if endpoints else table
    whole = [i for i, answers in enumerate(table.answers) if None not in answers]
    if not whole:
        raise RequestError(
            f"The answers to {title} were not kept with their scores, so there is nothing to show: compare the "
            "endpoints here, or import a file that has the answers' texts."
        )
    kind, scale = _usual(metric, len(table.endpoints))
    left_out = len(table) - len(whole)
    return Sheet(title, folder, table.take(whole), references, left_out, kind, scale)


def _newest(folder: Path, task: str) -> Path:
    """The table of the newest comparison, or of the answers that came with the task.

    Raises:
        RequestError: there is none.
    """
    for name in (OUTCOMES, IMPORTED):
        if (folder / name).is_file():
            return folder / name
    raise RequestError(
        f"Nobody has answered the task {task} yet: `daulat compare {task} --endpoints a,b` lets endpoints "
        "answer it."
    )


def _usual(metric: Chosen, endpoints: int) -> tuple[Kind, Scale]:
    """What people are asked where nobody says: what the judge is asked, else whether an answer is right."""
    judged = metric.name in ("", "judge:pairwise")
    kind: Kind = "pairwise" if judged and endpoints > 1 else "score"
    scale = metric.options.get("scale", "1-5" if metric.name.startswith("judge:") else "")
    return kind, scale_of(scale) if scale else Scale() if judged else Scale(0, 1)


def items(
    found: Sheet, kind: Kind, by: str, seed: int, drawn: int, row: int, place: int
) -> list[Item]:
    """What is shown of one example, one after the other.

    Of two answers: one pair of endpoints, drawn for the example, the same for everybody. Which is shown first
    is drawn for each person.

    Args:
        row: the example's number in the table.
        place: in the order.
    """
    table, own = found.outcomes, found.outcomes.ids[row]
    names = list(range(len(table.endpoints)))
    if kind == "pairwise":
        pairs = list(itertools.combinations(names, 2))
        pair = min(pairs, key=lambda pair: _drawn(seed, "pair", own, *map(str, pair)))
        groups = [_shuffled(pair, seed, by, own)]
    else:
        groups = [(one,) for one in _shuffled(names, seed, by, own)]
    draw = Draw(seed, place, drawn, len(table))
    return [
        Item(
            kind,
            own,
            table.prompts[row],
            found.references.get(own, ()),
            tuple(table.endpoints[one] for one in group),
            tuple(table.answers[row][one] or "" for one in group),
            draw,
        )
        for group in groups
    ]


@functools.lru_cache(maxsize=8)
def order(ids: tuple[str, ...], seed: int) -> tuple[int, ...]:
    """The numbers of examples with these ids in the order in which a seed draws them."""
    return tuple(sorted(range(len(ids)), key=lambda row: _drawn(seed, "example", ids[row])))


def _checked(name: str) -> str:
    """Raises RequestError: it cannot be a folder's name."""
    if not is_name(name):
        raise RequestError(
            f"Labels cannot be kept under {name[:80]!r}: give a name of letters, digits, dots, dashes and "
            "underscores with --name.",
            param="name",
        )
    return name


def _shuffled(numbers: Sequence[int], seed: int, by: str, example: str) -> tuple[int, ...]:
    return tuple(sorted(numbers, key=lambda one: _drawn(seed, "shown", by, example, str(one))))


def _drawn(seed: int, *names: str) -> bytes:
    """A draw that is the same for the same names and looks random for others."""
    text = "\0".join((str(seed), *names))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
