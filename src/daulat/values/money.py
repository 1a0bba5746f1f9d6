"""Money, exactly: amounts are whole numbers of a millionth of a millionth of the currency's unit.

A price of 0.0375 per million tokens is 37,500 of them a token, so every price with up to six decimals
per million is exact, sums are exact, and nothing is ever rounded. A 64-bit number holds nine million units
only, so databases keep an amount as two numbers, `parted`. Not here: who has how much (`record.ledger`),
where prices come from (`endpoints.prices`).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from daulat.values.answer import Usage

PER_UNIT = 10**12
MOST = 10**15 * PER_UNIT
"""The largest amount: a thousand million million of the currency, of whichever currency."""
_PER_MILLION = PER_UNIT // 10**6


@dataclass(frozen=True, slots=True)
class Rates:
    """Amounts a token: of a prompt, of an answer, of a prompt read from or written to a vendor's cache."""

    input: int
    output: int
    cached: int
    cache_write: int


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs.

    Attributes:
        tiers: (n, rates): for prompts of more than n tokens these rates hold for all tokens; n rising.
        request: an amount for each request, whatever its length.
    """

    rates: Rates
    tiers: tuple[tuple[int, Rates], ...] = ()
    request: int = 0

    def cost(self, usage: Usage) -> int:
        """What that usage costs. Cached and written tokens are part of the prompt's."""
        rates = self._rates(usage.prompt_tokens)
        fresh = max(0, usage.prompt_tokens - usage.cached_tokens - usage.cache_write_tokens)
        return (
            self.request
            + fresh * rates.input
            + usage.cached_tokens * rates.cached
            + usage.cache_write_tokens * rates.cache_write
            + usage.completion_tokens * rates.output
        )

    def bound(self, prompt_tokens: int, completion_tokens: int) -> int:
        """The most that up to so many tokens can cost, however they are cached."""
        every = [self.rates, *(rates for _, rates in self.tiers)]
        dearest = max(max(r.input, r.cached, r.cache_write) for r in every)
        output = max(r.output for r in every)
        return self.request + prompt_tokens * dearest + completion_tokens * output

    def _rates(self, prompt_tokens: int) -> Rates:
        chosen = self.rates
        for above, rates in self.tiers:
            if prompt_tokens > above:
                chosen = rates
        return chosen


FREE = Price(Rates(0, 0, 0, 0))


def amount(text: str | int | Decimal) -> int:
    """A decimal number of the currency's units as an amount.

    Raises:
        ValueError: not a number, negative, too large, or finer than an amount can be.
    """
    return _exact(text, PER_UNIT)


def per_million(text: str | int | Decimal) -> int:
    """A price per million tokens as an amount a token.

    Raises:
        ValueError: not a number, negative, too large, or of more than six decimals.
    """
    return _exact(text, _PER_MILLION)


def parted(amount: int) -> tuple[int, int]:
    """Whole units and the amount beyond them, which is below a unit: what columns hold."""
    return divmod(amount, PER_UNIT)


def joined(units: int, parts: int) -> int:
    """The amount of which `parted` made two numbers."""
    return units * PER_UNIT + parts


def shown(amount: int) -> str:
    """An amount as a plain decimal number of the currency's units, without trailing zeros."""
    whole, part = divmod(abs(amount), PER_UNIT)
    decimals = f"{part:012d}".rstrip("0")
    sign = "-" if amount < 0 else ""
    return f"{sign}{whole}.{decimals}" if decimals else f"{sign}{whole}"


def _exact(text: str | int | Decimal, scale: int) -> int:
    try:
        # The text of a number is taken at its word: 0.1 is a tenth, whatever a binary float makes of it.
        value = Decimal(str(text)) * scale
        made = int(value)
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is not a number") from error
    if made != value:
        raise ValueError(f"{text} has more decimals than can be kept exactly")
    if not 0 <= made <= MOST:
        raise ValueError(f"{text} is out of bounds")
    return made
