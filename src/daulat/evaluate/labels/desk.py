"""One person labels: what comes next, what was said, one step back.

The same for the terminal and for the browser. Everything is in the file of labels, so that a session goes on
where it was stopped, wherever that was. Not here: how it looks.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from daulat.errors import RequestError
from daulat.evaluate.judges.verdicts import FIVE, Scale
from daulat.evaluate.labels.book import (
    MAX_NAME,
    Kind,
    Label,
    Labels,
    Withdrawal,
    answer_digest,
    now,
)
from daulat.evaluate.labels.sheet import MAX_SEED, Item, Sheet, items

USUAL: Final = 50
MAX_SECONDS: Final = 86_400.0
MOST: Final = 100_000


@dataclass(frozen=True, slots=True)
class Session:
    """Who labels what.

    Attributes:
        by: who; labels of one name are one person's.
        drawn: so many examples.
        scale: of points, where answers are scored.
        key: whose key the person came with; empty: from the terminal.
    """

    by: str
    kind: Kind
    drawn: int = USUAL
    seed: int = 0
    scale: Scale = FIVE
    key: str = ""

    def __post_init__(self) -> None:
        name = self.by.strip()
        if not name or len(name) > MAX_NAME or not name.isprintable():
            raise RequestError(
                f"Say who labels: a name of 1 to {MAX_NAME} characters in one line.", param="by"
            )
        if not 1 <= self.drawn <= MOST:
            raise RequestError(f"1 to {MOST} examples can be labelled.", param="n")
        if not 0 <= self.seed <= MAX_SEED:
            raise RequestError(f"A seed is a whole number from 0 to {MAX_SEED}.", param="seed")


@dataclass(frozen=True, slots=True)
class Progress:
    """Attributes: `done` of `all` things that are shown are labelled (or left); `automatic` of these by
    nobody."""

    done: int
    all: int
    automatic: int


class Desk:
    """A person's session.

    Raises:
        RequestError: two answers are to be compared, and there is one endpoint.
    """

    def __init__(self, sheet: Sheet, session: Session) -> None:
        self.sheet = sheet
        self.session = session
        self._labels = Labels(sheet.folder)
        if session.kind == "pairwise" and len(sheet.outcomes.endpoints) < 2:
            raise RequestError(
                f"{sheet.name} has answers of one endpoint: score them, or compare two endpoints first.",
                param="kind",
            )
        self._items = {token(item): item for item in self._drawn()}

    def next(self) -> Item | None:
        """What to label now; None: everything is. What needs nobody is labelled on the way: two equal answers
        are a tie, and the words that two endpoints share are scored once."""
        said = {_token_of(one): one for one in self._mine()}
        for name, item in self._items.items():
            if name in said:
                continue
            known = self._known(item, said.values())
            if known is None:
                return item
            label = self._label(item, known.value, 0.0, automatic=True)
            self._labels.add([label])
            said[name] = label
        return None

    def item(self, name: str) -> Item:
        """The item of that token.

        Raises:
            RequestError: there is none: the answers are newer than what is shown.
        """
        found = self._items.get(name)
        if found is None:
            raise RequestError(
                "These answers are not the ones that are labelled now: load the page again.",
                param="item",
            )
        return found

    def put(self, item: Item, value: float | None, seconds: float = 0.0) -> Label:
        """Keep what was said of an item. Said again, it replaces what was said before.

        Args:
            value: 0 to 1: the score, or how far what was shown first is preferred; None: cannot tell.

        Raises:
            RequestError: a value out of bounds.
            DataError: it cannot be written.
        """
        if value is not None and not 0 <= value <= 1:
            raise RequestError("A label is from 0 to 1.", param="value")
        time = seconds if math.isfinite(seconds) else 0.0
        label = self._label(item, value, min(max(time, 0.0), MAX_SECONDS))
        earlier = [one for one in self._mine() if _token_of(one) == token(item)]
        self._labels.add([*self._withdrawn(earlier), label])
        return label

    def undo(self) -> Item | None:
        """Take back the last label that the person gave, with those that followed from it; None: there is
        none."""
        given = [one for one in self._mine() if _token_of(one) in self._items]
        for label in reversed(given):
            if not label.automatic:
                self._labels.add(self._withdrawn([label]))
                return self._items[_token_of(label)]
        return None

    def progress(self) -> Progress:
        """How far the person has come."""
        mine = [one for one in self._mine() if _token_of(one) in self._items]
        return Progress(len(mine), len(self._items), sum(one.automatic for one in mine))

    def _drawn(self) -> Iterator[Item]:
        order, asked = self.sheet.order(self.session.seed), self.session
        for place, row in enumerate(order[: asked.drawn]):
            yield from items(self.sheet, asked.kind, asked.by, asked.seed, asked.drawn, row, place)

    def _mine(self) -> list[Label]:
        kind, by = self.session.kind, self.session.by
        return [one for one in self._labels.all() if one.by == by and one.kind == kind]

    def _known(self, item: Item, said: Iterable[Label]) -> _Known | None:
        """What need not be asked."""
        if item.kind == "pairwise":
            return _Known(0.5) if item.answers[0] == item.answers[1] else None
        own = answer_digest(item.answers[0])
        same = (one for one in said if one.example == item.example and one.answers == (own,))
        return next((_Known(one.value) for one in same), None)

    def _label(
        self, item: Item, value: float | None, seconds: float, *, automatic: bool = False
    ) -> Label:
        asked = self.session
        return Label(
            id=f"label-{secrets.token_hex(8)}",
            time=now(),
            by=asked.by,
            key=asked.key,
            kind=item.kind,
            example=item.example,
            endpoints=item.endpoints,
            answers=tuple(answer_digest(one) for one in item.answers),
            value=value,
            scale=str(asked.scale) if item.kind == "score" else "",
            draw=item.draw,
            automatic=automatic,
            seconds=round(seconds, 1),
        )

    def _withdrawn(self, labels: Sequence[Label]) -> list[Withdrawal]:
        """Labels taken back, and with each of them those of the same example that nobody was asked for."""
        examples = {one.example for one in labels}
        taken = {one.id for one in labels}
        followed = (one for one in self._mine() if one.automatic and one.example in examples)
        return [Withdrawal(one, now(), self.session.by) for one in taken | {f.id for f in followed}]


@dataclass(frozen=True, slots=True)
class _Known:
    value: float | None


def token(item: Item) -> str:
    """By what an item is known: its example, and whose answers with which words; it tells nobody whose."""
    digests = (answer_digest(one) for one in item.answers)
    return _token(item.example, zip(item.endpoints, digests, strict=True))


def _token_of(label: Label) -> str:
    return _token(label.example, zip(label.endpoints, label.answers, strict=True))


def _token(example: str, answers: Iterable[tuple[str, str]]) -> str:
    # The order in which they are shown is no part of it.
    text = "\0".join((example, *sorted(map("\0".join, answers))))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
