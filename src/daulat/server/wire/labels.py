"""The labels page's routes: which tasks can be labelled, and one person's session."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from daulat.server.wire.common import Incoming, Outgoing

Who = Annotated[str, Meta(min_length=1, max_length=64, description="Who labels.")]
Token = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
Point = Annotated[int, Meta(ge=0, le=100)]


class LabelBody(Incoming, frozen=True, kw_only=True):
    """A session, and what is done in it. Without `item` and `undo`: what comes next is asked for.

    `value` is 0 to 1: the score, or how far the answer shown first is preferred; null: cannot tell.
    """

    by: Who
    kind: Literal["pairwise", "score"]
    n: Annotated[int, Meta(ge=1, le=100_000, description="So many examples.")] = 50
    seed: Annotated[int, Meta(ge=0, le=2**31 - 1, description="Of their order.")] = 0
    low: Annotated[Point, Meta(description="Least points, where answers are scored.")] = 1
    high: Annotated[Point, Meta(description="Most points.")] = 5
    item: Token | None = None
    value: Annotated[float, Meta(ge=0, le=1)] | None = None
    seconds: Annotated[float, Meta(ge=0, le=86_400)] = 0.0
    undo: bool = False


class LabelItem(Outgoing, frozen=True, kw_only=True):
    """What is shown. Whose answers they are is not told."""

    item: str
    prompt: str
    references: list[str]
    answers: list[str]


class LabelState(Outgoing, frozen=True, kw_only=True):
    """`item` null: everything is labelled. `automatic`: of the `done`, those that nobody was asked about."""

    task: str
    examples: int
    done: int
    all: int
    automatic: int
    item: LabelItem | None


class LabelTask(Outgoing, frozen=True, kw_only=True):
    """A task with answers. `endpoints`: how many; `people`: who has labelled; `kind`, `scale`: what fits its
    metric."""

    name: str
    examples: int
    endpoints: int
    kind: Literal["pairwise", "score"]
    scale: str
    people: list[str]


class LabelTasks(Outgoing, frozen=True, kw_only=True):
    tasks: list[LabelTask]
    by: str
    """The name of the key: who labels, unless the person says another name."""
