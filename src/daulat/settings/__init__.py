"""One `daulat.toml` with documented defaults: read, checked, and explained.

`schema` says what there is, `reading` turns a file into `Settings` or into a list of everything that is
wrong with it, `writing` prints the defaults and where each value comes from.
"""

from daulat.settings.reading import default_home, load, prepare_home, problems
from daulat.settings.schema import Console, Engine, Log, Models, Record, Server, Settings
from daulat.settings.writing import Source, default_file, sources

__all__ = [
    "Console",
    "Engine",
    "Log",
    "Models",
    "Record",
    "Server",
    "Settings",
    "Source",
    "default_file",
    "default_home",
    "load",
    "prepare_home",
    "problems",
    "sources",
]
