"""One `daulat.toml` with documented defaults: read, checked, and explained.

`schema` and `gateway` say what there is and `rules` what a key may hold, `checking` finds what is wrong,
`reading` turns a file into `Settings` or into a list of its faults with their lines, `writing` prints the
defaults and where each value comes from.
"""

from daulat.settings.gateway import DataClass, Endpoint, Money, Policy, Prices, Project, Route
from daulat.settings.reading import default_home, load, prepare_home, problems
from daulat.settings.schema import (
    Console,
    Engine,
    Log,
    Models,
    Record,
    Server,
    Settings,
    Telemetry,
)
from daulat.settings.writing import Source, default_file, sources

__all__ = [
    "Console",
    "DataClass",
    "Endpoint",
    "Engine",
    "Log",
    "Models",
    "Money",
    "Policy",
    "Prices",
    "Project",
    "Record",
    "Route",
    "Server",
    "Settings",
    "Source",
    "Telemetry",
    "default_file",
    "default_home",
    "load",
    "prepare_home",
    "problems",
    "sources",
]
