"""A report as Markdown (CommonMark with GitHub's tables). Not here: what is said (`sections`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from daulat.evaluate.reports.page import Case, Page, Section, Table
from daulat.evaluate.reports.words import Words

LONGEST: Final = 4_000
"""Characters of a text that are shown; report.json has all."""

# What means something within a line of CommonMark with GitHub's tables and strikes, or of GitHub's formulas. A
# line within a word is no emphasis and stays readable.
_SPECIAL: Final = re.compile(r"[\\`*\[\]|~$]|(?<!\w)_|_(?!\w)")
_STARTING: Final = re.compile(r"^(?:([#+-])(?=[\s#-]|$)|([=:])|(\d{1,9})(?=[.)](?:\s|$)))")
_ENTITIES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def markdown(page: Page) -> str:
    """The document."""
    return "\n".join(_lines(page)).rstrip() + "\n"


def escaped(text: str) -> str:
    """A text of one line that means nothing but itself."""
    line = _SPECIAL.sub(r"\\\g<0>", " ".join(text.split()))
    line = _STARTING.sub(lambda found: _marked(found[0]), line)
    return line.translate(_ENTITIES)


def _marked(start: str) -> str:
    return start + "\\" if start.isdigit() else "\\" + start


def fenced(text: str) -> str:
    """A text of any lines as a block that nothing in it can end."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def _lines(page: Page) -> Iterator[str]:
    say = Words(page.language)
    yield from (f"# {escaped(page.title)}", "", f"**{escaped(page.answer)}**", "")
    if page.basis:
        yield from (" · ".join(map(escaped, page.basis)), "")
    yield from (" · ".join(map(escaped, page.about)), "")
    if page.cautions:
        yield from (*(f"- {escaped(one)}" for one in page.cautions), "")
    for section in page.sections:
        yield from _section(section)
    if page.cases:
        yield from (f"## {escaped(page.cases_title)}", "")
    for case in page.cases:
        yield from _case(case, say)
    for section in page.closing:
        yield from _section(section)


def _section(section: Section) -> Iterator[str]:
    yield from (f"## {escaped(section.title)}", "")
    for sentence in section.lead:
        yield from (escaped(sentence), "")
    for number, table in enumerate(section.tables):
        if number:
            yield from (f"### {escaped(table.caption)}", "")
        yield from (*_table(table), "")
    for name, text in section.pairs:
        yield f"- {escaped(name)}: {escaped(text)}"
    if section.pairs:
        yield ""
    for note in section.notes:
        yield f"- {escaped(note)}"
    if section.notes:
        yield ""


def _table(table: Table) -> Iterator[str]:
    yield _row([escaped(column.head) for column in table.columns])
    yield _row(["---:" if column.figure else ":---" for column in table.columns])
    for row in table.rows:
        yield _row([escaped(str(cell)) for cell in row])


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _case(case: Case, say: Words) -> Iterator[str]:
    yield from (f"### {escaped(case.title)}", "", fenced(_cut(case.prompt, say)), "")
    if case.references:
        shown = " | ".join(case.references[:5])
        yield from (escaped(say("Right:")), "", fenced(_cut(shown, say)), "")
    for reply in case.replies:
        facts = " · ".join(map(escaped, reply.facts))
        yield from (
            f"**{escaped(reply.name)}** · {facts}" if facts else f"**{escaped(reply.name)}**",
            "",
        )
        if reply.text is None:
            yield from (escaped(say("no answer")), "")
        else:
            yield from (fenced(_cut(reply.text, say)), "")


def _cut(text: str, say: Words) -> str:
    left = len(text) - LONGEST
    if left <= 0:
        return text
    more = say.plural(
        "{count} more character stands in report.json.",
        "{count} more characters stand in report.json.",
        left,
    )
    return f"{text[:LONGEST]} …\n[{more}]"
