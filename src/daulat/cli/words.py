"""What the terminal says, in the language of the person in front of it.

A process has one language: that of its environment when the first word is said. Command modules are
imported after that, so their help texts are translated as they are defined.

Not here: the choice of a language (`i18n`), the messages of errors (English, see `errors`).
"""

from __future__ import annotations

import functools
import gettext
import os
from typing import Final

from daulat.i18n import FOLDER, detect, translation


@functools.cache
def language() -> str:
    """This process's language."""
    return detect(os.environ)


def _(message: str) -> str:
    """The message in this process's language."""
    return translation(language(), "daulat").gettext(message)


def plural(one: str, several: str, count: int) -> str:
    """The form for that number, with `{count}` filled in."""
    text = translation(language(), "daulat").ngettext(one, several, count)
    return text.format(count=count)


def teach_click() -> None:
    """Give click, which asks gettext's default domain, our translations of its own words."""
    os.environ["LANGUAGE"] = language()
    gettext.bindtextdomain("daulat", str(FOLDER))
    gettext.textdomain("daulat")


def mark(message: str) -> str:
    """The message as it is, for the translators: it is translated where it is said."""
    return message


# Click's own words that a user of our commands can meet, for the translators.
CLICK: Final = (
    mark("Usage:"),
    mark("Options"),
    mark("Positional arguments"),
    mark("Commands"),
    mark("Error: {message}"),
    mark("Try '{command} {option}' for help."),
    mark("Missing command."),
    mark("Missing argument"),
    mark("Missing option"),
    mark("No such option {name!r}."),
    mark("No such command {name!r}."),
    mark("Invalid value: {message}"),
    mark("Invalid value for {param_hint}: {message}"),
    mark("{value!r} is not a valid {number_type}."),
    mark("{value} is not in the range {range}."),
    mark("{name} {filename!r} does not exist."),
    mark("{name} {filename!r} is a file."),
    mark("{name} {filename!r} is a directory."),
    mark("{name} {filename!r} is not readable."),
    mark("{name} {filename!r} is not writable."),
    mark("Option {name!r} does not take a value."),
    mark("Could not open file {filename!r}: {message}"),
    mark("file"),
    mark("directory"),
    mark("path"),
    mark("required"),
    mark("default: {default}"),
    mark("env var: {var}"),
    mark("Show this message and exit."),
    mark("Show the version and exit."),
    mark("Do you want to continue?"),
    mark("Aborted!"),
)


def _pair(one: str, several: str) -> tuple[str, str]:
    return one, several


CLICK_PLURALS: Final = (
    _pair("Got unexpected extra argument ({args})", "Got unexpected extra arguments ({args})"),
    _pair("Did you mean {possibility}?", "(Did you mean one of: {possibilities}?)"),
    _pair("Option {name!r} requires an argument.", "Option {name!r} requires {nargs} arguments."),
)
