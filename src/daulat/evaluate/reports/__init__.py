"""Reports of a comparison: HTML that stands alone, Markdown, JSON, the terminal; the same page in all.

`verdict` chooses the answer by rules, `telling` says it in a sentence, `cautions` what to be careful about,
`sections` lays out the rest as a `page`, and `html`, `markdown` and `terminal` are its forms. `figures` writes
numbers, in the language of `words`. Not here: what is found (`evaluate.comparing`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from daulat import whole
from daulat.errors import UnavailableError
from daulat.evaluate.comparing import Comparison
from daulat.evaluate.reports.html import html
from daulat.evaluate.reports.keeping import stored
from daulat.evaluate.reports.markdown import markdown
from daulat.evaluate.reports.sections import build

JSON: Final = "report.json"
HTML: Final = "report.html"
MARKDOWN: Final = "report.md"


@dataclass(frozen=True, slots=True)
class Paths:
    """The files of a report."""

    json: Path
    html: Path
    markdown: Path


def write(comparison: Comparison, folder: Path, language: str = "en") -> Paths:
    """Write all files of a report; the folder is made where it is not there.

    Raises:
        UnavailableError: they cannot be written.
    """
    paths = written(comparison, folder, language)
    _put(paths.json, stored(comparison))
    return paths


def written(comparison: Comparison, folder: Path, language: str = "en") -> Paths:
    """Write the files that people read, and leave report.json as it is."""
    page = build(comparison, language)
    paths = Paths(folder / JSON, folder / HTML, folder / MARKDOWN)
    _put(paths.html, html(page).encode())
    _put(paths.markdown, markdown(page).encode())
    return paths


def _put(path: Path, data: bytes) -> None:
    """The whole file or the old one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        whole.write(path, [data])
    except OSError as error:
        raise _unwritten(path, error) from error


def _unwritten(path: Path, error: OSError) -> UnavailableError:
    return UnavailableError(
        f"{path} cannot be written: {error.strerror}. Make room there, then `daulat report` writes it again."
    )
