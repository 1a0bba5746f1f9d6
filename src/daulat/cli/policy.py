"""`daulat policy`: where a text may go and why, and what the rules say in plain words.

Asked of the same functions as a request is (`flow.guarding`, `policy`), so what is told is what happens. The
text is shown nowhere but in its redacted form, and nothing is recorded.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from daulat.cli import say
from daulat.cli.shell import OrderedGroup, common, opened_record, settings
from daulat.cli.words import _

if TYPE_CHECKING:
    from daulat.flow.guarding import Guarded
    from daulat.flow.setup import Setup
    from daulat.guard.scan import Scan
    from daulat.policy import Gap, Judgement, Rules
    from daulat.settings import Policy, Settings
    from daulat.values.plan import Caller, EndpointCard


@click.group(cls=OrderedGroup, help=_("Which data may go where, and why."))
@common
def policy() -> None:
    pass


# --- explain --------------------------------------------------------------------------------------


@policy.command(
    "explain",
    help=_(
        "What is found in a text, and which endpoints may see it. `-` reads the text from standard input, "
        "which keeps it out of the shell's history."
    ),
)
@click.argument("text")
@click.option("--key", metavar="ID", help=_("As if this key asked; see `daulat keys list`."))
@click.option("--project", metavar=_("NAME"), help=_("As if a key of this project asked."))
@click.option(
    "--class", "declared", metavar=_("NAME"), default="", help=_("As if the client declared it.")
)
@click.option("--model", metavar=_("NAME"), help=_("Only the endpoints that answer for this name."))
@click.option("--json", "as_json", is_flag=True, help=_("As JSON, for other programs."))
@common
def explain(
    text: str,
    key: str | None,
    project: str | None,
    declared: str,
    model: str | None,
    as_json: bool,
) -> None:
    from daulat.endpoints.remote.build import all_cards

    said = sys.stdin.read() if text == "-" else text
    chosen = settings()
    cards = all_cards(chosen)
    found = asyncio.run(
        _explained(said, chosen, cards, _caller(key, project), declared.lower(), model)
    )
    if as_json:
        say.as_json(found.told())
    else:
        _show(found, chosen.policy.lock)


@dataclass(frozen=True, slots=True)
class _Explained:
    """What came of it. `redacted`: the text with placeholders, where anything was found."""

    guarded: Guarded
    scan: Scan
    endpoints: Sequence[tuple[EndpointCard, Judgement]]
    redacted: str | None

    def told(self) -> dict[str, Any]:
        return {
            "class": self.guarded.data_class,
            "found": [
                {
                    "kind": one.kind,
                    "class": one.data_class,
                    "start": one.start,
                    "end": one.end,
                    "score": round(one.score, 2),
                }
                for one in self.scan.findings[0]
            ],
            "endpoints": [
                {
                    "name": card.name,
                    "place": card.place,
                    "verdict": judged.verdict,
                    "class": judged.data_class,
                    "why": judged.why,
                }
                for card, judged in self.endpoints
            ],
            "redacted": self.redacted,
        }


async def _explained(
    text: str,
    chosen: Settings,
    cards: Mapping[str, EndpointCard],
    caller: Caller,
    declared: str,
    model: str | None,
) -> _Explained:
    from daulat.flow.guarding import Guard
    from daulat.flow.setup import setup
    from daulat.flow.texts import texts
    from daulat.guard.redaction import Redactor
    from daulat.guard.scan import scan
    from daulat.values.request import ChatRequest, Message

    made = setup(chosen, cards)
    asked = _asked(model, made, cards, caller)
    request = ChatRequest(model or "", (Message("user", text),))
    guard = Guard(made.rules, made.detectors)
    project = made.classes.get(caller.project, "")
    places = {card.place for card in asked}
    guarded = await guard.look(caller, request, texts(request), places, declared, project)
    detectors = made.detectors()
    found = scan([text], detectors)
    redacted = Redactor([text], detectors).redact(text) if found.findings[0] else None
    judged = [(card, guarded.judgements[card.place]) for card in asked]
    return _Explained(guarded, found, judged, redacted)


def _asked(
    model: str | None, made: Setup, cards: Mapping[str, EndpointCard], caller: Caller
) -> list[EndpointCard]:
    from daulat import policy as rules
    from daulat import route
    from daulat.endpoints.remote.build import RESERVED

    if model is None:
        return list(cards.values())
    rules.must_use(caller, model)
    targets = route.targets(model, made.routes, cards, RESERVED[0])
    names = dict.fromkeys([one.endpoint for one in targets])
    if model not in made.routes:
        names = {RESERVED[0]: None, **names}
    return [cards[name] for name in names]


def _caller(key: str | None, project: str | None) -> Caller:
    from dataclasses import replace

    from daulat.values.plan import Caller

    caller = Caller("", "")
    if key is not None:
        from daulat.record.keys import Keys

        with opened_record() as record:
            caller = Keys(record).find(key).caller
    return caller if project is None else replace(caller, project=project)


def _show(found: _Explained, lock: bool) -> None:
    say.pairs([(_("Class"), found.guarded.data_class)])
    findings = found.scan.findings[0]
    if findings:
        heads = (_("Found"), _("Class"), _("Characters"), _("How sure"))
        rows = [(f.kind, f.data_class, f"{f.start}-{f.end}", f"{f.score:.0%}") for f in findings]
        say.table(heads, rows, right=(2, 3))
    else:
        click.echo(_("Nothing was found. Names of people and addresses of houses never are."))
    heads = (_("Endpoint"), _("Place"), _("Verdict"), _("Why"))
    rows = [
        (card.name, card.place, _verdict(judged), _why(judged, lock))
        for card, judged in found.endpoints
    ]
    say.table(heads, rows)
    if found.redacted is not None:
        say.pairs([(_("Redacted"), found.redacted)])


def _verdict(judged: Judgement) -> str:
    words = {"as it is": _("as it is"), "redacted": _("redacted"), "refused": _("refused")}
    return words[judged.verdict]


def _why(judged: Judgement, lock: bool) -> str:
    from daulat.values.plan import THIS_MACHINE

    if judged.place == THIS_MACHINE:
        return _("it stays on this machine")
    if lock:
        return _("the lock is on: nothing leaves this machine")
    words = {
        "as it is": _("data of the class {name} may go there"),
        "redacted": _("data of the class {name} may go there when it is replaced"),
        "refused": _("data of the class {name} may not go there"),
    }
    return words[judged.verdict].format(name=judged.data_class)


# --- check ----------------------------------------------------------------------------------------


@policy.command(
    "check", help=_("The rules in plain words, and what in them is probably not meant.")
)
@click.option("--json", "as_json", is_flag=True, help=_("As JSON, for other programs."))
@common
@click.pass_context
def check(context: click.Context, as_json: bool) -> None:
    from daulat.endpoints.remote.build import all_cards
    from daulat.flow.setup import setup
    from daulat.policy import gaps

    chosen = settings()
    cards = all_cards(chosen)
    made = setup(chosen, cards)
    away = {name: card.place for name, card in cards.items()}
    lines = list(_rules_words(made.rules, chosen))
    wrong = [_gap_words(one) for one in gaps(made.rules, away)]
    wrong += list(_pattern_gaps(chosen.policy))
    if as_json:
        say.as_json({"rules": lines, "gaps": wrong})
    else:
        for line in lines:
            click.echo(line)
        for line in wrong:
            say.warn(line)
    if wrong:
        context.exit(1)


def _rules_words(rules: Rules, chosen: Settings) -> Iterator[str]:
    if rules.lock:
        yield _("The lock is on: nothing leaves this machine, whatever else is said.")
    for name in rules.order:
        yield _class_words(rules, name)
    text = _("A text in which nothing is found, and for which nothing is declared, is {name}.")
    yield text.format(name=rules.default)
    text = _("Pictures and lists of token ids are {name} unless the request declares its class.")
    yield text.format(name=rules.unread)
    for name, one in chosen.policy.patterns.items():
        text = _("What your pattern {pattern} finds is {name}.")
        yield text.format(pattern=name, name=one.data_class)
    for name, project in chosen.projects.items():
        if project.data_class:
            text = _("Texts of the project {project} are {name} at least.")
            yield text.format(project=name, name=project.data_class)
    if chosen.policy.detectors_off:
        text = _("Not looked for: {kinds}.")
        yield text.format(kinds=", ".join(chosen.policy.detectors_off))


def _class_words(rules: Rules, name: str) -> str:
    whole = _places(rules.of(name).places)
    replaced = _places(rules.of(name).redacted - rules.of(name).places)
    if whole and replaced:
        text = _("{name}: may go to {places} as it is, and to {others} when it is replaced.")
    elif whole:
        text = _("{name}: may go to {places} as it is.")
    elif replaced:
        text = _("{name}: may go to {others} when it is replaced.")
    else:
        text = _("{name}: stays on this machine.")
    return text.format(name=name, places=whole, others=replaced)


def _places(names: Iterable[str]) -> str:
    from daulat.values.plan import ANYWHERE

    return ", ".join(_("every place") if name == ANYWHERE else name for name in sorted(names))


def _gap_words(gap: Gap) -> str:
    words = {
        "closed": _("No class may reach the endpoint {subject} in {place}, so it is never asked."),
        "unknown place": _("The class {subject} names the place {place}, where no endpoint is."),
        "never replaced": _(
            "The class {subject} may go to {place} when it is replaced, but the text around it may not: "
            "the default class is closed there."
        ),
        "upside down": _("{subject} may not go to {place}, though {other} may."),
        "everything locked": _("There are endpoints elsewhere, and the lock closes them all."),
    }
    text = words[gap.what].format(subject=gap.subject, place=gap.place, other=gap.other)
    if gap.what == "unknown place" and gap.other:
        text += " " + _("Did you mean {name}?").format(name=gap.other)
    return text


def _pattern_gaps(chosen: Policy) -> Iterator[str]:
    """Patterns that do not find what they were written for."""
    from daulat.guard.patterns import pattern
    from daulat.guard.scan import Detectors, scan

    for name, one in chosen.patterns.items():
        if not one.example:
            text = _("The pattern {name} has no example, so nobody can tell whether it works.")
            yield text.format(name=name)
            continue
        detectors = Detectors(patterns=(pattern(name, one.pattern, one.data_class),))
        found = scan([one.example], detectors).classes
        if one.data_class not in found:
            yield _("The pattern {name} finds nothing in its example.").format(name=name)
