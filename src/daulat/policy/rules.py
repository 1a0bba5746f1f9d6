"""Rules as data: the classes of data in order, and the places that each may reach."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from daulat.errors import RequestError
from daulat.values.plan import ANYWHERE, THIS_MACHINE

ORDER = ("public", "internal", "personal", "secret")


@dataclass(frozen=True, slots=True)
class Reach:
    """Attributes:
    places: reached by the text as it is.
    redacted: reached when everything that was found is replaced by placeholders.
    """

    places: frozenset[str] = frozenset()
    redacted: frozenset[str] = frozenset()

    def as_is(self, place: str) -> bool:
        """Whether a text of the class may go there as it is; it may always stay here."""
        return place == THIS_MACHINE or bool(self.places & {place, ANYWHERE})

    def replaced(self, place: str) -> bool:
        """Whether it may go there with placeholders."""
        return bool(self.redacted & {place, ANYWHERE})


NOWHERE = Reach()


@dataclass(frozen=True, slots=True)
class Rules:
    """Where data may go. Nowhere but here, unless a user says so.

    Attributes:
        lock: nothing leaves this machine, whatever else is said.
        order: all classes, the least delicate first.
        default: the class of a text in which nothing is found and for which nothing is declared.
        unread: the class of what cannot be looked through: pictures, prompts of token ids.
        reach: by class; a class that is not here stays on this machine.
    """

    lock: bool = False
    order: tuple[str, ...] = ORDER
    default: str = "internal"
    unread: str = "personal"
    reach: Mapping[str, Reach] = field(default_factory=dict[str, Reach])

    def of(self, data_class: str) -> Reach:
        """What a class may reach."""
        return NOWHERE if self.lock else self.reach.get(data_class, NOWHERE)


def highest(rules: Rules, classes: Iterable[str]) -> str:
    """The most delicate of some classes; one that the rules do not know is above all that they know."""

    def rank(name: str) -> int:
        return rules.order.index(name) if name in rules.order else len(rules.order)

    return max(classes, key=rank)


def known(rules: Rules, data_class: str, param: str) -> str:
    """A class that a client declares.

    Raises:
        RequestError: the rules have no such class.
    """
    if data_class not in rules.order:
        raise RequestError(
            f"There is no data class `{data_class[:64]}`: the policy has {', '.join(rules.order)}.",
            param=param,
        )
    return data_class
