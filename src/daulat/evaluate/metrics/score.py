"""What a metric is, and what it says. Not here: any metric."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from daulat.errors import RequestError
from daulat.evaluate.examples import Example

if TYPE_CHECKING:
    from daulat.evaluate.asking import Ask


@dataclass(frozen=True, slots=True)
class Score:
    """What an answer is worth.

    Attributes:
        value: 0 to 1.
        detail: why, in a few words: what was read out of the answer, which test failed.

    Raises:
        ValueError: a value out of bounds.
    """

    value: float
    detail: str = ""

    def __post_init__(self) -> None:
        if not 0.0 <= self.value <= 1.0:
            raise ValueError(f"a score of {self.value} is not from 0 to 1")


Scorer = Callable[[Example, str], Score | Awaitable[Score]]


@dataclass(frozen=True, slots=True)
class Tools:
    """What a scorer may use beyond the example. `ask`: an endpoint; None: it cannot ask any."""

    ask: Ask | None = None


@dataclass(frozen=True, slots=True)
class Option:
    """A way to change a metric. `choices`: the values that it takes; empty: any text."""

    default: str
    words: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Metric:
    """A row of the table.

    Attributes:
        words: what it does, in one line.
        make: a scorer out of all options' values. It raises RequestError where a value cannot be.
        references: whether it compares with the example's references.
        slow: it takes so long that it should not be waited for on the event loop.
    """

    name: str
    words: str
    make: Callable[[Mapping[str, str], Tools], Scorer]
    options: Mapping[str, Option] = field(default_factory=dict[str, Option])
    references: bool = True
    slow: bool = False


def references_of(example: Example, metric: str) -> tuple[str, ...]:
    """The example's references.

    Raises:
        RequestError: it has none, so nothing can be said of any answer.
    """
    if not example.references:
        raise RequestError(
            f"The example {example.id} has no reference, and the metric {metric} compares with one. Name the "
            "column that has it with --reference, or leave such examples out."
        )
    return example.references


def whole_number(options: Mapping[str, str], name: str, least: int, most: int) -> int:
    """An option as a number.

    Raises:
        RequestError: it is none, or out of bounds.
    """
    try:
        number = int(options[name])
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        raise RequestError(
            f"The option {name} is a number from {least} to {most}, not {options[name][:40]!r}.",
            param="option",
        )
    return number
