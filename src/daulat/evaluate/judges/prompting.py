"""The words in which a judge is asked: the sections of `prompts/*.txt`, filled with fenced material.

What an endpoint answered is a stranger's text. It stands between two lines with a code that is made of all
the material, so that no text can hold the line that ends it, and the judge is told that nothing in between
speaks to it. Not here: how the reply is read (`verdicts`).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from string import Template
from typing import Final, Literal

from daulat.canon import canonical
from daulat.errors import RequestError
from daulat.evaluate.examples import Example
from daulat.evaluate.judges.verdicts import FIRST, FIVE, SECOND, TIE, Scale
from daulat.values.request import Message, Structure

Way = Literal["choice", "logprobs", "json", "words"]
"""How a verdict is told: by the probabilities of a letter that an endpoint is held to (`choice`) or is asked
for (`logprobs`), in JSON, or in the last line."""

MAX_CRITERIA: Final = 50_000
_MOST_REFERENCES: Final = 3
_PARAM: Final = "verdict"


@dataclass(frozen=True, slots=True)
class Question:
    """What a judge is asked, in one way of telling.

    Attributes:
        choices: the texts that are a verdict's first token; empty: verdicts are longer than a token.
        structure: the form that the reply must have; None: any.
    """

    messages: tuple[Message, ...]
    choices: tuple[str, ...]
    structure: Structure | None


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for all verdicts of a judge.

    Attributes:
        criteria: what counts, in the words of the task's author; empty: what usually does.
        ties: whether two answers may be equally good.
        reasons: whether the judge says why before it judges.
        scale: of points.
    """

    criteria: str = ""
    ties: bool = True
    reasons: bool = False
    scale: Scale = FIVE

    def __post_init__(self) -> None:
        if len(self.criteria) > MAX_CRITERIA:
            raise RequestError(
                f"The rubric has {len(self.criteria)} characters; {MAX_CRITERIA} are the most.",
                param="rubric",
            )


def pairwise(rules: Rules, way: Way, example: Example, first: str, second: str) -> Question:
    """Which of two answers is better."""
    say = _Words("pairwise", {"code": _code(example, first, second)})
    letters = (FIRST, SECOND, TIE) if rules.ties else (FIRST, SECOND)
    told = "json" if way == "json" else "words" if way == "words" else "choice"
    tie = say("json tie" if way == "json" else "tie") if rules.ties else ""
    body = (
        *_material(say, example, rules),
        say("first", text=first),
        say("second", text=second),
        *_reason(say, rules, way),
        say(told, tie=tie),
    )
    structure = _structure(way, rules, "verdict", letters)
    return Question(_messages(say("system"), body), letters, structure)


def rubric(rules: Rules, way: Way, example: Example, answer: str) -> Question:
    """How many points an answer gets."""
    scale = rules.scale
    code = _code(example, answer)
    say = _Words("rubric", {"code": code, "low": str(scale.low), "high": str(scale.high)})
    told = "json" if way == "json" else "words" if way == "words" else "choice"
    body = (
        *_material(say, example, rules),
        *(() if rules.criteria else (say("usual"),)),
        say("answer", text=answer),
        *_reason(say, rules, way),
        say(told),
    )
    choices = tuple(str(value) for value in scale.values) if scale.high < 10 else ()
    structure = _structure(way, rules, "score", list(scale.values))
    return Question(_messages(say("system"), body), choices, structure)


class _Words:
    """The sections of one file, filled."""

    def __init__(self, name: str, values: Mapping[str, str]) -> None:
        self._sections = _sections(name)
        self._values = values

    def __call__(self, section: str, **more: str) -> str:
        # One pass: what is filled in is not looked at again.
        return Template(self._sections[section]).substitute(self._values, **more)


@functools.cache
def _sections(name: str) -> Mapping[str, str]:
    """A file's sections by their names; each begins with a line `== NAME`."""
    text = files("daulat.evaluate.judges").joinpath("prompts", f"{name}.txt").read_text("utf-8")
    found: dict[str, str] = {}
    for part in text.removeprefix("== ").split("\n== "):
        title, _, body = part.partition("\n")
        found[title.strip()] = body.strip()
    return found


def _material(say: _Words, example: Example, rules: Rules) -> Sequence[str]:
    """What stands before the answers."""
    references = example.references[:_MOST_REFERENCES]
    return (
        *((say("criteria", text=rules.criteria.strip()),) if rules.criteria.strip() else ()),
        say("request", text=asked(example)),
        *(say("reference", text=one) for one in references),
    )


def asked(example: Example) -> str:
    """The request as a judge reads it: one message as it is, more of them with their roles."""
    if len(example.messages) == 1:
        return example.messages[0].content
    return "\n\n".join(f"{one.role}: {one.content}" for one in example.messages)


def _reason(say: _Words, rules: Rules, way: Way) -> Sequence[str]:
    return (say("reason"),) if rules.reasons and way == "json" else ()


def _messages(system: str, body: Sequence[str]) -> tuple[Message, ...]:
    return Message("system", system), Message("user", "\n\n".join(body))


def _structure(
    way: Way, rules: Rules, name: str, values: Sequence[str] | Sequence[int]
) -> Structure | None:
    if way == "choice":
        return Structure("choice", tuple(str(value) for value in values), _PARAM)
    if way != "json":
        return None
    kind = "string" if isinstance(values[0], str) else "integer"
    fields: dict[str, object] = {"reason": {"type": "string"}} if rules.reasons else {}
    fields[name] = {"type": kind, "enum": list(values)}
    schema = {
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }
    return Structure("json", schema, _PARAM, name=name, strict=True)


def _code(example: Example, *answers: str) -> str:
    """Twelve digits that stand nowhere in the material: of its digest, so that the same is asked the same."""
    texts = [*(one.content for one in example.messages), *example.references, *answers]
    turn = 0
    while True:
        code = hashlib.sha256(canonical([turn, *texts])).hexdigest()[:12]
        if not any(code in text for text in texts):
            return code
        turn += 1
