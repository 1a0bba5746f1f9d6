"""From daulat.toml to `Settings`, or to the list of all that is wrong with it, each with its line."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from daulat.errors import SettingsError
from daulat.settings.checking import Keys, build, faults
from daulat.settings.locate import locate
from daulat.settings.schema import NAMED, TABLES, Settings

FILE = "daulat.toml"
MAX_BYTES = 1 << 20
HUB_VARIABLE = "HF_ENDPOINT"
_POSITION = re.compile(r"\(at line (\d+), column (\d+)\)|\(at end of document\)")


def default_home(environ: Mapping[str, str] = os.environ) -> Path:
    """DAULAT_HOME, or `.daulat` in the user's home folder."""
    return Path(environ.get("DAULAT_HOME") or Path.home() / ".daulat").expanduser().absolute()


def prepare_home(home: Path) -> None:
    """Create the home folder, readable by its owner alone.

    Raises:
        SettingsError: it cannot be created, or is not a folder.
    """
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or "it is not a folder"
        raise SettingsError(
            f"The home folder {home} cannot be used ({reason}). "
            "Name another with --home or DAULAT_HOME."
        ) from error


def load(home: Path, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings of a home folder; defaults where it has no file.

    Raises:
        SettingsError: the first thing that is wrong, with its line.
    """
    path = home / FILE
    values = read(path) if path.exists() else {}
    found = list(_faults(path, values))
    if found:
        raise SettingsError(found[0])
    tables: dict[str, Any] = {
        name: build(kind, values.get(name, {})) for name, kind in TABLES.items()
    }
    named: dict[str, Any] = {
        name: {one: build(kind, table) for one, table in values.get(name, {}).items()}
        for name, kind in NAMED.items()
    }
    return _with_environment(Settings(home, **tables, **named), environ)


def problems(path: Path) -> list[str]:
    """Everything that is wrong with a file, each with its line; empty where it is sound."""
    try:
        return list(_faults(path, read(path)))
    except SettingsError as error:
        return [error.message]


def read(path: Path) -> dict[str, Any]:
    """The file as TOML, not yet checked against the schema.

    Raises:
        SettingsError: it cannot be read, is too large, or is not TOML.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SettingsError(f"{path} is larger than {MAX_BYTES} bytes; no settings need that.")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8 text.") from error
    except RecursionError as error:
        raise SettingsError(f"{path} is nested too deeply; no settings need that.") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(_syntax(path, str(error))) from error


def _with_environment(settings: Settings, environ: Mapping[str, str]) -> Settings:
    hub = environ.get(HUB_VARIABLE)
    if not hub:
        return settings
    return replace(settings, models=replace(settings.models, hub=hub.rstrip("/")))


def _syntax(path: Path, message: str) -> str:
    position = _POSITION.search(message)
    what = _POSITION.sub("", message).strip()
    if position and position[1]:
        return f"{path}, line {position[1]}, column {position[2]}: {what}."
    return f"{path}: {what} at the end of the file."


def _faults(path: Path, values: Mapping[str, Any]) -> Iterable[str]:
    """Everything wrong, in the order of the file."""
    lines = locate(path.read_text(encoding="utf-8")) if values else {}

    def at(keys: Keys) -> str:
        while keys and keys not in lines:
            keys = keys[:-1]
        return f"{path}, line {lines[keys]}" if keys else str(path)

    for keys, fault in faults(values):
        yield f"{at(keys)}: {fault}"
