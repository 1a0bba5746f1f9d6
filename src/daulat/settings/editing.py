"""Changes of daulat.toml that leave everything else as its owner wrote it: comments, order, spaces.

A change that would make the file wrong is not written. Not here: what a table means (`schema`).
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from daulat.errors import SettingsError
from daulat.settings.reading import FILE, problems, read


def put(
    home: Path, group: str, name: str, values: Mapping[str, Any], comments: Mapping[str, str]
) -> None:
    """Write the table `[group.NAME]`, which must not be there yet.

    Args:
        comments: by key, written behind its value; by the empty name, written above the table's keys.

    Raises:
        SettingsError: there is one of that name, or the file is or would become wrong.
    """
    import tomlkit  # noqa: PLC0415 - only where something is written

    def change(document: Any) -> None:
        table = tomlkit.table()
        if comments.get(""):
            table.add(tomlkit.comment(comments[""]))
        for key, value in values.items():
            item: Any = tomlkit.item(value)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            if comments.get(key):
                item.comment(comments[key])  # pyright: ignore[reportUnknownMemberType]
            table.add(key, item)
        held: Any = document.get(group)
        if held is None:
            held = tomlkit.table(is_super_table=True)
            document.add(group, held)
        if name in held:
            raise SettingsError(
                f"{home / FILE} has [{group}.{name}] already: remove it first, or choose another name.",
                param=f"{group}.{name}",
            )
        held.add(name, table)

    _changed(home, change)


def drop(home: Path, group: str, name: str) -> None:
    """Take the table `[group.NAME]` out, with what is below it.

    Raises:
        SettingsError: there is none, or the file is or would become wrong.
    """

    def change(document: Any) -> None:
        held: Any = document.get(group)
        if held is None or name not in held:
            raise SettingsError(f"{home / FILE} has no [{group}.{name}].", param=f"{group}.{name}")
        held.remove(name)
        if not held:
            document.remove(group)

    _changed(home, change)


def _changed(home: Path, change: Callable[[Any], None]) -> None:
    import tomlkit  # noqa: PLC0415

    path = home / FILE
    text = ""
    if path.exists():
        read(path)
        text = path.read_text(encoding="utf-8")
    document = tomlkit.parse(text)
    change(document)
    _replace(path, tomlkit.dumps(document))  # pyright: ignore[reportUnknownMemberType]


def _replace(path: Path, text: str) -> None:
    """Write it beside, look at it, and put it in the place of the old one, all or nothing."""
    try:
        handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{FILE}.")
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}.") from error
    new = Path(beside)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        found = problems(new)
        if found:
            raise SettingsError(found[0].replace(str(new), str(path)))
        if path.exists():
            new.chmod(path.stat().st_mode & 0o777)
        os.replace(new, path)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        with contextlib.suppress(OSError):
            new.unlink()
