"""What a command means by TASK: a task of the home, by its newest comparison, or a file of outcomes.

Not here: what a task, a comparison or an outcome table is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from daulat.canon import digest
from daulat.errors import DataError, NotFoundError
from daulat.evaluate.certificates import checked
from daulat.evaluate.certifying import Window
from daulat.evaluate.identities import identities, joined
from daulat.evaluate.tasks import OUTCOMES, TASK
from daulat.route.certificate import Identity
from daulat.route.learning.outcomes import Outcomes, read
from daulat.settings import Settings
from daulat.values.names import is_name

_TASKS: Final = "tasks"
_REPORTS: Final = "comparisons/*/report.json"
_MOST: Final = 1 << 28
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9._-]+")


def window(settings: Settings, task: str, name: str = "") -> tuple[Outcomes, Window]:
    """The outcomes, and what is made of them is to be called.

    Args:
        task: the name of a task, or the path of a file.
        name: empty: the task's, or the file's without its ending.

    Raises:
        NotFoundError: there is neither.
        DataError: the task has not been compared yet, a model has changed since, or the file is not one of
            outcomes.
        RequestError: the name cannot be one.
    """
    folder = settings.home / _TASKS / task
    if is_name(task) and (folder / TASK).is_file():
        return _of_task(folder, task, name, settings)
    path = Path(task).expanduser()
    if not path.is_file():
        raise NotFoundError(
            f"{task[:200]!r} is neither a task of the home (`daulat task list`) nor a file of outcomes "
            "(docs/outcomes.md)."
        )
    outcomes = read(path)
    known = identities(outcomes.endpoints, settings)
    return outcomes, Window(
        checked(name or _name(path)), path.name[-200:], "", tuple(known.values())
    )


def _name(path: Path) -> str:
    """The file's name without its ending, as far as a name can have it."""
    stem = _NOT_IN_NAMES.sub("-", path.name.split(".")[0])
    return stem.strip("-._")[:64].rstrip("-._") or "outcomes"


def _of_task(folder: Path, task: str, name: str, settings: Settings) -> tuple[Outcomes, Window]:
    if not (folder / OUTCOMES).is_file():
        raise DataError(
            f"The task {task} has no answers yet. Run `daulat compare {task} --endpoints OPEN,CLOSED` first."
        )
    outcomes = read(folder / OUTCOMES)
    models, temperature = _compared(folder)
    known = _as_compared(models, task, identities(outcomes.endpoints, settings))
    definition = task_digest(settings.home, task)
    named = checked(name or task)
    return outcomes, Window(named, task, definition, tuple(known.values()), temperature)


def _as_compared(
    then: Mapping[str, str], task: str, now: Mapping[str, Identity]
) -> Mapping[str, Identity]:
    """What stood behind the endpoints when they answered, as the newest comparison has it.

    Raises:
        DataError: something else does now: a certificate would be void at once.
    """
    for name, model in then.items():
        if name in now and now[name].model != model:
            raise DataError(
                f"What stands behind {name} has changed since the task was compared: it was {model} and is "
                f"{now[name].model}. Run `daulat compare {task}` again."
            )
    return {**{name: Identity(name, model) for name, model in then.items()}, **now}


def _compared(folder: Path) -> tuple[dict[str, str], float | None]:
    """The models by the names of endpoints that answered, and at which temperature; from the newest report.

    Raises:
        DataError: the newest report is damaged.
    """
    reports = sorted(folder.glob(_REPORTS), key=lambda path: path.stat().st_mtime_ns)
    if not reports or reports[-1].stat().st_size > _MOST:
        return {}, None
    try:
        report: Any = json.loads(reports[-1].read_bytes())
        sides = report["endpoints"]
        temperature = report.get("about", {}).get("how", {}).get("temperature")
        found = {str(side["name"]): joined(map(str, side["identity"])) for side in sides}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"The newest report of the task, {reports[-1].parent.name}, is damaged. Compare again."
        ) from error
    models = {name: model for name, model in found.items() if model}
    return models, float(temperature) if isinstance(temperature, int | float) else None


def task_digest(home: Path, task: str) -> str:
    """Of the definition of a task of the home; empty: there is no such task."""
    path = home / _TASKS / task / TASK
    return digest(path.read_bytes()) if is_name(task) and path.is_file() else ""


def task_data(home: Path, task: str, endpoints: Sequence[str]) -> str:
    """The digest of a task's outcomes of these endpoints now; empty: there are none.

    Raises:
        DataError: they cannot be read.
    """
    path = home / _TASKS / task / OUTCOMES
    if not is_name(task) or not path.is_file():
        return ""
    found = read(path)
    there = all(one in found.endpoints for one in endpoints)
    return found.only(endpoints).digest() if there else ""
