"""`/admin/labels`: what the page for labels asks for; see `routes`.

Not here: who is asked what (`evaluate.labels`), the page (`console`).
"""

from __future__ import annotations

import asyncio
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from daulat.errors import DaulatError, RequestError, UnavailableError
from daulat.server.answering import json_response
from daulat.server.calls import Call
from daulat.server.wire.decode import decode
from daulat.server.wire.labels import LabelBody, LabelItem, LabelState, LabelTask, LabelTasks

if TYPE_CHECKING:
    from daulat.evaluate.labels.desk import Desk
    from daulat.evaluate.labels.sheet import Item, Sheet

_MOST_TASKS: Final = 500


async def tasks(call: Call) -> Response:
    """`GET /admin/labels`: the tasks whose answers can be labelled."""
    home = _home(call)
    found = await asyncio.to_thread(_tasks, home)
    return json_response(call, LabelTasks(tasks=found, by=call.known.name[:64]))


async def label(call: Call) -> Response:
    """`POST /admin/labels/{task}`: what a person says, and what comes next."""
    home = _home(call)
    body = decode(call.body, LabelBody)
    if body.undo and body.item is not None:
        raise RequestError("Either take a label back, or give one.", param="undo")
    task: str = call.scope["path_params"]["task"]
    state = await asyncio.to_thread(_labelled, home, task, body, call.known.id)
    return json_response(call, state)


def _home(call: Call) -> Path:
    if call.home is None:
        raise UnavailableError("This server has no home folder, so there are no tasks to label.")
    return call.home


def _labelled(home: Path, task: str, body: LabelBody, key: str) -> LabelState:
    # Imported here: a start must not wait for what evaluates.
    from daulat.evaluate.judges.verdicts import Scale  # noqa: PLC0415
    from daulat.evaluate.labels.desk import Desk, Session  # noqa: PLC0415
    from daulat.evaluate.tasks import Tasks  # noqa: PLC0415

    folder = Tasks(home).folder(task)
    by = body.by.strip()
    session = Session(by, body.kind, body.n, body.seed, Scale(body.low, body.high), key)
    desk = Desk(_sheet(home, task, _written(folder)), session)
    shown: Item | None = None
    if body.undo:
        shown = desk.undo()
    elif body.item is not None:
        desk.put(desk.item(body.item), body.value, body.seconds)
    return _state(desk, shown or desk.next())


def _state(desk: Desk, item: Item | None) -> LabelState:
    from daulat.evaluate.labels.desk import token  # noqa: PLC0415

    now = desk.progress()
    shown = item and LabelItem(
        item=token(item),
        prompt=item.prompt,
        references=list(item.references),
        answers=list(item.answers),
    )
    return LabelState(
        task=desk.sheet.name,
        examples=len(desk.sheet.outcomes),
        done=now.done,
        all=now.all,
        automatic=now.automatic,
        item=shown,
    )


def _tasks(home: Path) -> list[LabelTask]:
    from daulat.evaluate.labels.book import Labels  # noqa: PLC0415
    from daulat.evaluate.tasks import Tasks  # noqa: PLC0415

    kept, found = Tasks(home), list[LabelTask]()
    for name in kept.names()[:_MOST_TASKS]:
        folder = kept.folder(name)
        try:
            sheet = _sheet(home, name, _written(folder))
            people = sorted({one.by for one in Labels(folder).all()})
        except DaulatError:
            # Nobody answered it yet, or a file is damaged: opening it by name says which.
            continue
        found.append(
            LabelTask(
                name=name,
                examples=len(sheet.outcomes),
                endpoints=len(sheet.outcomes.endpoints),
                kind=sheet.kind,
                scale=str(sheet.scale),
                people=people,
            )
        )
    return found


def _written(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Which files of a task there are and when they were written, so that a table is read once."""
    from daulat.evaluate.tasks import IMPORTED, OUTCOMES, TASK  # noqa: PLC0415

    stats = [
        (name, path.stat())
        for name in (TASK, OUTCOMES, IMPORTED)
        if (path := folder / name).is_file()
    ]
    return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in stats)


@functools.lru_cache(maxsize=8)
def _sheet(home: Path, task: str, _written: tuple[tuple[str, int, int], ...]) -> Sheet:
    from daulat.evaluate.labels.sheet import sheet  # noqa: PLC0415

    return sheet(home, task)
