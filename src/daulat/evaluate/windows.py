"""What a command means by TASK: a task of the home, by its newest comparison, or a file of outcomes.

Not here: what a task or an outcome table is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from daulat.canon import digest
from daulat.errors import DataError, NotFoundError
from daulat.evaluate.certificates import NAME, checked
from daulat.evaluate.certifying import Window
from daulat.route.learning.outcomes import Outcomes, read

_TASKS: Final = "tasks"
_OUTCOMES: Final = "outcomes.jsonl"
_TASK: Final = "task.json"


def window(home: Path, task: str, name: str = "") -> tuple[Outcomes, Window]:
    """The outcomes, and what is made of them is to be called.

    Args:
        task: the name of a task, or the path of a file.
        name: empty: the task's, or the file's without its ending.

    Raises:
        NotFoundError: there is neither.
        DataError: the task has not been compared yet, or the file is not of its form.
        RequestError: the name cannot be one.
    """
    folder = home / _TASKS / task
    if NAME.fullmatch(task) and (folder / _TASK).is_file():
        return _of_task(folder, task, name)
    path = Path(task).expanduser()
    if not path.is_file():
        raise NotFoundError(
            f"{task[:200]!r} is neither a task of the home (`daulat task list`) nor a file of outcomes "
            "(docs/outcomes.md)."
        )
    return read(path), Window(checked(name or path.name.split(".")[0]), path.name)


def _of_task(folder: Path, task: str, name: str) -> tuple[Outcomes, Window]:
    if not (folder / _OUTCOMES).is_file():
        raise DataError(
            f"The task {task} has no answers yet. Run `daulat compare {task} --endpoints OPEN,CLOSED` first."
        )
    definition = task_digest(folder.parents[1], task)
    return read(folder / _OUTCOMES), Window(checked(name or task), task, definition)


def task_digest(home: Path, task: str) -> str:
    """Of the definition of a task of the home; empty: there is no such task."""
    path = home / _TASKS / task / _TASK
    return digest(path.read_bytes()) if NAME.fullmatch(task) and path.is_file() else ""


def task_data(home: Path, task: str, endpoints: Sequence[str]) -> str:
    """The digest of a task's outcomes of these endpoints now; empty: there are none.

    Raises:
        DataError: they cannot be read.
    """
    path = home / _TASKS / task / _OUTCOMES
    if not NAME.fullmatch(task) or not path.is_file():
        return ""
    found = read(path)
    there = all(one in found.endpoints for one in endpoints)
    return found.only(endpoints).digest() if there else ""
