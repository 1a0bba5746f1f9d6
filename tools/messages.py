"""Gathers what the faces say, brings the catalogues up to date and compiles them.

Run it as `make messages` after a message was added or changed, translate what it lists, and run it
again. With `--check` nothing is written: it only says what is missing, and exits with 1.

English catalogues fill themselves. Messages that are not said any more are dropped.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from string import Formatter
from typing import get_args

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from daulat import __version__
from daulat.console.messages import MESSAGES, PLURALS
from daulat.i18n import FOLDER, Domain, languages

KEYWORDS = {"_": None, "mark": None, "say": None, "plural": (1, 2), "_pair": (1, 2)}
DOMAINS: tuple[Domain, ...] = get_args(Domain)
# Where messages stand as they are said, and what they are of.
SOURCES: dict[Domain, str] = {"daulat": "cli", "report": "evaluate/reports"}
WORDS: dict[Domain, str] = {"daulat": "terminal", "console": "page", "report": "reports"}

# Babel's tables lack Indonesian, which has one form for every number.
PLURAL_FORMS = {"en": "nplurals=2; plural=(n != 1);", "id": "nplurals=1; plural=0;"}

Said = str | tuple[str, str]


def said(domain: Domain) -> list[Said]:
    """Every message of a domain once, in the order of its sources; pairs have a plural."""
    found = _extracted(SOURCES[domain]) if domain in SOURCES else iter((*MESSAGES, *PLURALS))
    return list(dict.fromkeys(found))


def _extracted(folder: str) -> Iterator[Said]:
    methods = [("**.py", "python"), ("**.html", "jinja2")]
    extracted = extract_from_dir(FOLDER.parent / folder, methods, keywords=KEYWORDS)
    for _file, _line, message, _comments, _context in sorted(extracted, key=lambda x: x[:2]):
        yield message if isinstance(message, str) else (message[0], message[1])


def path(domain: Domain, language: str, suffix: str) -> Path:
    return FOLDER / language / "LC_MESSAGES" / f"{domain}.{suffix}"


def read(domain: Domain, language: str) -> Catalog:
    """The catalogue as it stands; an empty one where there is none."""
    file = path(domain, language, "po")
    if not file.exists():
        return Catalog(locale=language, project="daulat", version=__version__, domain=domain)
    with file.open("rb") as source:
        return read_po(source, locale=language, domain=domain)


def update(domain: Domain, language: str) -> Catalog:
    """The catalogue with exactly the messages that are said; translations are kept."""
    old = read(domain, language)
    new = Catalog(
        locale=language,
        domain=domain,
        project="daulat",
        version=old.version or __version__,
        copyright_holder="The Daulat authors",
        header_comment=f"# The words of Daulat's {WORDS[domain]}.",
        last_translator="Daulat",
        language_team="Daulat",
        creation_date=old.creation_date,
        revision_date=old.creation_date,
        fuzzy=False,
    )
    new.mime_headers = [("Plural-Forms", PLURAL_FORMS[language])]
    for message in said(domain):
        one = message if isinstance(message, str) else message[0]
        known = old.get(one)
        text = known.string if known is not None and not known.fuzzy else ""
        new.add(message, message if language == "en" else text)
    return new


def po(catalogue: Catalog) -> bytes:
    out = io.BytesIO()
    write_po(out, catalogue, width=100, no_location=True)
    return out.getvalue()


def mo(catalogue: Catalog) -> bytes:
    out = io.BytesIO()
    write_mo(out, catalogue)
    return out.getvalue()


def faults(catalogue: Catalog) -> list[str]:
    """What a translator still has to do: nothing may be missing, and values keep their places."""
    return [fault for message in catalogue if message.id for fault in _faults(message)]


def _faults(message: Message) -> Iterator[str]:
    strings = [message.string] if isinstance(message.string, str) else list(message.string)
    ids = [message.id] if isinstance(message.id, str) else list(message.id)
    if not strings or not all(strings):
        yield f"not translated: {ids[0]!r}"
        return
    allowed = [_places(text) for text in ids]
    for text in strings:
        if _places(text) not in allowed:
            yield f"other places for values than in {ids[0]!r}: {text!r}"


def _places(text: str) -> frozenset[str]:
    fields = {f"{{{name}}}" for _text, name, _spec, _conversion in Formatter().parse(text) if name}
    return frozenset(fields | set(re.findall(r"`[^`]+`", text)))


def main(check: bool) -> int:
    wrong: list[str] = []
    for domain in DOMAINS:
        for language in languages():
            catalogue = update(domain, language)
            wrong += [f"{language} {domain}: {fault}" for fault in faults(catalogue)]
            for suffix, data in (("po", po(catalogue)), ("mo", mo(catalogue))):
                file = path(domain, language, suffix)
                if not check:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(data)
                elif not file.exists() or file.read_bytes() != data:
                    wrong.append(f"{language} {domain}: the .{suffix} is old: run `make messages`")
    print("\n".join(wrong) or "All messages are translated.")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
