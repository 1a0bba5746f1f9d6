"""`judge:pairwise` and `judge:rubric`: answers that another endpoint judges. Rows of the table, for their
options.

A judge is asked as endpoints are, with a budget and a record, so these metrics make no scorer of a single
answer: what a comparison does with them is in `daulat.evaluate.judges`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from daulat.errors import RequestError
from daulat.evaluate.examples import Example
from daulat.evaluate.judges.judge import AUTO, WAYS
from daulat.evaluate.judges.prompting import Rules
from daulat.evaluate.judges.verdicts import scale_of
from daulat.evaluate.metrics.score import Metric, Option, Score, Scorer, Tools, whole_number

PAIRWISE: Final = "judge:pairwise"
RUBRIC: Final = "judge:rubric"
MAX_TOKENS: Final = 32_768

_COMMON: Final = {
    "judge": Option("", "the model that judges, as requests name it"),
    "rubric": Option("", "what counts; `--rubric FILE` reads it from a file"),
    "reasons": Option("no", "whether the judge says why before it judges", ("yes", "no")),
    "way": Option(AUTO, "how verdicts are told", (AUTO, *WAYS)),
    "max_tokens": Option("1024", "the longest reply, but for single letters"),
}


def rules_of(name: str, options: Mapping[str, str]) -> Rules:
    """What holds for a metric's verdicts.

    Raises:
        RequestError: nobody judges, or a value is out of bounds.
    """
    if not options["judge"].strip():
        raise RequestError(
            f"The metric {name} needs a judge: name a model with --judge, any that `daulat models list` or "
            "`daulat endpoints list` shows.",
            param="judge",
        )
    whole_number(options, "max_tokens", 1, MAX_TOKENS)
    pairwise = name == PAIRWISE
    return Rules(
        criteria=options["rubric"],
        ties=pairwise and options["ties"] == "yes",
        reasons=options["reasons"] == "yes",
        scale=scale_of("1-5" if pairwise else options["scale"]),
    )


def _scorer(name: str) -> Metric:
    def make(options: Mapping[str, str], _tools: Tools) -> Scorer:
        rules_of(name, options)

        def score(example: Example, _answer: str) -> Score:
            raise RequestError(
                f"{name} judges the answers of a whole comparison, and not one of {example.id} alone: "
                "`daulat compare` asks the judge."
            )

        return score

    if name == PAIRWISE:
        words = "a judge says which of two answers is better, in both orders"
        own = {"ties": Option("yes", "whether two answers may be equally good", ("yes", "no"))}
    else:
        words = "a judge gives points by a rubric"
        own = {"scale": Option("1-5", "the points, whole numbers: LOW-HIGH")}
    return Metric(name, words, make, {**_COMMON, **own}, references=False)


METRICS: Final = (_scorer(PAIRWISE), _scorer(RUBRIC))
