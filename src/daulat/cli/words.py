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


def _mark(message: str) -> str:
    return message


# Click's own words that a user of our commands can meet, for the translators.
CLICK: Final = (
    _mark("Usage:"),
    _mark("Options"),
    _mark("Positional arguments"),
    _mark("Commands"),
    _mark("Error: {message}"),
    _mark("Try '{command} {option}' for help."),
    _mark("Missing command."),
    _mark("Missing argument"),
    _mark("Missing option"),
    _mark("No such option {name!r}."),
    _mark("No such command {name!r}."),
    _mark("Invalid value: {message}"),
    _mark("Invalid value for {param_hint}: {message}"),
    _mark("{value!r} is not a valid {number_type}."),
    _mark("{value} is not in the range {range}."),
    _mark("{name} {filename!r} does not exist."),
    _mark("{name} {filename!r} is a file."),
    _mark("{name} {filename!r} is a directory."),
    _mark("{name} {filename!r} is not readable."),
    _mark("{name} {filename!r} is not writable."),
    _mark("Option {name!r} does not take a value."),
    _mark("Could not open file {filename!r}: {message}"),
    _mark("file"),
    _mark("directory"),
    _mark("path"),
    _mark("required"),
    _mark("default: {default}"),
    _mark("env var: {var}"),
    _mark("Show this message and exit."),
    _mark("Show the version and exit."),
    _mark("Do you want to continue?"),
    _mark("Aborted!"),
)


def _pair(one: str, several: str) -> tuple[str, str]:
    return one, several


CLICK_PLURALS: Final = (
    _pair("Got unexpected extra argument ({args})", "Got unexpected extra arguments ({args})"),
    _pair("Did you mean {possibility}?", "(Did you mean one of: {possibilities}?)"),
    _pair("Option {name!r} requires an argument.", "Option {name!r} requires {nargs} arguments."),
)
