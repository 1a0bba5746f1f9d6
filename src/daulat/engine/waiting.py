"""Who waits for a place, and whose turn it is: fair among tenants, in order of arrival for each of them.

The turn is that of the tenant who has the fewest at work, so that one who sends a thousand requests does not
make the others wait for all of them. Who had a place and was pushed out comes before all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from daulat.engine.sequence import GenerationSequence


class Waiting:
    """Sequences by tenant."""

    def __init__(self) -> None:
        self._tenants: dict[str, list[GenerationSequence]] = {}
        self._arrivals = 0

    def __len__(self) -> int:
        return sum(map(len, self._tenants.values()))

    def __iter__(self) -> Iterator[GenerationSequence]:
        for line in self._tenants.values():
            yield from line

    def add(self, sequence: GenerationSequence) -> None:
        """Last of its tenant's."""
        sequence.arrival = self._arrivals
        self._arrivals += 1
        self._tenants.setdefault(sequence.tenant, []).append(sequence)

    def put_back(self, sequence: GenerationSequence) -> None:
        """First of its tenant's, and of all."""
        self._tenants.setdefault(sequence.tenant, []).insert(0, sequence)

    def turn(
        self,
        running: Iterable[GenerationSequence],
        may: Callable[[GenerationSequence], bool],
    ) -> GenerationSequence | None:
        """Whose turn it is, among the first of each tenant's for whom `may` holds."""
        at_work = Counter(sequence.tenant for sequence in running)
        firsts = (next(filter(may, line), None) for line in self._tenants.values())
        return min(
            (first for first in firsts if first is not None),
            key=lambda s: (not s.was_admitted, at_work[s.tenant], s.arrival),
            default=None,
        )

    def remove(self, sequence: GenerationSequence) -> None:
        line = self._tenants[sequence.tenant]
        line.remove(sequence)
        if not line:
            del self._tenants[sequence.tenant]
