"""Languages: which one is chosen, and that every catalogue is whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from daulat.i18n import Domain, detect, languages, translation

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("environ", "language"),
    [
        ({}, "en"),
        ({"LANG": "C.UTF-8"}, "en"),
        ({"LANG": "id_ID.UTF-8"}, "id"),
        ({"LANG": "id"}, "id"),
        ({"LANG": "en_GB.UTF-8", "LC_MESSAGES": "id_ID"}, "id"),
        ({"LC_ALL": "en_US.UTF-8", "LC_MESSAGES": "id_ID"}, "en"),
        ({"LANGUAGE": "fr:id", "LC_ALL": "en_US.UTF-8"}, "id"),
        ({"LANGUAGE": "", "LANG": "id_ID"}, "id"),
        ({"LANG": "idle"}, "en"),
        ({"LANG": "fr_FR.UTF-8"}, "en"),
    ],
)
def test_the_first_variable_that_is_set_decides(environ: dict[str, str], language: str) -> None:
    assert detect(environ) == language


@pytest.mark.parametrize("language", languages())
def test_every_language_has_every_domain(language: str) -> None:
    for domain in get_args(Domain):
        assert translation(language, domain).info()["language"] == language


def test_one_form_for_every_number_in_indonesian() -> None:
    words = translation("id", "daulat")
    one, several = "{count} entry written.", "{count} entries written."
    assert {words.ngettext(one, several, n) for n in (0, 1, 2, 100)} == {"{count} entri ditulis."}


def test_nothing_is_untranslated_fuzzy_or_older_than_the_sources() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "messages.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
