"""What names stand for and what models cost now, as whoever evaluates is told it.

Not here: how that is found out (`house.directory`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from daulat.policy import Rules
from daulat.route import Target
from daulat.values.money import FREE, Price
from daulat.values.plan import THIS_MACHINE, EndpointCard


@dataclass(frozen=True, slots=True)
class Directory:
    """What is known of endpoints now.

    Attributes:
        meant: which models a name stands for; empty: none.
        cards: of all endpoints, by name.
        rules: which data may go where.
    """

    meant: Callable[[str], tuple[Target, ...]]
    cards: Mapping[str, EndpointCard]
    rules: Rules = field(default_factory=Rules)

    def price(self, target: Target) -> Price | None:
        """What a model costs now; None: nobody says."""
        card = self.cards.get(target.endpoint)
        if card is None:
            return None
        if not card.offers:
            return FREE
        offer = card.offers.get(target.model)
        return offer.price if offer else None

    def bars(self, target: Target, data_class: str) -> bool:
        """Whether texts of a class may not go where a model is, as they are or with placeholders."""
        card = self.cards.get(target.endpoint)
        if card is None or not data_class or card.place == THIS_MACHINE:
            return False
        reach = self.rules.of(data_class)
        return not (reach.as_is(card.place) or reach.replaced(card.place))
