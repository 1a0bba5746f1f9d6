"""From the name that a client asks for to an ordered plan: pure, and the same for the same input.

`names` finds the steps that a name stands for, `needs` leaves out those that cannot honour the request,
`order` puts them in order. Not here: whether a step is permitted (`policy`), whether it is in good health
(`flow.breakers`).
"""

from daulat.route.names import Route, Target, names, targets
from daulat.route.needs import able, needs
from daulat.route.order import plan
from daulat.route.rule import Asked, Opinion, Rule

__all__ = [
    "Asked",
    "Opinion",
    "Route",
    "Rule",
    "Target",
    "able",
    "names",
    "needs",
    "plan",
    "targets",
]
