"""Languages: which one a person wants, and where its words are.

Catalogues are gettext files, one domain per face: `daulat` for the terminal, `console` for the
page, `report` for what a comparison found. Not here: the messages themselves, which stand where they are said.
"""

from __future__ import annotations

import functools
import gettext
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

Domain = Literal["daulat", "console", "report"]

FOLDER: Final = Path(__file__).with_name("locale")

_LANGUAGES: Final = ("en", "id")
_VARIABLES: Final = ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")


def languages() -> tuple[str, ...]:
    """The languages that every domain has."""
    return _LANGUAGES


@functools.cache
def translation(language: str, domain: Domain) -> gettext.NullTranslations:
    """The words of a domain in a language.

    Raises:
        FileNotFoundError: there is no such language.
    """
    return gettext.translation(domain, FOLDER, [language])


def detect(environ: Mapping[str, str] = os.environ) -> str:
    """The first of our languages that the environment asks for, or English.

    The first variable that is set decides, as for gettext; LANGUAGE may name several, by colons.
    """
    value = next((environ[name] for name in _VARIABLES if environ.get(name)), "")
    wanted = (item.partition(".")[0].partition("_")[0].lower() for item in value.split(":"))
    return next((language for language in wanted if language in _LANGUAGES), "en")
