"""Who may ask what, and where it may go: pure judgement over rules as data.

A verdict is made before any endpoint hears of the request. What is not allowed is refused. Not here: what is
in a text (`guard`), the order of what is allowed (`route`), budgets (`record.ledger`).
"""

from daulat.policy.callers import check_scope, may_use, must_use
from daulat.policy.gaps import Gap, gaps
from daulat.policy.places import Judgement, Verdict, judge, looks
from daulat.policy.rules import ORDER, Reach, Rules, highest, known

__all__ = [
    "ORDER",
    "Gap",
    "Judgement",
    "Reach",
    "Rules",
    "Verdict",
    "check_scope",
    "gaps",
    "highest",
    "judge",
    "known",
    "looks",
    "may_use",
    "must_use",
]
