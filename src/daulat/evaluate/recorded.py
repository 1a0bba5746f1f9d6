"""Examples out of recorded traffic: what was really asked, as far as its contents were kept.

A conversation that grew turn by turn is many exchanges of one cluster: those of one key whose first user's
turn is the same. What comparisons and audits asked is no traffic and is left out. Not here: files (`rows`),
what is done with the examples (`adding`, `traffic`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

from daulat.canon import canonical, digest
from daulat.evaluate.examples import MAX_EXAMPLES, MAX_MESSAGES, MAX_TEXT, Example
from daulat.record import Entry, Record
from daulat.record.transcript import AUDITING, conversation
from daulat.route import Target
from daulat.values.request import Message

COMPARING: Final = "compare-"
"""How the ids begin under which comparisons ask (`asking`)."""
NOT_KEPT: Final = "contents not kept"
"""Why an exchange is no example whose texts are not there."""
ANSWER: Final = "answer"
"""The field of an example that has the recorded answer."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which exchanges. What is empty does not matter.

    Attributes:
        keys: ids of keys, any of them.
        since: a day, `2026-01-31` (UTC), counted.
        data_class: that class and no other.
        most: so many of the newest.
    """

    model: str = ""
    keys: frozenset[str] = frozenset()
    since: str = ""
    data_class: str = ""
    most: int = 10_000

    def told(self) -> dict[str, Any]:
        """As JSON, what is empty left out."""
        every = {
            "model": self.model,
            "keys": sorted(self.keys),
            "since": self.since,
            "class": self.data_class,
            "most": self.most,
        }
        return {name: value for name, value in every.items() if value}


@dataclass(frozen=True, slots=True)
class Found:
    """Attributes:
    left_out: how many of those that were wanted are no examples, and why.
    """

    examples: tuple[Example, ...]
    left_out: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class Passed:
    """One exchange that is an example, with both of its ends."""

    example: Example
    opened: Entry
    closed: Entry


def recorded(record: Record, wanted: Wanted) -> Found:
    """Examples out of the newest exchanges that are wanted, oldest first; what was asked twice once.

    Raises:
        RecordError: the record cannot be read.
    """
    examples: list[Example] = []
    left_out: Counter[str] = Counter()
    seen: set[tuple[Message, ...]] = set()
    for one in passed(record, wanted, left_out):
        if one.example.messages in seen:
            left_out["asked again"] += 1
            continue
        seen.add(one.example.messages)
        examples.append(one.example)
        if len(examples) >= min(wanted.most, MAX_EXAMPLES):
            break
    return Found(tuple(reversed(examples)), left_out)


def passed(
    record: Record,
    wanted: Wanted,
    left_out: Counter[str],
    looked: Callable[[], None] = lambda: None,
) -> Iterator[Passed]:
    """The exchanges that are wanted and can be examples, newest first, without end but the record's.

    Args:
        left_out: why others are none is counted there.
        looked: is told of each exchange that is looked at.

    Raises:
        RecordError: the record cannot be read.
    """
    for opened in record.entries(kind="exchange.opened", newest_first=True):
        if wanted.since and opened.time[:10] < wanted.since:
            return
        looked()
        if not _wanted(opened, wanted):
            continue
        found = _passed(record, opened)
        if isinstance(found, str):
            left_out[found] += 1
        else:
            yield found


def _wanted(opened: Entry, wanted: Wanted) -> bool:
    body = opened.body
    key = str(body.get("key", ""))
    if wanted.keys:
        if key not in wanted.keys:
            return False
    elif key.startswith(COMPARING):
        return False
    if str(body["plan"].get("reason", "")).startswith(AUDITING):
        return False
    return (
        body.get("kind") == "chat"
        and (not wanted.model or wanted.model in _names(body))
        and (not wanted.data_class or body.get("class", "") == wanted.data_class)
    )


def _names(body: Mapping[str, Any]) -> Iterator[str]:
    """What an exchange's model may be called: by its own name, with its adapter, with its endpoint."""
    adapter = body.get("adapter")
    model = f"{body['model']}:{adapter}" if adapter else str(body["model"])
    yield model
    for step in body["plan"]["steps"][:1]:
        yield f"{step['endpoint']}/{model}"


def answered_by(opened: Entry, closed: Entry) -> Target:
    """Whose answer was given: the last that was tried and did not fail."""
    attempts = cast("Sequence[Mapping[str, Any]]", closed.body.get("attempts") or ())
    good = [
        Target(str(one["endpoint"]), str(one["model"])) for one in attempts if "error" not in one
    ]
    return good[-1] if good else target_of(opened.body["plan"]["steps"][0])


def target_of(step: Mapping[str, Any]) -> Target:
    """The model of a plan's step as the record has it, with its adapter."""
    adapter = step.get("adapter")
    model = f"{step['model']}:{adapter}" if adapter else str(step["model"])
    return Target(str(step["endpoint"]), model)


def _passed(record: Record, opened: Entry) -> Passed | str:
    """The exchange, or why it is no example."""
    both = record.exchange(opened.subject)
    if both is None or both.closed is None or both.closed.body.get("status") != "ok":
        return "not answered"
    request = record.contents(opened).get("request")
    answer = record.contents(both.closed).get("answer")
    if request is None or answer is None:
        return NOT_KEPT
    messages = conversation(request)
    if "tools" in request or "structure" in request or "tool_calls" in answer or _rich(messages):
        return "with tools, pictures or a structure"
    if not messages or messages[-1].role == "assistant" or not messages[-1].content.strip():
        return "nothing to answer"
    if len(messages) > MAX_MESSAGES or any(len(m.content) > MAX_TEXT for m in messages):
        return "too long"
    bare = tuple(Message(m.role, m.content) for m in messages)
    example = Example(
        id=opened.subject,
        messages=bare,
        cluster=_cluster(str(opened.body.get("key", "")), bare),
        data_class=str(opened.body.get("class", "")),
        fields={
            ANSWER: str(answer["choices"][0]),
            "answered_by": answered_by(opened, both.closed).model,
        },
    )
    return Passed(example, opened, both.closed)


def _rich(messages: tuple[Message, ...]) -> bool:
    return any(m.parts or m.tool_calls or m.role == "tool" for m in messages)


def _cluster(key: str, messages: tuple[Message, ...]) -> str:
    first = next((m.content for m in messages if m.role == "user"), "")
    return digest(canonical([key, first]))[7:23]
