"""`daulat/auto`: which certificate a request falls under, and what that says of it.

A certificate holds for requests of its task, by its models, as long as nothing has changed. Whatever does not
meet that goes the safe way: the closed model first. Not here: what a router says (`route.learning`), whether a
place may have the text at all (the hall asks the policy after this), audits (`audits`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from daulat.errors import ModelNotFoundError, UnsupportedFieldError
from daulat.flow.cascading import Said
from daulat.route import Asked, Opinion, Rule, Target
from daulat.values.plan import Step
from daulat.values.request import ChatRequest, Request, Sampling, prompt_of

AUTO: Final = "daulat/auto"
HEADER: Final = "daulat-task"
"""The header that names the task of a request to `daulat/auto`."""
CATEGORY_HEADER: Final = "daulat-category"
"""The header that names its category, for routers that were fitted on categories."""

Way = Literal["judging", "kept", "escalated", "outside", "void", "alone"]
"""Not judged yet; the open model's answer; the closed model's; not what was certified; no longer certified;
the policy, or what is missing, leaves one model only."""

log = logging.getLogger(__name__)


def is_auto(name: str) -> bool:
    """Whether a request's model is chosen by a certificate."""
    return name == AUTO or name.startswith(AUTO + "/")


@dataclass(frozen=True, slots=True)
class Label:
    """What a client says of its request.

    Attributes:
        task: whose certificate it falls under; empty: the model's name says it, or the prompt's words.
        category: of the task's; empty: none.
    """

    task: str = ""
    category: str = ""


_NOTHING: Final = Asked("")
_TOLD: Final = frozenset({"logprob", "probe"})


@dataclass(slots=True)
class Ruling:
    """What a rule says of one request.

    Attributes:
        why: in a few words, where it is not the router that decided.
    """

    rule: Rule
    way: Way
    why: str = ""
    asked: Asked = _NOTHING
    opinion: Opinion | None = None

    @property
    def targets(self) -> tuple[Target, Target]:
        """Who is asked, in order."""
        cascade = self.way == "judging" and self.rule.mode == "cascade"
        first = cascade or self.way == "kept"
        pair = (self.rule.open, self.rule.closed)
        return pair if first else (pair[1], pair[0])

    def judge(self, said: Said) -> bool:
        """Whether the open model's answer is kept."""
        if not said.plain:
            self.way, self.why = "outside", "the open model's answer is not a text"
            return False
        if why := _untold(self.rule, said):
            self.way, self.why = "outside", why
            return False
        self.opinion = self.rule.opinion(
            replace(self.asked, answer=said.text, logprob=said.logprob, probe=said.probe)
        )
        self.way = "kept" if self.opinion.keep else "escalated"
        return self.opinion.keep

    def asking(self, request: ChatRequest) -> ChatRequest:
        """The request as it is asked: at the certified temperature, where the client has not chosen one."""
        if self.rule.temperature is None or not _unchosen(request.sampling):
            return request
        sampling = replace(request.sampling, temperature=self.rule.temperature)
        return replace(request, sampling=sampling)

    def listens(self, step: Step) -> frozenset[str]:
        """What the router needs to hear beside a step's answer, of `logprob` and `probe`."""
        return self.rule.needs & _TOLD if _is(step, self.rule.open) else frozenset()

    def planned(self, steps: Sequence[Step]) -> None:
        """Who may answer after all: the policy, a budget or a capability may leave one of the two."""
        first = self.targets[0]
        if len(steps) > 1 or (self.way != "judging" and _is(steps[0], first)):
            return
        self.way, self.why = "alone", f"only {steps[0].endpoint} may answer"

    def answered(self, step: Step) -> bool:
        """Whether it was the open model whose answer was given, because it was good enough.

        Args:
            step: who answered.
        """
        kept = _is(step, self.rule.open)
        if self.way == "escalated" and kept:
            self.why = "the closed model did not answer"
        if self.way == "kept" and not kept:
            self.why = "the open model did not answer"
        return self.way == "kept" and kept

    def void(self, why: str) -> None:
        """It is not certified what becomes of this request."""
        self.way, self.why = "void", why

    def told(self) -> dict[str, Any]:
        """For the record."""
        told: dict[str, Any] = {
            "task": self.rule.task,
            "certificate": self.rule.certificate,
            "way": self.way,
        }
        if self.opinion is not None:
            told["gain"] = round(self.opinion.gain, 6)
        return told | ({"why": self.why} if self.why else {})

    def __str__(self) -> str:
        """For a header: task, way, and what the closed model is expected to be better by."""
        gain = "" if self.opinion is None else f"; gain={self.opinion.gain:.3f}"
        return f"{self.rule.task}; {self.way}{gain}"


