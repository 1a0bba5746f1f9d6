"""Where routers and outcome tables are kept in a home: `routers/NAME.json`, `tasks/NAME/outcomes.jsonl`.

What a command calls a task or a router may be a path of a file as well.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from daulat.errors import DataError, NotFoundError, RequestError
from daulat.route.learning.files import write_whole
from daulat.route.learning.outcomes import Outcomes, read
from daulat.route.learning.router import MAX_BYTES, Router, from_json, to_json
from daulat.values.names import is_name

_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9._-]+")


def routers(home: Path) -> list[str]:
    """The names of the routers of a home, sorted."""
    return sorted(path.stem for path in (home / "routers").glob("*.json"))


def save(home: Path, name: str, router: Router) -> Path:
    """Keep a router under a name; one that has it makes way.

    Raises:
        RequestError: the name cannot be one.
        DataError: it cannot be written.
    """
    if not is_name(name):
        raise RequestError(
            f"{name[:80]!r} cannot be a router's name: use 1 to 64 letters, digits, dots, dashes and "
            "underscores, and begin and end with a letter or digit. --name gives another.",
            param="name",
        )
    folder = home / "routers"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder} cannot be made: {error.strerror}.") from error
    write_whole(folder / f"{name}.json", [to_json(router), b"\n"])
    return folder / f"{name}.json"


def load(home: Path, name: str) -> Router:
    """The router of a name, or of a file.

    Raises:
        NotFoundError: there is none.
        DataError: its file is damaged.
    """
    path = home / "routers" / f"{name}.json"
    if not is_name(name) or not path.is_file():
        path = Path(name)
    if not path.is_file():
        there = ", ".join(routers(home)) or "none"
        raise NotFoundError(
            f"There is no router {name[:80]!r}. There are: {there}. `daulat route fit TASK` makes one."
        )
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path} is too large for a router.")
        return from_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error


def table(home: Path, task: str) -> tuple[str, Outcomes]:
    """The outcomes of a task, or of a file, with the name under which results are kept.

    Raises:
        NotFoundError: there is neither.
        DataError: the file is not one of outcomes.
    """
    kept = home / "tasks" / task / "outcomes.jsonl"
    if is_name(task) and kept.is_file():
        return task, read(kept)
    path = Path(task)
    if path.is_file():
        name = _NOT_IN_NAMES.sub("-", path.stem).strip("-._")[:64].rstrip("-._")
        return name or "outcomes", read(path)
    raise NotFoundError(
        f"{task[:200]!r} is neither a task with outcomes nor a file. `daulat compare TASK` makes outcomes; "
        "docs/outcomes.md says what a file of your own needs."
    )
