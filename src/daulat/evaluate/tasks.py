"""Tasks in the home: `tasks/NAME/` with the task, its examples, and what was answered to them.

    task.json         what the task is
    examples.jsonl    an example a line; its SHA-256 is in task.json
    imported.jsonl    answers and scores that came with the file, as an outcome table
    answers.jsonl     answers to comparisons, only ever added to (`answers`)
    labels.jsonl      what people said of answers, only ever added to (`labels.book`)
    outcomes.jsonl    the newest comparison as an outcome table
    verdicts.jsonl    the newest comparison's verdicts on pairs, where a judge gave any
    comparisons/ID/   the reports

A task is written to a folder of its own and then named: there is no half task. Not here: where examples come
from.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from daulat import whole
from daulat.canon import canonical
from daulat.errors import NotFoundError, RequestError
from daulat.evaluate.examples import Example, Task, example_json, example_of, task_json, task_of
from daulat.values.names import is_name

TASK: Final = "task.json"
EXAMPLES: Final = "examples.jsonl"
IMPORTED: Final = "imported.jsonl"
ANSWERS: Final = "answers.jsonl"
LABELS: Final = "labels.jsonl"
OUTCOMES: Final = "outcomes.jsonl"
VERDICTS: Final = "verdicts.jsonl"
COMPARISONS: Final = "comparisons"

_MAX_TASK: Final = 1 << 20
_MAX_LINE: Final = 64 << 20


class Tasks:
    """The tasks of a home.

    Args:
        home: the home folder; `tasks` in it is made with the first task.
    """

    def __init__(self, home: Path) -> None:
        self._root = home / "tasks"

    def names(self) -> list[str]:
        """Of all tasks, sorted."""
        with contextlib.suppress(FileNotFoundError):
            return sorted(p.parent.name for p in self._root.glob(f"*/{TASK}"))
        return []

    def has(self, name: str) -> bool:
        """Whether there is a task of that name."""
        return is_name(name) and (self._root / name / TASK).is_file()

    def folder(self, name: str) -> Path:
        """Where a task's files are.

        Raises:
            NotFoundError: there is no such task.
        """
        if not self.has(name):
            there = ", ".join(self.names()) or "none"
            raise NotFoundError(
                f"There is no task {name[:80]!r}. There are: {there}. `daulat task add NAME FILE` makes one."
            )
        return self._root / name

    def get(self, name: str) -> Task:
        """A task.

        Raises:
            NotFoundError: there is no such task.
            RequestError: its file is damaged.
        """
        path = self.folder(name) / TASK
        return task_of(_parsed(_bytes(path, _MAX_TASK), str(path)), str(path))

    def examples(self, name: str) -> tuple[Example, ...]:
        """A task's examples, in their order.

        Raises:
            NotFoundError: there is no such task.
            RequestError: its files are damaged, or were changed by hand.
        """
        task = self.get(name)
        path = self.folder(name) / EXAMPLES
        found = hashlib.sha256()
        examples: list[Example] = []
        for number, data in enumerate(_lines(path), 1):
            found.update(data)
            where = f"{path}, line {number}"
            examples.append(example_of(_parsed(data, where), where))
        if "sha256:" + found.hexdigest() != task.digest:
            raise RequestError(
                f"{path} was changed since the task was added, so earlier results would not be of these "
                "examples. Add it as a task of another name, or remove this one first."
            )
        return tuple(examples)

    def add(
        self,
        task: Task,
        examples: Sequence[Example],
        *,
        imported: Callable[[Path], None] | None = None,
        replacing: bool = False,
    ) -> Task:
        """Write a task.

        Args:
            task: its `digest` and `examples` are filled in here.
            imported: an outcome table that becomes the task's.
            replacing: a task of that name makes way; answers to it and labels are kept, for they hold for
                whatever asks the same.

        Raises:
            RequestError: the name is taken or is none, or the place cannot be written.
        """
        if not is_name(task.name):
            raise RequestError(
                f"{task.name[:80]!r} cannot be a task's name: use 1 to 64 letters, digits, dots, dashes and "
                "underscores, beginning and ending with a letter or a digit.",
                param="name",
            )
        if self.has(task.name) and not replacing:
            raise RequestError(
                f"There is a task {task.name} already: `--replace` puts this one in its place, "
                f"`daulat task remove {task.name}` removes it with its answers.",
                param="name",
            )
        try:
            return self._written(task, examples, imported)
        except OSError as error:
            raise RequestError(
                f"The task cannot be written to {self._root} ({error.strerror}): free the place, or name "
                "another home with --home."
            ) from error

    def remove(self, name: str) -> None:
        """Remove a task with its answers and reports.

        Raises:
            NotFoundError: there is no such task.
        """
        folder = self.folder(name)
        # Without this there is no task, whatever becomes of the rest.
        (folder / TASK).unlink()
        shutil.rmtree(folder)

    def _written(
        self, task: Task, examples: Sequence[Example], imported: Callable[[Path], None] | None
    ) -> Task:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=".new-", dir=self._root))
        try:
            data = b"".join(canonical(example_json(one)) + b"\n" for one in examples)
            (new / EXAMPLES).touch(mode=0o600)
            (new / EXAMPLES).write_bytes(data)
            digest = "sha256:" + hashlib.sha256(data).hexdigest()
            whole = replace(task, examples=len(examples), digest=digest)
            if imported is not None:
                imported(new / IMPORTED)
                shutil.copyfile(new / IMPORTED, new / OUTCOMES)
            write_json(new / TASK, task_json(whole))
            self._named(new, self._root / task.name)
        finally:
            shutil.rmtree(new, ignore_errors=True)
        return whole

    def _named(self, new: Path, target: Path) -> None:
        if target.exists():
            for name in (ANSWERS, LABELS):
                with contextlib.suppress(FileNotFoundError):
                    shutil.copyfile(target / name, new / name)
            old = Path(tempfile.mkdtemp(prefix=".old-", dir=self._root))
            os.replace(target, old)
            os.replace(new, target)
            shutil.rmtree(old)
        else:
            os.replace(new, target)


def write_json(path: Path, value: Any) -> None:
    """Write a file of JSON that is whole or not there, readable for people."""
    text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    write_text(path, text)


def write_text(path: Path, text: str) -> None:
    """Write a file that is whole or not there, for its owner alone."""
    whole.write(path, [text.encode("utf-8", "surrogatepass")])


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while data := file.readline(_MAX_LINE):
                yield data
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}.") from error


def _bytes(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}.") from error
    if len(data) > most:
        raise RequestError(f"{path} is larger than {most} bytes.")
    return data


def _parsed(data: bytes, where: str) -> Any:
    try:
        return json.loads(data.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{where} is not JSON: {str(error)[:200]}.") from error
