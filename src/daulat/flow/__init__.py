"""The hall: one request's way, start to end.

    identify -> guard -> policy -> route -> record (opened, money reserved)
        -> attempts (endpoint, check) -> record (closed, money settled)

Nothing is answered that could not be recorded: a request is in the record before an endpoint hears of it, with
the most that it may cost set aside, and its answer is in the record before the last event goes out. If the
process dies between the two, the next start finds the open exchange, closes it as interrupted and books what
was set aside.

`hall` opens exchanges, `exchange` is one of them, `attempts` carries out its plan.
"""

from daulat.flow.attempt import Outcome, Times
from daulat.flow.auto import CATEGORY_HEADER, Auto, Label
from daulat.flow.auto import HEADER as TASK_HEADER
from daulat.flow.breakers import Health
from daulat.flow.exchange import Exchange
from daulat.flow.guarding import HEADER as CLASS_HEADER
from daulat.flow.hall import Answering, Hall
from daulat.flow.setup import Setup, setup

__all__ = [
    "CATEGORY_HEADER",
    "CLASS_HEADER",
    "TASK_HEADER",
    "Answering",
    "Auto",
    "Exchange",
    "Hall",
    "Health",
    "Label",
    "Outcome",
    "Setup",
    "Times",
    "setup",
]
