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
        gain: what the closed model's answer would score more, as the router expects; of right and wrong
            answers, how much more probable a right one is.
    """

    keep: bool
    gain: float


@dataclass(frozen=True, slots=True)
class Asked:
    """What a router is shown of a request.

    Attributes:
        category: as the client names it; empty: it does not.
        answer: the open model's; None: it has not been asked.
        logprob: the mean natural-log probability of its tokens; None: not told.
        probe: figures of the hidden states that it was written from; None: not told.
    """

    prompt: str
    category: str = ""
    answer: str | None = None
    logprob: float | None = None
    probe: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """A certificate in force.

    Attributes:
        certificate: its digest.
        mode: whether the router judges the prompt alone, or the open model's answer too.
        open, closed: who answers.
        digests: what the two models were when it was certified, see `values.plan.Step.identity`.
        needs: `category`, `logprob` or `probe`: without it a request is not like those that were certified.
        temperature: at which the certified answers were asked for; None: not known.
        opinion: the router at the certified threshold.
        similarity: how much a prompt looks like the task's; `limit`: the least of what belongs to it.
        agrees: whether the closed model's answer (the second) says the same as the open model's.
        loss: the share of requests whose kept answer may disagree, as the certificate's examples bound it;
            None: they had no answers, and nothing is audited.
        delta: the chance of an alarm though no more do.
    """

    task: str
    certificate: str
    mode: Mode
    open: Target
    closed: Target
    digests: Mapping[Target, str]
    needs: frozenset[str]
    temperature: float | None
    opinion: Callable[[Asked], Opinion]
    similarity: Callable[[str], float]
    limit: float
    agrees: Callable[[str, str], bool]
    loss: float | None
    delta: float = 0.025
