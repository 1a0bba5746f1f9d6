"""Values come back into an answer's events, however the events are cut and mixed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from daulat.flow.restoring import Restoring
from daulat.guard.redaction import Redactor
from daulat.guard.scan import Detectors
from daulat.values.answer import CallPiece, Event, Finish, Kind, Piece

DETECTORS = Detectors()
TEXT = "Mail ana@example.com or bo@example.com, password: pa\\ss\\w0rd-X"


def redactor() -> Redactor:
    made = Redactor([TEXT], DETECTORS)
    made.redact(TEXT)
    return made


def restored(events: Sequence[Event], *, json: bool = False) -> list[Event]:
    restoring = Restoring(redactor(), json=json)
    return [one for event in events for one in restoring.events(event)]


def text(events: Sequence[Event], choice: int = 0, kind: Kind = "text") -> str:
    pieces = (e for e in events if isinstance(e, Piece) and (e.choice, e.kind) == (choice, kind))
    return "".join(piece.text for piece in pieces)


@given(st.data())
def test_every_split_of_every_choice(data: st.DataObject) -> None:
    said = ["To <EMAIL_1>, EMAIL_2", "<Email 2> then \\<EMAIL\\_1\\> <", "PASSWORD_1"]
    left = dict(enumerate(said))
    events: list[Event] = []
    while left:
        choice = data.draw(st.sampled_from(sorted(left)))
        cut = data.draw(st.integers(1, len(left[choice])))
        events.append(Piece(choice, left[choice][:cut]))
        left[choice] = left[choice][cut:]
        if not left[choice]:
            del left[choice]
            events.append(Finish(choice, "stop"))
    whole = restored(events)
    for choice, answer in enumerate(said):
        assert text(whole, choice) == redactor().restore(answer)


def test_what_was_held_back_comes_before_what_follows_it() -> None:
    events = [
        Piece(0, "so 1 <", kind="thought"),
        Piece(0, "I ask E"),
        CallPiece(0, 0, "c", "look", '{"a": "<EMAIL_1>"}'),
        CallPiece(0, 1, "d", "look", "{}"),
        Finish(0, "tool_calls"),
    ]
    found = restored(events)
    order = [one.kind if isinstance(one, Piece) else type(one).__name__ for one in found]
    assert order == [
        *("thought", "thought", "text", "text"),
        *("CallPiece", "CallPiece", "Finish"),
    ]
    assert text(found, kind="thought") == "so 1 <"
    assert text(found) == "I ask E"


@given(st.lists(st.integers(0, 40), max_size=6), st.booleans())
def test_calls_that_come_in_turn(cuts: list[int], turns: bool) -> None:
    arguments = '{"to": "<EMAIL_1>", "key": "<PASSWORD_1>"}'
    ends = sorted({0, *(cut for cut in cuts if cut < len(arguments)), len(arguments)})
    parts = [arguments[a:b] for a, b in pairwise(ends)]
    events: list[Event] = [CallPiece(0, call, f"c{call}", "look") for call in (0, 1)]
    order = (
        [(c, p) for p in parts for c in (0, 1)]
        if turns
        else [(c, p) for c in (0, 1) for p in parts]
    )
    events += [CallPiece(0, call, arguments=part) for call, part in order]
    found = restored([*events, Finish(0, "tool_calls")])
    for call in (0, 1):
        mine = (e for e in found if isinstance(e, CallPiece) and e.call == call)
        told = json.loads("".join(one.arguments for one in mine))
        assert told == {"to": "ana@example.com", "key": "pa\\ss\\w0rd-X"}


def test_json_stays_json_and_thoughts_stay_words() -> None:
    found = restored(
        [
            Piece(0, "PASSWORD_1", kind="thought"),
            Piece(0, '{"key": "<PASSWORD_1>"}'),
            Finish(0, "stop", "<EMAIL_1>"),
        ],
        json=True,
    )
    assert json.loads(text(found)) == {"key": "pa\\ss\\w0rd-X"}
    assert text(found, kind="thought") == "pa\\ss\\w0rd-X"
    assert isinstance(found[-1], Finish)
    assert found[-1].stop == "ana@example.com"
