"""What a certificate says of requests, as the hall follows it.

Not here: the certificate and its making (`evaluate.certifying`), who keeps an eye on it (`flow.audits`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from daulat.route.names import Target

Mode = Literal["before", "cascade"]


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a router says of one request.

    Attributes:
        keep: the open model's answer is good enough.
        probability: that the closed model would do better, as the router estimates it.
    """

    keep: bool
    probability: float


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """A certificate in force.

    Attributes:
        certificate: its digest.
        mode: whether the router judges the prompt alone, or the open model's answer too.
        open, closed: who answers.
        digests: what the models of this machine were when it was certified, by endpoint and model.
        opinion: the router at the certified threshold, of a prompt, an answer and its mean log-probability.
        similarity: how much a prompt looks like the task's; `limit`: the least of what belongs to it.
        agrees: whether the closed model's answer (the second) says the same as the open model's.
        loss: the share of requests whose kept answer may disagree, from the certificate's audit.
        delta: the chance of an alarm though no more do.
    """

    task: str
    certificate: str
    mode: Mode
    open: Target
    closed: Target
    digests: Mapping[Target, str]
    opinion: Callable[[str, str | None, float | None], Opinion]
    similarity: Callable[[str], float]
    limit: float
    agrees: Callable[[str, str], bool]
    loss: float
    delta: float = 0.05