class Auto:
    """The certificates in force.

    Args:
        rules: one a task.
        voided: why a certificate does not hold any more, by its digest.
    """

    def __init__(self, rules: Sequence[Rule] = (), voided: Mapping[str, str] | None = None) -> None:
        self._rules = {rule.task: rule for rule in rules}
        self._voided = dict(voided or {})

    @property
    def names(self) -> tuple[str, ...]:
        """What a request can name; empty: there is no certificate."""
        tasks = tuple(f"{AUTO}/{task}" for task in self._rules)
        return (AUTO, *tasks) if tasks else ()

    def targets(self, name: str) -> tuple[Target, ...]:
        """Who may answer a name of these, the open one first."""
        task = name.removeprefix(AUTO).removeprefix("/")
        rules = [self._rules[task]] if task in self._rules else list(self._rules.values())
        return tuple(dict.fromkeys(t for rule in rules for t in (rule.open, rule.closed)))

    def follow(self, rules: Sequence[Rule]) -> None:
        """From now on these are in force, and no others."""
        self._rules = {rule.task: rule for rule in rules}

    def void(self, certificate: str, why: str) -> bool:
        """A certificate does not hold any more; whether that is new."""
        new = certificate not in self._voided
        if new:
            log.warning("a certificate is void", extra={"certificate": certificate, "why": why})
            self._voided[certificate] = why
        return new

    def voided(self, certificate: str) -> str | None:
        """Why a certificate does not hold; None: it does."""
        return self._voided.get(certificate)

    def ruling(self, request: ChatRequest, label: Label) -> Ruling:
        """What is to become of a request to `daulat/auto`.

        Raises:
            ModelNotFoundError: no certificate for that task, or none at all.
        """
        named = request.model.removeprefix(AUTO).removeprefix("/") or label.task
        prompt = prompt_of(request.messages)
        rule, belongs = self._found(named, prompt)
        asked = Asked(prompt, label.category)
        if (why := self._voided.get(rule.certificate)) is not None:
            return Ruling(rule, "void", why, asked)
        if not belongs:
            return Ruling(rule, "outside", "it does not look like the task", asked)
        if why := _unusual(request) or _unsaid(rule, label) or _warmer(rule, request):
            return Ruling(rule, "outside", why, asked)
        if rule.mode == "cascade":
            return Ruling(rule, "judging", "", asked)
        opinion = rule.opinion(asked)
        return Ruling(rule, "kept" if opinion.keep else "escalated", "", asked, opinion)

    def _found(self, named: str, prompt: str) -> tuple[Rule, bool]:
        """The rule of that name, or the one whose task the prompt is most like; and whether it is its."""
        if named:
            if named not in self._rules:
                there = ", ".join(self._rules) or "none"
                raise ModelNotFoundError(
                    f"There is no certificate for the task {named[:100]!r}; there are: {there}. "
                    "`daulat certify` makes one.",
                    param="model",
                )
            return self._rules[named], True
        if not self._rules:
            raise ModelNotFoundError(
                f"{AUTO} follows certificates, and there is none. `daulat certify` makes one; until "
                "then name a model.",
                param="model",
            )
        likely = max(self._rules.values(), key=lambda rule: rule.similarity(prompt))
        return likely, likely.similarity(prompt) >= likely.limit


def only_chats(request: Request) -> ChatRequest:
    """The request, if it is one that certificates speak of.

    Raises:
        UnsupportedFieldError: it is not a chat.
    """
    if isinstance(request, ChatRequest):
        return request
    raise UnsupportedFieldError(
        f"{AUTO} answers chats. Name a model for anything else.", param="model"
    )


def _is(step: Step, target: Target) -> bool:
    return (step.endpoint, step.model_id) == (target.endpoint, target.model)


def _unusual(request: ChatRequest) -> str:
    """What of a request was not certified; empty: nothing."""
    if request.tools is not None:
        return "it offers tools"
    if request.structure is not None:
        return "it asks for a form"
    if request.sampling.n > 1:
        return "it asks for several answers"
    if request.begun:
        return "its answer is begun already"
    if any(not isinstance(part, str) for message in request.messages for part in message.parts):
        return "it has pictures"
    return ""


def _unsaid(rule: Rule, label: Label) -> str:
    """What the router was fitted on and a request does not say; empty: nothing."""
    if "category" in rule.needs and not label.category:
        return f"it names no category ({CATEGORY_HEADER})"
    return ""


def _untold(rule: Rule, said: Said) -> str:
    """What the router was fitted on and the open model does not tell; empty: nothing."""
    if "logprob" in rule.needs and said.logprob is None:
        return "the open model tells no probabilities of its tokens"
    if "probe" in rule.needs and said.probe is None:
        return "the open model tells nothing of its hidden states"
    return ""


def _unchosen(sampling: Sampling) -> bool:
    """Whether the temperature is the usual one, which a client that does not care leaves out."""
    return sampling.temperature == Sampling().temperature


def _warmer(rule: Rule, request: ChatRequest) -> str:
    """Whether a client wants other answers than were certified; empty: it does not."""
    wanted = request.sampling.temperature
    if rule.temperature is None or wanted == rule.temperature or _unchosen(request.sampling):
        return ""
    return f"it asks for temperature {wanted:g}, and certified are answers at {rule.temperature:g}"


def changed(rule: Rule, steps: Sequence[Step]) -> str:
    """What of the models is not as it was certified; empty: nothing that can be seen."""
    for step in steps:
        digest = rule.digests.get(Target(step.endpoint, step.model_id))
        if digest is not None and digest != step.identity:
            return f"the model {step.model_id} has changed since it was certified"
    return ""
