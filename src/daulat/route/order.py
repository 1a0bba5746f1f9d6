"""The order in which steps are tried."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from daulat.values.plan import Plan, Step


def plan(
    steps: Sequence[Step],
    reason: str,
    weights: Sequence[float] = (),
    hedge: float = 0.0,
    random: Callable[[], float] = lambda: 0.0,
) -> Plan:
    """The steps in the order given, or, with weights, each the first in proportion to its weight.

    What is not first follows by the same rule among the rest, so that an endpoint that fails hands its share
    to the others in their proportion.

    Args:
        steps: at least one, all of them permitted.
        weights: above 0, as many as steps; empty: the order given.
        random: uniform in [0, 1); called once for each place but the last.
    """
    if not weights:
        return Plan(tuple(steps), reason, hedge)
    left = list(zip(steps, weights, strict=True))
    chosen: list[Step] = []
    while len(left) > 1:
        mark = random() * sum(weight for _, weight in left)
        index = 0
        while index < len(left) - 1 and mark >= left[index][1]:
            mark -= left[index][1]
            index += 1
        chosen.append(left.pop(index)[0])
    chosen.append(left[0][0])
    return Plan(tuple(chosen), reason, hedge)
